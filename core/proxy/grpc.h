/* grpc.h: what an exchange knows of gRPC, whose calls are requests with a status of their own. Independent of the protocols on both sides; docs/grpc.md has the
 * table. Worker's thread.
 *
 * What fails here. A gRPC client looks for grpc-status. A reply without it, such as a text with 503, is to the client a server that does not speak gRPC, and it makes up a
 * status. So the reply that jeton makes itself has the trailers-only form (gRPC over HTTP2, "Responses"): 200, and a head that holds the status and the
 * message, without a body.
 *
 * What an upstream refuses. It says so in the same form, and with 200: which HTTP status that would have been decides whether a token is rejected. */
#ifndef JETON_PROXY_GRPC_H
#define JETON_PROXY_GRPC_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

struct exchange;

/* Those that are used here. */
enum grpc_status {
  GRPC_CANCELLED = 1,
  GRPC_UNKNOWN = 2,
  GRPC_DEADLINE_EXCEEDED = 4,
  GRPC_PERMISSION_DENIED = 7,
  GRPC_RESOURCE_EXHAUSTED = 8,
  GRPC_UNIMPLEMENTED = 12,
  GRPC_INTERNAL = 13,
  GRPC_UNAVAILABLE = 14,
  GRPC_UNAUTHENTICATED = 16
};

/* POST with a Content-Type of application/grpc, or of application/grpc+anything. gRPC-Web is another protocol, and plain HTTP here. */
bool grpc_call(const struct exchange *ex);
/* Makes ex->failure the reply, and notes the status in it. */
void grpc_error_reply(struct exchange *ex);

/* ex->response's status; of a call that was refused by a head alone what plain HTTP would have said: 401 for UNAUTHENTICATED, 403 for PERMISSION_DENIED. */
int grpc_response_status(const struct exchange *ex);

/* Pure: a failure as gRPC names it. status and code as exchange_fail takes them. */
enum grpc_status grpc_status_of(int status, int code);
/* Appends text as grpc-message holds it: visible ASCII and spaces as they are, but for "%"; each other byte as %XX. */
void grpc_message_encode(struct buf *out, struct str text);

#endif
