/* argv.c: see argv.h. Strings are wiped when they are freed: an environment may hold expanded secrets. */
#include "lua/argv.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/secmem.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "lua/vm.h"

/* The kernel takes three quarters of 8 MiB at the most (MAX_ARG_PAGES and _STK_LIM in its fs/exec.c), whatever the limit on stacks is. */
enum { ARGV_MAX = 1024, BYTES_MAX = 6 * 1024 * 1024 };
extern char **environ;

static void drop_string(char *z) {
  secmem_wipe(z, strlen(z));
  free(z);
}

void argv_fini(struct argv *a) {
  for (size_t i = 0; i < a->n; i++) drop_string(a->v[i]);
  free(a->v);
  a->v = NULL;
  a->n = 0;
}

/* Script time is charged by the caller: what is in our own environment is no script's doing. */
static void add(struct argv *a, struct str name, const char *between, struct str value) {
  size_t gap = strlen(between);
  a->too_long = a->too_long || name.n + gap + value.n > BYTES_MAX - a->bytes;
  if (a->too_long) return;
  a->bytes += name.n + gap + value.n;
  char *z = must_malloc(name.n + gap + value.n + 1);
  memcpy(z, name.p, name.n);
  memcpy(z + name.n, between, gap);
  if (value.n > 0) memcpy(z + name.n + gap, value.p, value.n);
  z[name.n + gap + value.n] = '\0';
  a->v = must_realloc(a->v, (a->n + 2) * sizeof *a->v);
  a->v[a->n++] = z;
  a->v[a->n] = NULL;
}

void argv_read(lua_State *L, int idx, struct argv *a, const char *what) {
  lua_Integer n = luaL_len(L, idx);
  if (n < 1) luaL_error(L, "%s: expected a command and its arguments, { \"program\", \"argument\", … }", what);
  if (n > ARGV_MAX) luaL_error(L, "%s: more than %d arguments", what, ARGV_MAX);
  for (lua_Integer i = 1; i <= n; i++) {
    (void)lua_geti(L, idx, i);
    if (l_secret_test(L, -1) != NULL)
      luaL_error(L,
                 "%s: argument %I is a secret: command lines are visible to every user of the machine (/proc); pass it "
                 "as stdin or in env",
                 what, (LUAI_UACINT)i);
    if (!lua_isstring(L, -1))
      luaL_error(L, "%s: argument %I: expected a string, got %s", what, (LUAI_UACINT)i, luaL_typename(L, -1));
    struct str s;
    s.p = lua_tolstring(L, -1, &s.n);
    vm_burn(L, 1 + s.n / 4);
    if (memchr(s.p, '\0', s.n) != NULL) luaL_error(L, "%s: argument %I: a NUL byte inside", what, (LUAI_UACINT)i);
    add(a, s, "", (struct str){0});
    lua_pop(L, 1);
  }
}

static void drop_named(struct argv *a, struct str name) {
  for (size_t i = 0; i < a->n; i++) {
    if (strncmp(a->v[i], name.p, name.n) != 0 || a->v[i][name.n] != '=') continue;
    a->bytes -= strlen(a->v[i]);
    drop_string(a->v[i]);
    a->v[i] = a->v[--a->n];
    a->v[a->n] = NULL;
    return;
  }
}

static struct str env_name(lua_State *L, int idx, const char *what) {
  if (lua_type(L, idx) != LUA_TSTRING)
    luaL_error(L, "%s: expected { NAME = value, … }, got %s in place of a name", what, arg_push_noun(L, idx));
  struct str name = arg_string(L, idx, what, "name");
  if (name.n == 0 || memchr(name.p, '=', name.n) != NULL || memchr(name.p, '\0', name.n) != NULL)
    luaL_error(L, "%s: '%s' is not a name for a variable", what, name.p);
  return name;
}

int argv_read_env(lua_State *L, int idx, struct str command, struct argv *a, const char *what) {
  for (char **e = environ; e != NULL && *e != NULL; e++) add(a, str_of(*e), "", (struct str){0});
  struct buf *value = guard_buf(L);
  for (lua_pushnil(L); vm_next(L, idx); lua_pop(L, 1)) {
    struct str name = env_name(L, -2, what);
    vm_burn(L, a->n / 4);
    drop_named(a, name);
    if (lua_isboolean(L, -1) && !lua_toboolean(L, -1)) continue;
    buf_reset(value);
    int rc = l_secret_bytes(L, lua_gettop(L), SECRET_TO_COMMAND, command, value, what, name.p);
    if (rc != 0) {
      guard_close(L, -3);
      lua_pop(L, 3);
      return rc;
    }
    vm_burn(L, value->n / 4);
    if (value->n > 0 && memchr(value->p, '\0', value->n) != NULL)
      luaL_error(L, "%s: a NUL byte in the value of '%s'", what, name.p);
    add(a, name, "=", buf_str(value));
  }
  guard_close(L, -1);
  lua_pop(L, 1);
  return 0;
}
