/* sandbox.h: the globals of a script: the stock library without the functions that block, end the process, load bytecode or reach into C.
 *
 * Globals: assigning one that does not exist raises, everywhere and while the policy's file loads too (say `local`); reading one that does not exist
 * gives nil, as in stock Lua. Functions of the stock library that loop in C check the time budget. */
#ifndef JETON_LUA_SANDBOX_H
#define JETON_LUA_SANDBOX_H

#include <lua.h>
#include <stddef.h>

/* In the metatable of a table in front of another: rawset refuses it, rawget looks behind it. */
#define SANDBOX_FROZEN "__frozen"

/* Protected by the caller. All of the below, in order. */
void sandbox_open(lua_State *L);
/* Makes a global of the value on the top, which it pops. */
void sandbox_declare(lua_State *L, const char *name);
/* The same, and no script can put another one in its place: it stands behind the globals, so that __newindex is asked for it. */
void sandbox_declare_fixed(lua_State *L, const char *name);

/* Makes the named functions of the table on the top (of C, without upvalues) burn the time budget by the length of the strings they are given. */
void sandbox_burn_by_length(lua_State *L, const char *const *names);

/* Burns the time budget as these functions do: `steps`, and more by the length of the strings among the arguments of the C function that calls it. */
void sandbox_burn_arguments(lua_State *L, size_t steps);

/* Its parts; each makes or changes globals. */
void sandbox_open_coroutine(lua_State *L);
void sandbox_open_string(lua_State *L);
void sandbox_open_system(lua_State *L); /* os, io, debug */
void sandbox_open_table(lua_State *L);

#endif
