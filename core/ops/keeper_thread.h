/* keeper_thread.h: the thread that runs every fetch: its loop, its VM, and token/keeper.h on real time.
 *
 * Control talks to it by orders (policy/order.h), as it does to the workers. A slow fetch stalls no request, and tokens never enter a worker's Lua.
 * Control's thread calls what is here. */
#ifndef JETON_OPS_KEEPER_THREAD_H
#define JETON_OPS_KEEPER_THREAD_H

#include "policy/order.h"

struct keeper_thread;
struct registry;

struct keeper_thread *keeper_thread_new(struct registry *names); /* NULL when out of descriptors or memory */
int keeper_thread_start(struct keeper_thread *k);                /* 0, or libuv's error */
/* Asynchronous: carries out the order on the keeper's thread, see policy/order.h. After STOP was answered only keeper_thread_join may be called. */
void keeper_thread_post(struct keeper_thread *k, struct order *o);
/* Says in the log which fetches are cut off when the process ends now. */
void keeper_thread_log_cut(struct keeper_thread *k);
void keeper_thread_join(struct keeper_thread *k); /* after STOP was answered, or when it was never started; frees it */

#endif
