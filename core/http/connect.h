/* connect.h: asks a parent proxy for a tunnel to a server (CONNECT, RFC 9110 section 9.3.6), on a connection to it that is open.
 *
 * The answer is read as strictly as any reply. A 2xx makes the tunnel, whatever its fields say of a body, which it cannot have; bytes behind it are the server's first
 * words, and are kept in the connection's `early`. Any other answer is the end of that connection, whose body nobody reads. Owned by the connection's thread. */
#ifndef JETON_HTTP_CONNECT_H
#define JETON_HTTP_CONNECT_H

#include <stdint.h>

#include "http/origin_conn.h"
#include "http/parent.h"

/* status 0: the tunnel is there, and reading has stopped. Else ERR_PROXY or libuv's error, and reason is a sentence, valid during the call. */
typedef void (*connect_fn)(struct origin_conn *c, int status, const char *reason);
/* Begins, and sets c->connecting. `done` is called once, from the loop, unless the connection is closed before. Or returns an error, with its sentence in `why`. p is borrowed
 * for as long. host: without brackets. */
int connect_start(struct origin_conn *c, struct parent *p, const char *host, uint16_t port, connect_fn done, char *why,
                  size_t size);
/* With the connection: what there is of it. */
void connect_free(struct origin_conn *c);

#endif
