/* arg.h: reading options that scripts give. Misuse raises an error that names the option, the expected value and the type that was found. */
#ifndef JETON_LUA_ARG_H
#define JETON_LUA_ARG_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* Raises for the first key of the table at idx that is not in `known` (NULL-terminated), with the nearest one as a suggestion.
 * `what`: "jeton.http". Keys that are integers are passed over. */
void arg_known(lua_State *L, int idx, const char *what, const char *const *known);
/* The key of the table at idx that was meant by `key`, or NULL. The table's: it lasts as long as that key. */
const char *arg_nearest(lua_State *L, int idx, struct str key);
/* Raises: "jeton.http: timeout: expected a duration, got a table". */
int arg_wrong(lua_State *L, const char *what, const char *key, const char *expected, int idx) __attribute__((noreturn));

/* Pushes "an exec", "a request": of userdata what its metatable calls it, without our prefix. */
const char *arg_push_noun(lua_State *L, int idx);
/* Raises, for a method whose first argument is no `type` ("jeton.request"): it was called with a dot. */
int arg_not_self(lua_State *L, const char *type) __attribute__((noreturn));
/* luaL_checkudata(L, 1, type) of a method. */
void *arg_self(lua_State *L, const char *type);
/* The options of `what` at idx, none or a table of the known keys; `example` is one: "{ timeout = 5 }". */
void arg_options(lua_State *L, int idx, const char *what, const char *example, const char *const *known);

/* A duration: seconds as a number, or "250ms", "2s", "5m". Never negative. */
int64_t arg_duration_ms(lua_State *L, int idx, const char *what, const char *key);

/* Fields of the options at idx, which may be none or nil; the default when absent. Strings stay on the stack of the caller: one slot each. */
int64_t arg_field_ms(lua_State *L, int idx, const char *what, const char *key, int64_t otherwise);
uint64_t arg_field_size(lua_State *L, int idx, const char *what, const char *key, uint64_t otherwise);
bool arg_field_bool(lua_State *L, int idx, const char *what, const char *key, bool otherwise);
/* Pushes the string (or nil) and returns it (or NULL). A string with NUL inside is refused. */
const char *arg_field_string(lua_State *L, int idx, const char *what, const char *key);

/* The string at idx without numbers being converted, or raises. */
struct str arg_string(lua_State *L, int idx, const char *what, const char *key);
/* Pushes nil, a message and the code's name; returns 3. The message is `fmt` alone: see push_failure for the code's own text. */
int arg_failure(lua_State *L, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
