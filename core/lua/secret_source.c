/* secret_source.c: jeton.secret: where the bytes of a secret come from, and when they are read again.
 *
 *   value(string)   file(path)   env(name)   exec { argv…, ttl =, timeout = }     each gives an opaque secret (l_secret.c)
 *
 * Owned by the VM's thread: sources are read where their secrets are expanded.
 *
 * A file is read when it is named, and checked (one stat) when it is used, once a second at the most. When it has become unreadable or
 * empty, which is what a file that is being rewritten looks like, the bytes read last go on serving and one warning is logged. That is
 * blocking work, on purpose: it happens inside of secret_expand, which cannot wait, and is one stat of a small local file.
 *
 * A command runs in the background, once a `ttl`; until its first success the secret cannot be expanded (ERR_SECRET_SOURCE). What a command prints
 * is never logged. In the control VM, which only tries policies, it does not run. Bytes are kept in secret memory. */
#include "lua/secret_source.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file_stamp.h"
#include "base/log.h"
#include "base/must.h"
#include "base/secmem.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/argv.h"
#include "lua/child.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "lua/lib.h"
#include "lua/vm.h"
#include "token/token.h"

enum { FILE_EMPTY = -ENODATA, CHECK_MS = 1000, EXEC_TIMEOUT_MS = 30 * 1000, RETRY_MS = 1000, RETRY_MAX_MS = 60 * 1000 };

struct stored { /* bytes in secret memory */
  char *p;
  size_t n;
};

static void stored_set(struct stored *s, struct str bytes) {
  secmem_free(s->p, s->n);
  s->n = bytes.n;
  s->p = secmem_alloc(bytes.n > 0 ? bytes.n : 1);
  if (bytes.n > 0) memcpy(s->p, bytes.p, bytes.n);
}

static void stored_fini(struct stored *s) {
  if (s->p != NULL) secmem_free(s->p, s->n);
  s->p = NULL;
}

/* One line end at the end is an editor's, not the secret's. */
static struct str trim_line_end(struct str s) {
  if (s.n > 0 && s.p[s.n - 1] == '\n') s.n--;
  if (s.n > 0 && s.p[s.n - 1] == '\r') s.n--;
  return s;
}

/* --- files --- */

struct file_source {
  char *path;
  struct stored bytes;
  struct file_stamp seen;
  int64_t checked_at; /* CLOCK_BOOTTIME ms */
  bool warned;
};

/* Reads into `to` (sensitive). 0, or a negative code; or FILE_EMPTY. */
static int read_small(const char *path, struct buf *to, struct stat *seen) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  int rc = fstat(fd, seen) == 0 ? 0 : -errno;
  while (rc == 0) {
    ssize_t n = read(fd, buf_reserve(to, 4096), 4096);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) rc = -errno;
    if (n <= 0) break;
    to->n += (size_t)n;
    if (to->n > TOKEN_BYTES_MAX) rc = ERR_LIMIT;
  }
  (void)close(fd);
  if (rc == 0 && trim_line_end(buf_str(to)).n == 0) rc = FILE_EMPTY;
  return rc;
}

static int load(struct file_source *f) {
  struct buf b;
  struct stat seen;
  buf_init(&b);
  b.sensitive = true;
  int rc = read_small(f->path, &b, &seen);
  if (rc == 0) {
    stored_set(&f->bytes, trim_line_end(buf_str(&b)));
    f->seen = file_stamp_of(&seen);
  }
  buf_fini(&b);
  return rc;
}

static const char *file_error(int rc) { return rc == FILE_EMPTY ? "the file is empty" : err_text(rc); }

static void check_file(struct file_source *f) {
  struct stat now;
  int rc = stat(f->path, &now) == 0 ? 0 : -errno;
  struct file_stamp stamp = rc == 0 ? file_stamp_of(&now) : (struct file_stamp){0};
  if (rc == 0 && file_stamp_same(&stamp, &f->seen)) return;
  if (rc == 0) rc = load(f);
  if (rc != 0 && !f->warned)
    log_warn("secret file %s cannot be read again, its last content goes on serving: %s", f->path, file_error(rc));
  f->warned = rc != 0;
}

static int file_read(void *data, struct str *bytes) {
  struct file_source *f = data;
  int64_t now = clock_boot_ms();
  if (now - f->checked_at >= CHECK_MS) {
    f->checked_at = now;
    check_file(f);
  }
  *bytes = (struct str){f->bytes.p, f->bytes.n};
  return 0;
}

static void file_free(void *data) {
  struct file_source *f = data;
  stored_fini(&f->bytes);
  free(f->path);
  free(f);
}

static const struct secret_source_ops file_ops = {.read = file_read, .free = file_free};

/* --- one that cannot be read while a policy is tried --- */

static int unread_read(void *data, struct str *bytes) {
  (void)data, (void)bytes;
  return ERR_SECRET_SOURCE;
}
static void unread_free(void *data) { (void)data; }
static const struct secret_source_ops unread_ops = {.read = unread_read, .free = unread_free};

/* The policy is refused for it, but its file runs on, so that one round shows whatever else is wrong with it. Raises where nobody gathers what is. */
static int unread(lua_State *L, const char *text) {
  if (!vm_problem(L, text)) return luaL_error(L, "%s", text);
  l_secret_push(L, secret_source(&unread_ops, NULL, "that cannot be read"));
  return 1;
}

static int l_file(lua_State *L) {
  struct str path = arg_string(L, 1, "jeton.secret.file", "path");
  struct file_source *f = guard_new(L, sizeof *f, file_free);
  f->path = must_strdup(path.p);
  f->checked_at = clock_boot_ms();
  int rc = load(f);
  if (rc != 0) {
    guard_close(L, -1);
    return unread(L, lua_pushfstring(L, "jeton.secret.file: %s: %s", path.p, file_error(rc)));
  }
  guard_release(L, -1);
  char label[200];
  (void)snprintf(label, sizeof label, "file %s", path.p);
  l_secret_push(L, secret_source(&file_ops, f, label));
  return 1;
}

/* --- variables: they do not change while a process runs --- */

static int l_env(lua_State *L) {
  struct str name = arg_string(L, 1, "jeton.secret.env", "name");
  const char *value = getenv(name.p);
  if (value == NULL || value[0] == '\0')
    return unread(L, lua_pushfstring(L, "jeton.secret.env: %s is not set", name.p));
  char label[200];
  (void)snprintf(label, sizeof label, "env %s", name.p);
  l_secret_push(L, secret_bytes(str_of(value), label, NULL));
  return 1;
}

/* --- the gate --- */

#define GATE "jeton.secret.gate"

struct gate { /* refcounted: by the VM and by every command that has not had its first outcome */
  unsigned refs, pending;
  struct link waiters;
};

static void gate_unref(struct gate *g) {
  if (--g->refs == 0) free(g);
}

static int l_gate_collect(lua_State *L) {
  struct gate **g = luaL_checkudata(L, 1, GATE);
  if (*g != NULL) gate_unref(*g);
  *g = NULL;
  return 0;
}

static struct gate *gate_of(lua_State *L) {
  if (lua_getfield(L, LUA_REGISTRYINDEX, GATE ".of") == LUA_TNIL) {
    lua_pop(L, 1);
    struct gate **g = lua_newuserdatauv(L, sizeof(struct gate *), 0);
    *g = NULL;
    luaL_newmetatable(L, GATE);
    lua_pushcfunction(L, l_gate_collect);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    *g = must_calloc(1, sizeof **g);
    (*g)->refs = 1;
    list_init(&(*g)->waiters);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, GATE ".of");
  }
  struct gate *g = *(struct gate **)lua_touserdata(L, -1);
  lua_pop(L, 1);
  return g;
}

bool secret_gate_wait(lua_State *L, struct secret_gate_waiter *w) {
  struct gate *g = gate_of(L);
  list_init(&w->link);
  if (g->pending == 0) return false;
  list_push(&g->waiters, &w->link);
  return true;
}

void secret_gate_leave(struct secret_gate_waiter *w) { list_remove(&w->link); }

static void gate_pass(struct gate *g) {
  if (--g->pending == 0) {
    struct link open;
    list_init(&open);
    list_splice(&open, &g->waiters);
    for (struct link *l; (l = list_pop(&open)) != NULL;) {
      struct secret_gate_waiter *w = CONTAINER_OF(l, struct secret_gate_waiter, link);
      w->open(w);
    }
  }
  gate_unref(g);
}

/* --- commands --- */

struct exec_source {
  uv_timer_t timer;
  uv_loop_t *loop;
  struct argv command;
  struct stored bytes;
  struct child *child; /* while it runs */
  struct gate *gate;   /* a reference until the first outcome */
  uint64_t ttl_ms;     /* 0: once */
  uint64_t timeout_ms, retry_ms;
};

static void on_exec_due(uv_timer_t *t);

static const char *outcome(const struct child_result *r, char *text, size_t size) {
  if (r->error != 0) return err_text(r->error);
  if (r->signal != 0)
    (void)snprintf(text, size, "ended by signal %d", r->signal);
  else if (r->status != 0)
    (void)snprintf(text, size, "exit status %lld", (long long)r->status);
  else if (trim_line_end(r->out).n == 0)
    (void)snprintf(text, size, "it printed nothing");
  else
    return NULL;
  return text;
}

static void plan(struct exec_source *e, uint64_t ms) {
  if (ms > 0) (void)uv_timer_start(&e->timer, on_exec_due, ms, 0);
}

static void on_exec_done(void *arg, const struct child_result *r) {
  struct exec_source *e = arg;
  char text[64];
  const char *wrong = outcome(r, text, sizeof text);
  e->child = NULL;
  if (wrong == NULL) {
    stored_set(&e->bytes, trim_line_end(r->out));
    e->retry_ms = RETRY_MS;
    plan(e, e->ttl_ms);
  } else {
    log_warn("secret command %s failed, trying again in %llu ms: %s", e->command.v[0], (unsigned long long)e->retry_ms,
             wrong);
    plan(e, e->retry_ms);
    e->retry_ms = e->retry_ms * 2 < RETRY_MAX_MS ? e->retry_ms * 2 : RETRY_MAX_MS;
  }
  struct gate *gate = e->gate;
  e->gate = NULL;
  if (gate != NULL) gate_pass(gate);
}

static void on_exec_due(uv_timer_t *t) {
  struct exec_source *e = t->data;
  struct child_settings s = {
      .argv = e->command.v, .timeout_ms = e->timeout_ms, .out_max = TOKEN_BYTES_MAX, .err_max = TOKEN_BYTES_MAX};
  e->child = child_start(e->loop, &s, on_exec_done, e);
}

static int exec_read(void *data, struct str *bytes) {
  struct exec_source *e = data;
  if (e->bytes.p == NULL) return ERR_SECRET_SOURCE;
  *bytes = (struct str){e->bytes.p, e->bytes.n};
  return 0;
}

static void exec_unmake(void *data) {
  struct exec_source *e = data;
  stored_fini(&e->bytes);
  argv_fini(&e->command);
  free(e);
}

static void on_exec_closed(uv_handle_t *h) { exec_unmake(h->data); }

static void exec_free(void *data) {
  struct exec_source *e = data;
  if (e->child != NULL) child_cancel(e->child);
  struct gate *gate = e->gate;
  e->gate = NULL;
  if (gate != NULL) gate_pass(gate);
  if (e->loop != NULL)
    uv_close((uv_handle_t *)&e->timer, on_exec_closed);
  else
    exec_unmake(e);
}

static const struct secret_source_ops exec_ops = {.read = exec_read, .free = exec_free};

static void exec_begin(lua_State *L, struct exec_source *e) {
  struct vm *vm = vm_of(L);
  if (vm_role(vm) == VM_CONTROL) return;
  e->gate = gate_of(L);
  e->gate->refs++;
  e->gate->pending++;
  e->loop = &vm_services(vm)->loop;
  (void)uv_timer_init(e->loop, &e->timer);
  e->timer.data = e;
  (void)uv_timer_start(&e->timer, on_exec_due, 0, 0);
}

static int l_command(lua_State *L) {
  static const char *const known[] = {"ttl", "timeout", NULL};
  const char *what = "jeton.secret.exec";
  if (!lua_istable(L, 1) || !lua_isnoneornil(L, 2))
    return luaL_error(L,
                      "jeton.secret.exec: expected one table with the command and its options: jeton.secret.exec { "
                      "\"program\", \"argument\", ttl = \"10m\" }");
  lua_settop(L, 1);
  arg_known(L, 1, what, known);
  struct exec_source *e = guard_new(L, sizeof *e, exec_unmake);
  argv_read(L, 1, &e->command, what);
  e->ttl_ms = (uint64_t)arg_field_ms(L, 1, what, "ttl", 0);
  e->timeout_ms = (uint64_t)arg_field_ms(L, 1, what, "timeout", EXEC_TIMEOUT_MS);
  if (e->timeout_ms < 1) luaL_error(L, "%s: timeout: expected more than 0", what);
  e->retry_ms = RETRY_MS;
  (void)gate_of(L); /* made here, since from the release on nothing may raise */
  char label[200];
  (void)snprintf(label, sizeof label, "exec %s", e->command.v[0]);
  guard_release(L, -1);
  exec_begin(L, e);
  l_secret_push(L, secret_source(&exec_ops, e, label));
  return 1;
}

/* --- jeton.secret --- */

static int l_value(lua_State *L) {
  struct str s = arg_string(L, 1, "jeton.secret.value", "argument 1");
  l_secret_push(L, secret_bytes(s, "value", NULL));
  return 1;
}

static const luaL_Reg functions[] = {
    {"value", l_value}, {"file", l_file}, {"env", l_env}, {"exec", l_command}, {NULL, NULL},
};

int l_secret_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
