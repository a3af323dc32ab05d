/* message.h: a Lua value on its way through a channel: a copy in C that belongs to no VM, and does not change. */
#ifndef JETON_LUA_MESSAGE_H
#define JETON_LUA_MESSAGE_H

#include <lua.h>

#include "base/channel.h"

enum { MESSAGE_MAX = 1 << 20 }; /* bytes, with what C needs for each value */

/* How many bytes the value at idx takes as a message. Raises, with `what` in front, for values that cannot be sent. */
size_t message_measure(lua_State *L, int idx, const char *what);
/* The value at idx, measured before, as a message; does not raise. 0; UV_E2BIG: over MESSAGE_MAX; ERR_LIMIT: over CHANNEL_BYTES_MAX, or a secret that gets too large; or a
 * secret's source could not be read. */
int message_make(lua_State *L, int idx, size_t size, struct channels *all, struct channel_item **out);
/* Pushes its value and frees it. Raises when out of memory: it is as before then. */
void message_push(lua_State *L, struct channel_item *item);
/* Pushes nil, message, code for a failure of message_make; returns 3. */
int message_failure(lua_State *L, int code, const char *what);

#endif
