/* load.c: from a file to a snapshot. The file is read once; its text runs in the control VM; the table that it returns is read into C (keys.h); then the files
 * of its TLS are. When a step fails, the report has everything that is wrong, and nothing is left behind: all of it lies in the policy's arena. Control's
 * thread. */
#include "policy/load.h"

#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "lua/vm.h"
#include "policy/hint.h"
#include "policy/keys.h"
#include "policy/modules.h"

/* Inside vm_call: runs the text, reads what it returns. */
static int l_load(lua_State *L) {
  struct schema *s = lua_touserdata(L, 1);
  s->L = L;
  modules_open(L, s->policy, s->dir);
  if (source_push(L, &s->policy->sources[0]) != LUA_OK) return lua_error(L);
  lua_call(L, 0, 1);
  modules_login(L, s->policy);
  int table = lua_gettop(L);
  s->is_table = lua_istable(L, table);
  if (s->is_table) {
    keys_read(s, table);
  } else {
    schema_problem(s, NULL, "expected the file to return a table, got %s (does it end with return { ... }?)",
                   hint_type(s, table));
  }
  s->L = NULL;
  return 0;
}

static const char *file_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

static const char *directory(struct arena *a, const char *path) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL) return ".";
  return slash == path ? "/" : arena_dup(a, (struct str){path, (size_t)(slash - path)}).p;
}

/* A Lua error begins with its place, unless it has none. */
static void report_script(struct schema *s, int status, const char *message, struct report *r) {
  if (message == NULL || message[0] == '\0') message = err_text(status);
  bool placed = strstr(message, ".lua:") != NULL || str_starts(str_of(message), str_of(s->policy->sources[0].name));
  report_problem(r, "%s%s%s", placed ? "" : s->policy->sources[0].name, placed ? "" : ": ", message);
}

/* "policy.lua:12: text" is a warning at that line of the policy's own file. */
static void on_warning(void *arg, const char *text) {
  struct schema *s = arg;
  size_t n = strlen(s->policy->sources[0].name);
  unsigned long line = 0;
  char *end = NULL;
  if (strncmp(text, s->policy->sources[0].name, n) == 0 && text[n] == ':') line = strtoul(text + n + 1, &end, 10);
  bool placed = line > 0 && line <= UINT_MAX && strncmp(end, ": ", 2) == 0;
  schema_warning_at(s, placed ? (unsigned)line : 0, "", placed ? end + 2 : text);
}

static void on_problem(void *arg, const char *chunk, unsigned line, const char *text) {
  struct schema *s = arg;
  if (strcmp(chunk, s->policy->sources[0].chunk) == 0)
    schema_problem_at(s, line, "", text);
  else
    schema_problem_at(s, 0, "", arena_printf(s->arena, "%s:%u: %s", chunk, line, text).p);
}

static void run(struct vm *vm, struct schema *s, struct report *r) {
  const char *message = NULL;
  vm_set_loading(vm, true);
  vm_on_warning(vm, on_warning, s);
  vm_on_problem(vm, on_problem, s);
  int status = vm_call(vm, l_load, s, &message);
  vm_on_warning(vm, NULL, NULL);
  vm_on_problem(vm, NULL, NULL);
  vm_set_loading(vm, false);
  if (status != 0) report_script(s, status, message, r);
  if (status == 0 && s->is_table) {
    keys_finish(s);
    keys_make_tls(s);
  }
  schema_report(s, r);
}

static bool read_policy(struct policy *p, const char *path, struct report *r) {
  const char *name = file_name(path);
  int rc = source_add(p, name, name, path);
  if (rc == UV_E2BIG) {
    report_problem(r, "%s: cannot be read: it is longer than %d bytes", path, SOURCE_MAX);
  } else if (rc != 0) {
    report_problem(r, "%s: cannot be read: %s", path, err_text(rc));
  } else if (source_wrong(&p->sources[0]) != NULL) {
    report_problem(r, "%s: %s", name, source_wrong(&p->sources[0]));
  } else {
    return true;
  }
  return false;
}

struct policy *policy_load(struct vm *vm, const char *path, const struct policy_overrides *o, struct report *r) {
  unsigned before = r->problems;
  struct policy *p = policy_new();
  keys_defaults(p);
  struct schema s = {.policy = p, .arena = p->memory, .dir = directory(p->memory, path), .overrides = o};
  if (o != NULL) p->login = o->login;
  if (read_policy(p, path, r)) run(vm, &s, r);
  if (r->problems == before) return p;
  policy_unref(r->refused);
  r->refused = p;
  return NULL;
}
