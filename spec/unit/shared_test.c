/* The store that all workers share: what it keeps, how long, what goes first when it is full, and that eight threads at once lose nothing.
 * Meant to be run with -fsanitize=thread as well. */
#include "base/shared.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rand.h"
#include "check.h"

static struct registry *names;

static struct shared *new_store(uint64_t max) { return shared_of(named_get(names, &shared_kind, STR("store"), &max)); }
static void drop(struct shared *s) {
  uint64_t any = SHARED_BYTES_MIN;
  struct named *n = named_get(names, &shared_kind, STR("store"), &any);
  CHECK(shared_of(n) == s);
  named_unref(n);
  named_unref(n);
}

static struct shared_value boolean(bool b) { return (struct shared_value){.type = SHARED_BOOLEAN, .as.boolean = b}; }
static struct shared_value integer(int64_t i) { return (struct shared_value){.type = SHARED_INTEGER, .as.integer = i}; }
static struct shared_value number(double d) { return (struct shared_value){.type = SHARED_NUMBER, .as.number = d}; }
static struct shared_value text(const char *z) {
  return (struct shared_value){.type = SHARED_STRING, .as.string = str_of(z)};
}

static bool put(struct shared *s, const char *key, struct shared_value v) {
  return shared_set(s, str_of(key), &v, SHARED_FOR_EVER, 0) == SHARED_DONE;
}
static bool has(struct shared *s, const char *key, int64_t now) {
  struct shared_value v;
  return shared_get(s, str_of(key), now, &v, NULL, 0);
}
static struct shared_facts facts(struct shared *s) {
  struct shared_facts f;
  shared_facts(s, &f);
  return f;
}

static void a_value_comes_back_as_it_went_in(void) {
  struct shared *s = new_store(1 << 20);
  struct shared_value v;
  char room[8];
  CHECK(!has(s, "a", 0));
  CHECK(put(s, "a", boolean(true)) && shared_get(s, STR("a"), 0, &v, room, 8));
  CHECK(v.type == SHARED_BOOLEAN && v.as.boolean);
  CHECK(put(s, "a", integer(INT64_MIN)) && shared_get(s, STR("a"), 0, &v, room, 8));
  CHECK(v.type == SHARED_INTEGER && v.as.integer == INT64_MIN);
  CHECK(put(s, "a", number(0.5)) && shared_get(s, STR("a"), 0, &v, room, 8));
  CHECK(v.type == SHARED_NUMBER && v.as.number == 0.5);
  CHECK(put(s, "a", text("some")) && shared_get(s, STR("a"), 0, &v, room, 8));
  CHECK(v.type == SHARED_STRING && str_eq(v.as.string, STR("some")) && v.as.string.p == room);
  CHECK(put(s, "a", text("more than room")) && shared_get(s, STR("a"), 0, &v, room, 8));
  CHECK(v.as.string.n == 14 && memcmp(room, "some", 4) == 0); /* tells the size, copies nothing */
  CHECK(put(s, "a", text("")) && shared_get(s, STR("a"), 0, &v, room, 8) && v.as.string.n == 0);
  CHECK(facts(s).entries == 1);
  drop(s);
}

static void a_value_ends_when_its_time_is_over(void) {
  struct shared *s = new_store(1 << 20);
  struct shared_value v = integer(1);
  CHECK(shared_set(s, STR("a"), &v, 100, 0) == SHARED_DONE);
  CHECK(has(s, "a", 99) && !has(s, "a", 100));
  CHECK(facts(s).entries == 0 && facts(s).bytes == 0 && facts(s).evictions == 0);
  CHECK(shared_set(s, STR("a"), &v, 100, 0) == SHARED_DONE);
  CHECK(shared_add(s, STR("a"), &v, 300, 99) == SHARED_REFUSED);
  CHECK(shared_add(s, STR("a"), &v, 300, 100) == SHARED_DONE);
  CHECK(has(s, "a", 299));
  CHECK(put(s, "a", v) && has(s, "a", INT64_MAX - 1)); /* written without an end: it has none any more */
  drop(s);
}

static void a_counter_starts_at_nothing_and_keeps_its_end(void) {
  struct shared *s = new_store(1 << 20);
  for (int i = 1; i <= 3; i++) {
    struct shared_value v = integer(2);
    CHECK(shared_incr(s, STR("n"), &v, 100 + i, i) == SHARED_DONE && v.type == SHARED_INTEGER && v.as.integer == 2 * i);
  }
  CHECK(has(s, "n", 100) && !has(s, "n", 101));
  struct shared_value half = number(0.5), wrap = integer(1), none = integer(1);
  CHECK(put(s, "n", integer(1)) && shared_incr(s, STR("n"), &half, 0, 0) == SHARED_DONE);
  CHECK(half.type == SHARED_NUMBER && half.as.number == 1.5);
  CHECK(put(s, "n", integer(INT64_MAX)) && shared_incr(s, STR("n"), &wrap, 0, 0) == SHARED_DONE);
  CHECK(wrap.as.integer == INT64_MIN);
  CHECK(put(s, "n", text("1")) && shared_incr(s, STR("n"), &none, 0, 0) == SHARED_NO_NUMBER);
  drop(s);
}

static enum shared_outcome cas(struct shared *s, const struct shared_value *from, const struct shared_value *to) {
  return shared_cas(s, STR("a"), from, to, SHARED_FOR_EVER, 0);
}

static void a_swap_wants_the_value_that_is_there(void) {
  struct shared *s = new_store(1 << 20);
  struct shared_value one = integer(1), uno = number(1), two = text("2"), zwei = text("zwei"), yes = boolean(true);
  CHECK(cas(s, &one, &two) == SHARED_REFUSED && cas(s, NULL, &one) == SHARED_DONE);
  CHECK(cas(s, NULL, &two) == SHARED_REFUSED && cas(s, &two, &one) == SHARED_REFUSED &&
        cas(s, &yes, &one) == SHARED_REFUSED);
  CHECK(cas(s, &uno, &two) == SHARED_DONE && cas(s, &zwei, &one) == SHARED_REFUSED &&
        cas(s, &two, &uno) == SHARED_DONE);
  CHECK(cas(s, &one, &yes) == SHARED_DONE && cas(s, &yes, NULL) == SHARED_DONE && !has(s, "a", 0));
  struct shared_value large = integer(INT64_MAX), near = number(0x1p63);
  CHECK(put(s, "a", large) && cas(s, &near, &one) == SHARED_REFUSED); /* they differ by one, whatever a double says */
  CHECK(shared_delete(s, STR("a"), 0) == SHARED_DONE && shared_delete(s, STR("a"), 0) == SHARED_REFUSED);
  CHECK(facts(s).entries == 0 && facts(s).bytes == 0);
  drop(s);
}

/* Entries whose key and text have always the same size: how many fit is known. */
static void put_numbered(struct shared *s, unsigned i, size_t size) {
  char key[9], bytes[4096];
  (void)snprintf(key, sizeof key, "%08u", i);
  memset(bytes, 'x', sizeof bytes);
  struct shared_value v = {.type = SHARED_STRING, .as.string = {bytes, size}};
  CHECK(shared_set(s, str_of(key), &v, SHARED_FOR_EVER, 0) == SHARED_DONE);
  CHECK(facts(s).bytes <= facts(s).max);
}

static bool has_numbered(struct shared *s, unsigned i) {
  char key[9];
  (void)snprintf(key, sizeof key, "%08u", i);
  return has(s, key, 0);
}

static void what_was_used_longest_ago_goes_for_what_is_new(void) {
  struct shared *s = new_store(64 * 1024);
  unsigned n = 0;
  while (facts(s).evictions == 0) put_numbered(s, n++, 100);
  unsigned fit = n - 1;
  CHECK(fit > 200 && !has_numbered(s, 0) && facts(s).entries == fit);
  CHECK(has_numbered(s, 1) && has_numbered(s, 2)); /* used */
  put_numbered(s, n++, 100);
  put_numbered(s, n++, 100);
  CHECK(has_numbered(s, 1) && has_numbered(s, 2) && !has_numbered(s, 3) && !has_numbered(s, 4) && has_numbered(s, 5));
  CHECK(facts(s).evictions == 3 && facts(s).entries == fit);
  for (unsigned i = 0; i < fit; i++) put_numbered(s, n++, 100);
  for (unsigned i = 0; i < n; i++) CHECK(has_numbered(s, i) == (i >= n - fit)); /* exactly the newest, over all parts */
  drop(s);
}

static void writing_what_fits_evicts_nothing(void) {
  struct shared *s = new_store(64 * 1024);
  for (unsigned i = 0; i < 200; i++) put_numbered(s, i, 100);
  for (unsigned round = 0; round < 10; round++) {
    for (unsigned i = 0; i < 200; i++) put_numbered(s, i, round % 2 == 0 ? 90 : 100);
  }
  CHECK(facts(s).evictions == 0 && facts(s).entries == 200);
  drop(s);
}

static void one_value_may_fill_the_store_and_no_more(void) {
  struct shared *s = new_store(SHARED_BYTES_MIN);
  for (unsigned i = 0; i < 20; i++) put_numbered(s, i, 10);
  put_numbered(s, 100, 3900);
  CHECK(has_numbered(s, 100) && facts(s).entries == 1);
  char bytes[SHARED_BYTES_MIN] = {0};
  struct shared_value v = {.type = SHARED_STRING, .as.string = {bytes, sizeof bytes}};
  CHECK(shared_set(s, STR("a"), &v, SHARED_FOR_EVER, 0) == SHARED_TOO_LARGE);
  CHECK(shared_cas(s, STR("a"), NULL, &v, SHARED_FOR_EVER, 0) == SHARED_TOO_LARGE);
  CHECK(has_numbered(s, 100) && facts(s).entries == 1);
  drop(s);
}

static void settings_come_into_force_with_their_first_use(void) {
  struct shared *s = new_store(1 << 20);
  uint64_t old = shared_version(s);
  shared_configure(s, old, 1 << 20);
  for (unsigned i = 0; i < 4000; i++) put_numbered(s, i, 100);
  uint64_t refused = shared_version(s), lower = shared_version(s), higher = shared_version(s);
  (void)refused; /* of a policy that never ran: nothing has changed */
  CHECK(facts(s).max == 1 << 20 && facts(s).entries == 4000);
  shared_configure(s, lower, SHARED_BYTES_MIN);
  shared_configure(s, old, 1 << 20); /* the old policy's last request */
  CHECK(facts(s).max == SHARED_BYTES_MIN && facts(s).entries == 4000);
  unsigned i = 4000;
  for (uint64_t before; (before = facts(s).bytes) > SHARED_BYTES_MIN;) { /* in portions: no write pays for all of it */
    struct shared_value v = integer(1);
    char key[16];
    (void)snprintf(key, sizeof key, "%u", i++);
    CHECK(shared_set(s, str_of(key), &v, SHARED_FOR_EVER, 0) == SHARED_DONE);
    CHECK(facts(s).bytes < before && before - facts(s).bytes < 80 * 1024);
  }
  shared_configure(s, higher, 8 << 20);
  for (i = 0; i < 20000; i++) put_numbered(s, i, 100);
  for (i = 0; i < 20000; i++) CHECK(has_numbered(s, i));
  drop(s);
}

struct seen {
  unsigned n;
  bool key[100];
};
static void see(void *arg, struct str key) {
  struct seen *seen = arg;
  CHECK(key.n == 2);
  int i = (key.p[0] - '0') * 10 + key.p[1] - '0';
  CHECK(i >= 0 && i < 100 && !seen->key[i]);
  seen->key[i] = true;
  seen->n++;
}

static void keys_are_those_that_live_up_to_a_limit(void) {
  struct shared *s = new_store(1 << 20);
  struct shared_value v = boolean(false);
  for (int i = 0; i < 100; i++) {
    char key[3] = {(char)('0' + i / 10), (char)('0' + i % 10), 0};
    CHECK(shared_set(s, str_of(key), &v, i < 50 ? 10 : SHARED_FOR_EVER, 0) == SHARED_DONE);
  }
  struct seen all = {0}, some = {0}, alive = {0};
  shared_keys(s, 0, 1000, see, &all);
  shared_keys(s, 0, 7, see, &some);
  CHECK(all.n == 100 && some.n == 7 && facts(s).entries == 100);
  shared_keys(s, 10, 1000, see, &alive);
  CHECK(alive.n == 50 && !alive.key[49] && alive.key[50] && facts(s).entries == 50);
  drop(s);
}

/* --- threads --- */

enum { THREADS = 8, ROUNDS = 20000, KEYS = 64 };

static void *counter_main(void *arg) {
  struct shared *s = arg;
  struct rng rng;
  rng_seed(&rng, 0);
  for (int i = 0; i < ROUNDS; i++) {
    char key[8];
    (void)snprintf(key, sizeof key, "%u", (unsigned)rng_below(&rng, KEYS));
    struct shared_value v = integer(1);
    CHECK(shared_incr(s, str_of(key), &v, SHARED_FOR_EVER, 0) == SHARED_DONE && v.as.integer > 0);
  }
  return NULL;
}

static void run_threads(void *(*fn)(void *arg), struct shared *s) {
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, fn, s) == 0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static void no_count_is_lost_between_threads(void) {
  struct shared *s = new_store(1 << 20);
  run_threads(counter_main, s);
  int64_t sum = 0;
  for (unsigned i = 0; i < KEYS; i++) {
    char key[8];
    struct shared_value v;
    (void)snprintf(key, sizeof key, "%u", i);
    CHECK(shared_get(s, str_of(key), 0, &v, NULL, 0));
    sum += v.as.integer;
  }
  CHECK(sum == (int64_t)THREADS * ROUNDS);
  drop(s);
}

/* A value's text says which key it was written under, so a torn or misplaced one is found out. */
static void write_or_read(struct shared *s, struct rng *rng, int64_t now) {
  char key[8], bytes[400], room[400];
  unsigned k = (unsigned)rng_below(rng, 400);
  (void)snprintf(key, sizeof key, "%u", k);
  struct shared_value v = {.type = SHARED_STRING, .as.string = {bytes, 1 + (size_t)rng_below(rng, sizeof bytes)}};
  memset(bytes, (int)(k % 251), v.as.string.n);
  int64_t until = now + (int64_t)rng_below(rng, 20);
  switch (rng_below(rng, 5)) {
    case 0: CHECK(shared_set(s, str_of(key), &v, until, now) == SHARED_DONE); return;
    case 1: CHECK(shared_add(s, str_of(key), &v, until, now) != SHARED_TOO_LARGE); return;
    case 2: (void)shared_delete(s, str_of(key), now); return;
    case 3: CHECK(shared_cas(s, str_of(key), NULL, &v, until, now) != SHARED_TOO_LARGE); return;
    default:
      if (!shared_get(s, str_of(key), now, &v, room, sizeof room)) return;
      for (size_t i = 0; i < v.as.string.n; i++) CHECK((unsigned char)room[i] == k % 251);
  }
}

static void count_key(void *arg, struct str key) {
  (void)key;
  ++*(unsigned *)arg;
}

static void *mixed_main(void *arg) {
  struct shared *s = arg;
  struct rng rng;
  rng_seed(&rng, 0);
  for (int i = 0; i < ROUNDS; i++) {
    write_or_read(s, &rng, i / 100);
    if (i % 1000 == 0) {
      unsigned n = 0;
      shared_keys(s, i / 100, 50, count_key, &n);
      CHECK(n <= 50);
      CHECK(facts(s).bytes <= 16 * 1024 + THREADS * 1024); /* each thread may be one write above it */
      shared_configure(s, shared_version(s), i % 2000 == 0 ? 12 * 1024 : 16 * 1024);
    }
  }
  return NULL;
}

static void a_crowded_store_stays_whole_and_small(void) {
  struct shared *s = new_store(16 * 1024);
  run_threads(mixed_main, s);
  CHECK(facts(s).evictions > 0);
  unsigned n = 0;
  shared_keys(s, 0, 10000, count_key, &n);
  CHECK(n == facts(s).entries);
  drop(s);
}

static void *load_main(void *arg) {
  struct shared *s = arg;
  struct rng rng;
  rng_seed(&rng, 0);
  for (int i = 0; i < 10 * ROUNDS; i++) {
    char key[16];
    struct shared_value v = integer(1);
    (void)snprintf(key, sizeof key, "client-%u", (unsigned)rng_below(&rng, 5000));
    if (i % 4 == 0)
      CHECK(shared_incr(s, str_of(key), &v, SHARED_FOR_EVER, 0) == SHARED_DONE);
    else
      (void)shared_get(s, str_of(key), 0, &v, NULL, 0);
  }
  return NULL;
}

static void what_it_costs(void) {
  struct shared *s = new_store(1 << 20);
  int64_t t0 = clock_mono_us();
  load_main(s);
  int64_t alone = clock_mono_us() - t0;
  t0 = clock_mono_us();
  run_threads(load_main, s);
  int64_t together = clock_mono_us() - t0;
  printf("shared: %lld ns an operation in one thread, %lld ns with %d threads\n", (long long)(alone * 100 / ROUNDS),
         (long long)(together * 100 / ROUNDS / THREADS), THREADS);
  drop(s);
}

int main(void) {
  names = registry_new();
  RUN(a_value_comes_back_as_it_went_in);
  RUN(a_value_ends_when_its_time_is_over);
  RUN(a_counter_starts_at_nothing_and_keeps_its_end);
  RUN(a_swap_wants_the_value_that_is_there);
  RUN(what_was_used_longest_ago_goes_for_what_is_new);
  RUN(writing_what_fits_evicts_nothing);
  RUN(one_value_may_fill_the_store_and_no_more);
  RUN(settings_come_into_force_with_their_first_use);
  RUN(keys_are_those_that_live_up_to_a_limit);
  RUN(no_count_is_lost_between_threads);
  RUN(a_crowded_store_stays_whole_and_small);
  RUN(what_it_costs);
  registry_free(names);
  return 0;
}
