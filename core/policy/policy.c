/* policy.c: from a file to a snapshot. The file is read once; its text runs in the control VM; the table that it returns is read into C (keys.h); then the files
 * of its TLS are. Whatever fails, all that is wrong is in the report and nothing is left behind: everything lies in the policy's arena, clean-ups included.
 *
 * Made on control's thread, read by all; only the count of references changes afterwards. */
#include "policy/policy.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "lua/vm.h"
#include "policy/hint.h"
#include "policy/keys.h"
#include "policy/modules.h"

/* --- the snapshot --- */

enum { FIRST_BLOCK = 8 * 1024 };

struct memory { /* the arena with its first block */
  struct arena arena;
  _Alignas(16) uint8_t first[FIRST_BLOCK];
};

struct policy *policy_new(void) {
  static atomic_uint_fast64_t loads; /* relaxed: only a number that differs */
  struct memory *m = malloc(sizeof *m);
  if (m == NULL) abort();
  arena_init(&m->arena, m->first, sizeof m->first);
  struct policy *p = arena_alloc(&m->arena, sizeof *p);
  memset(p, 0, sizeof *p);
  atomic_init(&p->refs, 1);
  serving_init(&p->serving);
  p->memory = &m->arena;
  p->number = atomic_fetch_add_explicit(&loads, 1, memory_order_relaxed) + 1;
  keys_defaults(p);
  return p;
}

struct policy *policy_ref(struct policy *p) {
  atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
  return p;
}

void policy_unref(struct policy *p) {
  if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1) return;
  struct arena *a = p->memory; /* p itself lies in it */
  arena_reset(a);
  free(CONTAINER_OF(a, struct memory, arena));
}

void policy_leave(struct policy *p) {
  if (!serving_leave(&p->serving) || p->serving.keeper == NULL) return;
  (void)policy_ref(p); /* the mail's */
  mailbox_post(p->serving.keeper, &p->serving.over);
}

const char *hook_name(enum hook hook) {
  static const char *const names[HOOK_COUNT] = {
#define XX(name, key) key,
      HOOKS(XX)
#undef XX
  };
  return names[hook];
}

const struct token_conf *policy_token(const struct policy *p, const char *name, bool family) {
  for (size_t i = 0; i < p->ntokens; i++) {
    const struct token_conf *t = &p->tokens[i];
    if (t->family == family && strcmp(t->name, name) == 0) return t;
  }
  return NULL;
}

const struct upstream_conf *policy_upstream(const struct policy *p, struct str name) {
  for (size_t i = 0; i < p->nupstreams; i++)
    if (str_eq(str_of(p->upstreams[i].name), name)) return &p->upstreams[i];
  return NULL;
}

/* --- loading --- */

/* Inside vm_call: runs the text, reads what it returns. */
static int l_load(lua_State *L) {
  struct schema *s = lua_touserdata(L, 1);
  s->L = L;
  modules_open(L, s->policy, s->dir);
  if (source_push(L, &s->policy->sources[0]) != LUA_OK) return lua_error(L);
  lua_call(L, 0, 1);
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

/* What a Lua error says begins with its place, unless it has none. */
static void report_script(struct schema *s, int status, const char *message, struct report *r) {
  if (message == NULL || message[0] == '\0') message = err_text(status);
  bool placed = strstr(message, ".lua:") != NULL || str_starts(str_of(message), str_of(s->policy->sources[0].name));
  report_problem(r, "%s%s%s", placed ? "" : s->policy->sources[0].name, placed ? "" : ": ", message);
}

static void on_warning(void *arg, const char *text) { schema_warning_at(arg, 0, "", text); }

static void run(struct vm *vm, struct schema *s, struct report *r) {
  const char *message = NULL;
  vm_set_loading(vm, true);
  vm_on_warning(vm, on_warning, s);
  int status = vm_call(vm, l_load, s, &message);
  vm_on_warning(vm, NULL, NULL);
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
  struct schema s = {.policy = p, .arena = p->memory, .dir = directory(p->memory, path), .overrides = o};
  if (read_policy(p, path, r)) run(vm, &s, r);
  if (r->problems == before) return p;
  policy_unref(r->refused);
  r->refused = p;
  return NULL;
}
