/* sent.h: credentials that a script sends as plain strings: told to the thread's mask, as opaque secrets are while they are expanded. */
#ifndef JETON_LUA_SENT_H
#define JETON_LUA_SENT_H

#include <lua.h>

#include "base/str.h"

void sent_header(struct str value);     /* of a header that carries a credential: what stands behind its scheme */
void sent_form_text(struct str body);   /* a body that may be a form */
void sent_table(lua_State *L, int idx); /* of form = or json =; any value is fine */

#endif
