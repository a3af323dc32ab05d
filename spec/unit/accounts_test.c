/* Accounts of refusals, and the reply that a fetch is shown of one. */
#include "token/accounts.h"

#include <string.h>

#include "check.h"
#include "token/refusal.h"

static void each_account_is_damped_by_itself(void) {
  struct accounts a = {0};
  CHECK(!accounts_damped(&a, 1, 0));
  CHECK(accounts_charge(&a, 1, 7, 100) == DAMP_MIN_MS);
  CHECK(accounts_charge(&a, 1, 7, 200) == 0); /* that generation is known */
  CHECK(accounts_damped(&a, 1, 1099) && !accounts_damped(&a, 1, 1100) && !accounts_damped(&a, 2, 100));
  CHECK(accounts_charge(&a, 1, 8, 2000) == 2 * DAMP_MIN_MS && accounts_charge(&a, 2, 8, 2000) == DAMP_MIN_MS);
  accounts_fini(&a);
}

static void damping_doubles_to_a_minute_and_is_forgotten_when_it_is_quiet(void) {
  struct accounts a = {0};
  int64_t now = 0, ms = 0;
  for (uint64_t generation = 1; generation < 10; generation++, now += ms) ms = accounts_charge(&a, 1, generation, now);
  CHECK(ms == DAMP_MAX_MS);
  CHECK(accounts_charge(&a, 1, 10, now + DAMP_MAX_MS) == DAMP_MAX_MS);
  CHECK(accounts_charge(&a, 1, 11, now + 3 * DAMP_MAX_MS + 1) == DAMP_MIN_MS);
  accounts_fini(&a);
}

static void a_good_answer_shortens_its_own_account(void) {
  struct accounts a = {0};
  int64_t now = 0;
  for (uint64_t generation = 1; generation <= 6; generation++) {
    (void)accounts_charge(&a, 1, generation, now);
    (void)accounts_charge(&a, 65, generation, now);
  }
  CHECK(accounts_unproven(&a, now) == 1 << 1);
  accounts_accept(&a, 1, 5); /* of an older generation: no news */
  CHECK(accounts_damped(&a, 1, DAMP_PROVEN_MS));
  accounts_accept(&a, 1, 6);
  CHECK(!accounts_damped(&a, 1, DAMP_PROVEN_MS) && accounts_damped(&a, 1, DAMP_PROVEN_MS - 1));
  CHECK(accounts_damped(&a, 65, DAMP_PROVEN_MS) && accounts_unproven(&a, now) == 1 << 1);
  accounts_accept(&a, 65, 6);
  CHECK(accounts_unproven(&a, now) == 0);
  accounts_fini(&a);
}

static void there_are_so_many_and_the_first_that_ends_makes_room(void) {
  struct accounts a = {0};
  for (uint64_t key = 1; key <= ACCOUNTS_MAX; key++) (void)accounts_charge(&a, key, 1, (int64_t)(key == 500 ? 0 : key));
  CHECK(a.n == ACCOUNTS_MAX && accounts_damped(&a, 500, 999) && accounts_damped(&a, 1, 1000));
  CHECK(accounts_charge(&a, ACCOUNTS_MAX + 1, 1, 900) == DAMP_MIN_MS);
  CHECK(a.n == ACCOUNTS_MAX && !accounts_damped(&a, 500, 999) && accounts_damped(&a, 1, 1000));
  CHECK(accounts_charge(&a, 1, 2, 1000000) == DAMP_MIN_MS && a.n == 1);
  accounts_fini(&a);
}

static void a_refusal_is_copied_as_far_as_it_fits(void) {
  static char large[REFUSAL_BYTES_MAX];
  memset(large, 'x', sizeof large);
  struct str fields[] = {STR("WWW-Authenticate"),
                         STR("Bearer realm=\"r\""),
                         STR("X-Large"),
                         {large, sizeof large},
                         STR("Date"),
                         STR("now")};
  struct refusal *r = refusal_new(401, fields, 3), *more = refusal_ref(r);
  refusal_unref(r);
  CHECK(more->status == 401 && more->n == 2);
  CHECK(str_eq(more->fields[1], STR("Bearer realm=\"r\"")) && more->fields[1].p != fields[1].p);
  CHECK(str_eq(more->fields[2], STR("Date")) && str_eq(more->fields[3], STR("now")));
  refusal_unref(more);
  refusal_unref(NULL);
  r = refusal_new(403, NULL, 0);
  CHECK(r->n == 0);
  refusal_unref(r);
}

int main(void) {
  RUN(each_account_is_damped_by_itself);
  RUN(damping_doubles_to_a_minute_and_is_forgotten_when_it_is_quiet);
  RUN(a_good_answer_shortens_its_own_account);
  RUN(there_are_so_many_and_the_first_that_ends_makes_room);
  RUN(a_refusal_is_copied_as_far_as_it_fits);
  return 0;
}
