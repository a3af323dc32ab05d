/* listener.h: one listening socket of one worker. Owned by the worker's thread. */
#ifndef JETON_PROXY_LISTENER_H
#define JETON_PROXY_LISTENER_H

#include <stdbool.h>

#include "policy/policy.h"

struct worker;

/* Makes the worker's listeners those of `p`: kept ones (fds[i] < 0) go on, new ones begin, others close. Takes the descriptors. 0 or a libuv error. */
int listeners_switch(struct worker *w, const struct policy *p, const int *fds);
void listeners_close(struct worker *w);
/* A place for a connection has become free: takes one that was held back. */
void listeners_resume(struct worker *w);
/* A connection has become idle: from the loop, it gives its place to one that was held back. */
void listeners_want_room(struct worker *w);

#endif
