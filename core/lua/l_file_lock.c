/* l_file_lock.c: jeton.file.lock(path): only one at a time goes on, in this process or another. See lib.h. Owned by the VM's thread.
 *
 * For what is read, used up and written again: a refresh token on disk. A restart beside a process that still drains, a second instance, and the fetch of a
 * proof beside that of the running policy would each read the same one and spend it twice.
 *
 * The lock is base/file_lock.h's. Nobody waits inside of flock: a thread of the pool would be held for as long as somebody else's fetch takes. It is tried, on the pool, at growing
 * intervals. Invariant: an op has either its work under way, or its timer set, or is closing; its memory goes when the timer is closed. */
#include "base/must.h"
#include "lua/lib.h"

#include <assert.h>
#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file_lock.h"
#include "base/list.h"
#include "base/log.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/vm.h"

#define LOCK "jeton.lock"

enum { TIMEOUT_MS = 30 * 1000, RETRY_MIN_MS = 10, RETRY_MAX_MS = 200, TELL_MS = 2000 };
struct lock_op {
  uv_work_t request;
  uv_timer_t timer;
  struct await await;
  char *path;
  struct file_lock lock;
  int error;            /* of the last try */
  int64_t began, until; /* CLOCK_BOOTTIME ms */
  unsigned retry_ms;
  bool cancelled, told;
};

/* --- waiting --- */

static void on_try(uv_work_t *request) { /* on the pool */
  struct lock_op *op = request->data;
  op->error = file_lock_try(op->path, &op->lock);
}

static void unmake(void *p) {
  struct lock_op *op = p;
  file_lock_release(&op->lock);
  free(op->path);
  free(op);
}

static void on_closed(uv_handle_t *h) { unmake(h->data); }

static int l_lock_release(lua_State *L) {
  file_lock_release(arg_self(L, LOCK));
  return 0;
}

static int l_lock_tostring(lua_State *L) {
  const struct file_lock *l = arg_self(L, LOCK);
  lua_pushstring(L, file_lock_is_held(l) ? "lock<held>" : "lock<released>");
  return 1;
}

static const luaL_Reg methods[] = {{"unlock", l_lock_release}, {NULL, NULL}};
static const luaL_Reg metamethods[] = {
    {"__gc", l_lock_release}, {"__close", l_lock_release}, {"__tostring", l_lock_tostring}, {NULL, NULL}};

static int push_outcome(lua_State *L, void *arg) {
  struct lock_op *op = arg;
  if (op->error == -EWOULDBLOCK)
    return arg_failure(L, UV_ETIMEDOUT, "lock %s: somebody else has had it for the %.1f s that this waited", op->path,
                       (double)(clock_boot_ms() - op->began) / 1000);
  if (op->error != 0) return arg_failure(L, op->error, "lock %s: %s", op->path, err_text(op->error));
  struct file_lock *l = lua_newuserdatauv(L, sizeof *l, 0);
  *l = FILE_LOCK_NONE;
  if (luaL_newmetatable(L, LOCK)) {
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "lock");
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  *l = op->lock;
  op->lock = FILE_LOCK_NONE;
  return 1;
}

static void start_try(struct lock_op *op);
static void on_retry(uv_timer_t *t) { start_try(t->data); }

static void wait_on(struct lock_op *op) {
  int64_t now = clock_boot_ms();
  if (!op->told && now - op->began >= TELL_MS) {
    op->told = true;
    log_info("waiting for the lock of %s, which somebody else has", op->path);
  }
  int64_t left = op->until - now, pause = op->retry_ms < left ? op->retry_ms : left;
  if (op->retry_ms < RETRY_MAX_MS) op->retry_ms *= 2;
  uv_update_time(op->timer.loop);
  (void)uv_timer_start(&op->timer, on_retry, (uint64_t)pause, 0);
}

static void on_tried(uv_work_t *request, int status) {
  struct lock_op *op = request->data;
  if (!op->cancelled && status == 0 && op->error == -EWOULDBLOCK && clock_boot_ms() < op->until) {
    wait_on(op);
    return;
  }
  if (!op->cancelled) await_finish(&op->await, push_outcome, op);
  uv_close((uv_handle_t *)&op->timer, on_closed);
}

static void start_try(struct lock_op *op) {
  int status = uv_queue_work(op->timer.loop, &op->request, on_try, on_tried);
  assert(status == 0); /* it fails for a missing callback only */
  (void)status;
}

/* The work's callback comes in any case, and closes. */
static void on_cancel(struct await *a) {
  struct lock_op *op = CONTAINER_OF(a, struct lock_op, await);
  op->cancelled = true;
  if (!uv_is_active((uv_handle_t *)&op->timer)) {
    (void)uv_cancel((uv_req_t *)&op->request);
    return;
  }
  uv_close((uv_handle_t *)&op->timer, on_closed);
}

int l_file_lock(lua_State *L) {
  static const char *const known[] = {"timeout", NULL};
  static const char what[] = "jeton.file.lock";
  lua_settop(L, 2);
  arg_options(L, 2, what, "{ timeout = \"10s\" }", known);
  int64_t timeout = arg_field_ms(L, 2, what, "timeout", TIMEOUT_MS);
  struct str path = arg_string(L, 1, what, "path");
  if (path.n == 0 || memchr(path.p, '\0', path.n) != NULL)
    return luaL_error(L, "%s: path: empty, or with a NUL byte inside", what);
  struct lock_op *op = guard_new(L, sizeof *op, unmake);
  op->lock = FILE_LOCK_NONE;
  op->path = must_strdup(path.p);
  op->began = clock_boot_ms();
  op->until = op->began + timeout;
  op->retry_ms = RETRY_MIN_MS;
  await_begin(L, &op->await, on_cancel);
  guard_release(L, -1);
  (void)uv_timer_init(&vm_services(vm_of(L))->loop, &op->timer);
  op->timer.data = op->request.data = op;
  start_try(op);
  return await_yield(L, &op->await);
}
