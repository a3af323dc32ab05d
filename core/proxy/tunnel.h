/* tunnel.h: after a true 101, or for a CONNECT, bytes both ways until both sides have ended. Owned by the worker's thread.
 *
 * A tunnel knows two ends (net/pipe.h) and no protocol. It pins no policy but one that has an on_log: it outlives reloads, and is ended by
 * the drain limit. */
#ifndef JETON_PROXY_TUNNEL_H
#define JETON_PROXY_TUNNEL_H

#include <stdbool.h>

struct exchange;
struct worker;

/* Answers the client with the upstream's 101 and joins the two. The exchange's downstream is taken over. False: the client is gone. */
bool tunnel_begin(struct exchange *ex);
/* The same for a CONNECT, whose target's connection is there: answers 200. False: the client is gone. */
bool tunnel_begin_connect(struct exchange *ex);
void tunnels_close(struct worker *w);

#endif
