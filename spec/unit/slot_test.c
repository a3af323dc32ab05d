/* Slots between threads: one publishes, others read, wait, reject and refresh, and what must always hold is checked at every step.
 * Meant to be run with -fsanitize=thread as well. */
#include "token/slot.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/rand.h"
#include "check.h"
#include "token/keeper.h"
#include "token/slot_internal.h"

static struct fetch_result token_of(const char *value, double expires_in) {
  return (struct fetch_result){.ok = true, .value = str_of(value), .has_expires_in = true, .expires_in = expires_in};
}

static void a_reader_sees_changes_and_only_then_takes_a_reference(void) {
  struct slot *s = slot_new(STR("api"), (struct str){NULL, 0});
  struct slot_reader r;
  s->has_fetch = true;
  slot_reader_init(&r, s);
  int64_t now = clock_boot_ms();
  CHECK(slot_read(&r, now) == NULL);
  struct fetch_result one = token_of("one", 60);
  CHECK(slot_set(s, &one) == NULL);
  struct token *t = slot_read(&r, now);
  CHECK(t != NULL && t->generation == 1 && atomic_load(&t->refs) == 3); /* current, last, reader */
  for (int i = 0; i < 10; i++) CHECK(slot_read(&r, now) == t && atomic_load(&t->refs) == 3);
  CHECK(slot_reject(s, 1) == SLOT_REFRESHES);
  CHECK(slot_read(&r, now) == NULL);
  slot_unref(s); /* the reader keeps it */
  slot_reader_fini(&r);
}

static void an_expired_token_is_let_go_and_wiped(void) {
  struct slot *s = slot_new(STR("api"), (struct str){NULL, 0});
  struct slot_reader r;
  slot_reader_init(&r, s);
  struct fetch_result one = token_of("VVVVVVVVVVVVVVVV", 60);
  CHECK(slot_set(s, &one) == NULL);
  struct token *t = slot_read(&r, clock_boot_ms());
  const char *bytes = t->value.p;
  CHECK(slot_read(&r, t->expires_at - 1) == t);
  CHECK(slot_read(&r, t->expires_at) == NULL && r.token == NULL);
  CHECK(slot_read(&r, 0) == NULL); /* a clock that goes back brings nothing back */
  CHECK(memcmp(bytes, "VVVV", 4) == 0);
  slot_close(s, false);
  for (int i = 0; i < 16; i++) CHECK(bytes[i] == 0);
  slot_reader_fini(&r);
  slot_unref(s);
}

/* The loop of a thread that reads no more. */
static void a_reader_that_rests_is_told_of_a_change(void) {
  uv_loop_t loop;
  struct mailbox home;
  CHECK(uv_loop_init(&loop) == 0 && mailbox_init(&home, &loop) == 0);
  struct slot *s = slot_new(STR("api"), (struct str){NULL, 0});
  struct slot_reader r, ended;
  slot_reader_init(&r, s);
  slot_reader_init(&ended, s);
  slot_reader_at_home(&r, &home);
  slot_reader_at_home(&ended, &home);
  struct fetch_result one = token_of("VVVVVVVVVVVVVVVV", 60), two = token_of("two", 60);
  CHECK(slot_set(s, &one) == NULL);
  struct token *t = slot_read(&r, clock_boot_ms());
  const char *bytes = t->value.p;
  CHECK(slot_read(&ended, clock_boot_ms()) == t);
  (void)uv_run(&loop, UV_RUN_NOWAIT);
  CHECK(r.token == t); /* nothing has changed */
  CHECK(slot_set(s, &two) == NULL);
  CHECK(r.token == t && memcmp(bytes, "VVVV", 4) == 0);
  slot_reader_fini(&ended); /* its mail is taken back */
  (void)uv_run(&loop, UV_RUN_NOWAIT);
  CHECK(r.token == NULL);
  for (int i = 0; i < 16; i++) CHECK(bytes[i] == 0);
  CHECK(slot_set(s, &one) == NULL && r.mail.in == NULL); /* it has nothing: it is not woken */
  t = slot_read(&r, clock_boot_ms());
  CHECK(t != NULL && t->generation == 3);
  CHECK(slot_set(s, &two) == NULL && r.mail.in == &home);
  CHECK(slot_read(&r, clock_boot_ms())->generation == 4 && r.mail.in == NULL); /* it has seen for itself */
  CHECK(slot_set(s, &one) == NULL && r.mail.in == &home);
  slot_close(s, false);
  (void)uv_run(&loop, UV_RUN_NOWAIT);
  CHECK(r.token == NULL && slot_read(&r, clock_boot_ms()) == NULL);
  slot_reader_fini(&r);
  slot_unref(s);
  mailbox_close(&home);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

static struct token_bond bond_to(const char *host) {
  struct token_bond b = {.audience = audience_new()};
  CHECK(audience_add_host(b.audience, str_of(host)));
  return b;
}

/* A publication between the two reads must not part them: a request waits for a token beyond the one that was judged. */
static void both_tokens_are_of_one_look(void) {
  struct slot *s = slot_new(STR("api"), (struct str){NULL, 0});
  struct slot_reader r;
  slot_reader_init(&r, s);
  int64_t now = clock_boot_ms();
  struct token_bond bonds[2] = {bond_to("a.example"), bond_to("b.example")};
  struct fetch_result one = token_of("one", 60), two = token_of("two", 60);
  one.bond.audience = bonds[0].audience;
  two.bond.audience = bonds[1].audience;
  slot_bind(s, &bonds[0]);
  CHECK(slot_set(s, &one) == NULL);
  struct token *judged = slot_read(&r, now);
  slot_bind(s, &bonds[1]);
  CHECK(slot_set(s, &two) == NULL);
  slot_drop_older(s);
  CHECK(slot_read_older(&r, now) == NULL && r.token == judged && judged->generation == 1);
  CHECK(judged->bond.epoch == 1); /* not wiped */
  CHECK(slot_read(&r, now)->generation == 2 && slot_read_older(&r, now) == NULL);
  slot_reader_fini(&r);
  slot_unref(s);
  for (int i = 0; i < 2; i++) token_bond_fini(&bonds[i]);
}

static void names_are_printable(void) {
  struct slot *s = slot_new(STR("tenant"), STR("a\n\0b]\xff"));
  CHECK(strcmp(slot_name(s), "tenant[a??b]?]") == 0 && strcmp(slot_token_name(s), "tenant") == 0);
  CHECK(str_eq(slot_key(s), STR("a\n\0b]\xff")));
  slot_unref(s);
  s = slot_new(STR("api"), (struct str){NULL, 0});
  CHECK(strcmp(slot_name(s), "api") == 0 && slot_key(s).p == NULL);
  slot_unref(s);
}

/* --- between threads --- */

enum { RUN_MS = 2000, WAITERS = 32, LIFE_MS = 30 };

static struct slot *shared;
static atomic_bool over;
static atomic_ullong reads, misses, woken, cancelled, rejected, fetched;

/* The keeper's thread: a fetch takes a few milliseconds, fails now and then, and brings short-lived tokens. */
struct test_keeper {
  uv_loop_t loop;
  uv_timer_t timer, fetch_timer, check;
  struct mailbox inbox;
  struct keeper *keeper;
  struct fetch *running;
  struct rng rng;
};
static struct test_keeper tk;

static int64_t host_now(void *ctx) {
  (void)ctx;
  return clock_boot_ms();
}
static int64_t host_wall(void *ctx) {
  (void)ctx;
  return clock_wall_ms();
}
static void end_fetch(void) {
  struct fetch *f = tk.running;
  tk.running = NULL;
  struct fetch_result good = token_of("token-bytes-token-bytes", LIFE_MS / 1000.0),
                      bad = {.ok = false, .error = "no luck"};
  keeper_fetch_done(tk.keeper, f, rng_below(&tk.rng, 8) == 0 ? &bad : &good);
}
static void on_fetch_timer(uv_timer_t *t) {
  (void)t;
  end_fetch();
}
static void host_start(void *ctx, struct fetch *f) {
  (void)ctx;
  CHECK(tk.running == NULL); /* single flight */
  tk.running = f;
  atomic_fetch_add(&fetched, 1);
  uv_timer_start(&tk.fetch_timer, on_fetch_timer, rng_below(&tk.rng, 4), 0);
}
static void on_timer(uv_timer_t *t) {
  (void)t;
  keeper_run_due(tk.keeper);
}
static void host_timer(void *ctx, int64_t at) {
  (void)ctx;
  if (at == INT64_MAX) {
    uv_timer_stop(&tk.timer);
    return;
  }
  int64_t wait = at - clock_boot_ms();
  uv_update_time(&tk.loop);
  uv_timer_start(&tk.timer, on_timer, wait > 0 ? (uint64_t)wait : 0, 0);
}

static bool keep_none(void *arg, const char *name, bool family) {
  (void)arg, (void)name, (void)family;
  return false;
}

static void stop_keeper(void) {
  keeper_retain(tk.keeper, keep_none, NULL); /* wakes who still waits; from now on no fetch begins */
  if (tk.running != NULL) end_fetch();
  keeper_free(tk.keeper);
  mailbox_close(&tk.inbox);
  uv_close((uv_handle_t *)&tk.timer, NULL);
  uv_close((uv_handle_t *)&tk.fetch_timer, NULL);
  uv_close((uv_handle_t *)&tk.check, NULL);
}

static void *run_keeper(void *arg) {
  (void)arg;
  uv_run(&tk.loop, UV_RUN_DEFAULT);
  return NULL;
}

/* Readers: never an expired token, generations never go back. */
static void *run_reader(void *arg) {
  (void)arg;
  struct slot_reader r;
  slot_reader_init(&r, shared);
  uint64_t last = 0;
  while (!atomic_load_explicit(&over, memory_order_relaxed)) {
    int64_t now = clock_boot_ms();
    struct token *t = slot_read(&r, now);
    if (t == NULL) {
      atomic_fetch_add_explicit(&misses, 1, memory_order_relaxed);
      slot_want(shared);
    } else {
      CHECK(now < t->expires_at && t->generation >= last && t->value.n > 0);
      last = t->generation;
      atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed);
      slot_accepted_by(shared, last, 0);
    }
    struct slot_facts f;
    slot_facts(shared, now, &f);
    CHECK(f.generation >= last && f.valid == (f.expires_in_ms > 0));
  }
  slot_reader_fini(&r);
  return NULL;
}

static void *run_rejecter(void *arg) {
  (void)arg;
  struct slot_reader r;
  struct rng rng;
  rng_seed(&rng, 3);
  slot_reader_init(&r, shared);
  while (!atomic_load_explicit(&over, memory_order_relaxed)) {
    struct token *t = slot_read(&r, clock_boot_ms());
    if (t != NULL) {
      uint64_t generation = t->generation;
      enum slot_rejected outcome = slot_reject(shared, generation);
      if (outcome == SLOT_REFRESHES) {
        atomic_fetch_add(&rejected, 1);
        t = slot_read(&r, clock_boot_ms());
        CHECK(t == NULL || t->generation > generation); /* a rejected one is not served */
      }
    }
    switch (rng_below(&rng, 6)) {
      case 0: slot_refresh(shared); break;
      case 1: {
        struct fetch_result pushed = token_of("pushed", LIFE_MS / 1000.0);
        slot_set(shared, &pushed);
        break;
      }
      default: break;
    }
    uv_sleep((unsigned)rng_below(&rng, 3));
  }
  slot_reader_fini(&r);
  return NULL;
}

/* A worker: its waiters are told exactly once, or cancelled and then never told. */
struct waiting {
  struct slot_waiter w;
  struct test_worker *worker;
  bool waits;
};
struct test_worker {
  uv_loop_t loop;
  uv_timer_t timer;
  struct mailbox home;
  struct waiting v[WAITERS];
  struct rng rng;
  struct slot_reader *reader; /* now and then another one */
  unsigned long told, expected;
};

static void on_done(struct slot_waiter *w, int status) {
  struct waiting *x = CONTAINER_OF(w, struct waiting, w);
  CHECK(x->waits && w->slot == NULL && (status == 0 || status == UV_ECANCELED || status == ERR_TOKEN_MISSING));
  x->waits = false;
  x->worker->told++;
  atomic_fetch_add_explicit(&woken, 1, memory_order_relaxed);
}

static void act(struct test_worker *worker, struct waiting *x) {
  if (x->waits) {
    if (rng_below(&worker->rng, 4) > 0) return;
    slot_wait_cancel(&x->w);
    x->waits = false;
    worker->expected--;
    atomic_fetch_add_explicit(&cancelled, 1, memory_order_relaxed);
    return;
  }
  x->waits = true; /* before: the mail is delivered later, on this thread */
  int rc = rng_below(&worker->rng, 10) == 0 ? slot_refresh_wait(shared, &x->w, &worker->home, 10000)
                                            : slot_wait(shared, &x->w, &worker->home, 10000);
  CHECK(rc == 0 || rc == 1 || rc == UV_ECANCELED);
  x->waits = rc == 0;
  if (rc == 0) worker->expected++;
}

/* Reads at times, so that changes are told to it, taken back and cut off by its end. */
static void read_at_times(struct test_worker *worker) {
  static _Thread_local struct slot_reader reader;
  unsigned what = (unsigned)rng_below(&worker->rng, 8);
  if (worker->reader == NULL) {
    slot_reader_init(&reader, shared);
    slot_reader_at_home(&reader, &worker->home);
    worker->reader = &reader;
  }
  if (what < 4) {
    int64_t now = clock_boot_ms();
    struct token *token = slot_read(&reader, now);
    CHECK(token == NULL || (now < token->expires_at && token->value.n > 0));
  } else if (what == 7) {
    slot_reader_fini(&reader);
    worker->reader = NULL;
  }
}

static void on_tick(uv_timer_t *t) {
  struct test_worker *worker = t->data;
  if (!atomic_load(&over)) read_at_times(worker);
  if (!atomic_load(&over)) {
    for (int i = 0; i < WAITERS; i++) act(worker, &worker->v[i]);
    return;
  }
  bool waits = false;
  for (int i = 0; i < WAITERS; i++) waits |= worker->v[i].waits;
  if (waits) return; /* until the keeper has closed the slot */
  if (worker->reader != NULL) slot_reader_fini(worker->reader);
  uv_close((uv_handle_t *)&worker->timer, NULL);
  mailbox_close(&worker->home);
}

static void *run_worker(void *arg) {
  struct test_worker *worker = arg;
  CHECK(uv_loop_init(&worker->loop) == 0 && mailbox_init(&worker->home, &worker->loop) == 0);
  uv_timer_init(&worker->loop, &worker->timer);
  worker->timer.data = worker;
  rng_seed(&worker->rng, 9);
  for (int i = 0; i < WAITERS; i++) worker->v[i] = (struct waiting){.w = {.done = on_done}, .worker = worker};
  uv_timer_start(&worker->timer, on_tick, 1, 1);
  uv_run(&worker->loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&worker->loop) == 0);
  CHECK(worker->told == worker->expected);
  return NULL;
}

static void on_watch(uv_timer_t *t) {
  if (!atomic_load(&over)) return;
  uv_timer_stop(t);
  stop_keeper();
}

static void start_keeper(void) {
  CHECK(uv_loop_init(&tk.loop) == 0 && mailbox_init(&tk.inbox, &tk.loop) == 0);
  uv_timer_init(&tk.loop, &tk.timer);
  uv_timer_init(&tk.loop, &tk.fetch_timer);
  uv_timer_init(&tk.loop, &tk.check);
  rng_seed(&tk.rng, 5);
  struct keeper_host host = {NULL, host_now, host_wall, host_start, host_timer, NULL, NULL};
  tk.keeper = keeper_new(&host, &tk.inbox, 1);
  struct schedule schedule = schedule_default;
  schedule.backoff_min_ms = 2;
  schedule.backoff_max_ms = 10;
  shared = keeper_adopt(tk.keeper, STR("api"), (struct str){NULL, 0}, &schedule, true, true);
  uv_timer_start(&tk.check, on_watch, 5, 5);
}

static void threads_never_see_what_they_must_not(void) {
  static struct test_worker workers[2];
  pthread_t keeper, readers[2], rejecter, worker_threads[2];
  start_keeper();
  pthread_create(&keeper, NULL, run_keeper, NULL);
  for (int i = 0; i < 2; i++) pthread_create(&readers[i], NULL, run_reader, NULL);
  for (int i = 0; i < 2; i++) pthread_create(&worker_threads[i], NULL, run_worker, &workers[i]);
  pthread_create(&rejecter, NULL, run_rejecter, NULL);
  uv_sleep(RUN_MS);
  atomic_store(&over, true);
  for (int i = 0; i < 2; i++) pthread_join(readers[i], NULL);
  pthread_join(rejecter, NULL);
  for (int i = 0; i < 2; i++) pthread_join(worker_threads[i], NULL);
  pthread_join(keeper, NULL);
  CHECK(uv_loop_close(&tk.loop) == 0);
  struct slot_facts f;
  slot_facts(shared, clock_boot_ms(), &f);
  CHECK(f.state == SLOT_CLOSED && f.waiters == 0);
  CHECK(atomic_load(&reads) > 0 && atomic_load(&woken) > 0 && atomic_load(&rejected) > 0 && atomic_load(&fetched) > 10);
  printf("# %llu reads, %llu misses, %llu woken, %llu cancelled, %llu rejections, %llu fetches, generation %llu\n",
         atomic_load(&reads), atomic_load(&misses), atomic_load(&woken), atomic_load(&cancelled),
         atomic_load(&rejected), atomic_load(&fetched), (unsigned long long)f.generation);
  slot_unref(shared);
}

static void what_a_read_costs(void) {
  enum { N = 5000000 };
  struct slot *s = slot_new(STR("api"), (struct str){NULL, 0});
  struct slot_reader r;
  slot_reader_init(&r, s);
  struct fetch_result one = token_of("one", 600);
  CHECK(slot_set(s, &one) == NULL);
  int64_t now = clock_boot_ms(), start = clock_mono_us();
  uint64_t sum = 0;
  for (int i = 0; i < N; i++) sum += slot_read(&r, now + (i & 1))->generation;
  int64_t us = clock_mono_us() - start;
  CHECK(sum == N);
  printf("# slot_read, nothing changed: %.2f ns\n", (double)us * 1000 / N);
  slot_reader_fini(&r);
  slot_unref(s);
}

int main(void) {
  log_configure(&(struct log_settings){LOG_OFF, LOG_TEXT});
  RUN(a_reader_sees_changes_and_only_then_takes_a_reference);
  RUN(an_expired_token_is_let_go_and_wiped);
  RUN(a_reader_that_rests_is_told_of_a_change);
  RUN(both_tokens_are_of_one_look);
  RUN(names_are_printable);
  RUN(threads_never_see_what_they_must_not);
  RUN(what_a_read_costs);
  return 0;
}
