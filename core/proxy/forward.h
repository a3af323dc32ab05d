/* forward.h: jeton as a forward proxy (the policy's `forward`): requests whose target is an absolute URL, and CONNECT.
 *
 * The target is judged before any hook runs, its addresses when a connection to it is made or taken from the pool. Owned by the worker's thread. */
#ifndef JETON_PROXY_FORWARD_H
#define JETON_PROXY_FORWARD_H

#include "net/pipe.h"
#include "net/url.h"
#include "proxy/steps.h"

/* A CONNECT, or a request for a server that it names. HTTP/2 says scheme and authority with each request, so there it is the list that tells: what it allows is forwarded, and where
 * there is no upstream all are meant so. */
bool forward_meant(const struct exchange *ex);
/* For such a request. NEXT: ex->forward is the target, or stays NULL: the policy forwards nothing and its upstream serves.
 * FAIL: refused. */
enum verdict forward_admit(struct exchange *ex);
/* Proxy-Authorization is for this proxy: hooks see it, no head ever carries it on. After the hop-by-hop fields have gone. */
void forward_keep_credentials(struct exchange *ex);
/* The route step of such a request: to the token step, or for a CONNECT to its target's connection. */
enum verdict forward_route(struct exchange *ex);
/* The route step of a request that named no target, where there is nothing but forwarding. */
enum verdict forward_refuse_origin_form(struct exchange *ex);
/* A proxy says in replies, too, that it stands between; a gateway need not (RFC 9110 section 7.6.3). */
void forward_sign(struct exchange *ex, struct response *r);
/* A failure that is about to be reported came of the address: the client is told. */
void forward_tell_forbidden(struct exchange *ex);
/* Ends the wait for a CONNECT's connection; harmless otherwise. */
void forward_cancel(struct forward_target *t);
/* The connection to a CONNECT's target, when the tunnel step has come, becomes the end of a pipe, which is the caller's, as is what has come of it already. */
void forward_take_over(struct forward_target *t, struct pipe_end *end, struct buf *early);
const struct url *forward_url(const struct forward_target *t);

#endif
