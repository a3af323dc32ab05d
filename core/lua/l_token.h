/* l_token.h: tokens.NAME in a hook: userdata over a slot of the process, and over a family of slots. Never the bytes. */
#ifndef JETON_LUA_L_TOKEN_H
#define JETON_LUA_L_TOKEN_H

#include <lua.h>

struct slot;
struct token_family;
struct token_terms;

/* Pushes the handle of that slot. It takes references of its own to slot and audience, and copies the rest. May raise out-of-memory. */
void l_token_push(lua_State *L, const struct token_terms *terms, struct slot *slot);
struct slot *l_token_slot(lua_State *L, int idx); /* of the token at idx, borrowed; NULL: it is none */
/* Pushes a family (l_family.c): indexing it with a key gives that key's token, each on these terms. `name` ("tenant") and the terms' audience must outlive the VM (holders
 * of the VM hold the policy, too). Takes a reference to f. May raise out-of-memory. */
void l_family_push(lua_State *L, const char *name, const struct token_terms *terms, struct token_family *f);

#endif
