/* l_secret.c: see l_secret.h. Owned by the VM's thread.
 *
 * A secret's userdata owns one reference, given back by __gc. There is no way from it to its bytes: __index, __len and the orderings raise, and
 * equality is identity. The functions of jeton.secret, which make one, are in secret_source.c.
 *
 * A token's userdata is l_token.c's, but functions that take a secret take a token as well: it begins with the same member, and its type is known here. So this
 * file needs nothing of l_token.c, which is built on it. */
#include "lua/l_secret.h"

#include <lauxlib.h>
#include <string.h>

#include "base/err.h"
#include "lua/arg.h"
#include "lua/charge.h"
#include "lua/guard.h"
#include "lua/task.h"
#include "lua/type.h"

static const char SECRET[] = "jeton.secret";
const char L_TOKEN[] = "jeton.token";

int l_secret_refuse(lua_State *L) {
  return luaL_error(L,
                    "the bytes of a secret cannot be read by a script: put it into a header, join it with .., or give "
                    "it to jeton.http, jeton.exec, "
                    "jeton.file.write or jeton.crypto");
}

/* What a few bytes cost is in proportion to the userdata, which the VM's allocator counts: they are not charged, and their userdata is the head alone. A hook
 * makes one for each request. */
enum { CHARGED_FROM = 256 };
struct charged_secret {
  struct l_secret_holder head;
  struct charge charge;
};

static int l_collect(lua_State *L) {
  struct l_secret_holder *h = type_check(L, SECRET);
  struct secret *s = h->secret;
  h->secret = NULL;
  if (s != NULL) secret_unref(s);
  if (lua_rawlen(L, 1) == sizeof(struct charged_secret)) charge_end(&((struct charged_secret *)h)->charge);
  return 0;
}

static int l_tostring(lua_State *L) {
  struct l_secret_holder *h = type_check(L, SECRET);
  struct buf *b = guard_buf(L);
  buf_addz(b, "secret<");
  if (h->secret != NULL) secret_describe(h->secret, b);
  buf_addz(b, ">");
  lua_pushlstring(L, (const char *)b->p, b->n);
  guard_close(L, -2);
  return 1;
}

static int l_index(lua_State *L) {
  if (lua_type(L, 2) == LUA_TSTRING && lua_tostring(L, 2)[0] == '_')
    return 0; /* keys that printers ask for: __name and the like */
  return l_secret_refuse(L);
}

static const luaL_Reg metamethods[] = {
    {"__gc", l_collect},
    {"__tostring", l_tostring},
    {"__concat", l_secret_concat},
    {"__index", l_index},
    {"__len", l_secret_refuse},
    {"__lt", l_secret_refuse},
    {"__le", l_secret_refuse},
    {"__newindex", l_secret_refuse},
    {"__call", l_secret_refuse},
    {"__pairs", l_secret_refuse},
    {NULL, NULL},
};

static struct l_secret_holder *push_handle(lua_State *L, size_t size) {
  struct l_secret_holder *h = lua_newuserdatauv(L, size, 0);
  memset(h, 0, size);
  if (type_new(L, SECRET)) {
    luaL_setfuncs(L, metamethods, 0);
    lua_pushliteral(L, "secret");
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  return h;
}

static int push_charged(lua_State *L) { /* of as many bytes as the integer at 1 says */
  const size_t size = (size_t)lua_tointeger(L, 1);
  const bool charged = size >= CHARGED_FROM;
  struct l_secret_holder *h = push_handle(L, charged ? sizeof(struct charged_secret) : sizeof *h);
  if (charged) charge_must(L, &((struct charged_secret *)h)->charge, size);
  return 1;
}

/* The handle is made in protected mode, so that running out of memory does not lose the reference. */
void l_secret_push(lua_State *L, struct secret *s) {
  if (s == NULL)
    luaL_error(L, "a secret of more than %d parts, %d encodings in each other, or %d bytes", SECRET_PARTS_MAX,
               SECRET_DEPTH_MAX, SECRET_BYTES_MAX);
  lua_pushcfunction(L, push_charged);
  lua_pushinteger(L, (lua_Integer)secret_size(s));
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    secret_unref(s);
    lua_error(L);
  }
  ((struct l_secret_holder *)lua_touserdata(L, -1))->secret = s;
}

struct secret *l_secret_test_token(lua_State *L, int idx) {
  struct l_secret_holder *h = type_test(L, idx, L_TOKEN);
  if (h != NULL) return h->secret;
  struct l_secret_family *f = luaL_testudata(L, idx, L_FAMILY);
  if (f != NULL)
    luaL_error(L, "tokens.%s is a family of tokens: index it with a key first, tokens.%s[key]", f->name, f->name);
  return NULL;
}

struct secret *l_secret_test(lua_State *L, int idx) {
  struct l_secret_holder *h = type_test(L, idx, SECRET);
  if (h != NULL) return h->secret;
  return l_secret_test_token(L, idx);
}

/* Text and secret, in either order; numbers are converted by lua_tolstring, before anything is owned. */
static int join_text(lua_State *L, struct secret *s, int text_idx) {
  struct str text;
  text.p = lua_tolstring(L, text_idx, &text.n);
  l_secret_push(L, secret_join_text(s, text, text_idx == 1));
  return 1;
}

int l_secret_concat(lua_State *L) {
  struct secret *a = l_secret_test(L, 1), *b = l_secret_test(L, 2);
  if (a != NULL && b != NULL) {
    l_secret_push(L, secret_join(a, b));
    return 1;
  }
  if (a != NULL && lua_isstring(L, 2)) return join_text(L, a, 2);
  if (b != NULL && lua_isstring(L, 1)) return join_text(L, b, 1);
  return luaL_error(L, "attempt to join a secret with a %s value", luaL_typename(L, a != NULL ? 2 : 1));
}

static bool ends_with(struct str s, struct str end) {
  return s.n >= end.n && memcmp(s.p + s.n - end.n, end.p, end.n) == 0;
}

void l_secret_check_text(lua_State *L, struct str text) {
  const char *at = text.p, *end = text.p + text.n;
  while ((at = memchr(at, '<', (size_t)(end - at))) != NULL) {
    struct str before = {text.p, (size_t)(at++ - text.p)};
    if (ends_with(before, STR("token")) || ends_with(before, STR("secret")))
      luaL_error(
          L,
          "a header's value holds the description of a token or secret, which is what tostring and string.format "
          "make of one: join it with .. instead, as in \"Bearer \" .. tokens.NAME");
  }
}

static int refuse_place(lua_State *L, struct secret *s, enum secret_place place, struct str path, const char *what,
                        const char *key) {
  const char *kind = place == SECRET_TO_FILE ? "file:" : "exec:";
  struct buf *b = guard_buf(L);
  secret_describe(s, b);
  buf_addf(b, " may not go there: its bytes would be free. If they shall, list \"%s%.*s\" among the token's hosts",
           kind, STR_FMT(path));
  if (path.n == 0 || path.p[0] != '/') buf_addz(b, ", with an absolute path there and here");
  buf_addz(b, ", or say reveal = true for it");
  return luaL_error(L, "%s: %s: %s", what, key, buf_z(b));
}

void l_secret_note(lua_State *L, const struct secret *s) {
  struct provenance **provenance = task_provenance(L);
  if (provenance != NULL) secret_note_provenance(s, provenance);
}

int l_secret_bytes(lua_State *L, int idx, enum secret_place place, struct str path, struct buf *out, const char *what,
                   const char *key) {
  struct secret *s = l_secret_test(L, idx);
  if (s != NULL) {
    struct secret_context there = {.place = place, .path = path};
    if (place == SECRET_TO_COMMAND) there.mask = mask_of_thread(); /* what it prints may repeat it */
    l_secret_note(L, s);
    int rc = secret_expand(s, &there, out);
    return rc == ERR_TOKEN_AUDIENCE ? refuse_place(L, s, place, path, what, key) : rc;
  }
  if (lua_type(L, idx) != LUA_TSTRING) arg_wrong(L, what, key, "a string or a secret", idx);
  size_t n;
  const char *p = lua_tolstring(L, idx, &n);
  buf_add(out, p, n);
  return 0;
}
