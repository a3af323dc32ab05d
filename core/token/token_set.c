/* token_set.c: see token_set.h. */
#include "token/token_set.h"

#include <stdlib.h>

#include "base/must.h"

void token_set_init(struct token_set *t, size_t n) {
  *t = (struct token_set){
      .slots = must_calloc(n + 1, sizeof *t->slots), .families = must_calloc(n + 1, sizeof *t->families), .n = n};
}

void token_set_copy(struct token_set *to, const struct token_set *from) {
  token_set_init(to, from->n);
  for (size_t i = 0; i < from->n; i++) {
    if (from->slots[i] != NULL) to->slots[i] = slot_ref(from->slots[i]);
    if (from->families[i] != NULL) to->families[i] = family_ref(from->families[i]);
  }
}

void token_set_fini(struct token_set *t) {
  for (size_t i = 0; i < t->n; i++) {
    if (t->slots[i] != NULL) slot_unref(t->slots[i]);
    if (t->families[i] != NULL) family_unref(t->families[i]);
  }
  free(t->slots);
  free(t->families);
  *t = (struct token_set){0};
}

struct search {
  struct str name;
  struct slot *found;
};
static void match(void *arg, struct slot *s) {
  struct search *search = arg;
  if (search->found == NULL && str_eq(str_of(slot_name(s)), search->name)) search->found = slot_ref(s);
}

struct slot *token_set_find(const struct token_set *t, struct str name) {
  struct search search = {.name = name};
  for (size_t i = 0; i < t->n; i++) {
    if (t->slots[i] != NULL) match(&search, t->slots[i]);
    if (t->families[i] != NULL) family_each(t->families[i], match, &search);
  }
  return search.found;
}
