/* parts.h: a body that is put together from text and opaque secrets: forms, JSON, plain strings. */
#ifndef JETON_LUA_PARTS_H
#define JETON_LUA_PARTS_H

#include <lua.h>
#include <stdbool.h>

#include "base/buf.h"
#include "token/secret.h"

struct parts {
  struct buf text;       /* sensitive; what has come since the last secret */
  struct secret *before; /* everything before it, or NULL */
  bool has_secret, overflow;
};
void parts_init(struct parts *p);
void parts_fini(struct parts *p);
void parts_add_secret(struct parts *p,
                      struct secret *s); /* takes over the reference; NULL (over secret.h's bounds) sets overflow */
/* The whole as one secret, a new reference, when it has a secret; else NULL, and all of it is in text. */
struct secret *parts_secret(struct parts *p);

/* application/x-www-form-urlencoded (WHATWG URL section 5.2) of the table at idx: name = string | number | boolean | secret, or a list of them.
 * Raises for other values; p is then valid and partly filled. */
void parts_add_form(lua_State *L, int idx, struct parts *p, const char *what);

#endif
