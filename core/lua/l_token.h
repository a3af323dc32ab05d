/* l_token.h: tokens.NAME in a hook: userdata over a slot of the process, and over a family of slots. Never the bytes. */
#ifndef JETON_LUA_L_TOKEN_H
#define JETON_LUA_L_TOKEN_H

#include <lua.h>
#include <stdbool.h>

struct policy;
struct secret;
struct slot;
struct token_conf;
struct token_family;

/* Pushes the handle of that slot (it takes a reference of its own). Of p and conf what is needed is copied. May raise out-of-memory. */
void l_token_push(lua_State *L, const struct policy *p, const struct token_conf *conf, struct slot *slot);
/* Pushes a family: indexing it with a key gives that key's token. p and conf must outlive the VM (who pins the VM pins the policy). */
void l_family_push(lua_State *L, const struct policy *p, const struct token_conf *conf, struct token_family *f);

/* For l_secret.c: the value's secret of the token at idx, borrowed; NULL when it is none. Raises for a family, with the missing key named. */
struct secret *l_token_secret(lua_State *L, int idx);
/* The common `"Bearer " .. tokens.api`: pushes the joined secret and returns true when that very prefix was joined before. */
bool l_token_concat(lua_State *L);

#endif
