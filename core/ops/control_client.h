/* control_client.h: what the commands use to talk to a running jeton. Blocking; a process of its own. */
#ifndef JETON_OPS_CONTROL_CLIENT_H
#define JETON_OPS_CONTROL_CLIENT_H

#include "base/buf.h"

enum { CONTROL_OWN = 0 };
/* Sends one request and appends the answer's body to `body`. The status, or libuv's error: UV_ENOENT or UV_ECONNREFUSED
 * when nobody answers at that path; UV_EPERM when the process there is neither this user's nor root's: nothing was sent to it, and *stranger is whose it is. Root asks
 * anybody's. */
int control_ask(const char *path, const char *method, const char *target, struct buf *body, unsigned *stranger);
/* Waits until nobody answers at that path any more. 0, or UV_ETIMEDOUT. */
int control_wait_gone(const char *path, int64_t limit_ms);

#endif
