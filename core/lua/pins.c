/* pins.c: see pins.h. Owned by the VM's thread. */
#include "lua/pins.h"

#include <lauxlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "lua/vm.h"

void pins_begin(struct pins *p, struct secret_context *context) {
  pins_fini(p);
  p->context = context;
}

void pins_fini(struct pins *p) {
  slot_unref(p->lacking);
  p->lacking = NULL;
  p->ended = false;
  while (p->nheld > 0) slot_unref(p->held[--p->nheld]);
}

/* What was noted since: it is only added to within a run. */
static void hold_used(struct pins *p) {
  const struct secret_context *c = p->context;
  for (; p->nheld < c->nused; p->nheld++) p->held[p->nheld] = slot_ref(c->used[p->nheld].slot);
}

/* --- what is lacking --- */

enum found { ALL_THERE, ONE_PASSES, ONE_LACKS };
struct search {
  struct pins *pins;
  enum found found;
};

/* A token that may never go to the target is no lacking one: whoever writes the head says so. */
static int find_lacking(void *arg, const struct secret_token_view *t) {
  struct search *search = arg;
  struct pins *p = search->pins;
  bool outdated;
  if (secret_token_for(t, p->context, clock_boot_ms(), &outdated) != NULL) return 0;
  const struct token *there = t->reader->token;
  if (there != NULL && !outdated) return 0;
  if (t->missing == MISSING_PASS && !p->must_have) {
    slot_want(t->reader->slot); /* nobody waits, and yet it is wanted */
    search->found = ONE_PASSES;
    return 1;
  }
  p->lacking = slot_ref(t->reader->slot);
  p->beyond = there != NULL ? there->generation : 0;
  p->missing = t->missing;
  search->found = ONE_LACKS;
  return 1;
}

/* The first token of s that is not there decides. One that has to be there ends the run. */
static enum found look(struct pins *p, struct secret *s) {
  struct search search = {p, ALL_THERE};
  (void)secret_each_token(s, find_lacking, &search);
  if (search.found == ONE_LACKS) p->ended = true;
  return search.found;
}

void pins_raise(lua_State *L) {
  const struct pins *p = task_pins(L);
  if (p == NULL || !p->ended) return;
  if (p->lacking != NULL) luaL_error(L, "token %s is awaited: this run begins anew", slot_name(p->lacking));
  luaL_error(L, "a pinned token has ended: this run begins anew");
}

/* --- expanding --- */

static void take_used(struct secret_context *to, const struct secret_context *from) {
  memcpy(to->used, from->used, from->nused * sizeof *from->used);
  to->nused = from->nused;
  to->ends_at = from->ends_at;
}

static int expand(struct pins *p, struct secret *s, struct secret_context *c, struct buf *out) {
  take_used(c, p->context);
  int rc = secret_expand(s, c, out);
  if (rc == 0) take_used(p->context, c);
  hold_used(p);
  return rc;
}

/* Expired are a token that is over, which look finds, and one of which another generation is pinned. A token that came between the two looks is there at the
 * second expansion; what is missing then is a field, which is the script's business. */
int pins_expand(lua_State *L, struct secret *s, struct secret_context *c, struct buf *out) {
  struct pins *p = task_pins(L);
  if (p == NULL) return secret_expand(s, c, out);
  if (p->ended) return ERR_TOKEN_EXPIRED;
  int rc = expand(p, s, c, out);
  if (rc != ERR_TOKEN_MISSING && rc != ERR_TOKEN_EXPIRED) return rc;
  if (look(p, s) != ALL_THERE) return rc;
  rc = expand(p, s, c, out);
  if (rc == ERR_TOKEN_EXPIRED) p->ended = true;
  return rc;
}

int pins_failure(lua_State *L, int status) {
  pins_raise(L);
  return push_failure(L, status, NULL);
}

bool pins_check(lua_State *L, struct secret *s) {
  struct pins *p = task_pins(L);
  if (p == NULL) return true;
  enum found found = p->ended ? ONE_LACKS : look(p, s);
  pins_raise(L);
  return found == ALL_THERE;
}

/* --- facts --- */

static int pin(void *arg, const struct secret_token_view *t) {
  struct secret_context *c = arg;
  bool outdated;
  const struct token *token = secret_token_for(t, c, clock_boot_ms(), &outdated);
  return token != NULL ? secret_context_use(c, t->reader->slot, token) : 0;
}

uint64_t pins_generation(lua_State *L, struct secret *s, const struct slot *slot) {
  struct pins *p = task_pins(L);
  if (p == NULL) return 0;
  const struct secret_context *c = p->context;
  if (secret_each_token(s, pin, p->context) == ERR_TOKEN_EXPIRED) p->ended = true;
  hold_used(p);
  pins_raise(L);
  for (unsigned i = 0; i < c->nused; i++)
    if (c->used[i].slot == slot) return c->used[i].generation;
  return 0;
}

void pins_waited(lua_State *L) {
  struct pins *p = task_pins(L);
  if (p == NULL) return;
  if (!secret_context_serves(p->context)) p->ended = true;
  pins_raise(L);
}
