/* keeper.c: decides, for each slot, whether something is due; starts fetches; takes their outcome.
 *
 * There is no stored state and no table of transitions. A slot states what it needs under its mutex (slot_internal.h); a change of that posts one mail, which
 * says "check"; and one function, attend, reads all of it and acts. It may run once too often but never once too seldom: nothing hangs on a message having been
 * sent at the right moment. So expiry against a fetch that ends, a set during a fetch, a rejection during a reload have no races to get right: each is a change
 * of facts, followed by a check.
 *
 * Invariants: slot->fetching is true exactly from start_fetch to keeper_fetch_done. A slot in `slots` is `known` and holds a reference.
 * After attend, the slot's place in the heap is the next moment at which its facts change by time alone. The host's timer is set for the first
 * in the heap. Owned by the keeper's thread; nothing here is called by others. */
#include "token/keeper.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "net/tls_crypto.h"
#include "token/due.h"
#include "token/family_internal.h"
#include "token/slot_internal.h"

enum { LOOK_MS = 1000, LOOKS_A_MS = 10 };

struct keeper_family {
  struct link link;
  struct token_family *family; /* a reference */
  struct due sweep;            /* when idle slots are searched for next */
};

struct keeper {
  struct keeper_host host;
  struct mailbox *inbox;
  struct rng rng;
  struct link slots;      /* of every known slot */
  struct link families;   /* struct keeper_family */
  struct due_heap due;    /* slots */
  struct due_heap sweeps; /* families */
  int64_t timer_at;       /* the last argument of set_timer */
  unsigned fetching;
  enum keeper_pace pace;
};

static int64_t now(const struct keeper *k) { return k->host.now(k->host.ctx); }

static void arm(struct keeper *k) {
  int64_t at = due_first(&k->due), sweep = due_first(&k->sweeps);
  if (sweep < at) at = sweep;
  if (at == k->timer_at) return;
  k->timer_at = at;
  k->host.set_timer(k->host.ctx, at);
}

/* --- knowing slots --- */

static void learn(struct keeper *k, struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  bool new = !s->known && !s->closed;
  if (new) s->known = true;
  pthread_mutex_unlock(&s->mutex);
  if (!new) return;
  slot_ref(s);
  list_push(&k->slots, &s->link);
}

static void forget(struct keeper *k, struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  bool known = s->known;
  s->known = false;
  pthread_mutex_unlock(&s->mutex);
  if (!known) return;
  due_set(&k->due, &s->due, INT64_MAX);
  list_remove(&s->link);
  slot_unref(s);
}

/* --- attending to one slot --- */

/* A family's slot does not try again by itself while no request wants its token: a thousand wrong keys would be tried for ever. One that leaves is not
 * refreshed ahead either, nor is any while the process drains: a refresh that the end would cut off may cost its login. */
static bool dormant_locked(const struct keeper *k, const struct slot *s) {
  if (s->nwaiters > 0 || s->asked) return false;
  return s->leaving || k->pace != KEEPER_AHEAD || (s->key.p != NULL && s->current == NULL);
}

static bool fetch_is_due_locked(const struct keeper *k, const struct slot *s, int64_t at) {
  if (!s->has_fetch || s->fetching || s->closed || k->pace == KEEPER_NONE) return false;
  return s->manual || s->recheck || (s->next_attempt <= at && !dormant_locked(k, s));
}

static enum fetch_reason reason_locked(const struct slot *s) {
  if (s->manual) return FETCH_MANUAL;
  if (s->rejected) return FETCH_REJECTED;
  if (slot_outdated_locked(s) || (s->recheck && s->generation > 0)) return FETCH_CHANGED;
  return s->generation == 0 ? FETCH_FIRST : FETCH_EXPIRING;
}

static void take_place_locked(struct slot *s, struct fetch *f, int64_t at) {
  s->fetching = true;
  s->fetch = f;
  s->reason = f->reason;
  s->began_at = at;
  s->slow_at = at + SLOT_SLOW_MS;
  s->fetches++;
}

static struct fetch *begin_fetch_locked(struct slot *s, int64_t at) {
  struct fetch *f = must_calloc(1, sizeof *f);
  f->slot = slot_ref(s);
  f->reason = reason_locked(s);
  f->attempt = s->consecutive + 1;
  f->sent_at = at;
  f->previous = slot_previous_locked(s);
  if (f->previous != NULL) (void)token_ref(f->previous);
  f->refusal = s->refusal != NULL ? refusal_ref(s->refusal) : NULL;
  token_bond_copy(&f->bond, &s->bond);
  take_place_locked(s, f, at);
  s->manual = s->asked = s->recheck = false;
  return f;
}

/* When attend must check again although no mail comes. A dormant slot's attempt that is due already is not a reason: its next waiter posts. */
static int64_t next_look_locked(const struct slot *s, int64_t at) {
  if (s->closed) return INT64_MAX;
  int64_t next = s->current != NULL ? s->current->expires_at : INT64_MAX;
  if (s->older != NULL && s->older->expires_at < next) next = s->older->expires_at;
  if (s->provenance != NULL && !s->fetching && s->look_at < next) next = s->look_at;
  bool planned = s->has_fetch && !s->fetching && s->next_attempt > at;
  int64_t due = planned ? s->next_attempt : s->fetching ? s->slow_at : INT64_MAX;
  return due < next ? due : next;
}

/* Said once a fetch, while it still hangs: an operator must not wait for its time-out to learn whom everybody waits for. */
static bool slow_is_due_locked(struct slot *s, int64_t at) {
  if (!s->fetching || s->closed || at < s->slow_at) return false;
  s->slow_at = SLOT_NEVER;
  return true;
}

static void report_slow(const struct slot *s, enum fetch_reason reason, unsigned attempt, int64_t ms, bool serves) {
  char source[80];
  snprintf(source, sizeof source, "token %s", slot_name(s));
  log_from(LOG_WARN, source, "a fetch has taken %lld s and has not ended (%s, attempt %u); %s", (long long)(ms / 1000),
           fetch_reason_name(reason), attempt, serves ? "the token at hand still serves" : "there is no valid token");
}

/* The refresh by hand that it makes way for begins in attend. Those that wait for one attempt wait for that. */
static void end_given_up(struct keeper *k, struct fetch *f) {
  struct slot *s = f->slot;
  char source[80];
  pthread_mutex_lock(&s->mutex);
  int64_t ms = now(k) - s->began_at;
  s->fetching = false;
  s->fetch = NULL;
  s->failures++;
  pthread_mutex_unlock(&s->mutex);
  k->fetching--;
  snprintf(source, sizeof source, "token %s", slot_name(s));
  log_from(LOG_WARN, source, "a fetch that had not ended after %lld s is given up for a refresh by hand",
           (long long)(ms / 1000));
  fetch_free(f);
  slot_unref(s);
}

/* A refresh was asked for while a slow fetch runs: gives that up, or joins it. */
static void make_way(struct keeper *k, struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  bool asked = s->fetching && s->manual;
  pthread_mutex_unlock(&s->mutex);
  if (!asked) return;
  struct fetch *f = s->fetch;
  if (k->host.give_up_fetch != NULL && k->host.give_up_fetch(k->host.ctx, f)) {
    end_given_up(k, f);
    return;
  }
  pthread_mutex_lock(&s->mutex);
  s->manual = false;
  pthread_mutex_unlock(&s->mutex);
  log_info("token %s: the fetch under way may have spent its refresh token: it goes on, and the refresh waits for it",
           slot_name(s));
}

/* A file that has another content may be all that a permanent failure waits for. One look a second a slot, and fewer of thousands. */
static void look_at_provenance(struct keeper *k, struct slot *s, int64_t at) {
  pthread_mutex_lock(&s->mutex);
  struct provenance *o =
      s->provenance != NULL && at >= s->look_at && !s->fetching ? provenance_ref(s->provenance) : NULL;
  if (o != NULL) s->look_at = at + LOOK_MS + (int64_t)(k->due.n / LOOKS_A_MS);
  pthread_mutex_unlock(&s->mutex);
  if (o == NULL) return;
  bool changed = provenance_changed(o);
  provenance_unref(o);
  if (changed) slot_recheck(s);
}

static void part(struct keeper *k, struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  struct token *last = s->parting;
  s->parting = NULL;
  pthread_mutex_unlock(&s->mutex);
  if (last != NULL && k->host.release != NULL) k->host.release(k->host.ctx, s, last);
  token_unref(last);
}

static void attend(struct keeper *k, struct slot *s) {
  int64_t at = now(k);
  struct fetch *f = NULL;
  make_way(k, s);
  look_at_provenance(k, s, at);
  pthread_mutex_lock(&s->mutex);
  if (s->current != NULL && !slot_valid_locked(s, at)) slot_unpublish_locked(s);
  if (s->older != NULL && at >= s->older->expires_at) slot_drop_older_locked(s);
  if (fetch_is_due_locked(k, s, at)) f = begin_fetch_locked(s, at);
  bool closed = s->closed, slow = slow_is_due_locked(s, at), serves = slot_valid_locked(s, at);
  int64_t next = next_look_locked(s, at), taken = at - s->began_at;
  enum fetch_reason reason = s->reason;
  unsigned attempt = s->consecutive + 1;
  slot_check_locked(s);
  pthread_mutex_unlock(&s->mutex);

  if (closed) {
    part(k, s);
    forget(k, s);
    return;
  }
  if (slow) report_slow(s, reason, attempt, taken, serves);
  due_set(&k->due, &s->due, next);
  if (f == NULL) return;
  k->fetching++;
  k->host.start_fetch(k->host.ctx,
                      f); /* may come back with keeper_fetch_done at once: nothing of s is used behind it */
}

static void on_mail(struct mail *m) {
  struct slot *s = CONTAINER_OF(m, struct slot, mail);
  struct keeper *k = s->keeper;
  pthread_mutex_lock(&s->mutex);
  s->posted = false; /* from now on a change of facts posts anew; those so far are seen below */
  pthread_mutex_unlock(&s->mutex);
  learn(k, s);
  attend(k, s);
  slot_unref(s); /* the mail's */
  arm(k);
}

void keeper_run_due(struct keeper *k) {
  k->timer_at = INT64_MAX; /* the timer has fired, or may fire late: set it anew */
  for (struct due *d; (d = due_pop(&k->due, now(k))) != NULL;) {
    struct slot *s = slot_ref(CONTAINER_OF(d, struct slot, due));
    attend(k, s);
    slot_unref(s);
  }
  for (struct due *d; (d = due_pop(&k->sweeps, now(k))) != NULL;) {
    struct keeper_family *kf = CONTAINER_OF(d, struct keeper_family, sweep);
    family_drop_idle(kf->family, now(k));
    due_set(&k->sweeps, d, now(k) + family_sweep_ms(kf->family));
  }
  arm(k);
}

/* --- the outcome --- */

static void report(const struct fetch *f, const struct token *published, const char *why, bool serves, int64_t retry_ms,
                   enum fetch_outlook outlook, int64_t at) {
  const struct slot *s = f->slot;
  char source[80], how[80];
  if (why == NULL && published == NULL) return;
  snprintf(source, sizeof source, "token %s", slot_name(s));
  snprintf(how, sizeof how, "(%s, attempt %u, %lld ms)", fetch_reason_name(f->reason), f->attempt,
           (long long)(at - f->sent_at));
  if (why == NULL) {
    char ends[48] = "does not end";
    if (published->expires_at != TOKEN_LASTS)
      (void)snprintf(ends, sizeof ends, "expires in %lld s", (long long)((published->expires_at - at) / 1000));
    log_from(LOG_INFO, source, "generation %llu, %s %s", (unsigned long long)published->generation, ends, how);
  } else {
    char next[160] = "no further attempt";
    if (outlook == OUTLOOK_SPENT)
      (void)snprintf(
          next, sizeof next,
          "for good, what it needs is spent: no further attempt before a new one is there, or `jeton refresh %s`",
          slot_name(s));
    else if (retry_ms >= 0)
      (void)snprintf(next, sizeof next, "%snext attempt in %lld ms%s", outlook == OUTLOOK_PERMANENT ? "for good: " : "",
                     (long long)retry_ms,
                     outlook == OUTLOOK_PERMANENT ? ", or when its secret, file or policy changes" : "");
    log_from(LOG_WARN, source, "fetch failed: %s; %s, %s %s", why,
             serves ? "the token at hand still serves" : "there is no valid token", next, how);
  }
}

struct outcome {         /* of a fetch */
  struct token *token;   /* a reference, or NULL: it failed */
  struct token *brought; /* a reference to what a failed one has for the next one, or NULL */
  const char *why;
  int64_t retry_ms;
  enum fetch_outlook outlook;
};

/* Of a constant slot: what was read is what it has. */
static bool is_the_same_locked(const struct slot *s, const struct token *t, int64_t at) {
  return (s->traits & SLOT_CONSTANT) != 0 && slot_valid_locked(s, at) && !slot_outdated_locked(s) &&
         crypto_equal(s->current->value, t->value);
}

static void note_constant_locked(struct slot *s, const struct fetch *f, int64_t at) {
  if ((s->traits & SLOT_CONSTANT) == 0) return;
  slot_open_outlook_locked(s);
  s->provenance = f->provenance != NULL ? provenance_ref(f->provenance) : NULL;
  s->look_at = at + LOOK_MS;
}

/* It was no fetch of anything, then, and is not counted as one. */
static void keep_the_same_locked(struct slot *s, const struct fetch *f, int64_t at) {
  s->fetches--;
  s->consecutive = 0;
  s->next_attempt = SLOT_NEVER;
  note_constant_locked(s, f, at);
  slot_gather_locked(s, WAKE_ALL, 0);
}

/* Takes over o->token. Returns true when it was published. */
static bool conclude_locked(struct slot *s, const struct fetch *f, const struct outcome *o, int64_t at) {
  struct token *token = o->token;
  /* Set by another thread after this fetch was sent, and still good: newer knowledge than ours, whatever ours is. */
  bool outdone =
      slot_valid_locked(s, at) && (s->current->obtained_at > f->sent_at || s->current->bond.epoch > f->bond.epoch);
  s->fetching = false;
  s->manual = false; /* asked for while this one was slow: it was joined */
  s->fetch = NULL;
  if (token != NULL && s->closed && (s->traits & SLOT_RELEASES) != 0 && s->parting == NULL) {
    s->parting = token; /* a lease that nobody will use */
    return false;
  }
  if (token != NULL && !s->closed && is_the_same_locked(s, token, at)) {
    keep_the_same_locked(s, f, at);
    token_unref(token);
    return false;
  }
  if (token != NULL && !s->closed && !outdone) {
    slot_publish_locked(s, token, at);
    note_constant_locked(s, f, at);
    return true;
  }
  if (token == NULL && !s->closed && !outdone) {
    if (o->brought != NULL) slot_bring_locked(s, token_ref(o->brought));
    const struct slot_failure failure = {o->why, o->retry_ms, o->outlook, f->provenance};
    slot_fail_locked(s, &failure, at);
  }
  if (token == NULL && outdone) s->failures++;
  slot_gather_locked(s, WAKE_ONE_ATTEMPT, token == NULL ? ERR_TOKEN_MISSING : 0); /* those that joined after the set */
  token_unref(token);
  return false;
}

static void bind_token(struct token *t, const struct fetch *f, const struct fetch_result *r) {
  token_bond_copy(&t->bond, &f->bond);
  token_bond_narrow(&t->bond, r->bond.audience, r->bond.sealed);
  t->asked = f->asked != NULL ? audience_ref(f->asked) : NULL;
}

/* Extra fields without a token. What else is known of the one before stays: its generation, its end, and its value if that was fetched with the same. */
static struct token *bring(const struct fetch *f, const struct fetch_result *r) {
  if (r->nfields == 0) return NULL;
  const struct token *before = f->previous;
  bool same = before != NULL && token_bond_made_alike(&before->bond, &f->bond);
  struct token *t = token_new(same ? before->value : (struct str){"", 0}, r->fields, r->nfields);
  if (t == NULL) return NULL;
  t->generation = before != NULL ? before->generation : 0;
  t->obtained_at = f->sent_at;
  t->expires_at = t->renew_by = before != NULL ? before->expires_at : f->sent_at;
  bind_token(t, f, r);
  if (same) token_bond_narrow(&t->bond, before->bond.audience, before->bond.sealed);
  return t;
}

static void judge(struct keeper *k, const struct fetch *f, const struct fetch_result *r, int64_t at,
                  struct outcome *o) {
  struct slot *s = f->slot;
  pthread_mutex_lock(&s->mutex);
  int64_t leeway_ms = s->schedule.leeway_ms;
  pthread_mutex_unlock(&s->mutex);
  struct result_times times = {f->sent_at, at, k->host.wall(k->host.ctx), leeway_ms};
  *o = (struct outcome){.retry_ms = (int64_t)(r->retry_after * 1000), .outlook = r->ok ? OUTLOOK_OPEN : r->outlook};
  o->token = result_token(r, &times, &o->why);
  if (o->token != NULL)
    bind_token(o->token, f, r);
  else
    o->brought = bring(f, r);
}

void fetch_free(struct fetch *f) {
  token_unref(f->previous);
  refusal_unref(f->refusal);
  token_bond_fini(&f->bond);
  audience_unref(f->asked);
  provenance_unref(f->provenance);
  free(f);
}

void keeper_fetch_done(struct keeper *k, struct fetch *f, const struct fetch_result *r) {
  struct slot *s = f->slot;
  struct outcome o;
  int64_t at = now(k);
  judge(k, f, r, at, &o);

  pthread_mutex_lock(&s->mutex);
  assert(s->fetching && k->fetching > 0);
  bool published = conclude_locked(s, f, &o, at);
  struct token *shown = published ? token_ref(s->current) : NULL;
  bool serves = slot_valid_locked(s, at);
  int64_t retry_ms = s->closed || s->next_attempt == SLOT_NEVER ? -1 : s->next_attempt - at;
  pthread_mutex_unlock(&s->mutex);
  k->fetching--;

  slot_wake(s);
  report(f, shown, o.why, serves, retry_ms, o.outlook, at);
  token_unref(shown);
  token_unref(o.brought);
  attend(k, s);
  fetch_free(f);
  slot_unref(s);
  arm(k);
}

/* --- proofs --- */

static struct fetch *begin_proof_locked(struct slot *s, const struct token_bond *bond, struct token *previous,
                                        int64_t at) {
  struct fetch *f = must_calloc(1, sizeof *f);
  f->slot = slot_ref(s);
  f->reason = FETCH_MANUAL;
  f->attempt = 1;
  f->sent_at = at;
  if (previous == NULL) previous = slot_previous_locked(s);
  f->previous = previous != NULL ? token_ref(previous) : NULL;
  token_bond_copy(&f->bond, bond);
  f->bond.epoch = s->bond.epoch;
  f->proof = true;
  take_place_locked(s, f, at);
  return f;
}

struct fetch *keeper_begin_proof(struct keeper *k, struct slot *s, const struct token_bond *bond,
                                 struct token *previous) {
  pthread_mutex_lock(&s->mutex);
  bool free = !s->fetching && !s->closed, unbound = s->bond.epoch == 0;
  pthread_mutex_unlock(&s->mutex);
  if (!free) return NULL;
  if (unbound) slot_bind(s, bond); /* no policy serves it yet */
  pthread_mutex_lock(&s->mutex);   /* only this thread begins fetches */
  struct fetch *f = begin_proof_locked(s, bond, previous, now(k));
  pthread_mutex_unlock(&s->mutex);
  k->fetching++;
  return f;
}

/* Those that joined the proof by asking for a refresh want the outcome of a fetch, whoever makes it. */
static bool is_awaited_locked(const struct slot *s) {
  for (const struct link *l = s->waiters.next; l != &s->waiters; l = l->next) {
    if (CONTAINER_OF(l, struct slot_waiter, link)->one_attempt) return true;
  }
  return false;
}

/* What a failed proof brought: the slot's login is the proof's, or one like it. */
static void bring_of_proof_locked(struct slot *s, const struct fetch *f, struct token *brought) {
  if (token_bond_same(&s->bond, &f->bond))
    slot_bring_locked(s, token_ref(brought));
  else
    (void)slot_graft_locked(s, brought);
}

/* Takes over o->token, or fails when it is NULL. Returns a reference to what was published, or NULL. */
static struct token *conclude_proof_locked(struct slot *s, const struct fetch *f, const struct outcome *o, int64_t at,
                                           struct proof_outcome *out) {
  struct token *token = o->token;
  *out = (struct proof_outcome){0};
  bool outdone = slot_valid_locked(s, at) && s->current->obtained_at > f->sent_at;
  s->fetching = false;
  s->fetch = NULL;
  if (token == NULL || s->closed) {
    if (o->brought != NULL && !s->closed) bring_of_proof_locked(s, f, o->brought);
    if (is_awaited_locked(s)) s->manual = true;
    token_unref(token);
  } else if (!token_bond_same(&s->bond, &f->bond)) {
    out->handed_back = slot_graft_locked(s, token);
    if (is_awaited_locked(s)) s->manual = true;
    out->held = token;
  } else if (is_the_same_locked(s, token, at)) {
    keep_the_same_locked(s, f, at);
    token_unref(token);
  } else if (outdone) {
    (void)slot_graft_locked(s, token);
    slot_gather_locked(s, WAKE_ONE_ATTEMPT, 0);
    token_unref(token);
  } else {
    s->manual = false;
    slot_publish_locked(s, token, at);
    note_constant_locked(s, f, at);
    return token_ref(token);
  }
  return NULL;
}

const char *keeper_proof_done(struct keeper *k, struct fetch *f, const struct fetch_result *r,
                              struct proof_outcome *out) {
  struct slot *s = f->slot;
  struct outcome o;
  int64_t at = now(k);
  judge(k, f, r, at, &o);
  pthread_mutex_lock(&s->mutex);
  assert(s->fetching && k->fetching > 0);
  struct token *shown = conclude_proof_locked(s, f, &o, at, out);
  pthread_mutex_unlock(&s->mutex);
  k->fetching--;
  slot_wake(s);
  report(f, shown, NULL, true, 0, OUTLOOK_OPEN, at);
  token_unref(shown);
  token_unref(o.brought);
  attend(k, s);
  fetch_free(f);
  slot_unref(s);
  arm(k);
  return o.why;
}

void keeper_publish_held(struct keeper *k, struct slot *s, struct token *held) {
  int64_t at = now(k);
  struct token *shown = NULL;
  pthread_mutex_lock(&s->mutex);
  const struct token *previous = slot_previous_locked(s);
  bool newer = previous != NULL && previous->obtained_at > held->obtained_at; /* and what held has may be spent */
  if (!s->closed && !newer && at < held->expires_at) {
    held->bond.epoch = s->bond.epoch;
    slot_publish_locked(s, held, at);
    shown = token_ref(held);
  }
  pthread_mutex_unlock(&s->mutex);
  if (shown == NULL) token_unref(held);
  slot_wake(s);
  if (shown != NULL)
    log_info("token %s: generation %llu, expires in %lld s (of the proof)", slot_name(s),
             (unsigned long long)shown->generation, (long long)((shown->expires_at - at) / 1000));
  token_unref(shown);
  attend(k, s);
  arm(k);
}

/* --- adopting, leaving, retaining --- */

struct keeper *keeper_new(const struct keeper_host *host, struct mailbox *inbox, uint64_t seed) {
  struct keeper *k = must_calloc(1, sizeof *k);
  k->host = *host;
  k->inbox = inbox;
  rng_seed(&k->rng, seed);
  list_init(&k->slots);
  list_init(&k->families);
  due_init(&k->due);
  due_init(&k->sweeps);
  k->timer_at = INT64_MAX;
  return k;
}

static struct slot_home home_of(struct keeper *k, const struct schedule *s, bool has_fetch) {
  return (struct slot_home){k->inbox, k, on_mail, *s, has_fetch, false, rng_next(&k->rng) | 1};
}

static struct slot *known_slot(struct keeper *k, struct str name, struct str key) {
  for (struct link *l = k->slots.next; l != &k->slots; l = l->next) {
    struct slot *s = CONTAINER_OF(l, struct slot, link);
    bool same_key = (s->key.p == NULL) == (key.p == NULL) && str_eq(s->key, key);
    if (same_key && str_eq(str_of(s->token), name)) return s;
  }
  return NULL;
}

struct slot *keeper_adopt(struct keeper *k, struct str name, struct str key, const struct schedule *schedule,
                          bool has_fetch, bool fetch_now) {
  struct slot *s = known_slot(k, name, key);
  if (s != NULL) {
    slot_ref(s);
    slot_configure(s, schedule, has_fetch);
  } else {
    struct slot_home home = home_of(k, schedule, has_fetch);
    s = slot_new(name, key);
    slot_attach(s, &home);
    learn(k, s);
  }
  if (fetch_now) {
    pthread_mutex_lock(&s->mutex);
    int64_t at = now(k);
    if (!slot_valid_locked(s, at)) slot_ask_locked(s, at);
    pthread_mutex_unlock(&s->mutex);
  }
  attend(k, s);
  arm(k);
  return s;
}

static struct keeper_family *known_family(struct keeper *k, struct str name) {
  for (struct link *l = k->families.next; l != &k->families; l = l->next) {
    struct keeper_family *kf = CONTAINER_OF(l, struct keeper_family, link);
    if (str_eq(str_of(family_name(kf->family)), name)) return kf;
  }
  return NULL;
}

struct token_family *keeper_adopt_family(struct keeper *k, struct str name, const struct schedule *schedule,
                                         bool has_fetch, unsigned max, int64_t idle_ms) {
  struct keeper_family *kf = known_family(k, name);
  if (kf == NULL) {
    kf = must_calloc(1, sizeof *kf);
    kf->family = family_new(name);
    list_push(&k->families, &kf->link);
  }
  struct slot_home home = home_of(k, schedule, has_fetch);
  family_configure(kf->family, max, idle_ms);
  family_attach(kf->family, &home);
  due_set(&k->sweeps, &kf->sweep, now(k) + family_sweep_ms(kf->family));
  /* Its slots have new plans: each is checked when the loop comes round, not inside this walk. */
  for (struct link *l = k->slots.next; l != &k->slots; l = l->next) {
    struct slot *s = CONTAINER_OF(l, struct slot, link);
    if (s->key.p != NULL && str_eq(str_of(s->token), name)) due_set(&k->due, &s->due, now(k));
  }
  arm(k);
  return family_ref(kf->family);
}

struct slot *keeper_find(struct keeper *k, struct str name) {
  struct slot *s = known_slot(k, name, (struct str){0});
  return s != NULL ? slot_ref(s) : NULL;
}

struct token_family *keeper_find_family(struct keeper *k, struct str name) {
  struct keeper_family *kf = known_family(k, name);
  return kf != NULL ? family_ref(kf->family) : NULL;
}

void keeper_bind(struct keeper *k, struct str name, bool family, const struct token_bond *bond) {
  if (family) {
    struct keeper_family *kf = known_family(k, name);
    if (kf != NULL) family_bind(kf->family, bond);
  } else {
    struct slot *s = known_slot(k, name, (struct str){0});
    if (s != NULL) slot_bind(s, bond);
  }
}

void keeper_set_traits(struct keeper *k, struct str name, bool family, unsigned traits) {
  if (family) {
    struct keeper_family *kf = known_family(k, name);
    if (kf != NULL) family_set_traits(kf->family, traits);
  } else {
    struct slot *s = known_slot(k, name, (struct str){0});
    if (s != NULL) slot_set_traits(s, traits);
  }
}

void keeper_recheck(struct keeper *k, struct str name) {
  struct slot *s = known_slot(k, name, (struct str){0});
  if (s != NULL) slot_recheck(s);
}

void keeper_leave(struct keeper *k, struct str name, bool family) {
  if (family) {
    struct keeper_family *kf = known_family(k, name);
    if (kf != NULL) family_leave(kf->family);
  } else {
    struct slot *s = known_slot(k, name, (struct str){0});
    if (s != NULL) slot_leave(s);
  }
}

/* The slot's own mail, when it is under way to us. Keeper's thread. */
static void take_mail_back(struct keeper *k, struct slot *s) {
  if (!mailbox_cancel(k->inbox, &s->mail)) return;
  pthread_mutex_lock(&s->mutex);
  s->posted = false;
  pthread_mutex_unlock(&s->mutex);
  slot_unref(s);
}

static void drop_slot(struct keeper *k, struct slot *s) {
  slot_ref(s);
  slot_close(s, false);
  part(k, s);
  take_mail_back(k, s);
  forget(k, s);
  slot_unref(s);
}

static void drop_family_slot(void *arg, struct slot *s) { drop_slot(arg, s); }

static void drop_family(struct keeper *k, struct keeper_family *kf) {
  family_close(kf->family, drop_family_slot, k);
  family_unref(kf->family);
  due_set(&k->sweeps, &kf->sweep, INT64_MAX);
  list_remove(&kf->link);
  free(kf);
}

void keeper_retain(struct keeper *k, keeper_keep_fn keep, void *arg) {
  for (struct link *l = k->families.next, *next; l != &k->families; l = next) {
    next = l->next;
    struct keeper_family *kf = CONTAINER_OF(l, struct keeper_family, link);
    if (!keep(arg, family_name(kf->family), true)) drop_family(k, kf);
  }
  for (struct link *l = k->slots.next, *next; l != &k->slots; l = next) {
    next = l->next;
    struct slot *s = CONTAINER_OF(l, struct slot, link);
    if (!keep(arg, s->token, s->key.p != NULL)) drop_slot(k, s);
  }
  arm(k);
}

void keeper_part(struct keeper *k) {
  for (struct link *l = k->slots.next, *next; l != &k->slots; l = next) {
    next = l->next;
    struct slot *s = CONTAINER_OF(l, struct slot, link);
    pthread_mutex_lock(&s->mutex);
    bool parts = (s->traits & SLOT_RELEASES) != 0 && !s->fetching;
    pthread_mutex_unlock(&s->mutex);
    if (parts) drop_slot(k, s);
  }
  arm(k);
}

void keeper_slow_down(struct keeper *k, enum keeper_pace pace) { k->pace = pace; }

void keeper_try_again(struct keeper *k) {
  for (struct link *l = k->slots.next; l != &k->slots; l = l->next) slot_try_again(CONTAINER_OF(l, struct slot, link));
}

void keeper_drop_older(struct keeper *k) {
  for (struct link *l = k->slots.next; l != &k->slots; l = l->next) slot_drop_older(CONTAINER_OF(l, struct slot, link));
}

void keeper_each(struct keeper *k, void (*fn)(void *arg, struct slot *s), void *arg) {
  for (struct link *l = k->slots.next; l != &k->slots; l = l->next) fn(arg, CONTAINER_OF(l, struct slot, link));
}

static bool keep_none(void *arg, const char *token_name, bool family) {
  (void)arg, (void)token_name, (void)family;
  return false;
}

void keeper_free(struct keeper *k) {
  assert(k->fetching == 0);
  keeper_retain(k, keep_none, NULL);
  assert(list_empty(&k->slots) && list_empty(&k->families));
  due_fini(&k->due);
  due_fini(&k->sweeps);
  free(k);
}
