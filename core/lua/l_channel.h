/* l_channel.h: how jeton.select sees channels and their cases. */
#ifndef JETON_LUA_L_CHANNEL_H
#define JETON_LUA_L_CHANNEL_H

#include <lua.h>

#include "base/channel.h"

/* The channel at idx, borrowed, alive as long as that userdata; NULL when it is none. */
struct channel *l_channel_test(lua_State *L, int idx);

/* jeton.channel's on_send and on_recv: pushes a case of jeton.select. User values: the channel, the function or nil, and with on_send the value. */
#define CHANNEL_CASE "jeton.channel.case"
enum { CASE_CHANNEL = 1, CASE_FUNCTION, CASE_VALUE, CASE_UVALUES = CASE_VALUE };
struct channel_case {
  bool sends;
};

#endif
