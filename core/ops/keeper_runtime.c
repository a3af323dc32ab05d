/* keeper_runtime.c: runs the functions that a policy gives to the keeper.
 *
 * A fetch is a task with a timer. The timer first fires at once, to start the task from the loop (so that a fetch that does not wait cannot end
 * inside of the keeper's own call), and then bounds it. A background task is a task with a timer that starts it again after a failure.
 * Invariants: `ended` of a fetch is called once, also on time-out and at the end of the runtime; the VM outlives every task in it; the
 * runtime's memory goes when its last timer is closed. Keeper's thread. */
#include "ops/keeper_runtime.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mask.h"
#include "base/must.h"
#include "lua/l_fetch.h"
#include "lua/secret_source.h"
#include "lua/vm.h"
#include "ops/exits.h"
#include "policy/overrides.h"

enum { SETTLED_MS = 60 * 1000 }; /* a task that ran this long starts its backoff anew when it fails */

struct fetch_run {
  struct link link;
  struct under_way_fetch under_way;
  uv_timer_t timer;
  struct keeper_runtime *runtime;
  struct fetch *fetch;
  const struct token_conf *token;
  struct task *task;
  struct secret_gate_waiter gate; /* of a token that is made of a secret: until the first outcomes of commands */
  bool gated;
  fetch_ended_fn ended;
  void *arg;
};
struct background {
  uv_timer_t timer;
  struct keeper_runtime *runtime;
  const char *name;
  int fn;
  struct task *task;
  unsigned failures;
  int64_t started_at;
};

static int push_nothing(lua_State *L, void *arg) {
  (void)L, (void)arg;
  return 0;
}

static void let_go(struct keeper_runtime *r) {
  if (--r->holders > 0) return;
  policy_unref(r->policy);
  free(r->tasks);
  free(r);
}

/* Nothing of the policy runs here any more: what it spawned ends too. */
static void release_vm(struct keeper_runtime *r) {
  if (r->vm == NULL || !r->retired || r->lingers || !list_empty(&r->runs) || !list_empty(&r->releases)) return;
  struct vm *vm = r->vm;
  r->vm = NULL;
  vm_cancel_tasks(vm);
  binding_fini(&r->binding);
  vm_unref(vm);
  list_remove(&r->link);
  let_go(r);
}

void keeper_runtime_check(struct keeper_runtime *r) { release_vm(r); }
void keeper_runtime_let_go(struct keeper_runtime *r) { let_go(r); }

/* --- fetches --- */

static void on_run_closed(uv_handle_t *h) {
  struct fetch_run *run = h->data;
  struct keeper_runtime *r = run->runtime;
  free(run);
  release_vm(r); /* here, with no task of it on the stack */
  let_go(r);
}

/* A failure is told in the log, in status and to scripts, and its words are the issuer's, which may repeat what was sent to it. */
static void mask_error(struct fetch_result *result, struct buf *masked) {
  if (result->ok || result->error == NULL || mask_is_empty()) return;
  if (mask_apply(mask_of_thread(), str_of(result->error), masked)) result->error = buf_z(masked);
}

static void leave_gate(struct fetch_run *run) {
  if (run->gated) secret_gate_leave(&run->gate);
  run->gated = false;
}

static void end_run(struct fetch_run *run, struct fetch_result *result) {
  struct buf masked;
  buf_init(&masked);
  mask_error(result, &masked);
  leave_gate(run);
  list_remove(&run->link);
  under_way_end(run->runtime->under_way, &run->under_way);
  uv_close((uv_handle_t *)&run->timer, on_run_closed);
  run->ended(run->arg, run->fetch, result);
  buf_fini(&masked);
}

static void fail_run(struct fetch_run *run, const char *error) {
  struct task *task = run->task;
  run->task = NULL;
  if (task != NULL) task_cancel(task);
  struct fetch_result failed = {.ok = false, .error = error};
  end_run(run, &failed);
}

static int push_context(lua_State *L, void *arg) {
  struct fetch_run *run = arg;
  task_note_servers(L, &run->fetch->asked);
  task_note_provenance(L, &run->fetch->provenance);
  return l_fetch_push_context(L, run->fetch, run->token->reveal);
}

static int fetch_of(const struct fetch_run *run) { /* a reference */
  return run->runtime->binding.fetch[run->token - run->runtime->policy->tokens];
}

static void on_fetch_ended(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct fetch_run *run = arg;
  run->task = NULL;
  struct buf hold;
  buf_init(&hold);
  hold.sensitive = true;
  struct fetch_result result = {.ok = false, .error = message};
  if (status == 0) l_fetch_read(L, nresults, fetch_of(run), run->fetch->slot, &result, &hold);
  end_run(run, &result);
  token_bond_fini(&result.bond);
  buf_fini(&hold);
}

/* --- of a token that is made of a secret --- */

struct secret_read {
  struct fetch_run *run;
  struct fetch_result result;
  struct buf hold;
};

static int l_read_secret(lua_State *L) {
  struct secret_read *read = lua_touserdata(L, 1);
  struct fetch_run *run = read->run;
  int rc = l_fetch_secret(L, fetch_of(run), &read->result, &read->hold, &run->fetch->provenance);
  if (rc == ERR_SECRET_SOURCE) run->gated = secret_gate_wait(L, &run->gate);
  return 0;
}

/* A secret that is not there yet because its command has not run is waited for. Nothing else of it takes time. */
static void read_secret(struct fetch_run *run) {
  struct secret_read read = {.run = run};
  const char *message = NULL;
  buf_init(&read.hold);
  read.hold.sensitive = true;
  int rc = vm_call(run->runtime->vm, l_read_secret, &read, &message);
  if (rc != 0) read.result = (struct fetch_result){.ok = false, .error = message};
  if (!run->gated) end_run(run, &read.result);
  token_bond_fini(&read.result.bond);
  buf_fini(&read.hold);
}

static void on_gate(struct secret_gate_waiter *w) {
  struct fetch_run *run = CONTAINER_OF(w, struct fetch_run, gate);
  run->gated = false;
  read_secret(run);
}

static void on_fetch_timeout(uv_timer_t *t) {
  struct fetch_run *run = t->data;
  char error[80];
  (void)snprintf(error, sizeof error, "the fetch took longer than its limit of %lld ms",
                 (long long)run->token->fetch_timeout_ms);
  fail_run(run, error);
}

static void on_fetch_start(uv_timer_t *t) {
  struct fetch_run *run = t->data;
  struct keeper_runtime *r = run->runtime;
  if (run->token == NULL) {
    fail_run(run, "the policy has no such token any more");
    return;
  }
  int64_t limit = run->token->fetch_timeout_ms;
  if (limit > 0) (void)uv_timer_start(&run->timer, on_fetch_timeout, (uint64_t)limit, 0);
  if (run->token->from_secret) {
    read_secret(run);
    return;
  }
  task_start(r->vm, fetch_of(run), push_context, on_fetch_ended, run, &run->task);
}

void keeper_runtime_fetch(struct keeper_runtime *r, struct fetch *f, fetch_ended_fn ended, void *arg) {
  struct fetch_run *run = must_calloc(1, sizeof *run);
  run->runtime = r;
  run->fetch = f;
  run->token = keeper_runtime_token(r, f->slot);
  run->gate.open = on_gate;
  run->ended = ended;
  run->arg = arg;
  run->timer.data = run;
  list_push(&r->runs, &run->link);
  under_way_begin(r->under_way, &run->under_way, slot_name(f->slot));
  r->holders++;
  (void)uv_timer_init(r->loop, &run->timer);
  (void)uv_timer_start(&run->timer, on_fetch_start, 0, 0);
}

static bool may_have_spent(const struct fetch_run *run) {
  const struct token *previous = run->fetch->previous;
  return (run->token != NULL && run->token->rotates) || (previous != NULL && previous->nfields > 0);
}

bool keeper_runtime_give_up(struct keeper_runtime *r, struct fetch *f) {
  struct link *l = r->runs.next;
  while (l != &r->runs && CONTAINER_OF(l, struct fetch_run, link)->fetch != f) l = l->next;
  if (l == &r->runs) return false;
  struct fetch_run *run = CONTAINER_OF(l, struct fetch_run, link);
  if (may_have_spent(run)) return false;
  leave_gate(run);
  struct task *task = run->task;
  run->task = NULL;
  if (task != NULL) task_cancel(task);
  list_remove(&run->link);
  under_way_end(r->under_way, &run->under_way);
  uv_close((uv_handle_t *)&run->timer, on_run_closed);
  return true;
}

void keeper_runtime_end_fetches(struct keeper_runtime *r) {
  while (!list_empty(&r->runs)) fail_run(CONTAINER_OF(r->runs.next, struct fetch_run, link), "the fetch was ended");
}

/* --- on_start and tasks --- */

static void on_background_due(uv_timer_t *t);

/* The process was there for this task alone; its main thread ends it as it ends by any signal. */
static void end_login(struct policy_login *login, int status, const char *message) {
  if (status != 0) (void)fprintf(stderr, "jeton: %s\n", message);
  login->code = status == 0 ? EXIT_GOOD : EXIT_SOFTWARE;
  (void)kill(getpid(), SIGTERM);
}

static void on_background_ended(void *arg, lua_State *L, int nresults, int status, const char *message) {
  (void)L, (void)nresults;
  struct background *b = arg;
  b->task = NULL;
  if (b->runtime->retired) return;
  if (b->runtime->policy->login != NULL) {
    end_login(b->runtime->policy->login, status, message);
    return;
  }
  if (status == 0) {
    log_from(LOG_INFO, "keeper", "task %s has ended", b->name);
    return;
  }
  if (clock_boot_ms() - b->started_at > SETTLED_MS) b->failures = 0;
  int64_t pause = schedule_backoff(&schedule_default, ++b->failures, &b->runtime->rng);
  log_from(LOG_ERROR, "keeper", "task %s failed, starting it again in %lld ms: %s", b->name, (long long)pause, message);
  (void)uv_timer_start(&b->timer, on_background_due, (uint64_t)pause, 0);
}

static void on_background_due(uv_timer_t *t) {
  struct background *b = t->data;
  b->started_at = clock_boot_ms();
  task_start(b->runtime->vm, b->fn, push_nothing, on_background_ended, b, &b->task);
}

static void start_tasks(struct keeper_runtime *r) {
  size_t n = r->policy->ntasks;
  if (n == 0 || r->retired) return;
  r->tasks = must_calloc(n, sizeof *r->tasks);
  for (size_t i = 0; i < n; i++) {
    struct background *b = &r->tasks[i];
    b->runtime = r;
    b->name = r->policy->tasks[i];
    b->fn = r->binding.tasks[i];
    b->timer.data = b;
    r->holders++;
    (void)uv_timer_init(r->loop, &b->timer);
    (void)uv_timer_start(&b->timer, on_background_due, 0, 0);
  }
}

static void on_started(void *arg, lua_State *L, int nresults, int status, const char *message) {
  (void)L, (void)nresults;
  struct keeper_runtime *r = arg;
  r->on_start = NULL;
  if (status != 0) log_from(LOG_ERROR, "keeper", "on_start failed: %s", message);
  start_tasks(r);
}

void keeper_runtime_activate(struct keeper_runtime *r) {
  if (r->binding.hooks[HOOK_START] == LUA_NOREF) {
    start_tasks(r);
    return;
  }
  task_start(r->vm, r->binding.hooks[HOOK_START], push_nothing, on_started, r, &r->on_start);
}

static void on_background_closed(uv_handle_t *h) { let_go(((struct background *)h->data)->runtime); }

static void end_tasks(struct keeper_runtime *r) {
  struct task *starting = r->on_start;
  r->on_start = NULL;
  if (starting != NULL) task_cancel(starting);
  if (r->tasks == NULL) return;
  for (size_t i = 0; i < r->policy->ntasks; i++) {
    struct background *b = &r->tasks[i];
    struct task *task = b->task;
    b->task = NULL;
    if (task != NULL) task_cancel(task);
    uv_close((uv_handle_t *)&b->timer, on_background_closed);
  }
}

/* --- life --- */

static struct vm *new_vm(struct services *services, const struct policy *p) {
  struct vm_settings settings = {.role = VM_KEEPER,
                                 .memory_max = p->limits.memory,
                                 .budget_us = p->limits.script_time_us,
                                 .wipe = true, /* token bytes pass through it */
                                 .services = services};
  return vm_new(&settings);
}

struct keeper_runtime *keeper_runtime_new(struct services *services, struct under_way *under_way, struct policy *p,
                                          int *status, char *message, size_t size) {
  struct vm *vm = new_vm(services, p);
  const char *text = "out of memory";
  struct keeper_runtime *r = must_calloc(1, sizeof *r);
  *status = vm == NULL ? ERR_MEMORY : binding_init(&r->binding, vm, p, &text);
  if (*status != 0) {
    (void)snprintf(message, size, "%s", text != NULL ? text : err_text(*status));
    if (vm != NULL) vm_unref(vm);
    free(r);
    return NULL;
  }
  r->loop = &services->loop;
  r->under_way = under_way;
  r->policy = policy_ref(p);
  r->vm = vm;
  r->holders = 1;
  list_init(&r->runs);
  list_init(&r->releases);
  list_init(&r->link);
  rng_seed(&r->rng, 0);
  return r;
}

const struct token_conf *keeper_runtime_token(const struct keeper_runtime *r, const struct slot *s) {
  return policy_token(r->policy, slot_token_name(s), slot_key(s).p != NULL);
}

void keeper_runtime_retire(struct keeper_runtime *r) {
  r->retired = true;
  end_tasks(r);
  release_vm(r);
}

void keeper_runtime_leave(struct keeper_runtime *r) {
  r->lingers = false;
  release_vm(r);
}
