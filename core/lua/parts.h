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
  size_t room;           /* bytes of text that there is room for, as far as it was asked */
  bool has_secret, overflow, full;
};
void parts_init(struct parts *p);
void parts_fini(struct parts *p);
/* Pushes a guard (lua/guard.h) over empty parts. */
struct parts *parts_guard(lua_State *L);
/* False, and `full` is set: n bytes more have no room within limits.memory. To be asked before anything is added, since a script that names one string a thousand
 * times makes gigabytes of it here. */
bool parts_reserve(lua_State *L, struct parts *p, size_t n);
void parts_add_secret(struct parts *p,
                      struct secret *s); /* takes over the reference; NULL (over secret.h's bounds) sets overflow */
/* The whole as one secret, a new reference, when it has a secret; else NULL, and all of it is in text. */
struct secret *parts_secret(struct parts *p);

/* application/x-www-form-urlencoded (WHATWG URL section 5.2) of the table at idx: name = string | number | boolean | secret, or a list of them.
 * Raises for other values; p is then valid and partly filled, as it is when it is full. */
void parts_add_form(lua_State *L, int idx, struct parts *p, const char *what);
/* The same table as the query of a URL (RFC 3986 section 3.4): a space is "%20", which is read as one by all, and names stand in the order of their bytes, so that a
 * table has one text. */
void parts_add_query(lua_State *L, int idx, struct parts *p, const char *what);

#endif
