/* What a failed fetch says of the next one, on a virtual clock: that it cannot succeed, or that what it needs is spent. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/provenance.h"
#include "keeper_world.h"
#include "token/slot_internal.h"

static const int64_t START = 5000000, MINUTE = 60 * 1000;

static int64_t host_wall(void *ctx) {
  (void)ctx;
  return 1700000000000 + vnow;
}

static struct slot *api;

static struct schedule plain(void) {
  struct schedule s = schedule_default;
  s.jitter = 0;
  s.leeway_ms = 0;
  return s;
}
static void begin(void) {
  struct schedule s = plain();
  world_begin(START, &(struct keeper_host){NULL, host_now, host_wall, host_start, host_timer, NULL, NULL});
  api = keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, true, false);
  slot_use_clock(api, vclock);
  slot_unref(keeper_adopt(keeper, STR("api"), (struct str){NULL, 0}, &s, true, true));
}
static void end(void) {
  slot_unref(api);
  world_end();
}

static struct slot_facts facts(void) {
  struct slot_facts f;
  slot_facts(api, vnow, &f);
  return f;
}

/* `provenance`: what the fetch has read, a reference that becomes its own. */
static void end_fetch(const struct fetch_result *r, struct provenance *provenance) {
  CHECK(nrunning == 1);
  struct fetch *f = running[0];
  nrunning = 0;
  f->provenance = provenance;
  keeper_fetch_done(keeper, f, r);
  deliver();
}
static void fail(enum fetch_outlook outlook, double retry_after, struct provenance *provenance) {
  end_fetch(
      &(struct fetch_result){.ok = false, .error = "no such client", .outlook = outlook, .retry_after = retry_after},
      provenance);
}
static void succeed(double expires_in) {
  struct fetch_result r = {.ok = true, .value = STR("v"), .has_expires_in = true, .expires_in = expires_in};
  end_fetch(&r, NULL);
}

static int last_status;
static unsigned ndone;
static void on_done(struct slot_waiter *w, int status) {
  (void)w;
  last_status = status;
  ndone++;
}
static int waits(struct slot_waiter *w, int64_t ms) {
  memset(w, 0, sizeof *w);
  w->done = on_done;
  w->until = vnow + ms;
  return slot_wait(api, w, &home, 10);
}

/* --- how often --- */

static void a_permanent_failure_is_tried_every_five_minutes_at_most(void) {
  begin();
  fail(OUTLOOK_PERMANENT, 0, NULL);
  CHECK(facts().outlook == OUTLOOK_PERMANENT && facts().permanent_ms == 0);
  for (unsigned i = 1; i < 5; i++) {
    int64_t next = facts().next_attempt_ms;
    CHECK(next >= 5 * MINUTE && next <= 5 * MINUTE + 30 * 1000);
    advance(next - 1);
    CHECK(nrunning == 0 && started == i);
    advance(1);
    CHECK(nrunning == 1 && started == i + 1);
    fail(OUTLOOK_PERMANENT, 0, NULL);
  }
  CHECK(facts().permanent_ms > 20 * MINUTE); /* since the first of them */
  end();
}

static void an_issuer_that_asks_for_longer_than_that_gets_it(void) {
  begin();
  fail(OUTLOOK_PERMANENT, 1800, NULL);
  CHECK(facts().next_attempt_ms >= 30 * MINUTE && facts().next_attempt_ms <= 33 * MINUTE);
  end();
}

static void what_is_spent_is_not_tried_again(void) {
  begin();
  fail(OUTLOOK_SPENT, 0, NULL);
  CHECK(facts().outlook == OUTLOOK_SPENT && facts().next_attempt_ms == -1);
  CHECK(slot_retry_after(api, vnow) == SLOT_SPENT_RETRY_S);
  struct slot_waiter w;
  CHECK(waits(&w, 100000) == ERR_TOKEN_MISSING);
  advance(48 * 60 * MINUTE);
  CHECK(nrunning == 0 && started == 1);
  struct schedule s = plain();
  s.backoff_max_ms = 1000; /* a reload that only changes the schedule plans nothing */
  slot_configure(api, &s, true);
  advance(48 * 60 * MINUTE);
  CHECK(nrunning == 0 && started == 1);
  slot_refresh(api);
  deliver();
  CHECK(nrunning == 1);
  succeed(100);
  CHECK(facts().valid && facts().outlook == OUTLOOK_OPEN && facts().permanent_ms == -1);
  end();
}

static void a_failure_of_another_kind_ends_it(void) {
  begin();
  fail(OUTLOOK_PERMANENT, 0, NULL);
  slot_refresh(api);
  deliver();
  fail(OUTLOOK_OPEN, 0, NULL);
  CHECK(facts().outlook == OUTLOOK_OPEN && facts().next_attempt_ms <= 30 * 1000);
  end();
}

static void a_token_at_hand_serves_meanwhile(void) {
  begin();
  succeed(1000);
  advance(800 * 1000);
  fail(OUTLOOK_PERMANENT, 0, NULL);
  CHECK(facts().valid && facts().outlook == OUTLOOK_PERMANENT);
  CHECK(waits(&(struct slot_waiter){0}, 1000) == 1);
  end();
}

/* --- what ends it --- */

static void a_changed_policy_ends_it(void) {
  begin();
  for (int i = 0; i < 2; i++) {
    fail(i == 0 ? OUTLOOK_PERMANENT : OUTLOOK_SPENT, 0, NULL);
    CHECK(nrunning == 0);
    keeper_try_again(keeper);
    CHECK(facts().outlook == OUTLOOK_OPEN);
    deliver();
    CHECK(nrunning == 1);
  }
  fail(OUTLOOK_SPENT, 0, NULL);
  struct token_bond bond = {.made_of = {7, 8}}; /* no slot was bound before: the first one changes nothing */
  slot_bind(api, &bond);
  deliver();
  CHECK(nrunning == 0);
  bond.made_of[0] = 9;
  slot_bind(api, &bond);
  deliver();
  CHECK(nrunning == 1 && facts().outlook == OUTLOOK_OPEN);
  succeed(10);
  end();
}

static void write_file(const char *path, const char *text) {
  FILE *f = fopen(path, "w");
  CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}
static struct provenance *of_file(const char *path) {
  struct provenance *o = NULL;
  provenance_add_path(&o, path);
  return o;
}

static void a_changed_file_ends_it(void) {
  char path[] = "/tmp/jeton-permanent-XXXXXX";
  int fd = mkstemp(path);
  CHECK(fd >= 0 && close(fd) == 0);
  begin();
  fail(OUTLOOK_SPENT, 0, of_file(path));
  advance(10 * MINUTE);
  CHECK(nrunning == 0);
  write_file(path, "another secret");
  advance(3000);
  CHECK(nrunning == 1 && facts().outlook == OUTLOOK_OPEN);
  fail(OUTLOOK_PERMANENT, 0, of_file(path));
  CHECK(unlink(path) == 0);
  advance(3000);
  CHECK(nrunning == 1);
  fail(OUTLOOK_PERMANENT, 0, of_file(path)); /* which is not there: it may come */
  advance(2 * MINUTE);
  CHECK(nrunning == 0);
  write_file(path, "it has come");
  advance(3000);
  CHECK(nrunning == 1);
  fail(OUTLOOK_OPEN, 0, of_file(path)); /* with a hope of its own the backoff counts */
  write_file(path, "it has come once more");
  CHECK(api->provenance == NULL);
  (void)unlink(path);
  end();
}

static void a_moved_mark_ends_it(void) {
  struct provenance_mark *m = provenance_mark_new();
  struct provenance *o = NULL;
  begin();
  provenance_add_mark(&o, m);
  fail(OUTLOOK_PERMANENT, 0, o);
  advance(MINUTE);
  CHECK(nrunning == 0);
  provenance_mark_move(m);
  advance(3000);
  CHECK(nrunning == 1);
  fail(OUTLOOK_OPEN, 0, NULL);
  provenance_mark_unref(m);
  end();
}

/* --- a token that is a secret --- */

static void reads(const char *value, struct provenance *provenance) {
  end_fetch(&(struct fetch_result){.ok = true, .lasts = true, .value = str_of(value)}, provenance);
}

static void a_constant_token_lasts_and_is_read_when_its_file_changes(void) {
  char path[] = "/tmp/jeton-constant-XXXXXX";
  int fd = mkstemp(path);
  CHECK(fd >= 0 && close(fd) == 0);
  begin();
  slot_set_traits(api, SLOT_CONSTANT);
  reads("one", of_file(path));
  CHECK(facts().valid && facts().lasts && facts().constant && facts().generation == 1);
  advance((int64_t)1000 * 60 * MINUTE);
  CHECK(facts().valid && nrunning == 0 && facts().next_attempt_ms == -1);
  write_file(path, "one");
  advance(3000);
  CHECK(nrunning == 1 && facts().valid && running[0]->reason == FETCH_CHANGED);
  reads("one", of_file(path));
  CHECK(facts().generation == 1 && facts().fetches == 1 && nrunning == 0);
  write_file(path, "two!");
  advance(3000);
  reads("two!", of_file(path));
  CHECK(facts().generation == 2 && facts().fetches == 2 && facts().lasts);
  slot_refresh(api);
  deliver();
  reads("two!", of_file(path));
  CHECK(facts().generation == 2 && facts().next_attempt_ms == -1);
  (void)unlink(path);
  end();
}

static void a_refused_constant_token_stays_unless_its_file_is_another(void) {
  char path[] = "/tmp/jeton-constant-XXXXXX";
  int fd = mkstemp(path);
  CHECK(fd >= 0 && close(fd) == 0);
  begin();
  slot_set_traits(api, SLOT_CONSTANT);
  reads("one", of_file(path));
  CHECK(slot_reject(api, 1) == SLOT_DAMPED);
  CHECK(facts().valid && facts().rejections == 1);
  write_file(path, "another");
  CHECK(slot_reject(api, 1) == SLOT_REFRESHES);
  CHECK(!facts().valid);
  deliver();
  CHECK(nrunning == 1);
  reads("another", of_file(path));
  CHECK(facts().valid && facts().generation == 2);
  (void)unlink(path);
  end();
}

/* --- who waits --- */

static void requests_are_answered_at_once_when_no_attempt_comes_in_time(void) {
  struct slot_waiter patient, hasty, late;
  begin();
  ndone = 0;
  CHECK(waits(&patient, 10 * MINUTE) == 0 && waits(&hasty, 2000) == 0);
  fail(OUTLOOK_PERMANENT, 0, NULL);
  deliver();
  CHECK(ndone == 1 && last_status == ERR_TOKEN_MISSING && hasty.slot == NULL && patient.slot != NULL);
  CHECK(waits(&late, 2000) == ERR_TOKEN_MISSING && late.slot == NULL);
  advance(facts().next_attempt_ms - 1000);
  CHECK(waits(&late, 2000) == 0); /* the next attempt is near */
  advance(1000);
  CHECK(nrunning == 1);
  CHECK(waits(&hasty, 100) == 0); /* it may end well at any moment */
  succeed(100);
  deliver();
  CHECK(ndone == 4 && last_status == 0);
  end();
}

static void a_long_backoff_is_not_waited_for_either(void) {
  struct slot_waiter w;
  begin();
  fail(OUTLOOK_OPEN, 60, NULL);
  CHECK(waits(&w, 2000) == ERR_TOKEN_MISSING && waits(&w, 0) == ERR_TOKEN_MISSING);
  memset(&w, 0, sizeof w);
  w.done = on_done;
  CHECK(slot_wait(api, &w, &home, 10) == 0); /* it did not say for how long */
  slot_wait_cancel(&w);
  slot_refresh(api);
  CHECK(waits(&w, 2000) == 0); /* one by hand is about to begin */
  slot_wait_cancel(&w);
  deliver();
  fail(OUTLOOK_OPEN, 0, NULL);
  end();
}

/* A family's slot is tried for a request alone: one that is answered at once is a reason all the same. */
static void a_familys_request_counts_though_it_is_answered_at_once(void) {
  begin();
  struct schedule s = plain();
  struct slot_waiter w = {.done = on_done};
  slot_refresh(api);
  deliver();
  succeed(1e6);
  struct token_family *f = keeper_adopt_family(keeper, STR("tenant"), &s, true, 10, 1000 * MINUTE);
  struct slot *own = api;
  api = family_get(f, STR("acme"), vnow);
  slot_use_clock(api, vclock);
  CHECK(waits(&w, 1000) == 0);
  deliver();
  slot_wait_cancel(&w);
  fail(OUTLOOK_PERMANENT, 0, NULL);
  advance(10 * MINUTE);
  CHECK(nrunning == 0); /* nobody asks */
  CHECK(waits(&w, 1000) == 0);
  deliver();
  CHECK(nrunning == 1);
  slot_wait_cancel(&w);
  fail(OUTLOOK_PERMANENT, 0, NULL);
  CHECK(waits(&w, 1000) == ERR_TOKEN_MISSING);
  advance(6 * MINUTE);
  CHECK(nrunning == 1); /* for that one */
  fail(OUTLOOK_PERMANENT, 0, NULL);
  slot_unref(api);
  family_unref(f);
  api = own;
  end();
}

int main(void) {
  log_configure(&(struct log_settings){LOG_OFF, LOG_TEXT});
  RUN(a_permanent_failure_is_tried_every_five_minutes_at_most);
  RUN(an_issuer_that_asks_for_longer_than_that_gets_it);
  RUN(what_is_spent_is_not_tried_again);
  RUN(a_failure_of_another_kind_ends_it);
  RUN(a_token_at_hand_serves_meanwhile);
  RUN(a_changed_policy_ends_it);
  RUN(a_changed_file_ends_it);
  RUN(a_moved_mark_ends_it);
  RUN(a_constant_token_lasts_and_is_read_when_its_file_changes);
  RUN(a_refused_constant_token_stays_unless_its_file_is_another);
  RUN(requests_are_answered_at_once_when_no_attempt_comes_in_time);
  RUN(a_long_backoff_is_not_waited_for_either);
  RUN(a_familys_request_counts_though_it_is_answered_at_once);
  return 0;
}
