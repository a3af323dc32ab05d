/* secret_source.c: jeton.secret: where the bytes of a secret come from, and when they are read again.
 *
 *   value(string)   file(path, options)   json(path, field, options)   env(name, options)   exec { argv…, ttl =, timeout =, raw = }
 *
 * each gives an opaque secret (l_secret.c).
 *
 * Owned by the VM's thread: sources are read where their secrets are expanded. A file's content belongs to the process (token/secret_file.h).
 *
 * What stands at the edges of a text is an editor's or a shell's, and would be sent as a part of the credential: it is left out, with a warning where it is more than
 * one line end, unless raw = true. A key of random bytes is no text and stays as it is.
 *
 * A command runs in the background, once a `ttl`; until its first success the secret cannot be expanded (ERR_SECRET_SOURCE). What a command prints
 * is never logged. In the control VM, which only tries policies, it does not run. Bytes are kept in secret memory. */
#include "lua/secret_source.h"

#include <lauxlib.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json_find.h"
#include "base/log.h"
#include "base/must.h"
#include "base/provenance.h"
#include "base/secmem.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/argv.h"
#include "lua/child.h"
#include "lua/compute.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "lua/lib.h"
#include "lua/vm.h"
#include "net/tls_crypto.h"
#include "token/secret_file.h"
#include "token/token.h"

enum { EXEC_TIMEOUT_MS = 30 * 1000, RETRY_MS = 1000, RETRY_MAX_MS = 60 * 1000 };

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

static bool stored_is(const struct stored *s, struct str bytes) {
  return s->p != NULL && crypto_equal((struct str){s->p, s->n}, bytes);
}

static void stored_fini(struct stored *s) {
  if (s->p != NULL) secmem_free(s->p, s->n);
  s->p = NULL;
}

/* --- files --- */

struct file_source {
  struct secret_file *file;
  /* a reference while its bytes are needed: a thread that rests keeps none that the file has no more */
  struct secret_content *content;
};

static int file_read(void *data, struct str *bytes) {
  struct file_source *f = data;
  struct secret_content *now = secret_file_read(f->file);
  secret_content_unref(f->content);
  f->content = now;
  if (now == NULL) return ERR_SECRET_SOURCE;
  *bytes = now->bytes;
  return 0;
}

static void file_done(void *data) {
  struct file_source *f = data;
  secret_content_unref(f->content);
  f->content = NULL;
}

static void file_free(void *data) {
  struct file_source *f = data;
  secret_content_unref(f->content);
  if (f->file != NULL) secret_file_unref(f->file);
  free(f);
}

static void file_note(void *data, struct provenance **to) { secret_file_note(((struct file_source *)data)->file, to); }

static const struct secret_source_ops file_ops = {
    .read = file_read, .done = file_done, .free = file_free, .note = file_note};

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

static const char *const raw_only[] = {"raw", NULL};

static bool read_raw(lua_State *L, const char *what) {
  lua_settop(L, 2);
  arg_options(L, 2, what, "{ raw = true }", raw_only);
  return lua_istable(L, 2) && arg_field_bool(L, 2, what, "raw", false);
}

/* decode = "base64" | "base64url" of the options at idx; `otherwise` when it is not said. */
static enum secret_file_form read_decode(lua_State *L, int idx, const char *what, enum secret_file_form otherwise) {
  if (!lua_istable(L, idx)) return otherwise;
  const char *decode = arg_field_string(L, idx, what, "decode");
  if (decode == NULL) return otherwise;
  if (strcmp(decode, "base64") == 0) return SECRET_FILE_BASE64;
  if (strcmp(decode, "base64url") == 0) return SECRET_FILE_BASE64URL;
  luaL_error(L, "%s: decode: expected \"base64\" or \"base64url\", got \"%s\"", what, decode);
  return otherwise;
}

static void on_warning(void *arg, const char *text) { vm_warn(arg, text); }

static void on_known_warning(void *arg, const char *text) { (void)arg, (void)text; }

/* The VM that tries a policy is strict, and reports what is worth knowing at each load. The others follow at once: what the file has become meanwhile is for
 * secret_file_read to judge. */
static int load_file(lua_State *L, struct secret_file *f) {
  struct vm *vm = vm_of(L);
  if (vm_role(vm) == VM_CONTROL) return secret_file_load(f, true, on_warning, vm);
  int rc = secret_file_load(f, false, vm_loading(vm) ? on_known_warning : NULL, NULL);
  struct secret_content *there = rc != 0 ? secret_file_read(f) : NULL;
  secret_content_unref(there);
  return there != NULL ? 0 : rc;
}

static struct str check_path(lua_State *L, const char *what) {
  struct str path = arg_string(L, 1, what, "path");
  if (memchr(path.p, '\0', path.n) != NULL) luaL_error(L, "%s: path: a NUL byte inside", what);
  return path;
}

static int l_file(lua_State *L) {
  static const char what[] = "jeton.secret.file";
  static const char *const known[] = {"raw", "decode", NULL};
  lua_settop(L, 2);
  struct str path = check_path(L, what);
  arg_options(L, 2, what, "{ raw = true } or { decode = \"base64\" }", known);
  bool raw = lua_istable(L, 2) && arg_field_bool(L, 2, what, "raw", false);
  enum secret_file_form form = read_decode(L, 2, what, raw ? SECRET_FILE_RAW : SECRET_FILE_TEXT);
  if (raw && form != SECRET_FILE_RAW)
    return luaL_error(L, "%s: raw and decode: one of them, since what is decoded is taken as it is", what);
  struct file_source *f = guard_new(L, sizeof *f, file_free);
  f->file = secret_file_get(vm_services(vm_of(L))->names, path, form);
  int rc = load_file(L, f->file);
  if (rc != 0) {
    lua_pushfstring(L, "%s: %s: %s", what, path.p, secret_file_error(rc));
    guard_close(L, -2);
    return unread(L, lua_tostring(L, -1));
  }
  guard_release(L, -1);
  char label[200];
  (void)snprintf(label, sizeof label, "file %s", path.p);
  l_secret_push(L, secret_source(&file_ops, f, label));
  return 1;
}

/* --- one field of a file with JSON --- */

enum { FIELDS_MAX = 8, FIELD_NAMES_MAX = 256 };

struct json_source {
  struct file_source file;
  enum secret_file_form decode; /* of the field; SECRET_FILE_TEXT: it is taken as it is */
  unsigned nnames;
  struct str names[FIELDS_MAX]; /* in text */
  char text[FIELD_NAMES_MAX];
  struct buf picked; /* sensitive; between a read and its end */
};

/* NULL, or what is wrong (static). */
static const char *pick(struct json_source *j, struct str text) {
  struct buf field;
  if (j->decode == SECRET_FILE_TEXT) return json_find_string(text, j->names, j->nnames, &j->picked);
  buf_init(&field);
  field.sensitive = true;
  const char *wrong = json_find_string(text, j->names, j->nnames, &field);
  if (wrong == NULL && !secret_decode(j->decode, buf_str(&field), &j->picked))
    wrong = "that field does not hold base64";
  buf_fini(&field);
  return wrong;
}

static int json_read(void *data, struct str *bytes) {
  struct json_source *j = data;
  struct str text;
  int rc = file_read(&j->file, &text);
  if (rc != 0) return rc;
  buf_reset(&j->picked);
  if (pick(j, text) != NULL) return ERR_SECRET_SOURCE;
  *bytes = buf_str(&j->picked);
  return 0;
}

static void json_done(void *data) {
  struct json_source *j = data;
  buf_fini(&j->picked);
  file_done(&j->file);
}

static void json_free(void *data) {
  struct json_source *j = data;
  buf_fini(&j->picked);
  file_free(&j->file); /* is at its beginning */
}
_Static_assert(offsetof(struct json_source, file) == 0, "freed by its address");

static const struct secret_source_ops json_ops = {
    .read = json_read, .done = json_done, .free = json_free, .note = file_note};

static void add_name(lua_State *L, struct json_source *j, int idx, const char *what) {
  struct str name = arg_string(L, idx, what, "field");
  size_t used = 0;
  for (unsigned i = 0; i < j->nnames; i++) used += j->names[i].n;
  if (j->nnames == FIELDS_MAX || used + name.n > sizeof j->text)
    luaL_error(L, "%s: field: more than %d names or %d bytes", what, FIELDS_MAX, FIELD_NAMES_MAX);
  if (name.n > 0) memcpy(j->text + used, name.p, name.n);
  j->names[j->nnames++] = (struct str){j->text + used, name.n};
}

static void read_names(lua_State *L, struct json_source *j, const char *what) {
  if (!lua_istable(L, 2)) {
    if (lua_type(L, 2) != LUA_TSTRING) arg_wrong(L, what, "field", "a name, or a list of names from the outside in", 2);
    add_name(L, j, 2, what);
    return;
  }
  lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
  if (n == 0) luaL_error(L, "%s: field: an empty list", what);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 2, i);
    add_name(L, j, lua_gettop(L), what);
    lua_pop(L, 1);
  }
}

/* Of a file that can be read: is the field there? */
static const char *try_field(struct json_source *j) {
  struct str bytes;
  const char *wrong = NULL;
  if (file_read(&j->file, &bytes) == 0) wrong = pick(j, bytes);
  json_done(j);
  return wrong;
}

static int l_json(lua_State *L) {
  static const char what[] = "jeton.secret.json";
  static const char *const known[] = {"decode", NULL};
  char label[200];
  lua_settop(L, 3);
  struct str path = check_path(L, what);
  arg_options(L, 3, what, "{ decode = \"base64\" }", known);
  struct json_source *j = guard_new(L, sizeof *j, json_free);
  int guard = lua_gettop(L);
  j->picked.sensitive = true;
  j->decode = read_decode(L, 3, what, SECRET_FILE_TEXT);
  read_names(L, j, what);
  j->file.file = secret_file_get(vm_services(vm_of(L))->names, path, SECRET_FILE_OF_JSON);
  int rc = load_file(L, j->file.file);
  const char *wrong = rc != 0 ? secret_file_error(rc) : try_field(j);
  size_t n = (size_t)snprintf(label, sizeof label, "file %s", path.p);
  for (unsigned i = 0; i < j->nnames && n < sizeof label; i++)
    n += (size_t)snprintf(label + n, sizeof label - n, "%s%.*s", i == 0 ? ": " : ".", STR_FMT(j->names[i]));
  if (wrong != NULL) {
    lua_pushfstring(L, "%s: %s: %s", what, label + 5, wrong);
    guard_close(L, guard);
    return unread(L, lua_tostring(L, -1));
  }
  guard_release(L, guard);
  l_secret_push(L, secret_source(&json_ops, j, label));
  return 1;
}

/* Text from elsewhere, as from a file. The VM that tries a policy warns. */
static struct str trim(struct vm *vm, struct str s, const char *label) {
  bool odd;
  struct str trimmed = secret_trim(s, &odd);
  if (odd) {
    char text[400];
    (void)snprintf(text, sizeof text,
                   "%s: white space or a byte order mark at the edges of a secret is left out (raw = true keeps it)",
                   label);
    if (vm_role(vm) == VM_CONTROL || !vm_loading(vm)) vm_warn(vm, text);
  }
  return trimmed;
}

/* --- variables: they do not change while a process runs --- */

static int l_env(lua_State *L) {
  struct str name = arg_string(L, 1, "jeton.secret.env", "name");
  bool raw = read_raw(L, "jeton.secret.env");
  const char *value = getenv(name.p);
  if (value == NULL || value[0] == '\0')
    return unread(L, lua_pushfstring(L, "jeton.secret.env: %s is not set", name.p));
  char label[200];
  (void)snprintf(label, sizeof label, "env %s", name.p);
  struct str bytes = raw ? str_of(value) : trim(vm_of(L), str_of(value), label);
  if (bytes.n == 0) return unread(L, lua_pushfstring(L, "jeton.secret.env: %s holds nothing but white space", name.p));
  l_secret_push(L, secret_bytes(bytes, label, NULL));
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
  struct provenance_mark *mark; /* moves when they change */
  struct child *child;          /* while it runs */
  struct gate *gate;            /* a reference until the first outcome */
  uint64_t ttl_ms;              /* 0: once */
  uint64_t timeout_ms, retry_ms;
  bool raw;
  bool warned; /* of what was left out at the edges */
};

static void on_exec_due(uv_timer_t *t);

static struct str printed(struct exec_source *e, const struct child_result *r) {
  bool odd = false;
  struct str bytes = e->raw ? r->out : secret_trim(r->out, &odd);
  if (odd && !e->warned && bytes.n > 0)
    log_warn(
        "secret command %s: white space or a byte order mark at the edges of a secret is left out (raw = true keeps "
        "it)",
        e->command.v[0]);
  e->warned = odd;
  return bytes;
}

static const char *outcome(const struct child_result *r, struct str bytes, char *text, size_t size) {
  if (r->error != 0) return err_text(r->error);
  if (r->signal != 0)
    (void)snprintf(text, size, "ended by signal %d", r->signal);
  else if (r->status != 0)
    (void)snprintf(text, size, "exit status %lld", (long long)r->status);
  else if (bytes.n == 0)
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
  struct str bytes = r->error == 0 ? printed(e, r) : (struct str){NULL, 0};
  const char *wrong = outcome(r, bytes, text, sizeof text);
  e->child = NULL;
  if (wrong == NULL) {
    if (!stored_is(&e->bytes, bytes)) provenance_mark_move(e->mark);
    stored_set(&e->bytes, bytes);
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
  provenance_mark_unref(e->mark);
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

static void exec_note(void *data, struct provenance **to) {
  provenance_add_mark(to, ((struct exec_source *)data)->mark);
}

static const struct secret_source_ops exec_ops = {.read = exec_read, .free = exec_free, .note = exec_note};

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
  static const char *const known[] = {"ttl", "timeout", "raw", NULL};
  const char *what = "jeton.secret.exec";
  if (!lua_istable(L, 1) || !lua_isnoneornil(L, 2))
    return luaL_error(L,
                      "jeton.secret.exec: expected one table with the command and its options: jeton.secret.exec { "
                      "\"program\", \"argument\", ttl = \"10m\" }");
  lua_settop(L, 1);
  arg_known(L, 1, what, known);
  struct exec_source *e = guard_new(L, sizeof *e, exec_unmake);
  e->mark = provenance_mark_new();
  argv_read(L, 1, &e->command, what);
  if (e->command.too_long) return luaL_error(L, "%s: %s", what, err_text(UV_E2BIG));
  e->ttl_ms = (uint64_t)arg_field_ms(L, 1, what, "ttl", 0);
  e->timeout_ms = (uint64_t)arg_field_ms(L, 1, what, "timeout", EXEC_TIMEOUT_MS);
  if (e->timeout_ms < 1) luaL_error(L, "%s: timeout: expected more than 0", what);
  e->raw = arg_field_bool(L, 1, what, "raw", false);
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

/* Of a secret: one of its bytes of now, which does not follow its file or token any more. */
static int value_of_now(lua_State *L) {
  struct compute c = {.what = "value"};
  const struct operand *o = compute_operand(L, 1, &c);
  int status = compute_begin(L, &c);
  if (status != 0) return compute_fail(L, &c, status);
  struct secret *s = compute_secret(L, &c, o->bytes.p, o->bytes.n);
  compute_end(&c);
  l_secret_push(L, s);
  return 1;
}

static int l_value(lua_State *L) {
  if (l_secret_test(L, 1) != NULL) return value_of_now(L);
  struct str s = arg_string(L, 1, "jeton.secret.value", "argument 1");
  l_secret_push(L, secret_bytes(s, "value", NULL));
  return 1;
}

static const luaL_Reg functions[] = {
    {"value", l_value}, {"file", l_file}, {"json", l_json}, {"env", l_env}, {"exec", l_command}, {NULL, NULL},
};

int l_secret_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
