/* When tokens are refreshed, when attempts are repeated, and what an issuer's answer must be to become a token. */
#include "token/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "token/due.h"
#include "token/result.h"

static struct rng rng;

static void refresh_comes_at_the_fraction_less_jitter(void) {
  struct schedule s = schedule_default;
  int64_t low = INT64_MAX, high = 0;
  for (int i = 0; i < 10000; i++) {
    int64_t at = schedule_refresh_at(&s, 1000, 101000, &rng);
    if (at < low) low = at;
    if (at > high) high = at;
  }
  CHECK(low >= 79000 && low < 79100); /* a tenth of the remaining 20 s earlier at most */
  CHECK(high <= 81000 && high > 80900);
  s.jitter = 0;
  CHECK(schedule_refresh_at(&s, 1000, 101000, &rng) == 81000);
}

static void refresh_before_expiry_is_kept_when_it_fits(void) {
  struct schedule s = schedule_default;
  s.jitter = 0;
  s.refresh_before_ms = 60000;
  CHECK(schedule_refresh_at(&s, 0, 300000, &rng) == 240000);
  CHECK(schedule_refresh_at(&s, 0, 60000, &rng) == 48000); /* it would come at once, and again and again */
  CHECK(schedule_refresh_at(&s, 0, 1000, &rng) == 800);
}

static void refresh_is_in_the_life_whatever_the_settings(void) {
  const double odd[] = {-1, 0, 0.5, 1, 2, NAN, INFINITY, -INFINITY};
  for (size_t f = 0; f < 8; f++) {
    for (size_t j = 0; j < 8; j++) {
      for (int64_t life = 1; life < 100000; life = life * 3 + 1) {
        struct schedule s = {odd[f], (int64_t)rng_below(&rng, 2) * (life - 1), odd[j], 0, 0, 0};
        int64_t at = schedule_refresh_at(&s, 500, 500 + life, &rng);
        CHECK(at >= 500 && at < 500 + life);
      }
    }
  }
}

static void backoff_doubles_with_full_jitter_and_a_cap(void) {
  const struct schedule *s = &schedule_default;
  for (unsigned failures = 1; failures < 70; failures++) {
    int64_t cap = failures > 8 ? 30000 : 200 << (failures - 1), low = INT64_MAX, high = 0;
    if (cap > 30000) cap = 30000;
    for (int i = 0; i < 2000; i++) {
      int64_t ms = schedule_backoff(s, failures, &rng);
      CHECK(ms >= 100 && ms <= cap);
      if (ms < low) low = ms;
      if (ms > high) high = ms;
    }
    CHECK(low < 100 + (cap - 100) / 50 + 5 && high > cap - (cap - 100) / 50 - 5); /* uniform over all of it */
  }
}

static void backoff_makes_progress_whatever_the_settings(void) {
  struct schedule s = schedule_default;
  const int64_t odd[] = {INT64_MIN, -1, 0, 1, 2, 3, 1000, INT64_MAX};
  for (size_t i = 0; i < 8; i++) {
    for (size_t j = 0; j < 8; j++) {
      s.backoff_min_ms = odd[i];
      s.backoff_max_ms = odd[j];
      for (unsigned failures = 1; failures < 100; failures += 7) CHECK(schedule_backoff(&s, failures, &rng) >= 1);
    }
  }
}

static void due_heap_gives_the_earliest_first(void) {
  enum { N = 500 };
  static struct due v[N];
  struct due_heap h;
  due_init(&h);
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < N; i++) {
      bool remove = rng_below(&rng, 5) == 0;
      due_set(&h, &v[i], remove ? INT64_MAX : (int64_t)rng_below(&rng, 1000));
    }
    size_t in = 0;
    for (int i = 0; i < N; i++) in += v[i].place != 0;
    CHECK(in == h.n);
    CHECK(due_pop(&h, due_first(&h) - 1) == NULL);
    int64_t last = 0;
    for (size_t i = 0; i < in / 2; i++) {
      struct due *d = due_pop(&h, 1000);
      CHECK(d != NULL && d->at >= last && d->place == 0);
      last = d->at;
    }
  }
  due_fini(&h);
  CHECK(due_first(&h) == INT64_MAX);
}

/* --- results --- */

static const struct result_times TIMES = {.sent_at = 10000, .now = 12000, .wall = 1700000000000, .leeway_ms = 1000};

static struct fetch_result good(void) {
  return (struct fetch_result){.ok = true, .value = STR("SECRETVALUE"), .has_expires_in = true, .expires_in = 100};
}
static const char *refusal(const struct fetch_result *r) {
  const char *why = NULL;
  struct token *t = result_token(r, &TIMES, &why);
  CHECK(t == NULL && why != NULL && why[0] != '\0');
  CHECK(strstr(why, "SECRET") == NULL);
  return why;
}
static int64_t expiry(const struct fetch_result *r) {
  const char *why = NULL;
  struct token *t = result_token(r, &TIMES, &why);
  CHECK(t != NULL && why == NULL && t->obtained_at == 10000);
  int64_t at = t->expires_at;
  token_unref(t);
  return at;
}

static void expires_in_counts_from_the_sending_less_leeway(void) {
  struct fetch_result r = good();
  CHECK(expiry(&r) == 10000 + 100000 - 1000);
  r.expires_in = 5;
  CHECK(expiry(&r) == 10000 + 5000 - 500); /* a tenth of the life at most */
}

static void expires_at_is_carried_over_from_the_wall_clock(void) {
  struct fetch_result r = good();
  r.has_expires_in = false;
  r.has_expires_at = true;
  r.expires_at = 1700000060;
  CHECK(expiry(&r) == 12000 + 60000 - 1000);
  r.has_expires_in = true; /* both: the earlier */
  CHECK(expiry(&r) == 12000 + 60000 - 1000);
  r.expires_in = 20;
  CHECK(expiry(&r) == 10000 + 20000 - 1000);
}

static int64_t renewal(double refresh_expires_in) {
  struct fetch_result r = good();
  const char *why = NULL;
  r.refresh_expires_in = refresh_expires_in;
  struct token *t = result_token(&r, &TIMES, &why);
  CHECK(t != NULL && t->expires_at == 10000 + 100000 - 1000);
  int64_t at = t->renew_by;
  token_unref(t);
  return at;
}
static void what_a_refresh_needs_may_end_first(void) {
  CHECK(renewal(20) == 10000 + 20000 - 1000);
  CHECK(renewal(4) == 10000 + 4000 - 400);
  CHECK(renewal(0.5) == 10000 + 450); /* over already: due at once */
  const double no_bound[] = {0, -1, NAN, INFINITY, 1e300, 500};
  for (size_t i = 0; i < sizeof no_bound / sizeof *no_bound; i++) CHECK(renewal(no_bound[i]) == 10000 + 100000 - 1000);
}

static void lifetimes_that_are_none_are_refused(void) {
  const double bad[] = {NAN, INFINITY, -INFINITY, 0, -0.0, -1, -1e300, 1e-9, 0.0005, 2.0, 2.2225};
  struct fetch_result r = good();
  r.has_expires_in = false;
  refusal(&r);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) { /* the last two: over when it arrives */
    r = good();
    r.expires_in = bad[i];
    refusal(&r);
    r = good();
    r.has_expires_at = true; /* a good expires_in does not make up for it */
    r.expires_at = bad[i];
    refusal(&r);
  }
  r = good();
  r.has_expires_at = true;
  r.expires_at = 1700000000;
  refusal(&r);
}

static void a_life_without_an_end_is_ten_years(void) {
  const int64_t most = INT64_C(10) * 366 * 86400 * 1000;
  const double in[] = {11.0 * 366 * 86400, 2147483647, 4294967295, 9223372036854775807.0, 1e300};
  const double at[] = {2147483647, 253402300799, 9223372036854775807.0, 1e300};
  for (size_t i = 0; i < sizeof in / sizeof *in; i++) {
    struct fetch_result r = good();
    r.expires_in = in[i];
    CHECK(expiry(&r) == 10000 + most - 1000);
  }
  for (size_t i = 1; i < sizeof at / sizeof *at; i++) {
    struct fetch_result r = good();
    r.has_expires_in = false;
    r.has_expires_at = true;
    r.expires_at = at[i];
    if (i > 1) CHECK(expiry(&r) == 12000 + most - 1000);
  }
}

static void another_unit_is_asked_about(void) {
  const double milliseconds[] = {1700000060000.0, 1700000060000000.0, 1700000060000000000.0};
  struct fetch_result r = good();
  for (size_t i = 0; i < 3; i++) {
    r = good();
    r.has_expires_at = true;
    r.expires_at = milliseconds[i];
    CHECK(strstr(refusal(&r), "milliseconds?") != NULL);
  }
  r = good();
  r.has_expires_at = true;
  r.expires_at = 3600;
  CHECK(strstr(refusal(&r), "a length?") != NULL);
  r = good();
  r.expires_in = 1700003600;
  CHECK(strstr(refusal(&r), "expires_at") != NULL);
}

static void an_issuer_that_asks_for_time_gets_it_within_a_bound(void) {
  struct rng r;
  rng_seed(&r, 7);
  CHECK(schedule_retry_after(0, &r) == 0 && schedule_retry_after(-5, &r) == 0);
  for (int i = 0; i < 1000; i++) {
    int64_t ms = schedule_retry_after(5000, &r);
    CHECK(ms >= 5000 && ms <= 5500);
  }
  CHECK(schedule_retry_after(INT64_MAX, &r) <= 66 * 60 * 1000);
}

/* Bytes that are no text may be a key's, and are refused where a header is written. */
static void values_that_are_nothing_or_text_with_a_line_end_are_refused(void) {
  const struct str bad[] = {STR(""), {NULL, 0}, STR("SECRET\r"), STR("SECRET \r\n"), STR("\nSECRET"), STR(" \n")};
  const struct str good_ones[] = {STR("SECRET\nx"), STR("SECRET\0"), STR("\x01\n"), STR(" SECRET\t"), STR("\xff\xfe")};
  for (size_t i = 0; i < sizeof good_ones / sizeof *good_ones; i++) {
    struct fetch_result r = good();
    r.value = good_ones[i];
    CHECK(expiry(&r) > 0);
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct fetch_result r = good();
    r.value = bad[i];
    refusal(&r);
  }
}

static void sizes_are_bounded(void) {
  char *big = malloc(TOKEN_BYTES_MAX + 1);
  memset(big, 'S', TOKEN_BYTES_MAX + 1);
  struct fetch_result r = good();
  r.value = (struct str){big, TOKEN_BYTES_MAX + 1};
  CHECK(strstr(refusal(&r), "64 KiB") != NULL);
  r.value.n = TOKEN_BYTES_MAX;
  CHECK(expiry(&r) > 0);
  r.nfields = 1;
  r.fields[0] = (struct token_field){STR("f"), STR("")};
  refusal(&r);
  r = good();
  r.nfields = 1;
  r.fields[0] = (struct token_field){STR(""), STR("SECRET")};
  refusal(&r);
  r.nfields = TOKEN_FIELDS_MAX + 1;
  refusal(&r);
  free(big);
}

static void a_failure_says_why(void) {
  struct fetch_result r = {.ok = false, .error = "policy.lua:3: no route"};
  CHECK(strcmp(refusal(&r), "policy.lua:3: no route") == 0);
  r.error = NULL;
  refusal(&r);
  r.error = "";
  refusal(&r);
}

static void a_token_finds_its_fields_and_is_wiped(void) {
  struct token_field fields[2] = {{STR("refresh_token"), STR("RRRRRRRR")}, {STR("empty"), STR("")}};
  struct token *t = token_new(STR("VVVVVVVV"), fields, 2);
  CHECK(str_eq(token_bytes(t, (struct str){NULL, 0}), STR("VVVVVVVV")));
  CHECK(str_eq(token_bytes(t, STR("refresh_token")), STR("RRRRRRRR")));
  CHECK(token_bytes(t, STR("empty")).p != NULL && token_bytes(t, STR("empty")).n == 0);
  CHECK(token_bytes(t, STR("refresh")).p == NULL && token_bytes(t, STR("")).p == NULL);
  const char *value = t->value.p, *field = t->fields[0].bytes.p;
  token_ref(t);
  token_unref(t);
  CHECK(memcmp(value, "VVVVVVVV", 8) == 0);
  token_unref(t); /* small secret memory stays mapped: look behind the last holder */
  for (int i = 0; i < 8; i++) CHECK(value[i] == 0 && field[i] == 0);
}

int main(void) {
  rng_seed(&rng, 7);
  RUN(refresh_comes_at_the_fraction_less_jitter);
  RUN(refresh_before_expiry_is_kept_when_it_fits);
  RUN(refresh_is_in_the_life_whatever_the_settings);
  RUN(backoff_doubles_with_full_jitter_and_a_cap);
  RUN(backoff_makes_progress_whatever_the_settings);
  RUN(due_heap_gives_the_earliest_first);
  RUN(expires_in_counts_from_the_sending_less_leeway);
  RUN(expires_at_is_carried_over_from_the_wall_clock);
  RUN(what_a_refresh_needs_may_end_first);
  RUN(lifetimes_that_are_none_are_refused);
  RUN(a_life_without_an_end_is_ten_years);
  RUN(another_unit_is_asked_about);
  RUN(an_issuer_that_asks_for_time_gets_it_within_a_bound);
  RUN(values_that_are_nothing_or_text_with_a_line_end_are_refused);
  RUN(sizes_are_bounded);
  RUN(a_failure_says_why);
  RUN(a_token_finds_its_fields_and_is_wiped);
  return 0;
}
