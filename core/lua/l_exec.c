/* l_exec.c: see lib.h. Owned by the VM's thread; the process itself is in child.c. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/list.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/argv.h"
#include "lua/charge.h"
#include "lua/child.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "lua/vm.h"

enum { EXEC_TIMEOUT_MS = 30 * 1000, EXEC_OUTPUT_MAX = 1024 * 1024 };
static const char what[] = "jeton.exec";

struct exec_op {
  struct await await;
  struct child *child;
  const struct child_result *result; /* during on_done */
  struct argv argv, env;
  struct buf in; /* sensitive; until the child has its copy */
  uint64_t timeout_ms;
};

static void unmake(void *p) {
  struct exec_op *op = p;
  argv_fini(&op->argv);
  argv_fini(&op->env);
  buf_fini(&op->in);
  free(op);
}

static int push_result(lua_State *L, void *arg) {
  const struct exec_op *op = arg;
  const struct child_result *r = op->result;
  if (r->error == UV_ETIMEDOUT)
    return arg_failure(L, r->error, "exec %s: not done within %llu ms", op->argv.v[0],
                       (unsigned long long)op->timeout_ms);
  if (r->error == ERR_LIMIT)
    return arg_failure(L, r->error, "exec %s: more output than limits.stdout or limits.stderr allow", op->argv.v[0]);
  if (r->error == UV_ENOMEM)
    return arg_failure(L, ERR_LIMIT, "exec %s: its output has no room within limits.memory", op->argv.v[0]);
  if (r->error != 0) return arg_failure(L, r->error, "exec %s: %s", op->argv.v[0], err_text(r->error));
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, (lua_Integer)r->status);
  lua_setfield(L, -2, "status");
  if (r->signal != 0) {
    lua_pushinteger(L, r->signal);
    lua_setfield(L, -2, "signal");
  }
  lua_pushlstring(L, r->out.n > 0 ? r->out.p : "", r->out.n);
  lua_setfield(L, -2, "stdout");
  lua_pushlstring(L, r->err.n > 0 ? r->err.p : "", r->err.n);
  lua_setfield(L, -2, "stderr");
  return 1;
}

static void on_done(void *arg, const struct child_result *r) {
  struct exec_op *op = arg;
  op->result = r;
  await_finish(&op->await, push_result, op);
  unmake(op);
}

static void on_cancel(struct await *a) {
  struct exec_op *op = CONTAINER_OF(a, struct exec_op, await);
  child_cancel(op->child);
  unmake(op);
}

static void read_limits(lua_State *L, struct child_settings *s) {
  static const char *const known[] = {"stdout", "stderr", NULL};
  if (lua_getfield(L, 1, "limits") != LUA_TNIL) {
    if (!lua_istable(L, -1)) arg_wrong(L, what, "limits", "a table", -1);
    arg_known(L, -1, "jeton.exec: limits", known);
  }
  s->out_max = arg_field_size(L, lua_gettop(L), "jeton.exec: limits", "stdout", EXEC_OUTPUT_MAX);
  s->err_max = arg_field_size(L, lua_gettop(L), "jeton.exec: limits", "stderr", EXEC_OUTPUT_MAX);
}

static int read_stdin(lua_State *L, struct exec_op *op, struct str *in) {
  int rc = 0;
  if (lua_getfield(L, 1, "stdin") != LUA_TNIL) {
    rc = l_secret_bytes(L, lua_gettop(L), SECRET_TO_COMMAND, str_of(op->argv.v[0]), &op->in, what, "stdin");
    *in = op->in.n > 0 ? buf_str(&op->in) : (struct str){"", 0};
  }
  lua_pop(L, 1);
  return rc;
}

static size_t bytes_of(const struct argv *a) {
  size_t n = 0;
  for (size_t i = 0; i < a->n; i++) n += strlen(a->v[i]) + 1;
  return n;
}

static int read_env(lua_State *L, struct exec_op *op, struct child_settings *s) {
  if (lua_getfield(L, 1, "env") == LUA_TNIL) return 0;
  if (!lua_istable(L, -1)) arg_wrong(L, what, "env", "a table", -1);
  int rc = argv_read_env(L, lua_gettop(L), str_of(op->argv.v[0]), &op->env, "jeton.exec: env");
  s->env = op->env.v;
  return rc == 0 && op->env.too_long ? UV_E2BIG : rc;
}

int l_exec(lua_State *L) {
  static const char *const known[] = {"stdin", "env", "cwd", "timeout", "limits", NULL};
  if (!lua_istable(L, 1) || !lua_isnoneornil(L, 2))
    return luaL_error(L,
                      "jeton.exec: expected one table with the command and its options: jeton.exec { \"program\", "
                      "\"argument\", timeout = 5 }");
  lua_settop(L, 1);
  arg_known(L, 1, what, known);
  struct exec_op *op = guard_new(L, sizeof *op, unmake);
  int guard = lua_gettop(L);
  lua_toclose(L, guard); /* an error frees it at once: it may hold much that the collector does not see */
  buf_init(&op->in);
  op->in.sensitive = true;
  struct child_settings s = {.argv = NULL};
  argv_read(L, 1, &op->argv, what);
  if (op->argv.too_long) return arg_failure(L, UV_E2BIG, "exec: %s", err_text(UV_E2BIG));
  op->timeout_ms = s.timeout_ms = (uint64_t)arg_field_ms(L, 1, what, "timeout", EXEC_TIMEOUT_MS);
  if (s.timeout_ms < 1) luaL_error(L, "jeton.exec: timeout: expected more than 0");
  s.argv = op->argv.v;
  s.cwd = arg_field_string(L, 1, what, "cwd");
  read_limits(L, &s);
  int rc = read_env(L, op, &s);
  if (rc == 0) rc = read_stdin(L, op, &s.in);
  if (rc != 0) return arg_failure(L, rc, "exec %s: %s", op->argv.v[0], err_text(rc));
  await_begin(L, &op->await, on_cancel);
  const size_t size = CHARGE_CHILD + bytes_of(&op->argv) + bytes_of(&op->env) + op->in.n;
  if (!charge_begin(L, &s.charge, size))
    return arg_failure(L, ERR_LIMIT, "exec %s: the commands under way have no room for another within limits.memory",
                       op->argv.v[0]);
  guard_release(L, guard);
  op->child = child_start(&vm_services(vm_of(L))->loop, &s, on_done, op);
  buf_fini(&op->in);
  return await_yield(L, &op->await);
}
