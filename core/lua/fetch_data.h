/* fetch_data.h: what a script gives a family's slot for its fetches: tokens.NAME:of(key, { subject = secret, … }), and ctx.data there. */
#ifndef JETON_LUA_FETCH_DATA_H
#define JETON_LUA_FETCH_DATA_H

#include <lua.h>
#include <stdint.h>

#include "token/family.h"
#include "token/slot.h"

enum { FETCH_DATA_MAX = 16 * 1024, FETCH_DATA_PAIRS = 16 };

/* The table at idx: names with texts, numbers, booleans and secrets. Raises for anything else, with the family's name in front. Pushes a guard that holds the returned
 * reference; whoever needs it longer takes another. digest is one of all that is in it, the bytes of secrets included. */
struct slot_data *fetch_data_read(lua_State *L, int idx, const char *family, uint8_t digest[FAMILY_DIGEST]);
/* Pushes a table of it: what was a secret is one. Any VM's thread. */
void fetch_data_push(lua_State *L, const struct slot_data *data);

#endif
