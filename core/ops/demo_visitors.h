/* demo_visitors.h: the users of the demo's proxy: a steady stream of requests on a thread of its own, and their figures on standard output. */
#ifndef JETON_OPS_DEMO_VISITORS_H
#define JETON_OPS_DEMO_VISITORS_H

struct demo_visitors;
/* They ask the server at `url` (http://…) from now on, whatever it answers. NULL: they cannot, and it has been said why. */
struct demo_visitors *demo_visitors_start(const char *url);
void demo_visitors_stop(struct demo_visitors *v); /* joins the thread, frees; NULL is fine */

#endif
