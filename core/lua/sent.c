/* sent.c: see sent.h. Owned by the VM's thread.
 *
 * An opaque secret is known to be one. Of plain strings only the name tells: `grant_type` and `scope` may be said again, `client_secret` may not. So it is the
 * names that are in use for credentials, in whatever case and with whatever in front of them ("db_password"); `token_type` and the like name a kind. */
#include "lua/sent.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mask.h"

enum { DEPTH_MAX = 8, NAME_MAX_BYTES = 64 };

static bool is_credential(struct str name) {
  static const char *const parts[] = {"secret",  "passw", "token",    "assertion",  "api_key",    "apikey",
                                      "api-key", "pwd",   "verifier", "credential", "private_key"};
  char text[NAME_MAX_BYTES];
  if (name.n == 0 || name.n >= sizeof text) return false;
  memcpy(text, name.p, name.n);
  text[name.n] = '\0';
  for (char *p = text; *p != '\0'; p++) *p = char_lower(*p);
  if (name.n >= 4 && strcmp(text + name.n - 4, "type") == 0) return false;
  if (strcmp(text, "code") == 0 || strcmp(text, "device_code") == 0) return true;
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (strstr(text, parts[i]) != NULL) return true;
  return false;
}

static void add(struct str value) {
  if (value.n > 0) mask_add(mask_of_thread(), value);
}

void sent_header(struct str value) {
  const char *blank = memchr(value.p, ' ', value.n);
  if (blank != NULL) value = (struct str){blank + 1, (size_t)(value.p + value.n - blank - 1)};
  add(value);
}

/* A value of a form, decoded (WHATWG URL section 5.1). */
static void add_encoded(struct str value) {
  struct buf b;
  buf_init(&b);
  b.sensitive = true;
  for (size_t i = 0; i < value.n; i++) {
    char c = value.p[i] == '+' ? ' ' : value.p[i];
    if (c == '%' && i + 2 < value.n && hex_value(value.p[i + 1]) >= 0 && hex_value(value.p[i + 2]) >= 0) {
      c = (char)(hex_value(value.p[i + 1]) << 4 | hex_value(value.p[i + 2]));
      i += 2;
    }
    buf_add(&b, &c, 1);
  }
  add(buf_str(&b));
  buf_fini(&b);
}

void sent_form_text(struct str body) {
  while (body.n > 0) {
    const char *end = memchr(body.p, '&', body.n);
    struct str pair = {body.p, end != NULL ? (size_t)(end - body.p) : body.n};
    const char *equals = memchr(pair.p, '=', pair.n);
    if (equals != NULL && is_credential((struct str){pair.p, (size_t)(equals - pair.p)}))
      add_encoded((struct str){equals + 1, (size_t)(pair.p + pair.n - equals - 1)});
    size_t used = pair.n + (end != NULL ? 1 : 0);
    body = (struct str){body.p + used, body.n - used};
  }
}

static void add_table(lua_State *L, int idx, bool credential, int depth) {
  if (depth >= DEPTH_MAX) return;
  luaL_checkstack(L, 4, "a table nested too deep");
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    struct str s = {NULL, 0};
    if (lua_type(L, -2) == LUA_TSTRING) s.p = lua_tolstring(L, -2, &s.n);
    bool named = s.p != NULL ? is_credential(s) : credential;
    if (lua_istable(L, -1)) add_table(L, lua_gettop(L), named, depth + 1);
    if (!named || lua_type(L, -1) != LUA_TSTRING) continue;
    s.p = lua_tolstring(L, -1, &s.n);
    add(s);
  }
}

void sent_table(lua_State *L, int idx) {
  if (lua_istable(L, idx)) add_table(L, lua_absindex(L, idx), false, 0);
}
