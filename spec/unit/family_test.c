/* Families: a slot a key, bounded, lazily fetched, dropped when idle and nobody's. */
#include "token/family.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/rand.h"
#include "check.h"
#include "keeper_world.h"
#include "token/family_internal.h"

static struct token_family *tenant;
static unsigned nwoken;

static void end_fetch(bool ok, double expires_in) {
  CHECK(nrunning > 0);
  struct fetch_result r = {
      .ok = ok, .value = STR("value"), .has_expires_in = true, .expires_in = expires_in, .error = "no"};
  keeper_fetch_done(keeper, running[--nrunning], &r);
  deliver();
}

static void settle(unsigned max, int64_t idle_ms) {
  struct schedule s = schedule_default;
  s.leeway_ms = 0;
  s.jitter = 0;
  struct token_family *f = keeper_adopt_family(keeper, STR("tenant"), &s, true, max, idle_ms);
  if (tenant == NULL) {
    tenant = f;
    return;
  }
  CHECK(f == tenant); /* found by name */
  family_unref(f);
}
static unsigned released;
static char released_key[16];
static void on_release(void *ctx, struct slot *s, struct token *last) {
  (void)ctx;
  CHECK(str_eq(last->value, STR("value")));
  snprintf(released_key, sizeof released_key, "%.*s", STR_FMT(slot_key(s)));
  released++;
}

static int64_t wall(void *ctx) { /* of these years: a life is held against it */
  (void)ctx;
  return 1800000000000;
}

static void begin(unsigned max, int64_t idle_ms) {
  nwoken = 0;
  tenant = NULL;
  world_begin(1000000, &(struct keeper_host){NULL, host_now, wall, host_start, host_timer, NULL, on_release});
  settle(max, idle_ms);
}
static void end(void) {
  while (nrunning > 0) end_fetch(false, 0);
  family_unref(tenant);
  world_end();
}

static struct slot *get(const char *key) {
  struct slot *s = family_get(tenant, str_of(key), vnow);
  if (s != NULL) slot_use_clock(s, vclock);
  return s;
}
/* As a request that has come and gone. */
static void touch(const char *key) { slot_unref(get(key)); }

static void on_done(struct slot_waiter *w, int status) {
  (void)w;
  (void)status;
  nwoken++;
}

static struct slot_facts facts(struct slot *s) {
  struct slot_facts f;
  slot_facts(s, vnow, &f);
  return f;
}

static void a_key_has_one_slot(void) {
  begin(8, 60000);
  struct slot *a = get("acme"), *again = get("acme"), *b = get("beta");
  CHECK(a == again && a != b && family_size(tenant) == 2);
  CHECK(strcmp(slot_name(a), "tenant[acme]") == 0 && strcmp(slot_token_name(a), "tenant") == 0 &&
        str_eq(slot_key(a), STR("acme")));
  CHECK(family_get(tenant, STR(""), vnow) == NULL);
  char longest[FAMILY_KEY_MAX + 1];
  memset(longest, 'k', sizeof longest);
  CHECK(family_get(tenant, (struct str){longest, FAMILY_KEY_MAX + 1}, vnow) == NULL);
  struct slot *c = family_get(tenant, (struct str){longest, FAMILY_KEY_MAX}, vnow);
  CHECK(c != NULL);
  struct slot *n1 = family_get(tenant, STR("a\0b"), vnow), *n2 = family_get(tenant, STR("a\0c"), vnow);
  CHECK(n1 != n2);
  slot_unref(n1);
  slot_unref(n2);
  slot_unref(c);
  slot_unref(a);
  slot_unref(again);
  slot_unref(b);
  end();
}

static unsigned data_freed;
static void free_data(struct slot_data *d) {
  data_freed++;
  free(d);
}
static struct slot_data *new_data(void) {
  struct slot_data *d = calloc(1, sizeof *d);
  atomic_init(&d->refs, 1);
  d->free = free_data;
  return d;
}

static void a_key_with_data_is_a_place_of_its_own(void) {
  begin(3, 60000);
  data_freed = 0;
  struct family_place alice = {.key = STR("alice"), .shown = STR("alice#1"), .digest = {1}, .data = new_data()};
  struct slot *plain = get("alice"), *one = family_place(tenant, &alice, vnow);
  CHECK(one != plain && slot_data_of(one) == alice.data && slot_data_of(plain) == NULL);
  CHECK(strcmp(slot_name(one), "tenant[alice#1]") == 0 && str_eq(slot_key(one), STR("alice")));
  slot_data_unref(alice.data);
  alice.data = new_data(); /* the same by its digest: the place keeps its own */
  struct slot *again = family_place(tenant, &alice, vnow);
  CHECK(again == one && slot_data_of(one) != alice.data);
  slot_data_unref(alice.data);
  CHECK(data_freed == 1);
  alice.digest[FAMILY_DIGEST - 1] = 1; /* another, by its last byte alone */
  alice.data = NULL;
  struct slot *other = family_place(tenant, &alice, vnow);
  CHECK(other != one && other != plain && family_size(tenant) == 3);
  CHECK(get("bob") == NULL); /* each counts */
  slot_unref(again);
  slot_unref(one);
  slot_unref(other);
  slot_unref(plain);
  end();
  CHECK(data_freed == 2);
}

static void nothing_is_fetched_until_somebody_waits(void) {
  begin(8, 600000);
  struct slot *a = get("acme");
  advance(100000);
  CHECK(started == 0);
  struct slot_waiter w = {.done = on_done};
  CHECK(slot_wait(a, &w, &home, 10) == 0);
  deliver();
  CHECK(started == 1 && running[0]->reason == FETCH_FIRST && running[0]->slot == a);
  end_fetch(true, 100);
  CHECK(nwoken == 1 && facts(a).state == SLOT_VALID);
  advance(80000);
  CHECK(started == 2); /* and refreshed as any other */
  end_fetch(true, 100);
  slot_unref(a);
  end();
}

static void wanting_without_waiting_fetches_too(void) {
  begin(8, 600000);
  struct slot *a = get("acme");
  slot_want(a);
  deliver();
  CHECK(started == 1);
  end_fetch(true, 100);
  slot_unref(a);
  end();
}

static void a_failing_key_that_nobody_wants_is_not_tried_again(void) {
  begin(8, 6000000);
  struct slot *a = get("wrong");
  struct slot_waiter w = {.done = on_done};
  CHECK(slot_wait(a, &w, &home, 10) == 0);
  deliver();
  end_fetch(false, 0);
  advance(1000);
  CHECK(started == 2); /* still waited for */
  slot_wait_cancel(&w);
  end_fetch(false, 0);
  advance(1000000);
  CHECK(started == 2);
  CHECK(slot_wait(a, &w, &home, 10) == 0); /* its backoff is long over */
  deliver();
  CHECK(started == 3 && running[0]->attempt == 3);
  end_fetch(false, 0);
  slot_wait_cancel(&w);
  CHECK(slot_wait(a, &w, &home, 10) == 0); /* this one is not */
  deliver();
  CHECK(nrunning == 0);
  advance(60000);
  CHECK(nrunning == 1);
  slot_wait_cancel(&w);
  slot_unref(a);
  end();
}

static void the_one_idle_longest_makes_room(void) {
  begin(3, 6000000);
  touch("a");
  vnow += 1;
  touch("b");
  vnow += 1;
  touch("c");
  vnow += 1;
  touch("a");
  touch("d"); /* b goes */
  CHECK(family_size(tenant) == 3);
  struct slot *a = get("a"), *c = get("c"), *d = get("d");
  CHECK(a != NULL && c != NULL && d != NULL && get("e") == NULL); /* all in use */
  slot_unref(c);
  struct slot *e = get("e");
  CHECK(e != NULL && family_size(tenant) == 3);
  CHECK(get("c") == NULL);
  slot_unref(a);
  slot_unref(d);
  slot_unref(e);
  end();
}

static void count_slot(void *arg, struct slot *s) {
  (void)s;
  ++*(unsigned *)arg;
}
static unsigned known(void) {
  unsigned n = 0;
  keeper_each(keeper, count_slot, &n);
  return n;
}

static void a_slot_in_use_is_never_dropped(void) {
  begin(1, 1000);
  struct slot *a = get("a");
  struct slot_waiter w = {.done = on_done};
  CHECK(slot_wait(a, &w, &home, 10) == 0);
  slot_unref(a);
  CHECK(get("b") == NULL); /* waited for */
  deliver();
  advance(100000);
  CHECK(get("b") == NULL && nrunning == 1); /* being fetched */
  slot_wait_cancel(&w);
  CHECK(get("b") == NULL);
  end_fetch(true, 1000);
  struct slot *b = get("b");
  CHECK(b != NULL && facts(b).state == SLOT_EMPTY);
  CHECK(known() == 1);
  deliver(); /* the keeper forgets a, and has not heard of b */
  CHECK(known() == 0);
  slot_unref(b);
  end();
}

/* What a flood of unknown keys may cost each time: a bounded number of slots in use is passed over, and the next key goes on behind them. */
static void a_key_without_a_place_passes_over_some_slots_in_use_only(void) {
  enum { MANY = 300 };
  static struct slot *held[MANY];
  begin(MANY, 1000000);
  for (int i = 0; i < MANY; i++) {
    char key[16];
    (void)snprintf(key, sizeof key, "k%d", i);
    held[i] = get(key);
    CHECK(held[i] != NULL);
  }
  CHECK(get("new") == NULL);
  slot_unref(held[MANY - 1]);
  struct slot *s = get("new");
  if (s == NULL) s = get("new");
  CHECK(s != NULL && family_size(tenant) == MANY);
  slot_unref(s);
  for (int i = 0; i < MANY - 1; i++) slot_unref(held[i]);
  end();
}

static void what_leaves_is_given_back_once(void) {
  begin(2, 60000);
  released = 0;
  family_set_traits(tenant, SLOT_RELEASES);
  touch("empty"); /* never had a token */
  struct slot *s = get("one");
  struct slot_waiter w = {.done = on_done};
  CHECK(slot_wait(s, &w, &home, 10) == 0);
  deliver();
  end_fetch(true, 1000000);
  slot_unref(s);
  touch("other"); /* for which "empty" makes room */
  deliver();
  CHECK(released == 0);
  touch("third");
  deliver();
  CHECK(released == 1 && strcmp(released_key, "one") == 0);
  s = get("last");
  CHECK(slot_wait(s, &w, &home, 10) == 0);
  deliver();
  end_fetch(true, 1000000);
  slot_unref(s);
  keeper_part(keeper);
  CHECK(released == 2 && strcmp(released_key, "last") == 0);
  keeper_part(keeper);
  CHECK(released == 2);
  end();
  CHECK(released == 2);
}

static void idle_slots_are_dropped_and_their_tokens_with_them(void) {
  begin(100, 60000);
  for (int i = 0; i < 40; i++) {
    char key[16];
    snprintf(key, sizeof key, "k%d", i);
    struct slot *s = get(key);
    slot_want(s);
    deliver();
    end_fetch(true, 10000);
    slot_unref(s);
  }
  struct slot *held = get("k7");
  CHECK(family_size(tenant) == 40);
  advance(50000);
  touch("k9");
  advance(50000);
  CHECK(family_size(tenant) == 2); /* k7 is somebody's, k9 was used lately */
  advance(100000);
  CHECK(family_size(tenant) == 1 && facts(held).valid);
  slot_unref(held);
  advance(100000);
  CHECK(family_size(tenant) == 0 && nrunning == 0);
  end();
}

static void a_reload_keeps_slots_and_gives_them_the_new_plan(void) {
  begin(8, 6000000);
  struct slot *a = get("acme");
  slot_want(a);
  deliver();
  end_fetch(true, 100);
  struct schedule s = schedule_default;
  s.jitter = 0;
  s.refresh_fraction = 0.5;
  struct token_family *f = keeper_adopt_family(keeper, STR("tenant"), &s, true, 8, 6000000);
  CHECK(f == tenant && started == 1 && facts(a).valid);
  deliver();
  advance(49999);
  CHECK(started == 1);
  advance(1);
  CHECK(started == 2); /* the keeper's timer followed */
  end_fetch(true, 100);
  family_unref(f);
  slot_unref(a);
  end();
}

static void the_slots_of_a_family_that_leaves_are_fetched_for_who_wants_them(void) {
  begin(8, 6000000);
  struct slot *a = get("acme");
  slot_want(a);
  deliver();
  end_fetch(true, 100);
  keeper_leave(keeper, STR("tenant"), true);
  struct slot *b = get("beta"); /* made for an exchange of the old policy */
  slot_want(b);
  deliver();
  end_fetch(true, 50);
  CHECK(facts(b).valid);
  advance(100000);
  CHECK(started == 2 && !facts(a).valid && !facts(b).valid);
  slot_want(a);
  deliver();
  CHECK(started == 3);
  end_fetch(true, 100);
  slot_unref(a);
  slot_unref(b);
  end();
}

static unsigned seen;
static void on_each(void *arg, struct slot *s) {
  (void)arg;
  seen++;
  touch("delta"); /* would wait for ever if the family were locked */
  CHECK(slot_key(s).n > 0 && family_size(tenant) == 4);
}

static void looking_at_all_holds_up_nobody(void) {
  begin(8, 6000000);
  touch("acme");
  touch("beta");
  touch("gamma");
  seen = 0;
  family_each(tenant, on_each, NULL);
  CHECK(seen == 3);
  end();
}

static bool keep_families(void *arg, const char *name, bool family) {
  (void)arg;
  CHECK(strcmp(name, "tenant") == 0);
  return family;
}

static void a_token_of_its_name_is_another_one(void) {
  begin(8, 6000000);
  struct schedule s = schedule_default;
  struct slot *single = keeper_adopt(keeper, STR("tenant"), (struct str){0}, &s, true, true), *a = get("acme");
  CHECK(single != a && started == 1);
  end_fetch(true, 100);
  CHECK(facts(single).valid && !facts(a).valid);
  keeper_leave(keeper, STR("tenant"), true);
  keeper_retain(keeper, keep_families, NULL);
  CHECK(facts(single).state == SLOT_CLOSED && facts(a).state == SLOT_EMPTY);
  slot_want(a);
  deliver();
  end_fetch(true, 100);
  CHECK(facts(a).valid);
  slot_unref(single);
  slot_unref(a);
  end();
}

static bool keep_none(void *arg, const char *name, bool family) {
  (void)arg;
  CHECK(family && strcmp(name, "tenant") == 0);
  return false;
}

static void a_family_that_is_no_longer_named_is_closed(void) {
  begin(8, 6000000);
  struct slot *a = get("acme"), *b = get("beta");
  struct slot_waiter w = {.done = on_done}, v = {.done = on_done};
  CHECK(slot_wait(a, &w, &home, 10) == 0);
  deliver();
  CHECK(slot_wait(b, &v, &home, 10) == 0); /* its mail is not delivered yet */
  keeper_retain(keeper, keep_none, NULL);
  deliver();
  CHECK(nwoken == 2 && facts(a).state == SLOT_CLOSED && facts(b).state == SLOT_CLOSED);
  CHECK(get("acme") == NULL && family_size(tenant) == 0);
  end_fetch(true, 100);
  CHECK(!facts(a).valid && timer_at == INT64_MAX);
  slot_unref(a);
  slot_unref(b);
  end();
}

/* --- between threads --- */

static atomic_bool over;

static void *run_user(void *arg) {
  struct rng rng;
  rng_seed(&rng, (uint64_t)(uintptr_t)arg);
  unsigned refused = 0;
  while (!atomic_load(&over)) {
    char key[16];
    snprintf(key, sizeof key, "k%u", (unsigned)rng_below(&rng, 40));
    struct slot *s = family_get(tenant, str_of(key), clock_boot_ms());
    if (s == NULL) {
      refused++;
      continue;
    }
    CHECK(str_eq(slot_key(s), str_of(key)));
    struct slot_reader r;
    slot_reader_init(&r, s);
    if (slot_read(&r, clock_boot_ms()) == NULL) slot_want(s);
    slot_reader_fini(&r);
    CHECK(family_size(tenant) <= 16);
    slot_unref(s);
  }
  return NULL;
}

static void start_and_end(void *ctx, struct fetch *f) {
  (void)ctx;
  struct fetch_result r = {.ok = true, .value = STR("value"), .has_expires_in = true, .expires_in = 0.05};
  keeper_fetch_done(keeper, f, &r);
}
static int64_t real_now(void *ctx) {
  (void)ctx;
  return clock_boot_ms();
}
static void ignore_timer(void *ctx, int64_t at) {
  (void)ctx;
  (void)at;
}

static void threads_share_a_family(void) {
  CHECK(uv_loop_init(&loop) == 0 && mailbox_init(&inbox, &loop) == 0);
  struct keeper_host host = {NULL, real_now, wall, start_and_end, ignore_timer, NULL, NULL};
  keeper = keeper_new(&host, &inbox, 42);
  tenant = NULL;
  settle(16, 5);
  pthread_t users[3];
  for (uintptr_t i = 0; i < 3; i++) pthread_create(&users[i], NULL, run_user, (void *)(i + 1));
  for (int64_t end_at = clock_boot_ms() + 1000; clock_boot_ms() < end_at;) {
    uv_run(&loop, UV_RUN_NOWAIT);
    keeper_run_due(keeper);
    family_drop_idle(tenant, clock_boot_ms());
    settle(16, 5);
  }
  atomic_store(&over, true);
  for (int i = 0; i < 3; i++) pthread_join(users[i], NULL);
  keeper_free(keeper);
  family_unref(tenant);
  mailbox_close(&inbox);
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

int main(void) {
  log_configure(&(struct log_settings){LOG_OFF, LOG_TEXT});
  RUN(a_key_has_one_slot);
  RUN(a_key_with_data_is_a_place_of_its_own);
  RUN(nothing_is_fetched_until_somebody_waits);
  RUN(wanting_without_waiting_fetches_too);
  RUN(a_failing_key_that_nobody_wants_is_not_tried_again);
  RUN(the_one_idle_longest_makes_room);
  RUN(a_slot_in_use_is_never_dropped);
  RUN(a_key_without_a_place_passes_over_some_slots_in_use_only);
  RUN(what_leaves_is_given_back_once);
  RUN(idle_slots_are_dropped_and_their_tokens_with_them);
  RUN(a_reload_keeps_slots_and_gives_them_the_new_plan);
  RUN(the_slots_of_a_family_that_leaves_are_fetched_for_who_wants_them);
  RUN(looking_at_all_holds_up_nobody);
  RUN(a_token_of_its_name_is_another_one);
  RUN(a_family_that_is_no_longer_named_is_closed);
  RUN(threads_share_a_family);
  return 0;
}
