/* policy.c: the snapshot: memory, references, lookups. Everything of it lies in one arena, clean-ups included, so what is read into it (load.c) needs no
 * undoing. Made on control's thread, read by all; only counts of references change afterwards. */
#include "policy/policy.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"

enum { FIRST_BLOCK = 8 * 1024 };

struct memory { /* the arena with its first block */
  struct arena arena;
  _Alignas(16) uint8_t first[FIRST_BLOCK];
};

struct policy *policy_new(void) {
  static atomic_uint_fast64_t loads; /* relaxed: only a number that differs */
  struct memory *m = must_malloc(sizeof *m);
  arena_init(&m->arena, m->first, sizeof m->first);
  struct policy *p = arena_alloc(&m->arena, sizeof *p);
  memset(p, 0, sizeof *p);
  atomic_init(&p->refs, 1);
  serving_init(&p->serving);
  p->memory = &m->arena;
  p->number = atomic_fetch_add_explicit(&loads, 1, memory_order_relaxed) + 1;
  return p;
}

struct policy *policy_ref(struct policy *p) {
  atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
  return p;
}

void policy_unref(struct policy *p) {
  if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1) return;
  struct arena *a = p->memory; /* p itself lies in it */
  arena_reset(a);
  free(CONTAINER_OF(a, struct memory, arena));
}

void policy_leave(struct policy *p) {
  if (!serving_leave(&p->serving) || p->serving.keeper == NULL) return;
  (void)policy_ref(p); /* the mail's */
  mailbox_post(p->serving.keeper, &p->serving.over);
}

const char *hook_name(enum hook hook) {
  static const char *const names[HOOK_COUNT] = {
#define XX(name, key) key,
      HOOKS(XX)
#undef XX
  };
  return names[hook];
}

const struct token_conf *policy_token(const struct policy *p, const char *name, bool family) {
  for (size_t i = 0; i < p->ntokens; i++) {
    const struct token_conf *t = &p->tokens[i];
    if (t->family == family && strcmp(t->name, name) == 0) return t;
  }
  return NULL;
}

const struct upstream_conf *policy_upstream(const struct policy *p, struct str name) {
  for (size_t i = 0; i < p->nupstreams; i++)
    if (str_eq(str_of(p->upstreams[i].name), name)) return &p->upstreams[i];
  return NULL;
}
