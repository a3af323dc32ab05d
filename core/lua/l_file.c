/* l_file.c: see lib.h. Owned by the VM's thread; the system calls run on the thread pool (work.h).
 *
 * One op for all of them: what to do, the path, and the bytes that come or go, in a buffer that is wiped. Relative paths are relative to the
 * process's directory. How a file is written is in base/file_save.h. A write that has been asked for is carried out also when its task ends meanwhile: what it
 * saves may be a login that cannot be had again. */
#include "base/must.h"
#include "lua/lib.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file_save.h"
#include "base/file_stamp.h"
#include "base/list.h"
#include "base/provenance.h"
#include "lua/arg.h"
#include "lua/charge.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "lua/work.h"

enum {
  FILE_READ_MAX = 1024 * 1024,
  FILE_MODE = 0600,
  WRITE_FREE = 64 * 1024 /* bytes that are not charged */,
  FILE_CHUNK = 16 * 1024
};

struct file_op {
  struct work work;
  const char *name; /* static: "read", "write", … */
  char *path;
  struct buf data;
  struct charge charge; /* of data, too */
  uint64_t max;
  mode_t mode;
  struct stat stat; /* of read: what was there; zero: nothing */
  int error;
};

static struct file_op *op_of(struct work *w) { return CONTAINER_OF(w, struct file_op, work); }

static void unmake(void *p) {
  struct file_op *op = p;
  buf_fini(&op->data);
  charge_end(&op->charge);
  free(op->path);
  free(op);
}

static int failure(lua_State *L, const struct file_op *op) {
  if (op->error == ERR_LIMIT)
    return arg_failure(L, op->error, "%s %s: more than %llu bytes", op->name, op->path, (unsigned long long)op->max);
  if (op->error == UV_ENOMEM)
    return arg_failure(L, ERR_LIMIT, "%s %s: it has no room within limits.memory", op->name, op->path);
  return arg_failure(L, op->error, "%s %s: %s", op->name, op->path, err_text(op->error));
}

static int push_true(lua_State *L, struct work *w) {
  struct file_op *op = op_of(w);
  if (op->error != 0) return failure(L, op);
  lua_pushboolean(L, true);
  return 1;
}

/* --- on the pool --- */

static int read_all(struct file_op *op, int fd) {
  for (;;) {
    ssize_t n = read(fd, buf_reserve(&op->data, FILE_CHUNK), FILE_CHUNK);
    if (n == 0) return 0;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    op->data.n += (size_t)n;
    if (op->data.n > op->max) return ERR_LIMIT;
    if (!charge_more(&op->charge, (size_t)n)) return UV_ENOMEM;
  }
}

static void run_read(struct work *w) {
  struct file_op *op = op_of(w);
  int fd = open(op->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO without a writer must not hold a pool thread */
  op->error = fd < 0 ? -errno : read_all(op, fd);
  if (fd >= 0 ? fstat(fd, &op->stat) != 0 : stat(op->path, &op->stat) != 0) memset(&op->stat, 0, sizeof op->stat);
  if (fd >= 0) (void)close(fd);
}

static void run_write(struct work *w) {
  struct file_op *op = op_of(w);
  op->error = file_save(op->path, op->data.p, op->data.n, op->mode);
}

static void run_try(struct work *w) {
  struct file_op *op = op_of(w);
  op->error = file_try_save(op->path);
}

static void run_stat(struct work *w) {
  struct file_op *op = op_of(w);
  op->error = stat(op->path, &op->stat) == 0 ? 0 : -errno;
}

static void run_remove(struct work *w) {
  struct file_op *op = op_of(w);
  op->error = unlink(op->path) == 0 ? 0 : -errno;
}

/* --- results --- */

/* A fetch goes by what it read, and by a file that was not there. */
static void note_read(lua_State *L, const struct file_op *op) {
  struct provenance **provenance = task_provenance(L);
  struct file_stamp seen = file_stamp_of(&op->stat);
  if (provenance != NULL) provenance_add_file(provenance, op->path, &seen);
}

static int push_data(lua_State *L, struct work *w) {
  struct file_op *op = op_of(w);
  note_read(L, op);
  if (op->error != 0) return failure(L, op);
  lua_pushlstring(L, op->data.n > 0 ? (const char *)op->data.p : "", op->data.n);
  return 1;
}

static const char *type_name(mode_t mode) {
  if (S_ISREG(mode)) return "file";
  return S_ISDIR(mode) ? "directory" : "other";
}

static int push_stat(lua_State *L, struct work *w) {
  struct file_op *op = op_of(w);
  char mode[8];
  if (op->error != 0) return failure(L, op);
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, (lua_Integer)op->stat.st_size);
  lua_setfield(L, -2, "size");
  lua_pushnumber(L, (lua_Number)op->stat.st_mtim.tv_sec + (lua_Number)op->stat.st_mtim.tv_nsec / 1e9);
  lua_setfield(L, -2, "mtime");
  lua_pushstring(L, type_name(op->stat.st_mode));
  lua_setfield(L, -2, "type");
  (void)snprintf(mode, sizeof mode, "%04o", (unsigned)(op->stat.st_mode & 07777));
  lua_pushstring(L, mode);
  lua_setfield(L, -2, "mode");
  return 1;
}

static int push_exists(lua_State *L, struct work *w) {
  struct file_op *op = op_of(w);
  if (op->error != 0 && op->error != UV_ENOENT && op->error != UV_ENOTDIR) return failure(L, op);
  lua_pushboolean(L, op->error == 0);
  return 1;
}

/* --- calls --- */

/* Pushes the guard of an op for the path in argument 1. */
static struct file_op *op_new(lua_State *L, const char *name, void (*run)(struct work *w),
                              int (*push)(lua_State *L, struct work *w)) {
  char what[32];
  (void)snprintf(what, sizeof what, "jeton.file.%s", name);
  struct str path = arg_string(L, 1, what, "path");
  if (path.n == 0 || memchr(path.p, '\0', path.n) != NULL)
    luaL_error(L, "%s: path: empty, or with a NUL byte inside", what);
  struct file_op *op = guard_new(L, sizeof *op, unmake);
  buf_init(&op->data);
  op->data.sensitive = true;
  op->name = name;
  op->path = must_strdup(path.p);
  op->work.run = run;
  op->work.push = push;
  op->work.unmake = unmake;
  lua_toclose(L, -1); /* an error frees it at once: it may hold much that the collector does not see */
  return op;
}

static int l_read(lua_State *L) {
  static const char *const known[] = {"max", NULL};
  lua_settop(L, 2);
  arg_options(L, 2, "jeton.file.read", "{ max = \"64k\" }", known);
  uint64_t max = arg_field_size(L, 2, "jeton.file.read", "max", FILE_READ_MAX);
  struct file_op *op = op_new(L, "read", run_read, push_data);
  op->max = max;
  if (!charge_begin(L, &op->charge, CHARGE_FILE)) {
    op->error = UV_ENOMEM;
    return failure(L, op);
  }
  return work_await(L, &op->work);
}

/* An octal string: Lua has no octal numbers, and 0600 there is six hundred. */
static mode_t read_mode(lua_State *L, int idx) {
  if (!lua_istable(L, idx)) return FILE_MODE;
  if (lua_getfield(L, idx, "mode") == LUA_TNUMBER)
    luaL_error(L,
               "jeton.file.write: mode: expected octal digits in a string, such as \"0600\", got a number (which Lua "
               "reads as decimal)");
  lua_pop(L, 1);
  const char *text = arg_field_string(L, idx, "jeton.file.write", "mode");
  if (text == NULL && !lua_isnil(L, -1)) return FILE_MODE;
  mode_t mode = FILE_MODE;
  if (text != NULL) {
    char *end;
    unsigned long value = strtoul(text, &end, 8);
    if (*text == '\0' || strspn(text, "01234567") != strlen(text) || value > 07777)
      luaL_error(L, "jeton.file.write: mode: expected octal digits in a string, such as \"0600\"");
    mode = (mode_t)value;
  }
  lua_pop(L, 1);
  return mode;
}

static int l_write(lua_State *L) {
  static const char *const known[] = {"mode", NULL};
  lua_settop(L, 3);
  arg_options(L, 3, "jeton.file.write", "{ mode = \"0600\" }", known);
  mode_t mode = read_mode(L, 3);
  struct file_op *op = op_new(L, "write", run_write, push_true);
  op->mode = mode;
  op->work.must_run = true;
  op->error = l_secret_bytes(L, 2, SECRET_TO_FILE, str_of(op->path), &op->data, "jeton.file.write", "data");
  /* a refresh token has to be saved however much others hold */
  if (op->error == 0 && op->data.n > WRITE_FREE && !charge_begin(L, &op->charge, op->data.n)) op->error = UV_ENOMEM;
  if (op->error != 0) return failure(L, op);
  return work_await(L, &op->work);
}

/* At the top of a policy's file it cannot wait, and each load asks once: in the VM that tries the policy. */
static int l_writable(lua_State *L) {
  struct file_op *op = op_new(L, "writable", run_try, push_true);
  const struct vm *vm = vm_of(L);
  if (!vm_loading(vm)) return work_await(L, &op->work);
  op->name = "write";
  if (vm_role(vm) == VM_CONTROL) op->error = file_try_save(op->path);
  return push_true(L, &op->work);
}

static int l_stat(lua_State *L) { return work_await(L, &op_new(L, "stat", run_stat, push_stat)->work); }
static int l_exists(lua_State *L) { return work_await(L, &op_new(L, "exists", run_stat, push_exists)->work); }
static int l_remove(lua_State *L) { return work_await(L, &op_new(L, "remove", run_remove, push_true)->work); }

static const luaL_Reg functions[] = {
    {"read", l_read},        {"write", l_write},       {"stat", l_stat},
    {"exists", l_exists},    {"writable", l_writable}, {"remove", l_remove},
    {"watch", l_file_watch}, {"lock", l_file_lock},    {NULL, NULL},
};

int l_file_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
