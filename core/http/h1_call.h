/* h1_call.h: a call over HTTP/1.1: what it remembers of the two messages, as a part of struct call. */
#ifndef JETON_HTTP_H1_CALL_H
#define JETON_HTTP_H1_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "http/parser.h"
#include "net/stall.h"

struct call_ops;
struct h1_call {
  struct buf stash;          /* reply bytes that came while paused; bounded by one read */
  struct stall stall;        /* of the upstream, while it has something to take */
  uint64_t secrets;          /* bytes in front of the queue that hold some, while call_secrets_wait */
  uint64_t keep_ms;          /* how long the connection may idle behind this reply */
  bool chunked;              /* the request's body goes out in chunks */
  struct http_parser parser; /* of the reply; last: call_init leaves it as it is, and send_head makes it */
};
extern const struct call_ops h1_call_ops; /* http/call_ops.h */

#endif
