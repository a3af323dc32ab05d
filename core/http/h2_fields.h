/* h2_fields.h: field blocks of HTTP/2 (RFC 9113 sections 8.2 and 8.3): read into a message, and made of one.
 *
 * In. A block's fields come one by one (h2_block_field), are counted against the limits of a head (name + value + 32 for each, RFC 9113 section 6.5.2), and land in the
 * message's arena as lines of HTTP/1, so that whoever writes such a head copies them in one piece. Pseudo-fields become what a start line says, and http/judge.c judges the
 * message by the same rules as one of HTTP/1. What RFC 9113 calls malformed has .status 0 in its fault: the stream is reset by PROTOCOL_ERROR. Other faults
 * have the status to answer with.
 *
 * Out. A list for the library. Its bytes must last until the frame is made, which is in the call that says the head, but for what is said from within a feed: then the library
 * copies them (h2_fields_must_last). Fields with secrets are never indexed, nor are those by which somebody says who he is. Any thread. */
#ifndef JETON_HTTP_H2_FIELDS_H
#define JETON_HTTP_H2_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "http/h2_compat.h"
#include "http/h2_session.h"
#include "http/message.h"

/* --- in --- */

struct h2_block { /* one block while it is read */
  struct arena *arena;
  const struct http_limits *limits;
  struct headers *to;
  enum h2_block_kind kind;
  bool response;
  uint8_t pseudo; /* which have come */
  struct str method, scheme, authority, path, status;
  uint32_t fields;
  uint64_t size;
  uint8_t *room, *room_end; /* of the arena, for lines */
  unsigned cookies;
  struct http_fault fault; /* the first; .text NULL: none */
};
/* `to`: the request's, the response's or the trailers' list, which is made anew. */
void h2_block_begin(struct h2_block *b, struct arena *a, const struct http_limits *l, bool response,
                    enum h2_block_kind kind, struct headers *to);
/* Copies. What is over a limit is counted and thrown away. NO_ERROR; or how the stream ends: PROTOCOL_ERROR, or ENHANCE_YOUR_CALM for a block far beyond all limits. */
enum h2_error h2_block_field(struct h2_block *b, struct str name, struct str value);
/* The block is complete. `ends`: no body follows. Fill the rest of the message; the fault is as in judge.h. */
struct http_fault h2_block_request(struct h2_block *b, struct request *r, bool ends);
struct http_fault h2_block_response(struct h2_block *b, struct response *r, struct str method, bool ends);
struct http_fault h2_block_trailers(struct h2_block *b);

/* --- out --- */

struct h2_fields {
  nghttp2_nv *v;
  size_t n, cap;
  struct arena *arena; /* where v lies, and what was made for it */
};
void h2_fields_init(struct h2_fields *f, struct arena *a);
/* The slices must last until the list is handed to the library. index false: neither side keeps it in its table, nor does anybody behind. */
void h2_fields_add(struct h2_fields *f, struct str name, struct str value, bool index);
void h2_fields_add_number(struct h2_fields *f, struct str name, uint64_t n);
/* A reply's head; interim ones, too. length: of Content-Length, with has_length. */
void h2_fields_response(struct h2_fields *f, int status, const struct headers *fields, bool has_length,
                        uint64_t length);
/* Those that may pass. False: none. */
bool h2_fields_trailers(struct h2_fields *f, const struct headers *trailers);
/* A request's head; `secrets` (sensitive) holds the bytes that were made of secrets, and must last until the head is serialised. Errors as of write_request_head. */
int h2_fields_request(struct h2_fields *f, const struct request_head *h, bool tls, struct buf *secrets);
/* Bytes of the names and values, before the library compresses them. */
static inline uint64_t h2_fields_size(const struct h2_fields *f) {
  uint64_t size = 0;
  for (size_t i = 0; i < f->n; i++) size += f->v[i].namelen + f->v[i].valuelen;
  return size;
}
/* What is said by this list is copied by the library: its frame will be made later. */
void h2_fields_must_last(struct h2_fields *f);
/* A copy in one piece of memory, to be freed with free(): for trailers that wait behind a body. */
struct h2_fields *h2_fields_keep(const struct h2_fields *f);

#endif
