/* small_http.h: one client of a server for few and small requests, as the control socket and the demo's servers are: its parser, its arena, and an answer
 * with a body that is at hand. Bodies of requests are read and dropped. The proxy itself is another thing (proxy/conn.h): nothing here streams.
 *
 * Embedded in its owner's connection. The thread of its net. */
#ifndef JETON_OPS_SMALL_HTTP_H
#define JETON_OPS_SMALL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/arena.h"
#include "base/str.h"
#include "http/headers.h"
#include "http/parser.h"
#include "net/stream.h"

struct small_http;
/* Each of these may close the connection; nothing of it is touched afterwards, unless `request` returned true. */
struct small_http_events {
  /* c->request has been read to its end; `behind` bytes of the client's are there already. True: it has been answered, read the next one. False: whatever follows is the
   * owner's: it has closed the connection, or will answer later, and what is behind is dropped. */
  bool (*request)(struct small_http *c, size_t behind);
  void (*fault)(struct small_http *c, int status, const char *text); /* the bytes are no valid HTTP, for this reason */
  void (*gone)(struct small_http *c); /* the client has closed, or has sent a body above body_max */
  size_t body_max;                    /* bytes */
};
struct small_http {
  struct stream stream;
  const struct small_http_events *events;
  struct arena arena; /* of one request */
  struct http_parser parser;
  struct request request;
  size_t body; /* bytes of it so far */
  _Alignas(16) uint8_t first[4096];
};

/* Takes a connection of the listener and reads from it. 0, or an error: then nothing needs closing. */
int small_http_accept(struct small_http *c, struct net *net, uv_stream_t *listener,
                      const struct small_http_events *events);
/* Drops what the last request was and reads the next one: when a `request` that returned false has been answered. */
void small_http_next(struct small_http *c);
/* Writes a whole answer. headers are made in c->arena. A `sensitive` body is wiped wherever it was copied to. 0, or an error: close it. */
int small_http_answer(struct small_http *c, int status, const struct headers *headers, struct str body, bool keep_alive,
                      bool sensitive);
/* on_closed is called later from the loop; from then on the memory is the owner's again. */
void small_http_close(struct small_http *c, void (*on_closed)(struct stream *s));
static inline struct small_http *small_http_of(struct stream *s) { return s->owner; }

#endif
