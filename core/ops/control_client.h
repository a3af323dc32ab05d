/* control_client.h: what the commands use to talk to a running jeton. Blocking; a process of its own. */
#ifndef JETON_OPS_CONTROL_CLIENT_H
#define JETON_OPS_CONTROL_CLIENT_H

#include "base/buf.h"

/* Sends one request and appends the answer's body to `body`. The status, or libuv's error: UV_ENOENT or UV_ECONNREFUSED
 * when nobody answers at that path. */
int control_ask(const char *path, const char *method, const char *target, struct buf *body);
/* Waits until nobody answers at that path any more. 0, or UV_ETIMEDOUT. */
int control_wait_gone(const char *path, int64_t limit_ms);

#endif
