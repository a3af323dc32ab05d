/* work.c: see work.h. Owned by the VM's thread, but for `run`.
 *
 * Work that has begun cannot be stopped: when its task ends first the op lives on until the pool gives it back, and touches no Lua any more. */
#include "lua/work.h"

#include <assert.h>

#include "base/list.h"
#include "base/secmem.h"
#include "http/services.h"
#include "lua/guard.h"

static void on_run(uv_work_t *request) {
  struct work *w = request->data;
  w->run(w);
  secmem_wipe_stack(); /* it may have copied a secret, and this thread may rest for long */
}

static int push(lua_State *L, void *arg) {
  struct work *w = arg;
  return w->push(L, w);
}

static void on_done(uv_work_t *request, int status) {
  (void)status; /* UV_ECANCELED only after on_cancel, which says so itself */
  struct work *w = request->data;
  if (!w->cancelled) await_finish(&w->await, push, w);
  w->unmake(w);
}

static void on_cancel(struct await *a) {
  struct work *w = CONTAINER_OF(a, struct work, await);
  w->cancelled = true;
  if (!w->must_run) (void)uv_cancel((uv_req_t *)&w->request); /* fails when it runs already */
}

int work_await(lua_State *L, struct work *w) {
  await_begin(L, &w->await, on_cancel);
  guard_release(L, -1);
  w->request.data = w;
  int status = uv_queue_work(&vm_services(vm_of(L))->loop, &w->request, on_run, on_done);
  assert(status == 0); /* it fails for a missing callback only */
  (void)status;
  return await_yield(L, &w->await);
}
