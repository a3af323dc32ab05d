/* reload.c: a reload is a table of phases. Entering a phase posts its orders; when all are answered `next` says where to go.
 *
 * Two phases, as in a commit over several databases: everything that can fail is done beside what serves (VMs, slots, sockets, the proof), and only when every thread
 * has said that it can does any of them switch. The keeper switches first: a worker never serves under a policy whose tokens are not kept.
 *
 * Invariants: one round at a time, and requests that come meanwhile are one next round; until PHASE_SWITCH_KEEPER is entered nothing that serves has
 * changed; from then on nothing can fail but by the system's fault, and it is carried through. Threads that have prepared get a DISCARD when another could not.
 * A thread's order is its own again (thread_round) when it has answered. Control's thread. */
#include "ops/reload.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "lua/vm.h"

enum { LOAD_MEMORY = 64 << 20, LOAD_BUDGET_US = 1000 * 1000 };
enum phase {
  PHASE_IDLE,
  PHASE_PREPARE_KEEPER,
  PHASE_PREPARE_WORKERS,
  PHASE_LISTEN,
  PHASE_PROVE,
  PHASE_SWITCH_KEEPER,
  PHASE_SWITCH_WORKERS,
  PHASE_DISCARD,
  PHASE_END, /* the waiters are called */
  PHASE_COUNT
};
/* One thread's part in a round. The keeper's and the workers' are alike: each gets an order, answers, and may get another to discard what it prepared. */
struct thread_round {
  struct order order;
  struct reload *reload;
  bool prepared;
};
struct reload {
  struct reload_parts parts;
  enum phase phase;
  /* what is active */
  struct policy *policy;
  struct token_set tokens;
  struct listeners listeners;
  struct reload_facts facts;
  struct buf last_error;
  /* the round under way */
  struct policy *candidate;
  struct token_set candidate_tokens;
  struct listen_plan plan;
  struct thread_round keeper, *workers;
  struct order end_proof;
  unsigned pending; /* answers that are still to come */
  bool prove;
  int status;           /* the first failure */
  struct report report; /* problems and warnings of this round */
  struct link waiters;
  /* the round after it */
  struct link next_waiters;
  bool next_wanted, next_prove, stopping;
};

struct phase_def {
  void (*enter)(struct reload *r); /* posts orders and counts them in pending; none: `next` follows at once */
  enum phase (*next)(struct reload *r);
};
static const struct phase_def PHASES[PHASE_COUNT];

static void enter_phase(struct reload *r, enum phase p) {
  for (;;) {
    r->phase = p;
    r->pending = 0;
    if (PHASES[p].enter != NULL) PHASES[p].enter(r);
    if (r->pending > 0 || r->phase == PHASE_IDLE) return;
    p = PHASES[p].next(r);
  }
}

static void one_answer(struct reload *r) {
  assert(r->pending > 0);
  if (--r->pending == 0) enter_phase(r, PHASES[r->phase].next(r));
}

static void fail(struct reload *r, int status, const char *message) {
  if (r->status == 0) r->status = status;
  report_problem(&r->report, "%s", message[0] != '\0' ? message : err_text(status));
}

/* --- orders --- */

static void on_answer(struct order *o) {
  struct thread_round *t = CONTAINER_OF(o, struct thread_round, order);
  struct reload *r = t->reload;
  if (o->kind == ORDER_PREPARE) t->prepared = o->status == 0;
  if (o->status != 0 && o->kind == ORDER_SWITCH) {
    log_error("a thread could not carry the reload through: %s",
              o->message[0] != '\0' ? o->message : err_text(o->status));
  } else if (o->status != 0 && r->status == 0) {
    fail(r, o->status, o->message); /* only the first: workers run the same bytes and mostly fail alike */
  }
  one_answer(r);
}

static struct order *begin_order(struct reload *r, struct thread_round *t, enum order_kind kind) {
  t->order = (struct order){.reply_to = &r->parts.services->mailbox,
                            .done = on_answer,
                            .kind = kind,
                            .policy = r->candidate,
                            .tokens = &r->candidate_tokens};
  r->pending++;
  return &t->order;
}

static void ask_keeper(struct reload *r, enum order_kind kind) {
  keeper_thread_post(r->parts.keeper, begin_order(r, &r->keeper, kind));
}

static void ask_worker(struct reload *r, unsigned i, enum order_kind kind) {
  struct order *o = begin_order(r, &r->workers[i], kind);
  if (kind == ORDER_SWITCH) o->listen_fds = listen_plan_fds(&r->plan, i);
  worker_post(r->parts.workers[i], o);
}

/* --- phases --- */

static void enter_prepare_keeper(struct reload *r) { ask_keeper(r, ORDER_PREPARE); }
static void enter_prepare_workers(struct reload *r) {
  for (unsigned i = 0; i < r->parts.nworkers; i++) ask_worker(r, i, ORDER_PREPARE);
}
static void enter_listen(struct reload *r) {
  char err[256];
  int status = listen_plan_make(&r->plan, &r->listeners, r->candidate, r->parts.nworkers, err, sizeof err);
  if (status != 0) fail(r, status, err);
}
static void enter_prove(struct reload *r) {
  if (r->prove) ask_keeper(r, ORDER_PROVE);
}
static void enter_switch_keeper(struct reload *r) { ask_keeper(r, ORDER_SWITCH); }
static void enter_switch_workers(struct reload *r) {
  log_configure(&r->candidate->log);
  for (unsigned i = 0; i < r->parts.nworkers; i++) ask_worker(r, i, ORDER_SWITCH);
}
static void enter_discard(struct reload *r) {
  listen_plan_discard(&r->plan);
  if (r->keeper.prepared) ask_keeper(r, ORDER_DISCARD);
  for (unsigned i = 0; i < r->parts.nworkers; i++) {
    if (r->workers[i].prepared) ask_worker(r, i, ORDER_DISCARD);
  }
}

static enum phase next_or_discard(struct reload *r) { return r->status != 0 ? PHASE_DISCARD : r->phase + 1; }
static enum phase next_phase(struct reload *r) { return r->phase + 1; }

/* --- the end of a round --- */

static void note_outcome(struct reload *r, const struct reload_result *result) {
  r->facts.last_at = clock_wall_ms();
  buf_reset(&r->last_error);
  if (result->status == 0) return;
  r->facts.refused++;
  buf_addz(&r->last_error, result->text);
  (void)buf_z(&r->last_error); /* terminated, for reload_facts */
}

static void end_round(struct reload *r) {
  struct reload_result result = {.status = r->status,
                                 .number = r->policy != NULL ? r->policy->number : 0,
                                 .text = buf_z(&r->report.text),
                                 .refused = r->report.refused};
  note_outcome(r, &result);
  for (struct link *l; (l = list_pop(&r->waiters)) != NULL;) {
    struct reload_waiter *w = CONTAINER_OF(l, struct reload_waiter, link);
    w->done(w, &result);
  }
  r->parts.ended(r->parts.ctx, &result);
  report_fini(&r->report);
}

static enum phase finish(struct reload *r) {
  struct policy *old = r->policy;
  struct token_set old_tokens = r->tokens;
  r->policy = r->candidate;
  r->tokens = r->candidate_tokens;
  r->candidate = NULL;
  r->candidate_tokens = (struct token_set){0};
  listen_plan_commit(&r->plan, &r->listeners);
  if (old != NULL) {
    r->facts.done++;
    token_set_fini(&old_tokens);
    policy_unref(old);
  }
  return PHASE_END;
}

static enum phase give_up(struct reload *r) {
  if (r->keeper.prepared) token_set_fini(&r->candidate_tokens);
  assert(r->report.refused == NULL);
  r->report.refused = r->candidate;
  r->candidate = NULL;
  return PHASE_END;
}

static enum phase next_idle(struct reload *r) {
  (void)r;
  return PHASE_IDLE;
}

/* --- rounds --- */

static void begin_round(struct reload *r, struct policy *candidate) {
  r->status = candidate != NULL ? 0 : ERR_CONFIG;
  r->candidate = candidate;
  r->keeper.prepared = false;
  for (unsigned i = 0; i < r->parts.nworkers; i++) r->workers[i].prepared = false;
  if (candidate != NULL && candidate->workers != 0 && candidate->workers != r->parts.nworkers) {
    report_warning(&r->report, "%s: workers: %u from the next start on; this process has %u", r->parts.path,
                   candidate->workers, r->parts.nworkers);
  }
  enter_phase(r, candidate != NULL ? PHASE_PREPARE_KEEPER : PHASE_END);
}

static void enter_idle(struct reload *r) {
  if (!r->next_wanted || r->stopping) return;
  r->prove = r->next_prove;
  r->next_wanted = r->next_prove = false;
  list_splice(&r->waiters, &r->next_waiters);
  report_init(&r->report);
  begin_round(r, reload_load(r->parts.services, r->parts.path, r->parts.overrides, &r->report));
}

static const struct phase_def PHASES[PHASE_COUNT] = {
    [PHASE_IDLE] = {enter_idle, next_idle},
    [PHASE_PREPARE_KEEPER] = {enter_prepare_keeper, next_or_discard},
    [PHASE_PREPARE_WORKERS] = {enter_prepare_workers, next_or_discard},
    [PHASE_LISTEN] = {enter_listen, next_or_discard},
    [PHASE_PROVE] = {enter_prove, next_or_discard},
    [PHASE_SWITCH_KEEPER] = {enter_switch_keeper, next_phase},
    [PHASE_SWITCH_WORKERS] = {enter_switch_workers, finish},
    [PHASE_DISCARD] = {enter_discard, give_up},
    [PHASE_END] = {end_round, next_idle},
};

/* --- public --- */

struct policy *reload_load(struct services *s, const char *path, const struct policy_overrides *o,
                           struct report *report) {
  struct vm_settings settings = {
      .role = VM_CONTROL, .memory_max = LOAD_MEMORY, .budget_us = LOAD_BUDGET_US, .wipe = false, .services = s};
  struct vm *vm = vm_new(&settings);
  if (vm == NULL) {
    report_problem(report, "%s: there is no Lua state to run it in; the log says why", path);
    return NULL;
  }
  struct policy *p = policy_load(vm, path, o, report);
  vm_unref(vm);
  return p;
}

struct reload *reload_new(const struct reload_parts *parts) {
  struct reload *r = must_calloc(1, sizeof *r);
  r->parts = *parts;
  r->workers = must_calloc(parts->nworkers, sizeof *r->workers);
  r->keeper.reload = r;
  for (unsigned i = 0; i < parts->nworkers; i++) r->workers[i].reload = r;
  list_init(&r->waiters);
  list_init(&r->next_waiters);
  buf_init(&r->last_error);
  return r;
}

void reload_free(struct reload *r) {
  assert(r->phase == PHASE_IDLE && list_empty(&r->next_waiters));
  listeners_fini(&r->listeners);
  if (r->policy != NULL) {
    token_set_fini(&r->tokens);
    policy_unref(r->policy);
  }
  buf_fini(&r->last_error);
  free(r->workers);
  free(r);
}

void reload_first(struct reload *r, struct policy *p) {
  report_init(&r->report);
  begin_round(r, p);
}

void reload_request(struct reload *r, bool prove, struct reload_waiter *w) {
  if (r->stopping) {
    struct reload_result stopping = {.status = ERR_CLOSED, .text = "the process is stopping\n"};
    if (w != NULL) w->done(w, &stopping);
    return;
  }
  if (w != NULL) list_push(&r->next_waiters, &w->link);
  r->next_wanted = true;
  r->next_prove |= prove;
  if (r->phase == PHASE_IDLE) enter_phase(r, PHASE_IDLE);
}

void reload_forget(struct reload_waiter *w) { list_remove(&w->link); }

static void on_proof_ended(struct order *o) { (void)o; }

bool reload_stop(struct reload *r) {
  if (r->stopping) return r->phase == PHASE_IDLE;
  r->stopping = true;
  struct reload_result stopping = {.status = ERR_CLOSED, .text = "the process is stopping\n"};
  for (struct link *l; (l = list_pop(&r->next_waiters)) != NULL;) {
    struct reload_waiter *w = CONTAINER_OF(l, struct reload_waiter, link);
    w->done(w, &stopping);
  }
  if (r->phase == PHASE_PROVE) {
    r->end_proof =
        (struct order){.reply_to = &r->parts.services->mailbox, .done = on_proof_ended, .kind = ORDER_END_PROOF};
    keeper_thread_post(r->parts.keeper, &r->end_proof);
  }
  return r->phase == PHASE_IDLE || r->phase == PHASE_END;
}

struct policy *reload_policy(const struct reload *r) {
  return r->policy;
}
const struct token_set *reload_tokens(const struct reload *r) { return &r->tokens; }
const struct listeners *reload_listeners(const struct reload *r) { return &r->listeners; }

struct reload_facts reload_facts(const struct reload *r) {
  struct reload_facts f = r->facts;
  f.last_error = r->last_error.n > 0 ? (const char *)r->last_error.p : "";
  return f;
}
