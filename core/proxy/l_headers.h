/* l_headers.h: req.headers and res.headers: get, set, remove by nil, all values, iteration in order; names are case-insensitive. */
#ifndef JETON_PROXY_L_HEADERS_H
#define JETON_PROXY_L_HEADERS_H

#include <lua.h>
#include <stdbool.h>

#include "base/str.h"
#include "http/headers.h"

struct exchange;

int l_headers_open(lua_State *L);
void l_headers_push(lua_State *L, struct exchange *ex, bool of_response);
/* A name that a script may set, and in *known its id: a token, and none that frames the message or belongs to one hop. Raises otherwise. */
struct str l_headers_check_name(lua_State *L, int idx, bool of_response, enum header_id *known);
/* A value of the field `name` without CR, LF, NUL or other control bytes, and no secret. Raises otherwise. */
void l_headers_check_plain(lua_State *L, int idx, struct str name);

#endif
