/* limits_test.c: how long a client may take for a body, on a clock of the test's own, and how many connections an address has. */
#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "proxy/addresses.h"
#include "proxy/pace.h"

enum { FULL = 30 * 1000, RATE = 240 };

/* --- pace --- */

static void silence_may_last_as_long_as_the_bucket_is_full(void) {
  struct pace p = {0};
  CHECK(pace_run(&p, 1000, 10, FULL, RATE) == FULL);
  CHECK(pace_run(&p, 1000 + 29999, 10, FULL, RATE) == 1);
  CHECK(pace_run(&p, 1000 + 40000, 10, FULL, RATE) == 1);
}

static void a_steady_client_lives_and_a_trickle_does_not(void) {
  struct pace steady = {0}, trickle = {0};
  uint64_t left = FULL;
  for (uint64_t s = 0; s < 3600; s++) CHECK(pace_run(&steady, s * 1000, s * RATE, FULL, RATE) == FULL);
  uint64_t s = 0;
  for (; s < 3600 && left >= 1000; s++) left = pace_run(&trickle, s * 1000, s, FULL, RATE); /* a byte a second */
  CHECK(s >= 30 && s <= 32);
}

static void bytes_fill_the_bucket_and_no_further(void) {
  struct pace p = {0};
  CHECK(pace_run(&p, 0, 0, FULL, RATE) == FULL);
  CHECK(pace_run(&p, 20000, 240, FULL, RATE) == 11000);
  CHECK(pace_run(&p, 20000, UINT64_C(1) << 60, FULL, RATE) == FULL);
}

static void what_earns_less_than_a_millisecond_adds_up(void) {
  struct pace p = {0};
  const uint64_t rate = 1000 * 1000;
  CHECK(pace_run(&p, 0, 0, FULL, rate) == FULL);
  uint64_t left = 0;
  for (uint64_t seen = 0; seen <= 10 * 1000; seen += 10) left = pace_run(&p, 10000, seen, FULL, rate);
  CHECK(left == FULL - 10000 + 10);
}

static void time_that_is_not_the_clients_does_not_count(void) {
  struct pace p = {0};
  CHECK(pace_run(&p, 0, 0, FULL, RATE) == FULL);
  pace_hold(&p, 5000);
  pace_hold(&p, 6000);
  CHECK(pace_run(&p, 1000 * 1000, 0, FULL, RATE) == 25000);
  CHECK(pace_run(&p, 1000 * 1000 + 1000, 0, FULL, RATE) == 24000);
}

static void either_half_can_be_turned_off(void) {
  struct pace p = {0}, q = {0};
  CHECK(pace_run(&p, 0, 0, 0, RATE) == 0);
  CHECK(pace_run(&q, 0, 0, FULL, 0) == FULL && pace_run(&q, 29000, 1, FULL, 0) == FULL);
  CHECK(pace_run(&q, 39000, 1, FULL, 0) == 20000);
}

/* --- addresses --- */

static struct address_key v4(uint32_t host) {
  union address a = {.in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host)}};
  struct address_key k;
  CHECK(address_key(&a, &k));
  return k;
}

static struct address_key v6(const char *text) {
  union address a = {.in6 = {.sin6_family = AF_INET6}};
  struct address_key k;
  CHECK(inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1);
  CHECK(address_key(&a, &k));
  return k;
}

static bool same(struct address_key a, struct address_key b) { return a.high == b.high && a.low == b.low; }

static void a_client_is_an_ipv4_address_or_a_64(void) {
  CHECK(!same(v4(0x7f000001), v4(0x7f000002)));
  CHECK(same(v6("::ffff:127.0.0.1"), v4(0x7f000001)));
  CHECK(same(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff:ffff:ffff:ffff")));
  CHECK(!same(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1")));
  CHECK(same(v6("::1"), v6("::2")) && !same(v6("::1"), v4(1)));
  union address a = {.un = {.sun_family = AF_UNIX}};
  struct address_key k;
  CHECK(!address_key(&a, &k));
}

static void each_address_has_its_share(void) {
  struct addresses *t = addresses_new();
  CHECK(addresses_enter(t, v4(1), 2) && addresses_enter(t, v4(1), 2) && !addresses_enter(t, v4(1), 2));
  CHECK(addresses_enter(t, v4(2), 2) && addresses_count(t) == 2);
  addresses_leave(t, v4(1));
  CHECK(addresses_enter(t, v4(1), 2) && !addresses_enter(t, v4(1), 1));
  addresses_leave(t, v4(1)), addresses_leave(t, v4(1)), addresses_leave(t, v4(2));
  CHECK(addresses_count(t) == 0);
  addresses_free(t);
}

enum { MANY = 20001, THIRD = MANY / 3 /* 7919 is prime to it */ };

/* Grows, shrinks, and loses nobody on the way, in whatever order they leave. */
static void many_addresses_come_and_go(void) {
  struct addresses *t = addresses_new();
  for (uint32_t round = 0; round < 3; round++) {
    for (uint32_t i = 0; i < MANY; i++) CHECK(addresses_enter(t, v4(i), 3));
    for (uint32_t i = 0; i < MANY; i += 3) CHECK(addresses_enter(t, v4(i), 3));
    CHECK(addresses_count(t) == MANY);
    for (uint32_t i = 0; i < THIRD; i++) addresses_leave(t, v4(i * 7919 % THIRD * 3));
    for (uint32_t i = 0; i < MANY; i++) CHECK(addresses_enter(t, v4(i), 3));
    for (uint32_t i = MANY; i-- > 0;) addresses_leave(t, v4(i)), addresses_leave(t, v4(i));
    CHECK(addresses_count(t) == 0);
  }
  addresses_free(t);
}

static void *crowd(void *arg) {
  struct addresses *t = arg;
  for (uint32_t round = 0; round < 20; round++) {
    for (uint32_t i = 0; i < 500; i++) CHECK(addresses_enter(t, v4(i), 8));
    for (uint32_t i = 0; i < 500; i++) addresses_leave(t, v4(i));
  }
  return NULL;
}

static void threads_share_it(void) {
  struct addresses *t = addresses_new();
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, crowd, t) == 0);
  for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(addresses_count(t) == 0);
  addresses_free(t);
}

int main(void) {
  RUN(silence_may_last_as_long_as_the_bucket_is_full);
  RUN(a_steady_client_lives_and_a_trickle_does_not);
  RUN(bytes_fill_the_bucket_and_no_further);
  RUN(what_earns_less_than_a_millisecond_adds_up);
  RUN(time_that_is_not_the_clients_does_not_count);
  RUN(either_half_can_be_turned_off);
  RUN(a_client_is_an_ipv4_address_or_a_64);
  RUN(each_address_has_its_share);
  RUN(many_addresses_come_and_go);
  RUN(threads_share_it);
  return 0;
}
