/* secret_computed.c: what is computed from secrets, and what that is bound to.
 *
 * A hash, a signature or a decoded key has bytes of its own, made once, and these checks at every expansion (expand_computed): whoever may have it is who may have
 * everything that went in, it ends with the first of its tokens, and an upstream that refuses it refuses those generations. The other way was weighed: a node that keeps its
 * parts and computes at each expansion, as encodings do. It would follow a token by itself; but it fails where nobody can tell the script (a key that is none), does its work
 * outside of the script's budget, again with each head, and a signing key that is good for a day could not be kept. So what has to be as new as its token is computed where that is
 * pinned.
 *
 * A refusal is asked of the slot (slot_revoked), since the generation that was refused may not have ended: with its token gone a replay would send the same
 * signature again.
 *
 * Any thread: a node is immutable, and slots and audiences are shared. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/secmem.h"
#include "token/secret_internal.h"

/* --- taint --- */

void secret_taint_fini(struct secret_taint *o) {
  audience_unref(o->audience);
  token_bond_fini(&o->bond);
  for (unsigned i = 0; i < o->nuses; i++) slot_unref(o->uses[i].slot);
  *o = (struct secret_taint){0};
}

/* NULL: any may. Most often the two are one: a token of this policy. */
static void narrow(struct audience **a, struct audience *by) {
  if (by == NULL || by == *a) return;
  struct audience *both = audience_both(*a, by);
  audience_unref(*a);
  *a = both;
}

static void narrow_both(struct secret_taint *o, struct audience *by) {
  narrow(&o->audience, by);
  narrow(&o->bond.audience, by);
}

static void end_by(struct secret_taint *o, int64_t at) {
  if (at != 0 && (o->ends_at == 0 || at < o->ends_at)) o->ends_at = at;
}

/* A handle without an audience is nobody's, where a bond without one is no bound. */
void secret_taint_token(struct secret_taint *o, const struct secret_token_node *t, const struct token *token) {
  struct audience *handles = t->audience != NULL ? audience_ref(t->audience) : audience_new();
  narrow_both(o, handles);
  narrow_both(o, token->bond.audience);
  audience_unref(handles);
  o->bond.sealed = o->bond.sealed || !t->open || token->bond.sealed;
  o->of_token = true;
  end_by(o, token->expires_at);
}

void secret_taint_stored(struct secret_taint *o, const struct secret_stored_node *b) {
  narrow(&o->audience, b->audience);
  if (!b->of_token) return;
  token_bond_narrow(&o->bond, b->bond.audience, b->bond.sealed);
  o->of_token = true;
}

int secret_taint_computed(struct secret_taint *o, const struct secret_taint *from) {
  int rc = 0;
  narrow(&o->audience, from->audience);
  if (from->of_token) token_bond_narrow(&o->bond, from->bond.audience, from->bond.sealed);
  o->of_token = o->of_token || from->of_token;
  end_by(o, from->ends_at);
  for (unsigned i = 0; i < from->nuses && rc == 0; i++)
    rc = secret_taint_use(o, from->uses[i].slot, from->uses[i].generation);
  return rc;
}

int secret_taint_use(struct secret_taint *o, struct slot *slot, uint64_t generation) {
  for (unsigned i = 0; i < o->nuses; i++)
    if (o->uses[i].slot == slot) return o->uses[i].generation == generation ? 0 : ERR_TOKEN_EXPIRED;
  if (o->nuses == SECRET_USED_MAX) return ERR_LIMIT;
  o->uses[o->nuses++] = (struct secret_use){slot_ref(slot), generation};
  return 0;
}

bool secret_taint_over(const struct secret_taint *from, int64_t now) {
  if (from->ends_at != 0 && now >= from->ends_at) return true;
  for (unsigned i = 0; i < from->nuses; i++)
    if (slot_revoked(from->uses[i].slot, from->uses[i].generation)) return true;
  return false;
}

/* --- the secret --- */

/* One allocation: the node, and the bytes behind it. */
static size_t size_of(size_t n) { return sizeof(struct secret_computed_node) + n; }

void secret_computed_free(struct secret_computed_node *c) {
  secret_taint_fini(&c->from);
  free(c->label);
  secmem_free(c, size_of(c->bytes.n));
}

struct secret *secret_computed(struct str bytes, const char *label, struct secret_taint *o) {
  if (bytes.n > SECRET_BYTES_MAX) {
    secret_taint_fini(o);
    return NULL;
  }
  struct secret *s = secret_node_new(SECRET_COMPUTED, 0);
  struct secret_computed_node *c = secmem_alloc(size_of(bytes.n));
  if (bytes.n > 0) memcpy(c + 1, bytes.p, bytes.n);
  c->bytes = (struct str){(char *)(c + 1), bytes.n};
  c->label = must_strdup(label);
  c->from = *o;
  *o = (struct secret_taint){0};
  s->size = (uint32_t)bytes.n;
  s->u.computed = c;
  return s;
}

/* A request carries one generation of each token, so beside the next one it cannot go either. */
static bool is_behind(const struct secret_taint *from) {
  for (unsigned i = 0; i < from->nuses; i++)
    if (!slot_serves(from->uses[i].slot, from->uses[i].generation)) return true;
  return false;
}

bool secret_is_over(const struct secret *s, int64_t now) {
  switch ((enum secret_kind)s->kind) {
    case SECRET_ROW:
      for (unsigned i = 0; i < s->u.row.n; i++)
        if (s->u.row.v[i].of != NULL && secret_is_over(s->u.row.v[i].of, now)) return true;
      return false;
    case SECRET_ENCODED: return secret_is_over(s->u.encoded.of, now);
    case SECRET_COMPUTED: return secret_taint_over(&s->u.computed->from, now) || is_behind(&s->u.computed->from);
    case SECRET_STORED:
    case SECRET_SOURCE:
    case SECRET_TOKEN: break;
  }
  return false;
}

bool secret_is_of_token(const struct secret *s) {
  switch ((enum secret_kind)s->kind) {
    case SECRET_ROW:
      for (unsigned i = 0; i < s->u.row.n; i++)
        if (s->u.row.v[i].of != NULL && secret_is_of_token(s->u.row.v[i].of)) return true;
      return false;
    case SECRET_ENCODED: return secret_is_of_token(s->u.encoded.of);
    case SECRET_COMPUTED: return s->u.computed->from.nuses > 0;
    case SECRET_TOKEN: return true;
    case SECRET_STORED:
    case SECRET_SOURCE: break;
  }
  return false;
}
