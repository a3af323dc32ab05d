/* l_fetch.h: translates between a policy's fetch function and the keeper: its argument, and its results. */
#ifndef JETON_LUA_L_FETCH_H
#define JETON_LUA_L_FETCH_H

#include <lua.h>

#include "base/buf.h"
#include "token/keeper.h"

/* Pushes ctx: { name, reason, attempt, key, data, previous }. `open`: the token may be revealed. Returns 1. May raise out-of-memory: call it in protected mode. */
int l_fetch_push_context(lua_State *L, const struct fetch *f, bool open);
/* Reads the top nresults values of L, which the function at reference fn has returned. Never raises. Value, fields and the error text are kept in hold
 * (sensitive, empty), which must live as long as *out. Not ok: out->error is a sentence without a byte of the value: the script's own, or with the
 * place of the function what is wrong with its results. `slot`: whose fetch it was. out->bond is what the value's tokens are bound to: token_bond_fini it. */
void l_fetch_read(lua_State *L, int nresults, int fn, const struct slot *slot, struct fetch_result *out,
                  struct buf *hold);
/* The same from the secret at reference `secret`, for a token that is made of it and lasts. May raise. Returns 0; or secret_expand's error, with out->error. What it was
 * read from is added to *provenance. */
int l_fetch_secret(lua_State *L, int secret, struct fetch_result *out, struct buf *hold,
                   struct provenance **provenance);
/* The same from a value at `value` and a table of options (expires_in, expires_at, fields) at `options`: token:set. May raise.
 * Returns NULL, or what is wrong (in hold or static). Narrows *bond, which is the caller's, by the tokens that value and fields are made of. */
const char *l_fetch_options(lua_State *L, int value, int options, struct fetch_result *out, struct buf *hold,
                            struct token_bond *bond);

#endif
