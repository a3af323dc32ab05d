/* slot_refused.c: what becomes of a slot when upstreams refuse its token.
 *
 * Invariants: a token that was taken away is never current again. A rejection names the generation it is about; it takes away that one or nothing, so any number of
 * 401s for one generation cause one fetch, and a late 401 for an older one causes none.
 *
 * A refusal that repeats with a fresh generation is charged to its path and client (accounts.h), and the token goes on. What is left for the slot is to bound the
 * fetches that many paths and clients can cause together: SLOT_VAIN_FREE generations that were refused at once as well are free, the ones behind them damp the whole
 * token, 1 s, doubled to a minute, and 4 s at the most while it is accepted elsewhere. A quiet minute ends that. */
#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "token/keeper.h"
#include "token/slot_internal.h"

uint64_t slot_account(const struct slot *s, struct str path, struct str client) {
  uint64_t both[2] = {hash_keyed(&s->account_key, path), hash_keyed(&s->account_key, client)};
  return hash_keyed(&s->account_key, (struct str){(const char *)both, sizeof both});
}

enum refusal_kind { REFUSAL_OLD, REFUSAL_TAKES, REFUSAL_KEEPS, REFUSAL_SAME };

/* Once a generation, or the log would be as long as the upstream's. */
static void report_refusal(const struct slot *s, uint64_t generation, enum refusal_kind kind, int64_t age_ms) {
  char source[80];
  if (kind == REFUSAL_OLD) return;
  (void)snprintf(source, sizeof source, "token %s", slot_name(s));
  log_from(LOG_WARN, source, "an upstream refused generation %llu, %lld s after it was fetched; %s",
           (unsigned long long)generation, (long long)(age_ms / 1000),
           kind == REFUSAL_TAKES  ? "it is fetched anew"
           : kind == REFUSAL_SAME ? "its secret is what it was, it goes on"
                                  : "there is no fetch to replace it, it goes on");
}

/* Looked for outside of the mutex, since a file system may take its time. False as well when it is not constant. */
static bool is_as_it_was(struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  bool constant = (s->traits & SLOT_CONSTANT) != 0;
  struct provenance *o = constant && s->provenance != NULL ? provenance_ref(s->provenance) : NULL;
  pthread_mutex_unlock(&s->mutex);
  bool same = constant && !provenance_changed(o);
  provenance_unref(o);
  return same;
}

static void take_away_locked(struct slot *s, const struct slot_refused *by) {
  slot_unpublish_locked(s);
  s->rejected = true;
  s->rejections++;
  refusal_unref(s->refusal);
  s->refusal = by != NULL && by->reply != NULL ? by->reply(by->arg) : NULL;
}

void slot_revoke_locked(struct slot *s, uint64_t generation) {
  if (atomic_load_explicit(&s->revoked, memory_order_relaxed) < generation)
    atomic_store_explicit(&s->revoked, generation, memory_order_relaxed);
}

bool slot_revoked(const struct slot *s, uint64_t generation) {
  return generation <= atomic_load_explicit(&s->revoked, memory_order_relaxed);
}

enum slot_rejected slot_reject_by(struct slot *s, uint64_t generation, const struct slot_refused *by) {
  enum slot_rejected outcome = SLOT_REFRESHES;
  enum refusal_kind refusal = REFUSAL_OLD;
  uint64_t account = by != NULL ? by->account : 0;
  bool same = is_as_it_was(s);
  pthread_mutex_lock(&s->mutex);
  assert(generation <= s->generation);
  int64_t now = s->clock();
  bool valid = slot_valid_locked(s, now);
  int64_t age = valid ? now - s->current->obtained_at : 0;
  if (s->closed) {
    outcome = SLOT_DAMPED;
  } else if (valid && s->current->generation != generation) {
    outcome = SLOT_MOVED_ON;
  } else if (valid && (now < s->vain.until || accounts_damped(&s->accounts, account, now))) {
    outcome = SLOT_DAMPED;
  } else if (valid &&
             (!s->has_fetch || same)) { /* it cannot be replaced: one path's 401 must not take it from all others */
    if (!s->rejected) refusal = same ? REFUSAL_SAME : REFUSAL_KEEPS;
    if (!s->rejected) s->rejections++;
    s->rejected = true;
    outcome = SLOT_DAMPED;
  } else {
    if (valid) {
      take_away_locked(s, by);
      refusal = REFUSAL_TAKES;
    }
    slot_ask_locked(s, now);
  }
  if (outcome != SLOT_DAMPED) slot_revoke_locked(s, generation);
  slot_check_locked(s);
  pthread_mutex_unlock(&s->mutex);
  report_refusal(s, generation, refusal, age);
  return outcome;
}

static void note_unproven_locked(struct slot *s, int64_t now) {
  bool any = !s->vain.proven && now < s->vain.until;
  uint64_t bits = any ? UINT64_MAX : accounts_unproven(&s->accounts, now);
  atomic_store_explicit(&s->unproven, bits, memory_order_relaxed);
}

/* Once a generation, however many paths and clients share it: it is one fetch that was in vain. */
static void count_vain_locked(struct slot *s, uint64_t generation, int64_t now) {
  struct damping *v = &s->vain;
  if (generation <= v->generation) return;
  if (now > v->at + DAMP_MAX_MS && now > v->until + DAMP_MAX_MS) v->level = 0; /* quiet for long: a new story */
  v->level++;
  v->generation = generation;
  v->at = now;
  v->until = v->level > SLOT_VAIN_FREE ? now + damp_ms(v->level - SLOT_VAIN_FREE) : now;
  v->proven = false;
}

/* A hundred replays that waited for one refresh are refused a hundred times, which is one piece of news. */
int64_t slot_replay_refused(struct slot *s, uint64_t generation, uint64_t account) {
  int64_t damped = 0;
  pthread_mutex_lock(&s->mutex);
  if (!s->closed) {
    int64_t now = s->clock();
    damped = accounts_charge(&s->accounts, account, generation, now);
    count_vain_locked(s, generation, now);
    note_unproven_locked(s, now);
  }
  pthread_mutex_unlock(&s->mutex);
  return damped;
}

bool slot_is_charged(const struct slot *s) { return atomic_load_explicit(&s->unproven, memory_order_relaxed) != 0; }

static void prove_locked(struct damping *v, uint64_t generation) {
  if (generation < v->generation) return;
  int64_t most = v->at + DAMP_PROVEN_MS;
  if (v->until > most) v->until = most;
  while (v->level > SLOT_VAIN_FREE && damp_ms(v->level - SLOT_VAIN_FREE) > DAMP_PROVEN_MS) v->level--;
  v->proven = true;
}

/* A generation not older than the refused one works: the refusals were for another reason, or the issuer's news had not come around. A real revocation must not be
 * taken for one of them for as long as a minute. */
void slot_accepted_by(struct slot *s, uint64_t generation, uint64_t account) {
  if ((atomic_load_explicit(&s->unproven, memory_order_relaxed) >> account % 64 & 1) == 0) return;
  pthread_mutex_lock(&s->mutex);
  accounts_accept(&s->accounts, account, generation);
  prove_locked(&s->vain, generation);
  note_unproven_locked(s, s->clock());
  pthread_mutex_unlock(&s->mutex);
}
