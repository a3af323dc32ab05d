/* secret_internal.h: the nodes of a secret, for secret.c and secret_expand.c only.
 *
 * Invariants: a node never changes after it is made, but for its count and its reader. Text and joins are one kind, a row of pieces, and no row
 * has a row among its pieces: trees get deep by encodings only, SECRET_DEPTH_MAX of them, so recursion over a tree is bounded. What is computed has no parts: it
 * keeps what they bind it to, and not them, so a chain of a million hashes is as deep as one, belongs to no thread, and holds no reader. */
#ifndef JETON_TOKEN_SECRET_INTERNAL_H
#define JETON_TOKEN_SECRET_INTERNAL_H

#include <stdatomic.h>

#include "token/secret.h"

enum secret_kind { SECRET_ROW, SECRET_STORED, SECRET_SOURCE, SECRET_TOKEN, SECRET_ENCODED, SECRET_COMPUTED };

struct secret_piece {
  struct secret *of; /* a reference, or NULL: text */
  struct str text;   /* behind the row, in the same allocation */
};
struct secret_row {
  unsigned n;
  struct secret_piece *v; /* behind the node, in the same allocation */
};
struct secret_stored_node {
  struct str bytes; /* in secret memory */
  char *label;
  struct audience *audience; /* NULL: any */
  bool of_token;             /* then bond says of which */
  struct token_bond bond;
  const void *owner; /* only compared */
};
struct secret_source_node {
  const struct secret_source_ops *ops;
  void *data;
  char *label;
};
struct secret_token_node {
  struct slot_reader reader; /* of the thread that expands */
  struct str field;          /* behind the node; .p NULL: the value */
  struct audience *audience; /* NULL: nobody */
  enum token_missing missing;
  bool open; /* its policy says reveal = true */
};
struct secret_encoded_node {
  struct secret *of;
  enum secret_encoding encoding;
};
struct secret_computed_node {
  struct str bytes; /* in secret memory */
  char *label;
  struct secret_taint from;
};

struct secret {
  atomic_uint refs;
  /* immutable from here on, but for the reader of a token, which belongs to one thread */
  uint8_t kind;
  uint8_t depth;  /* encodings on the longest way down */
  uint16_t parts; /* texts, stored bytes and tokens in it */
  uint32_t size;  /* bytes of its texts and stored bytes */
  union {
    struct secret_row row;
    struct secret_stored_node stored;
    struct secret_source_node source;
    struct secret_token_node token;
    struct secret_encoded_node encoded;
    struct secret_computed_node *computed; /* its own: the other kinds are made for each request, and stay small */
  } u;
};

/* A node with one reference and no parts; extra: bytes behind it. */
struct secret *secret_node_new(enum secret_kind kind, size_t extra);
void secret_computed_free(struct secret_computed_node *c);
/* secret_computed.c: notes that the bytes of a token, of an issuer's reply, or of something computed went in. */
void secret_taint_token(struct secret_taint *o, const struct secret_token_node *t, const struct token *token);
void secret_taint_stored(struct secret_taint *o, const struct secret_stored_node *b);
int secret_taint_computed(struct secret_taint *o, const struct secret_taint *from);
bool secret_taint_over(const struct secret_taint *from, int64_t now_boot_ms);
/* The same of a generation. ERR_LIMIT: there is no place left. ERR_TOKEN_EXPIRED: another one of that slot went in. */
int secret_taint_use(struct secret_taint *o, struct slot *slot, uint64_t generation);

#endif
