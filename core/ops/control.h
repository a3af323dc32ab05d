/* control.h: the admin side: HTTP with JSON on a Unix socket of mode 0600. Control's thread.
 *
 *   GET  /live            200: the process answers
 *   GET  /ready           200 {"ready":true} when a policy is active, every token that counts is valid, and the process does not stop; else 503, and why
 *   GET  /health          the same
 *   GET  /status          facts of the process; no secret among them
 *   POST /reload          200, or 422 with the problems; ?prove=1 runs changed fetches once first
 *   POST /refresh/NAME    200 when the token's fetch has succeeded, 502 when it failed, 409 when it has none; NAME percent-encoded, "tenant[acme]" for a family's
 *   POST /stop            202: the process drains and ends
 * ?format=text answers in text for people: that is what the commands show. One request a connection. */
#ifndef JETON_OPS_CONTROL_H
#define JETON_OPS_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "http/services.h"
#include "ops/reload.h"
#include "token/slot.h"

enum control_form { CONTROL_JSON, CONTROL_TEXT, CONTROL_METRICS };
struct control_host { /* what the process offers; ctx first */
  void *ctx;
  bool (*ready)(void *ctx, enum control_form form, struct buf *out); /* and says so, in JSON or text */
  void (*status)(void *ctx, enum control_form form, struct buf *out);
  void (*reload)(void *ctx, bool prove, struct reload_waiter *w);
  struct slot *(*slot)(void *ctx, struct str name); /* a reference, or NULL */
  void (*token_names)(void *ctx, void (*fn)(void *arg, const char *name), void *arg);
  void (*stop)(void *ctx);
};

struct control;
/* The default path, without --control: $XDG_RUNTIME_DIR/jeton.sock, /run/jeton.sock for root, else /tmp/jeton-UID.sock. */
void control_default_path(char *out, size_t n);
/* Opens the socket; *host is copied, the services are those of the calling thread and outlive it. NULL, with a sentence in err and libuv's code in *status (UV_EADDRINUSE: another process answers there). */
struct control *control_new(const struct control_host *host, struct services *services, const char *path, int *status,
                            char *err, size_t errsize);
/* Removes the socket's file and closes every connection; the memory goes once the loop has closed the handles. Before the services close. */
void control_close(struct control *c);

#endif
