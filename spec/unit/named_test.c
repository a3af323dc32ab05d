/* Objects of the process that policies name: one of a kind and name, alive while anybody holds it, from any thread. */
#include "base/named.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/rand.h"
#include "check.h"

struct thing {
  struct named named;
  int settings;
};
static atomic_int made, freed;

static struct named *make_thing(const void *settings) {
  struct thing *t = calloc(1, sizeof *t);
  CHECK(t != NULL);
  t->settings = *(const int *)settings;
  atomic_fetch_add(&made, 1);
  return &t->named;
}
static void free_thing(struct named *n) {
  atomic_fetch_add(&freed, 1);
  free(CONTAINER_OF(n, struct thing, named));
}
static const struct named_kind things = {"thing", make_thing, free_thing}, others = {"other", make_thing, free_thing};

static void names_are_words(void) {
  CHECK(named_valid(STR("rate")) && named_valid(STR("a.b:c/d-e_9")));
  CHECK(!named_valid(STR("")) && !named_valid(STR("a b")) && !named_valid(STR("a\0b")) &&
        !named_valid(STR("\xc3\xa9")));
  char longest[65];
  memset(longest, 'x', sizeof longest);
  CHECK(named_valid((struct str){longest, 64}) && !named_valid((struct str){longest, 65}));
}

static void count_up(void *arg, struct named *n) {
  (void)n;
  ++*(int *)arg;
}

static void there_is_one_of_a_kind_and_name_while_somebody_holds_it(void) {
  struct registry *r = registry_new();
  int one = 1, two = 2, count = 0;
  struct named *a = named_get(r, &things, STR("a"), &one);
  CHECK(named_get(r, &things, STR("a"), &two) == a && CONTAINER_OF(a, struct thing, named)->settings == 1);
  struct named *b = named_get(r, &things, STR("b"), &two), *other = named_get(r, &others, STR("a"), &two);
  CHECK(b != a && other != a && str_eq(str_of(b->name), STR("b")));
  registry_each(r, &things, count_up, &count);
  CHECK(count == 2);
  named_unref(a);
  CHECK(atomic_load(&freed) == 0);
  named_unref(a);
  CHECK(atomic_load(&freed) == 1);
  a = named_get(r, &things, STR("a"), &two);
  CHECK(CONTAINER_OF(a, struct thing, named)->settings == 2);
  named_unref(a);
  named_unref(b);
  named_unref(other);
  CHECK(atomic_load(&made) == atomic_load(&freed));
  registry_free(r);
}

enum { THREADS = 8, ROUNDS = 5000 };

static void a_released_name_is_free_while_its_object_lives(void) {
  struct registry *r = registry_new();
  int one = 1, two = 2, count = 0, before = atomic_load(&freed);
  struct named *a = named_get(r, &things, STR("a"), &one);
  CHECK(named_ref(a) == a);
  named_release(a);
  named_release(a);
  struct named *b = named_get(r, &things, STR("a"), &two);
  CHECK(b != a && CONTAINER_OF(a, struct thing, named)->settings == 1);
  registry_each(r, &things, count_up, &count);
  CHECK(count == 1);
  named_unref(a);
  CHECK(atomic_load(&freed) == before);
  named_unref(a);
  CHECK(atomic_load(&freed) == before + 1);
  named_unref(b);
  registry_free(r);
}

static void *holder_main(void *arg) {
  struct registry *r = arg;
  static const char *const names[] = {"a", "b", "c"};
  struct rng rng;
  rng_seed(&rng, 0);
  for (int i = 0; i < ROUNDS; i++) {
    struct str name = str_of(names[rng_below(&rng, 3)]);
    struct named *n = named_get(r, &things, name, &i);
    CHECK(str_eq(str_of(n->name), name) && n->registry == r);
    named_unref(n);
  }
  return NULL;
}

static void threads_may_get_and_give_back_at_the_same_time(void) {
  struct registry *r = registry_new();
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, holder_main, r) == 0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(atomic_load(&made) == atomic_load(&freed));
  registry_free(r);
}

int main(void) {
  RUN(names_are_words);
  RUN(there_is_one_of_a_kind_and_name_while_somebody_holds_it);
  RUN(a_released_name_is_free_while_its_object_lives);
  RUN(threads_may_get_and_give_back_at_the_same_time);
  return 0;
}
