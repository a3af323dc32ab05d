/* The keeper on a virtual clock: every fetch is started and ended by the test, time moves when the test says so. */
#include "token/keeper.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "check.h"
#include "keeper_world.h"
#include "token/slot_internal.h"

/* --- the world --- */

static const int64_t START = 5000000, WALL = 1700000000000;
static const struct fetch_result *at_once; /* a fetch is answered with it before its start returns */

static int64_t host_wall(void *ctx) {
  (void)ctx;
  return WALL + vnow;
}
static void host_start_or_answer(void *ctx, struct fetch *f) {
  if (at_once == NULL) {
    host_start(ctx, f);
    return;
  }
  started++;
  keeper_fetch_done(keeper, f, at_once);
}

static struct fetch *only_fetch(void) {
  CHECK(nrunning == 1);
  return running[0];
}
static void end_fetch(const struct fetch_result *r) {
  struct fetch *f = only_fetch();
  nrunning = 0;
  keeper_fetch_done(keeper, f, r);
  deliver();
}
static struct fetch_result token_of(const char *value, double expires_in) {
  return (struct fetch_result){.ok = true, .value = str_of(value), .has_expires_in = true, .expires_in = expires_in};
}
static void succeed(const char *value, double expires_in) {
  struct fetch_result r = token_of(value, expires_in);
  end_fetch(&r);
}
static void fail(void) { end_fetch(&(struct fetch_result){.ok = false, .error = "policy.lua:3: no route"}); }

static struct schedule plain(void) {
  struct schedule s = schedule_default;
  s.jitter = 0;
  s.leeway_ms = 0;
  return s;
}

static struct slot *api;
static struct slot_reader reader;

static struct slot *adopt(const char *name, bool has_fetch, bool fetch_now) {
  struct schedule s = plain();
  struct slot *slot = keeper_adopt(keeper, str_of(name), (struct str){NULL, 0}, &s, has_fetch, false);
  slot_use_clock(slot, vclock);
  if (fetch_now) slot_unref(keeper_adopt(keeper, str_of(name), (struct str){NULL, 0}, &s, has_fetch, true));
  return slot;
}

static bool carries_state;
static bool host_give_up(void *ctx, struct fetch *f) {
  (void)ctx;
  CHECK(only_fetch() == f);
  if (carries_state) return false;
  nrunning = 0;
  return true;
}

static void begin(bool has_fetch, bool fetch_now) {
  at_once = NULL;
  carries_state = false;
  world_begin(START,
              &(struct keeper_host){NULL, host_now, host_wall, host_start_or_answer, host_timer, host_give_up, NULL});
  api = adopt("api", has_fetch, fetch_now);
  slot_reader_init(&reader, api);
}

static void end(void) {
  slot_reader_fini(&reader);
  slot_unref(api);
  world_end();
}

static struct slot_facts facts(void) {
  struct slot_facts f;
  slot_facts(api, vnow, &f);
  return f;
}
static enum slot_state state(void) { return facts().state; }

/* What a request would be sent with now; NULL none. Checks what must hold of every read. */
static const char *reads(void) {
  static char text[64];
  struct token *t = slot_read(&reader, vnow);
  CHECK((t != NULL) == facts().valid);
  if (t == NULL) return NULL;
  CHECK(vnow < t->expires_at && t->generation == facts().generation);
  snprintf(text, sizeof text, "%.*s", STR_FMT(t->value));
  return text;
}
static bool reads_as(const char *value) {
  const char *got = reads();
  return got != NULL && strcmp(got, value) == 0;
}

enum { CROWD = 1000 };
static struct slot_waiter crowd[CROWD];
static unsigned woken[CROWD], nwoken;
static int last_status;
static void on_done(struct slot_waiter *w, int status) {
  woken[w - crowd]++;
  nwoken++;
  last_status = status;
}
static void crowd_init(void) {
  memset(crowd, 0, sizeof crowd);
  memset(woken, 0, sizeof woken);
  nwoken = 0;
  for (unsigned i = 0; i < CROWD; i++) crowd[i].done = on_done;
}
static void crowd_waits(void) {
  crowd_init();
  for (unsigned i = 0; i < CROWD; i++) CHECK(slot_wait(api, &crowd[i], &home, CROWD) == 0);
  deliver();
}
static void crowd_was_woken_once(int status) {
  deliver();
  CHECK(nwoken == CROWD && last_status == status);
  for (unsigned i = 0; i < CROWD; i++) CHECK(woken[i] == 1 && crowd[i].slot == NULL);
}

/* --- the life of a token --- */

static void a_slot_goes_from_empty_to_valid_to_refreshed(void) {
  begin(true, false);
  CHECK(state() == SLOT_EMPTY && reads() == NULL && nrunning == 0 && facts().next_attempt_ms < 0);
  slot_unref(adopt("api", true, true));
  CHECK(state() == SLOT_FETCHING && only_fetch()->reason == FETCH_FIRST && only_fetch()->attempt == 1);
  CHECK(only_fetch()->previous == NULL && only_fetch()->sent_at == vnow);
  advance(500);
  succeed("one", 100);
  CHECK(state() == SLOT_VALID && reads_as("one"));
  CHECK(facts().generation == 1 && facts().expires_in_ms == 99500 && facts().next_attempt_ms == 79500);
  advance(79499);
  CHECK(nrunning == 0);
  advance(1);
  CHECK(state() == SLOT_REFRESHING && only_fetch()->reason == FETCH_EXPIRING && reads_as("one"));
  CHECK(str_eq(only_fetch()->previous->value, STR("one")));
  succeed("two", 100);
  CHECK(state() == SLOT_VALID && reads_as("two") && facts().generation == 2 && facts().fetches == 2 &&
        facts().failures == 0);
  end();
}

static void fetch_at_adoption_is_one_fetch(void) {
  begin(true, true);
  CHECK(nrunning == 1);
  slot_unref(adopt("api", true, true));
  slot_refresh(api);
  slot_want(api);
  deliver();
  CHECK(started == 1);
  succeed("one", 100);
  CHECK(started == 1);
  end();
}

static void a_thousand_requests_cause_one_fetch_and_are_woken_once(void) {
  begin(true, false);
  crowd_waits();
  struct slot_waiter late = {.done = on_done};
  CHECK(slot_wait(api, &late, &home, CROWD) == ERR_LIMIT && late.slot == NULL);
  CHECK(started == 1 && only_fetch()->reason == FETCH_FIRST && facts().waiters == CROWD);
  succeed("one", 100);
  crowd_was_woken_once(0);
  CHECK(facts().waiters == 0 && started == 1);
  CHECK(slot_wait(api, &late, &home, CROWD) == 1);
  end();
}

static void waiters_stay_over_failed_attempts_and_cannot_shorten_the_backoff(void) {
  begin(true, false);
  crowd_waits();
  for (unsigned failures = 1; failures <= 12; failures++) {
    fail();
    CHECK(state() == SLOT_FAILING && nwoken == 0 && facts().consecutive_failures == failures);
    CHECK(strcmp(facts().last_error, "policy.lua:3: no route") == 0);
    int64_t pause = facts().next_attempt_ms, cap = failures > 8 ? 30000 : 200 << (failures - 1);
    CHECK(pause >= 100 && pause <= (cap > 30000 ? 30000 : cap));
    CHECK(slot_retry_after(api, vnow) == (pause <= 1000 ? 1 : (unsigned)((pause + 999) / 1000)));
    advance(pause / 2);
    struct slot_waiter herd[50];
    memset(herd, 0, sizeof herd);
    for (int i = 0; i < 50; i++) {
      herd[i].done = on_done;
      CHECK(slot_wait(api, &herd[i], &home, 2 * CROWD) == 0);
      slot_want(api);
    }
    deliver();
    for (int i = 0; i < 50; i++) slot_wait_cancel(&herd[i]);
    advance(pause - pause / 2 - 1);
    CHECK(nrunning == 0 && started == failures);
    advance(1);
    CHECK(only_fetch()->attempt == failures + 1 && state() == SLOT_FETCHING);
  }
  succeed("one", 100);
  crowd_was_woken_once(0);
  CHECK(facts().consecutive_failures == 0 && facts().failures == 12 && state() == SLOT_VALID);
  end();
}

static void a_refresh_by_hand_does_not_wait_for_the_backoff(void) {
  begin(true, true);
  fail();
  CHECK(nrunning == 0);
  slot_refresh(api);
  CHECK(facts().next_attempt_ms == 0);
  deliver();
  CHECK(only_fetch()->reason == FETCH_MANUAL && only_fetch()->attempt == 2);
  slot_refresh(api); /* joins */
  deliver();
  succeed("one", 100);
  advance(1000);
  CHECK(nrunning == 0 && started == 2);
  end();
}

static void a_valid_token_serves_while_refreshes_fail_and_until_it_expires(void) {
  begin(true, true);
  succeed("one", 100);
  advance(80000);
  while (vnow < START + 100000) {
    if (nrunning > 0) fail();
    CHECK(reads_as("one"));
    CHECK(state() == SLOT_FAILING);
    int64_t step = facts().next_attempt_ms, left = START + 100000 - vnow;
    if (step >= left) {
      advance(left);
      break;
    }
    advance(step);
    CHECK(state() == SLOT_REFRESHING && reads_as("one"));
  }
  CHECK(reads() == NULL && state() == SLOT_FAILING && !facts().valid && facts().expires_in_ms == 0);
  while (nrunning == 0) advance(facts().next_attempt_ms);
  CHECK(only_fetch()->reason == FETCH_EXPIRING && str_eq(only_fetch()->previous->value, STR("one")));
  succeed("two", 100);
  CHECK(reads_as("two") && facts().generation == 2);
  end();
}

static void expiry_needs_no_event(void) {
  begin(true, true);
  succeed("one", 10);
  vnow += 10000 - 1; /* the keeper's thread hangs: no timer, no mail */
  CHECK(reads_as("one"));
  vnow += 1;
  CHECK(reads() == NULL && state() == SLOT_EXPIRED);
  crowd_waits();
  CHECK(only_fetch()->reason == FETCH_EXPIRING);
  succeed("two", 10);
  crowd_was_woken_once(0);
  CHECK(reads_as("two"));
  end();
}

static void expiry_while_a_fetch_hangs(void) {
  begin(true, true);
  succeed("one", 10);
  advance(8000);
  CHECK(nrunning == 1);
  advance(1999);
  CHECK(reads_as("one") && state() == SLOT_REFRESHING);
  advance(1);
  CHECK(reads() == NULL && state() == SLOT_FETCHING && api->current == NULL);
  crowd_waits();
  advance(60000);
  CHECK(started == 2 && nwoken == 0);
  succeed("two", 100); /* sent 62 s ago */
  crowd_was_woken_once(0);
  CHECK(reads_as("two") && facts().expires_in_ms == 38000);
  end();
}

static void a_slow_issuer_of_short_tokens_is_not_asked_in_a_tight_loop(void) {
  begin(true, true);
  advance(9999);
  succeed("one", 10);
  CHECK(reads_as("one") && nrunning == 0 && facts().next_attempt_ms == 1);
  advance(1);
  CHECK(nrunning == 1 && reads() == NULL);
  advance(9000);
  succeed("two", 10);
  CHECK(nrunning == 0 && facts().next_attempt_ms == 200);
  end();
}

static void results_without_a_usable_token_are_failures(void) {
  const double bad[] = {NAN, INFINITY, 0, -1, -1e12};
  begin(true, true);
  for (unsigned i = 0; i < 5; i++) {
    succeed("SECRET", bad[i]);
    CHECK(state() == SLOT_FAILING && reads() == NULL && facts().consecutive_failures == i + 1);
    CHECK(facts().last_error[0] != '\0' && strstr(facts().last_error, "SECRET") == NULL);
    advance(facts().next_attempt_ms);
  }
  succeed("SECRET\n", 100);
  CHECK(reads() == NULL && strstr(facts().last_error, "RET") == NULL);
  advance(facts().next_attempt_ms);
  end_fetch(&(struct fetch_result){.ok = true});
  CHECK(reads() == NULL && facts().failures == 7 && facts().generation == 0);
  end();
}

/* Requests that ask meanwhile do not shorten it, a refresh by hand does. */
static void a_fetch_that_hangs_makes_way_for_a_refresh_by_hand(void) {
  begin(true, true);
  advance(SLOT_SLOW_MS - 1);
  slot_refresh(api); /* joined */
  deliver();
  CHECK(started == 1 && facts().fetching_ms == SLOT_SLOW_MS - 1 && facts().reason == FETCH_FIRST);
  advance(1);
  slot_refresh(api);
  deliver();
  CHECK(started == 2 && nrunning == 1 && facts().fetching_ms == 0 && facts().reason == FETCH_MANUAL);
  CHECK(facts().failures == 1 && facts().consecutive_failures == 0);
  succeed("one", 100);
  CHECK(reads_as("one") && facts().fetching_ms < 0 && nrunning == 0);
  end();
}

static void a_fetch_that_may_have_spent_its_refresh_token_makes_no_way(void) {
  begin(true, true);
  carries_state = true;
  advance(12000);
  CHECK(facts().fetching_ms == 12000);
  slot_refresh(api);
  deliver();
  CHECK(started == 1 && nrunning == 1);
  succeed("one", 100); /* late, and taken */
  CHECK(reads_as("one") && started == 1);
  end();
}

/* The refresh and the end of the fetch that it would give up meet: that end is its answer. */
static void a_refresh_that_comes_with_the_end_of_a_slow_fetch_joins_it(void) {
  begin(true, true);
  advance(5000);
  slot_refresh(api);
  succeed("one", 100);
  CHECK(reads_as("one") && started == 1 && nrunning == 0);
  end();
}

static void an_issuer_that_asks_for_time_is_left_alone(void) {
  begin(true, true);
  end_fetch(&(struct fetch_result){.ok = false, .error = "429", .retry_after = 20});
  CHECK(facts().next_attempt_ms >= 20000 && facts().next_attempt_ms <= 22000);
  slot_want(api);
  deliver();
  advance(19999);
  CHECK(nrunning == 0 && facts().fetches == 1);
  advance(2001);
  CHECK(nrunning == 1);
  end_fetch(&(struct fetch_result){.ok = false, .error = "429", .retry_after = 20});
  slot_refresh(api);
  deliver();
  CHECK(nrunning == 1);
  end_fetch(&(struct fetch_result){.ok = false, .error = "500"});
  CHECK(facts().next_attempt_ms <= 1000);
  end();
}

static void an_error_text_is_cut_and_cleaned(void) {
  begin(true, true);
  char text[400];
  memset(text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  text[3] = '\n';
  memcpy(text + 158, "\xc3\xa9", 2); /* on the border: not cut in half */
  end_fetch(&(struct fetch_result){.ok = false, .error = text});
  CHECK(strlen(facts().last_error) == 158 && facts().last_error[3] == '?');
  end();
}

/* --- rejection --- */

static void a_hundred_rejections_of_one_generation_cause_one_fetch(void) {
  begin(true, true);
  succeed("one", 100);
  for (int i = 0; i < 100; i++) {
    CHECK(slot_reject(api, 1) == SLOT_REFRESHES);
    CHECK(reads() == NULL);
  }
  crowd_waits();
  CHECK(started == 2 && only_fetch()->reason == FETCH_REJECTED && facts().rejections == 1);
  CHECK(str_eq(only_fetch()->previous->value, STR("one")));
  succeed("two", 100);
  crowd_was_woken_once(0);
  CHECK(slot_reject(api, 1) == SLOT_MOVED_ON); /* late */
  deliver();
  CHECK(reads_as("two") && started == 2 && facts().rejections == 1);
  end();
}

static void a_rejection_during_a_refresh_joins_it(void) {
  begin(true, true);
  succeed("one", 100);
  advance(80000);
  CHECK(nrunning == 1);
  CHECK(slot_reject(api, 1) == SLOT_REFRESHES && reads() == NULL);
  deliver();
  CHECK(started == 2);
  succeed("two", 100);
  CHECK(reads_as("two") && started == 2);
  end();
}

static void a_rejection_while_failing_keeps_to_the_backoff(void) {
  begin(true, true);
  succeed("one", 100);
  advance(80000);
  fail();
  int64_t pause = facts().next_attempt_ms;
  CHECK(slot_reject(api, 1) == SLOT_REFRESHES && reads() == NULL);
  advance(pause - 1);
  CHECK(nrunning == 0);
  advance(1);
  CHECK(only_fetch()->reason == FETCH_REJECTED);
  fail();
  CHECK(state() == SLOT_FAILING && reads() == NULL); /* the rejected one does not come back */
  end();
}

/* One round of a path that always answers 401: request, refresh, replay. */
static bool round_of_refusals(uint64_t *generation) {
  enum slot_rejected r = slot_reject(api, *generation);
  if (r == SLOT_DAMPED) return false;
  CHECK(r == SLOT_REFRESHES);
  deliver();
  succeed("again", 1000000);
  ++*generation;
  for (int i = 0; i < 10; i++) (void)slot_replay_refused(api, *generation, 0);
  return true;
}

static void endless_rejections_are_damped_up_to_a_minute(void) {
  begin(true, true);
  succeed("one", 1000000);
  uint64_t generation = 1;
  for (int64_t pause = 1000; pause < 400000; pause *= 2) {
    CHECK(round_of_refusals(&generation));
    int64_t damped = pause < 60000 ? pause : 60000;
    CHECK(!round_of_refusals(&generation) && reads_as("again")); /* relayed; the token stays */
    advance(damped - 1);
    CHECK(!round_of_refusals(&generation));
    advance(1);
  }
  advance(200000); /* quiet for long: a new story */
  CHECK(round_of_refusals(&generation));
  advance(1000);
  CHECK(round_of_refusals(&generation));
  end();
}

static void an_accepted_generation_shortens_the_damping(void) {
  begin(true, true);
  succeed("one", 1000000);
  uint64_t generation = 1;
  for (int i = 0; i < 7; i++) {
    CHECK(round_of_refusals(&generation));
    advance(60000);
  }
  CHECK(round_of_refusals(&generation));
  slot_accepted_by(api, generation - 1, 0); /* says nothing of the newer ones */
  advance(SLOT_DAMP_PROVEN_MS);
  CHECK(!round_of_refusals(&generation));
  slot_accepted_by(api, generation, 0);
  CHECK(round_of_refusals(&generation)); /* a revocation after all is seen at once */
  slot_accepted_by(api, generation, 0);
  advance(SLOT_DAMP_PROVEN_MS - 1);
  CHECK(!round_of_refusals(&generation)); /* but one path's refusals beside good answers are no fetch a request */
  end();
}

enum { PATH_A = 1, PATH_B, MANY_PATHS = 100 };

static enum slot_rejected refuse_for(uint64_t account, uint64_t generation) {
  return slot_reject_by(api, generation, &(struct slot_refused){.account = account});
}

/* Request, refresh, replay, and that is refused, too. False: it was relayed. */
static bool vain_round(uint64_t account, uint64_t *generation) {
  enum slot_rejected r = refuse_for(account, *generation);
  if (r == SLOT_DAMPED) return false;
  CHECK(r == SLOT_REFRESHES);
  deliver();
  succeed("again", 1000000);
  ++*generation;
  (void)slot_replay_refused(api, *generation, account);
  return true;
}

static void a_path_that_refuses_every_generation_does_not_poison_the_others(void) {
  begin(true, true);
  succeed("one", 1000000);
  uint64_t generation = 1;
  CHECK(vain_round(PATH_A, &generation) && !vain_round(PATH_A, &generation));
  CHECK(refuse_for(PATH_B, generation) == SLOT_REFRESHES); /* a revocation, at once */
  deliver();
  succeed("three", 1000000);
  generation++;
  slot_accepted_by(api, generation, PATH_B);
  CHECK(!vain_round(PATH_A, &generation) && reads_as("three"));
  end();
}

static void many_paths_that_refuse_every_generation_damp_the_token_in_the_end(void) {
  begin(true, true);
  succeed("one", 1000000);
  uint64_t generation = 1;
  unsigned fetched = 0;
  for (uint64_t path = 1; path <= MANY_PATHS; path++) {
    fetched += vain_round(path, &generation);
    advance(1);
  }
  CHECK(fetched == SLOT_VAIN_FREE + 1);
  advance(DAMP_MIN_MS);
  CHECK(vain_round(MANY_PATHS + 1, &generation) && !vain_round(MANY_PATHS + 2, &generation));
  for (int i = 0; i < 8; i++) {
    CHECK(vain_round((uint64_t)(2000 + i), &generation) || i == 0);
    advance(DAMP_MAX_MS);
  }
  CHECK(vain_round(3000, &generation));
  slot_accepted_by(api, generation, 4000); /* it serves others */
  advance(SLOT_DAMP_PROVEN_MS);
  CHECK(vain_round(3001, &generation));
  advance(3 * DAMP_MAX_MS); /* quiet for long: a new story */
  for (uint64_t path = 5000; path < 5000 + SLOT_VAIN_FREE; path++) CHECK(vain_round(path, &generation));
  end();
}

/* --- set --- */

static void set_publishes_at_once_and_counts_on(void) {
  begin(false, true);
  CHECK(nrunning == 0 && state() == SLOT_EMPTY);
  crowd_waits();
  CHECK(nrunning == 0);
  struct fetch_result r = token_of("pushed", 10);
  CHECK(slot_set(api, &r) == NULL);
  CHECK(reads_as("pushed"));
  crowd_was_woken_once(0);
  advance(9999);
  CHECK(reads_as("pushed"));
  advance(1);
  CHECK(reads() == NULL && api->current == NULL && state() == SLOT_EXPIRED && nrunning == 0);
  CHECK(slot_set(api, &r) == NULL && facts().generation == 2);
  r.expires_in = 0;
  CHECK(slot_set(api, &r) != NULL && reads_as("pushed"));
  struct slot_waiter w = {.done = on_done};
  CHECK(slot_refresh_wait(api, &w, &home, 10) == UV_ENOTSUP && w.slot == NULL);
  end();
}

static void a_rejection_takes_nothing_from_a_slot_without_a_fetch(void) {
  begin(false, false);
  struct fetch_result r = token_of("pushed", 100);
  CHECK(slot_set(api, &r) == NULL);
  for (int i = 0; i < 3; i++) CHECK(slot_reject(api, 1) == SLOT_DAMPED && reads_as("pushed"));
  CHECK(facts().rejections == 1);
  CHECK(slot_set(api, &r) == NULL && slot_reject(api, 1) == SLOT_MOVED_ON);
  CHECK(slot_reject(api, 2) == SLOT_DAMPED && facts().rejections == 2);
  end();
}

static void set_is_refreshed_by_the_fetch(void) {
  begin(true, false);
  struct fetch_result r = token_of("pushed", 100);
  CHECK(slot_set(api, &r) == NULL);
  advance(79999);
  CHECK(nrunning == 0);
  advance(1);
  CHECK(only_fetch()->reason == FETCH_EXPIRING);
  succeed("fetched", 100);
  CHECK(reads_as("fetched"));
  end();
}

static void a_set_during_a_fetch_is_newer_than_its_outcome(void) {
  begin(true, true);
  advance(10);
  struct fetch_result r = token_of("pushed", 100);
  CHECK(slot_set(api, &r) == NULL);
  crowd_init();
  CHECK(slot_refresh_wait(api, &crowd[0], &home, 10) == 0);
  succeed("stale", 100);
  CHECK(reads_as("pushed") && facts().generation == 1 && state() == SLOT_VALID && facts().next_attempt_ms == 80000);
  CHECK(nwoken == 1 && last_status == 0);
  advance(80000);
  advance(10);
  CHECK(slot_set(api, &r) == NULL);
  fail(); /* nor does its failure count */
  CHECK(state() == SLOT_VALID && facts().consecutive_failures == 0 && facts().failures == 1 && facts().generation == 2);
  end();
}

static void a_set_token_that_is_rejected_makes_way_for_the_fetch(void) {
  begin(true, true);
  advance(10);
  struct fetch_result r = token_of("pushed", 100);
  CHECK(slot_set(api, &r) == NULL);
  CHECK(slot_reject(api, 1) == SLOT_REFRESHES);
  deliver();
  CHECK(started == 1);
  succeed("fetched", 100);
  CHECK(reads_as("fetched") && facts().generation == 2);
  end();
}

/* --- waiting for the outcome of a refresh --- */

static void a_refresh_can_be_waited_for(void) {
  begin(true, true);
  succeed("one", 100);
  crowd_init();
  CHECK(slot_refresh_wait(api, &crowd[0], &home, 10) == 0);
  deliver();
  CHECK(only_fetch()->reason == FETCH_MANUAL);
  CHECK(slot_refresh_wait(api, &crowd[1], &home, 10) == 0); /* joins */
  succeed("two", 100);
  CHECK(woken[0] == 1 && woken[1] == 1 && last_status == 0 && started == 2);
  CHECK(slot_refresh_wait(api, &crowd[0], &home, 10) == 0);
  deliver();
  fail();
  CHECK(woken[0] == 2 && last_status == ERR_TOKEN_MISSING && reads_as("two"));
  end();
}

/* --- reload --- */

static void fail_until_next_is_far(void) {
  while (facts().next_attempt_ms < 10000) {
    advance(facts().next_attempt_ms);
    fail();
  }
}

static unsigned fetches_of_reload(bool fetch_now) {
  unsigned before = started;
  struct schedule s = plain();
  slot_unref(keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, true, fetch_now));
  deliver();
  return started - before;
}

static void a_reload_fetches_nothing(void) {
  begin(true, true);
  CHECK(fetches_of_reload(true) == 0); /* one is running */
  fail();
  CHECK(fetches_of_reload(true) == 0); /* backing off */
  advance(facts().next_attempt_ms);
  succeed("one", 100);
  CHECK(fetches_of_reload(true) == 0);
  CHECK(reads_as("one"));
  advance(70000);
  struct schedule s = plain();
  s.refresh_fraction = 0.5; /* by this it would be late already */
  slot_unref(keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, true, true));
  CHECK(nrunning == 0 && facts().next_attempt_ms == 10000);
  s.refresh_fraction = 0.9;
  slot_unref(keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, true, true));
  CHECK(nrunning == 0 && facts().next_attempt_ms == 20000);
  advance(19999);
  CHECK(nrunning == 0);
  advance(1);
  CHECK(nrunning == 1); /* in flight under the old policy */
  slot_unref(keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, true, true));
  succeed("two", 100);
  CHECK(reads_as("two") && started == 3);
  end();
}

static void a_token_that_loses_or_gains_its_fetch(void) {
  begin(true, true);
  succeed("one", 100);
  struct schedule s = plain();
  slot_unref(keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, false, true));
  CHECK(facts().next_attempt_ms < 0);
  advance(100000);
  CHECK(reads() == NULL && nrunning == 0);
  crowd_waits();
  CHECK(nrunning == 0);
  slot_unref(keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, true, false));
  deliver();
  CHECK(nrunning == 1);
  succeed("two", 100);
  crowd_was_woken_once(0);
  end();
}

static void a_fetch_that_is_gained_has_not_failed_yet(void) {
  begin(true, true);
  fail();
  fail_until_next_is_far();
  struct schedule s = plain();
  slot_unref(keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, false, false));
  slot_unref(keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, true, true));
  CHECK(only_fetch()->attempt == 1);
  succeed("one", 100);
  end();
}

static void a_slot_that_leaves_is_fetched_for_those_who_wait_alone(void) {
  begin(true, true);
  succeed("one", 100);
  keeper_leave(keeper, STR("api"), false);
  keeper_leave(keeper, STR("api"), true); /* there is no such family */
  advance(99999);
  CHECK(nrunning == 0 && reads_as("one"));
  advance(1);
  CHECK(nrunning == 0 && reads() == NULL);
  crowd_waits();
  fail();
  advance(facts().next_attempt_ms); /* they still wait: tried again */
  succeed("two", 100);
  crowd_was_woken_once(0);
  CHECK(slot_reject(api, 2) == SLOT_REFRESHES);
  deliver();
  succeed("three", 100);
  advance(90000);
  CHECK(nrunning == 0);
  slot_unref(adopt("api", true, true)); /* named again: its refresh is late */
  CHECK(only_fetch()->reason == FETCH_EXPIRING);
  succeed("four", 100);
  end();
}

static void finding_changes_nothing(void) {
  begin(true, true);
  fail();
  struct slot_facts before = facts();
  struct slot *s = keeper_find(keeper, STR("api"));
  CHECK(s == api && facts().next_attempt_ms == before.next_attempt_ms && facts().fetches == before.fetches);
  slot_unref(s);
  CHECK(keeper_find(keeper, STR("apa")) == NULL && keeper_find_family(keeper, STR("api")) == NULL);
  struct token_family *made = keeper_adopt_family(keeper, STR("tenant"), &schedule_default, true, 3, 1000);
  struct token_family *found = keeper_find_family(keeper, STR("tenant"));
  CHECK(found == made && family_max(found) == 3 && keeper_find(keeper, STR("tenant")) == NULL);
  family_unref(made);
  family_unref(found);
  end();
}

static void what_has_failed_is_tried_at_once_by_another_fetch(void) {
  begin(true, true);
  keeper_try_again(keeper); /* one is running */
  fail();
  fail_until_next_is_far();
  keeper_try_again(keeper);
  deliver();
  CHECK(only_fetch()->attempt > 5);
  succeed("one", 100);
  keeper_try_again(keeper); /* it has not failed */
  deliver();
  CHECK(nrunning == 0 && facts().next_attempt_ms == 80000);
  end();
}

static bool keep_other(void *arg, const char *name, bool family) {
  (void)arg;
  CHECK(!family);
  return strcmp(name, "other") == 0;
}

static void closing_wakes_waiters_once_and_drops_the_token(void) {
  begin(true, true);
  struct slot *other = adopt("other", false, false);
  crowd_waits();
  slot_wait_cancel(&crowd[5]);
  keeper_retain(keeper, keep_other, NULL);
  deliver();
  CHECK(nwoken == CROWD - 1 && woken[5] == 0 && last_status == UV_ECANCELED && state() == SLOT_CLOSED);
  CHECK(slot_wait(api, &crowd[5], &home, CROWD) == UV_ECANCELED);
  CHECK(slot_refresh_wait(api, &crowd[5], &home, CROWD) == UV_ECANCELED);
  struct fetch_result r = token_of("late", 100);
  CHECK(slot_set(api, &r) != NULL);
  succeed("late", 100); /* the fetch that was running */
  slot_refresh(api);
  slot_want(api);
  CHECK(slot_reject(api, 0) == SLOT_DAMPED);
  deliver();
  CHECK(reads() == NULL && nrunning == 0 && facts().generation == 0 && timer_at == INT64_MAX);
  struct slot *again = adopt("api", true, true); /* a policy that names it once more starts anew */
  CHECK(again != api && nrunning == 1);
  succeed("new", 100);
  slot_unref(again);
  slot_unref(other);
  end();
}

static void mail_under_way_to_a_keeper_that_ends_is_taken_back(void) {
  begin(true, false);
  crowd_init();
  CHECK(slot_wait(api, &crowd[0], &home, 1) == 0); /* posts, and nobody delivers */
  struct schedule s = plain();
  struct token_family *tenant = keeper_adopt_family(keeper, STR("tenant"), &s, true, 4, 60000);
  struct slot *acme = family_get(tenant, STR("acme"), vnow);
  CHECK(slot_wait(acme, &crowd[1], &home, 1) == 0);
  end();
  CHECK(nwoken == 2 && last_status == UV_ECANCELED);
  CHECK(family_get(tenant, STR("acme"), vnow) == NULL);
  family_unref(tenant);
  slot_unref(acme); /* outlives all of it */
}

/* --- cancelling --- */

static void a_cancelled_wait_is_not_woken(void) {
  begin(true, false);
  crowd_waits();
  for (unsigned i = 0; i < CROWD; i += 2) slot_wait_cancel(&crowd[i]);
  CHECK(facts().waiters == CROWD / 2);
  struct fetch *f = only_fetch();
  struct fetch_result r = token_of("one", 100);
  nrunning = 0;
  keeper_fetch_done(keeper, f, &r); /* posted, not delivered */
  for (unsigned i = 1; i < CROWD; i += 4) slot_wait_cancel(&crowd[i]);
  deliver();
  CHECK(nwoken == CROWD / 4);
  for (unsigned i = 0; i < CROWD; i++) CHECK(woken[i] == (i % 4 == 3));
  slot_wait_cancel(&crowd[3]); /* not waiting: fine */
  end();
}

static void on_done_waits_again(struct slot_waiter *w, int status) {
  (void)status;
  nwoken++;
  CHECK(slot_reject(api, facts().generation) == SLOT_REFRESHES);
  CHECK(slot_wait(api, w, &home, 10) == 0);
}

static void a_waiter_may_wait_again_when_woken(void) {
  begin(true, false);
  crowd_init();
  crowd[0].done = on_done_waits_again;
  CHECK(slot_wait(api, &crowd[0], &home, 10) == 0);
  deliver();
  succeed("one", 100);
  CHECK(nwoken == 1 && nrunning == 1 && facts().waiters == 1);
  slot_wait_cancel(&crowd[0]);
  fail();
  end();
}

static void a_host_may_answer_at_once(void) {
  begin(true, false);
  struct fetch_result bad = {.ok = false, .error = "no"}, good = token_of("one", 10);
  at_once = &bad;
  slot_want(api);
  advance(60000);
  CHECK(started > 4 && started < 60 && state() == SLOT_FAILING);
  at_once = &good;
  advance(30000);
  CHECK(reads_as("one"));
  unsigned before = started;
  advance(60000);
  CHECK(reads_as("one") && started - before >= 7 && started - before <= 8);
  end();
}

static void extra_fields_of_a_token_that_is_over_reach_the_fetch(void) {
  begin(true, true);
  struct fetch_result r = token_of("one", 10);
  r.nfields = 1;
  r.fields[0] = (struct token_field){STR("refresh_token"), STR("RRRR")};
  end_fetch(&r);
  advance(8000);
  fail();
  advance(60000);
  CHECK(reads() == NULL && str_eq(token_bytes(only_fetch()->previous, STR("refresh_token")), STR("RRRR")));
  fail();
  end();
}

static struct fetch_result in_vain(const char *refresh_token) {
  struct fetch_result r = {.ok = false, .error = "no access token", .nfields = 1};
  r.fields[0] = (struct token_field){STR("refresh_token"), str_of(refresh_token)};
  return r;
}
static bool next_has(const char *refresh_token) {
  const struct token *previous = only_fetch()->previous;
  return str_eq(token_bytes(previous, STR("refresh_token")), str_of(refresh_token));
}

static void extra_fields_of_a_fetch_in_vain_reach_the_next_ones_until_one_succeeds(void) {
  begin(true, true);
  struct fetch_result r = in_vain("R1");
  end_fetch(&r); /* the very first one */
  CHECK(state() == SLOT_FAILING && reads() == NULL);
  advance(1000);
  CHECK(next_has("R1") && token_bytes(only_fetch()->previous, (struct str){0}).n == 0);
  fail();
  advance(10000);
  CHECK(next_has("R1"));
  r = token_of("one", 100);
  r.nfields = 1;
  r.fields[0] = (struct token_field){STR("refresh_token"), STR("R2")};
  end_fetch(&r);
  CHECK(reads_as("one"));
  advance(80000);
  CHECK(next_has("R2"));
  r = token_of("two", -5); /* not only a failure that says so */
  r.nfields = 1;
  r.fields[0] = (struct token_field){STR("refresh_token"), STR("R3")};
  end_fetch(&r);
  CHECK(reads_as("one") && facts().generation == 1);
  advance(1000);
  CHECK(next_has("R3") && only_fetch()->previous->generation == 1 &&
        str_eq(token_bytes(only_fetch()->previous, (struct str){0}), STR("one")));
  succeed("three", 10);
  advance(8000);
  CHECK(token_bytes(only_fetch()->previous, STR("refresh_token")).p == NULL);
  r = in_vain("R4");
  end_fetch(&r);
  end(); /* while it is kept */
}

int main(void) {
  log_configure(&(struct log_settings){LOG_OFF, LOG_TEXT});
  RUN(a_slot_goes_from_empty_to_valid_to_refreshed);
  RUN(fetch_at_adoption_is_one_fetch);
  RUN(a_thousand_requests_cause_one_fetch_and_are_woken_once);
  RUN(waiters_stay_over_failed_attempts_and_cannot_shorten_the_backoff);
  RUN(a_refresh_by_hand_does_not_wait_for_the_backoff);
  RUN(a_valid_token_serves_while_refreshes_fail_and_until_it_expires);
  RUN(expiry_needs_no_event);
  RUN(expiry_while_a_fetch_hangs);
  RUN(a_slow_issuer_of_short_tokens_is_not_asked_in_a_tight_loop);
  RUN(results_without_a_usable_token_are_failures);
  RUN(a_fetch_that_hangs_makes_way_for_a_refresh_by_hand);
  RUN(a_fetch_that_may_have_spent_its_refresh_token_makes_no_way);
  RUN(a_refresh_that_comes_with_the_end_of_a_slow_fetch_joins_it);
  RUN(an_issuer_that_asks_for_time_is_left_alone);
  RUN(an_error_text_is_cut_and_cleaned);
  RUN(a_hundred_rejections_of_one_generation_cause_one_fetch);
  RUN(a_rejection_during_a_refresh_joins_it);
  RUN(a_rejection_while_failing_keeps_to_the_backoff);
  RUN(endless_rejections_are_damped_up_to_a_minute);
  RUN(an_accepted_generation_shortens_the_damping);
  RUN(a_path_that_refuses_every_generation_does_not_poison_the_others);
  RUN(many_paths_that_refuse_every_generation_damp_the_token_in_the_end);
  RUN(set_publishes_at_once_and_counts_on);
  RUN(a_rejection_takes_nothing_from_a_slot_without_a_fetch);
  RUN(set_is_refreshed_by_the_fetch);
  RUN(a_set_during_a_fetch_is_newer_than_its_outcome);
  RUN(a_set_token_that_is_rejected_makes_way_for_the_fetch);
  RUN(a_refresh_can_be_waited_for);
  RUN(a_reload_fetches_nothing);
  RUN(a_token_that_loses_or_gains_its_fetch);
  RUN(a_fetch_that_is_gained_has_not_failed_yet);
  RUN(a_slot_that_leaves_is_fetched_for_those_who_wait_alone);
  RUN(finding_changes_nothing);
  RUN(what_has_failed_is_tried_at_once_by_another_fetch);
  RUN(closing_wakes_waiters_once_and_drops_the_token);
  RUN(mail_under_way_to_a_keeper_that_ends_is_taken_back);
  RUN(a_cancelled_wait_is_not_woken);
  RUN(a_waiter_may_wait_again_when_woken);
  RUN(a_host_may_answer_at_once);
  RUN(extra_fields_of_a_token_that_is_over_reach_the_fetch);
  RUN(extra_fields_of_a_fetch_in_vain_reach_the_next_ones_until_one_succeeds);
  return 0;
}
