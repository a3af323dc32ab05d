/* channel_op.h: how a script's operation on channels waits: an await around channel_wait, with a time limit. */
#ifndef JETON_LUA_CHANNEL_OP_H
#define JETON_LUA_CHANNEL_OP_H

#include <lua.h>
#include <stdint.h>

#include "base/channel.h"
#include "lua/task.h"

enum { CHANNEL_OP_FOREVER = -1, CHANNEL_OP_ARMS_MAX = 64 };

/* The outcome of an operation that waited. */
struct channel_outcome {
  int fired;               /* the arm's index, or UV_ETIMEDOUT */
  struct channel_arm *arm; /* the one that fired, or NULL */
};

/* Raises where nothing may wait (await_begin). First of all, so that an operation that would not have to wait raises there, too. */
void channel_op_begin(lua_State *L, struct await *begun);
/* Fires one of the arms now and returns its index; or, with ms 0, UV_EAGAIN. Else the task waits, and this does not return: push gets the struct channel_outcome
 * and pushes what the operation returns. Nothing may raise between the making of the arms' items and this call; from it on the items of arms that do not fire are its
 * own: with UV_EAGAIN and with an index, too, it has freed them. It also waits, for one iteration of the loop, when the run has lasted long. */
int channel_op(lua_State *L, const struct await *begun, struct channel_arm *arms, unsigned n, struct rng *rng,
               int64_t ms, task_push_fn push);
/* Frees the items that sends among the arms have not sent. */
void channel_op_drop_items(struct channel_arm *arms, unsigned n);
/* Pushes what the arm of a receive that fired has received, or nil, "closed", "CLOSED"; returns how many. When it raises, the item is back in its channel. */
int channel_op_push_received(lua_State *L, struct channel_arm *arm);
/* Raises for the arm of a send that fired when it found the channel closed. */
void channel_op_check_sent(lua_State *L, const struct channel_arm *arm);
int channel_op_push_timeout(lua_State *L); /* nil, "timeout", "ETIMEDOUT"; returns 3 */

#endif
