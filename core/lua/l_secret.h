/* l_secret.h: opaque secrets in Lua: userdata over struct secret that can be joined and handed on, never read. */
#ifndef JETON_LUA_L_SECRET_H
#define JETON_LUA_L_SECRET_H

#include <lua.h>

#include "base/buf.h"
#include "token/secret.h"

/* The beginning of a secret's and of a token's userdata, with a reference that the userdata owns. */
struct l_secret_holder {
  struct secret *secret;
};
/* The beginning of a family's userdata. */
struct l_secret_family {
  const char *name; /* in the policy */
};
/* The types of l_token.c's userdata, for type.h and for luaL_testudata. */
extern const char L_TOKEN[];
#define L_FAMILY "jeton.family"
/* The secret of the token at idx, borrowed; NULL when it is none. Raises for a family, with the missing key named. */
struct secret *l_secret_test_token(lua_State *L, int idx);
/* The secret at idx: of a secret's userdata, or the value of a token's; borrowed, alive as long as that userdata. NULL: neither. */
struct secret *l_secret_test(lua_State *L, int idx);
/* Takes over one reference, also when pushing raises. */
void l_secret_push(lua_State *L, struct secret *s);
/* `..` with strings, numbers, secrets and tokens on either side. Pushes a secret; raises for anything else. */
int l_secret_concat(lua_State *L);
/* Raises for any other operation, and names the way to use a secret without reading it. */
int l_secret_refuse(lua_State *L);

/* Raises when the text of a header holds a secret's or token's description, from tostring or string.format: it was meant to hold the bytes. */
void l_secret_check_text(lua_State *L, struct str text);

/* Tells the fetch that runs, if it is one, that it goes by what this secret was read from. For every call of the library that uses one. */
void l_secret_note(lua_State *L, const struct secret *s);
/* Appends the bytes of the string or secret at idx to out (sensitive), for a command or file of that path. 0, or secret_expand's error. Raises when it is neither,
 * which `what` and `key` name; and for a token that may not go there. */
int l_secret_bytes(lua_State *L, int idx, enum secret_place place, struct str path, struct buf *out, const char *what,
                   const char *key);

#endif
