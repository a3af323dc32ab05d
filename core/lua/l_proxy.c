/* l_proxy.c: see l_proxy.h. Any VM's thread. */
#include "lua/l_proxy.h"

#include <lauxlib.h>
#include <string.h>

#include "base/err.h"
#include "lua/arg.h"
#include "lua/l_secret.h"
#include "token/secret.h"

static const char EXPECTED[] =
    "\"http://HOST:PORT\", \"environment\", false, or a table such as { url = …, user = …, password = … }";

static struct parents *only(struct parent *p) {
  struct parents *all = parents_one(p);
  parent_unref(p);
  return all;
}

/* Not more than a field's worth is raised with: what stands in the URL may be a password. */
static struct parents *of_text(lua_State *L, struct str text, const char *what) {
  const char *why;
  struct parent *p = parent_parse(text, NULL, &why);
  if (p == NULL) luaL_error(L, "%s: proxy: %s", what, why);
  return only(p);
}

/* The password on the top: a new reference, or NULL: none. */
static struct secret *password_at_top(lua_State *L, const char *what) {
  struct secret *s = l_secret_test(L, -1);
  if (s != NULL) {
    l_secret_note(L, s);
    return secret_ref(s);
  }
  if (lua_isnil(L, -1)) return NULL;
  if (lua_type(L, -1) != LUA_TSTRING) arg_wrong(L, what, "proxy: password", "a string or a secret", -1);
  return secret_bytes(arg_string(L, -1, what, "proxy: password"), "password", NULL);
}

static struct parents *of_table(lua_State *L, int idx, const char *what) {
  static const char *const known[] = {"url", "user", "password", NULL};
  const char *why;
  luaL_checkstack(L, 8, what);
  arg_known(L, idx, lua_pushfstring(L, "%s: proxy", what), known);
  lua_getfield(L, idx, "url");
  struct str url = arg_string(L, -1, what, "proxy: url"), user = {NULL, 0};
  if (lua_getfield(L, idx, "user") != LUA_TNIL) user = arg_string(L, -1, what, "proxy: user");
  lua_getfield(L, idx, "password");
  if (user.p == NULL && lua_isnil(L, -1)) return of_text(L, url, what);
  if (user.p == NULL) luaL_error(L, "%s: proxy: a password without a user", what);
  if (memchr(user.p, ':', user.n) != NULL) luaL_error(L, "%s: proxy: a user with a colon (RFC 7617 section 2)", what);
  struct secret *password = password_at_top(L, what), *basic = parent_basic(user, password);
  struct parent *p = basic != NULL ? parent_parse(url, basic, &why) : NULL;
  if (basic == NULL) why = "user and password are too large";
  secret_unref(password);
  secret_unref(basic);
  if (p == NULL) luaL_error(L, "%s: proxy: %s", what, why);
  return only(p);
}

static int of_environment(lua_State *L, const char *what, struct parents **out) {
  char why[300];
  *out = parents_of_environment(why, sizeof why);
  return *out != NULL ? 0 : arg_failure(L, ERR_CONFIG, "%s: proxy: %s", what, why);
}

int l_proxy_read(lua_State *L, int idx, const char *what, struct parents **out) {
  const int top = lua_gettop(L);
  idx = lua_absindex(L, idx);
  *out = NULL;
  if (lua_isnil(L, idx) || (lua_isboolean(L, idx) && !lua_toboolean(L, idx))) return 0;
  if (lua_istable(L, idx)) {
    *out = of_table(L, idx, what);
  } else if (lua_type(L, idx) == LUA_TSTRING) {
    struct str text = arg_string(L, idx, what, "proxy");
    if (str_eq(text, STR("environment"))) return of_environment(L, what, out);
    *out = of_text(L, text, what);
  } else {
    arg_wrong(L, what, "proxy", EXPECTED, idx);
  }
  lua_settop(L, top);
  return 0;
}
