/* slot.c: the life of a slot, reading it, and its facts. Waiting is in slot_wait.c, what changes the token in slot_publish.c.
 *
 * The essay behind jeton tried actors for this: messages made requests wait during a refresh. A plain value behind a lock does not,
 * and a change counter in front of the lock makes the steady state one load and two compares. The counter is not the generation: it also
 * moves when a token is taken away (rejected, expired, closed), so a reader can never go on serving one that is gone.
 * Expiry needs no event at all: the reader compares it with the time at each call. */
#include "token/slot.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/must.h"
#include "token/slot_internal.h"

/* "tenant[acme]"; the key comes from requests, so it is made printable here, once for all logs. */
static char *display_name(struct str token, struct str key) {
  if (key.p == NULL) return must_dup(token);
  char *z = must_malloc(token.n + key.n + 3);
  memcpy(z, token.p, token.n);
  char *at = z + token.n;
  *at++ = '[';
  for (size_t i = 0; i < key.n; i++) *at++ = key.p[i] >= ' ' && key.p[i] <= '~' ? key.p[i] : '?';
  *at++ = ']';
  *at = '\0';
  return z;
}

struct slot *slot_new(struct str name, struct str key) {
  return slot_new_of(name, key, key, NULL);
}

struct slot *slot_new_of(struct str name, struct str key, struct str shown, struct slot_data *data) {
  struct slot *s = must_calloc(1, sizeof *s);
  atomic_init(&s->refs, 1);
  atomic_init(&s->changes, 0);
  atomic_init(&s->unproven, 0);
  hash_key_init(&s->account_key);
  atomic_init(&s->revoked, 0);
  s->token = must_dup(name);
  s->name = display_name(name, shown);
  s->data = data != NULL ? slot_data_ref(data) : NULL;
  if (key.p != NULL) s->key = (struct str){must_dup(key), key.n};
  s->clock = clock_boot_ms;
  pthread_mutex_init(&s->mutex, NULL);
  list_init(&s->waiters);
  list_init(&s->woken);
  list_init(&s->readers);
  list_init(&s->link);
  s->next_attempt = s->slow_at = SLOT_NEVER;
  s->schedule = schedule_default;
  rng_seed(&s->rng, 0);
  return s;
}

struct slot *slot_ref(struct slot *s) {
  atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
  return s;
}

void slot_unref(struct slot *s) {
  if (s == NULL) return;
  unsigned before = atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel);
  assert(before > 0);
  if (before > 1) return;
  assert(list_empty(&s->waiters) && list_empty(&s->woken) && list_empty(&s->readers) && !s->posted && !s->known &&
         s->due.place == 0);
  token_unref(s->current);
  token_unref(s->last);
  token_unref(s->older);
  token_unref(s->brought);
  token_unref(s->parting);
  token_bond_fini(&s->bond);
  provenance_unref(s->provenance);
  refusal_unref(s->refusal);
  accounts_fini(&s->accounts);
  pthread_mutex_destroy(&s->mutex);
  must_free(s->key.p);
  slot_data_unref(s->data);
  free(s->token);
  free(s->name);
  free(s);
}

const char *slot_name(const struct slot *s) { return s->name; }
const char *slot_token_name(const struct slot *s) { return s->token; }
struct slot_data *slot_data_of(const struct slot *s) {
  return s->data;
}
struct str slot_key(const struct slot *s) {
  return s->key;
}
void slot_use_clock(struct slot *s, int64_t (*clock)(void)) { s->clock = clock; }

/* --- reading --- */

static void let_go(struct slot_reader *r) {
  token_unref(r->token);
  token_unref(r->older);
  r->token = r->older = NULL;
}

/* Home's thread. Nothing has been read since the change, or the mail would have been taken back. Who reads next catches up, as after any change. */
static void on_changed(struct mail *m) {
  struct slot_reader *r = CONTAINER_OF(m, struct slot_reader, mail);
  let_go(r);
  r->seen = SLOT_UNSEEN;
}

void slot_reader_init(struct slot_reader *r, struct slot *s) {
  *r = (struct slot_reader){.slot = slot_ref(s)};
  mail_init(&r->mail, on_changed);
  list_init(&r->link);
}

void slot_reader_at_home(struct slot_reader *r, struct mailbox *home) {
  assert(r->home == NULL && r->seen == 0);
  r->home = home;
}

/* Takes it out of the list, or its mail back: it is in one of the two at the most. */
static void unlist_locked(struct slot_reader *r) {
  if (!list_empty(&r->link))
    list_remove(&r->link);
  else
    (void)mailbox_cancel(r->home, &r->mail);
}

void slot_reader_fini(struct slot_reader *r) {
  if (r->home != NULL) {
    pthread_mutex_lock(&r->slot->mutex);
    unlist_locked(r);
    pthread_mutex_unlock(&r->slot->mutex);
  }
  let_go(r);
  slot_unref(r->slot);
  *r = (struct slot_reader){0};
}

static void reader_catch_up(struct slot_reader *r) {
  struct slot *s = r->slot;
  struct token *old = r->token, *older = r->older;
  pthread_mutex_lock(&s->mutex);
  r->token = s->current != NULL ? token_ref(s->current) : NULL;
  r->older = s->older != NULL ? token_ref(s->older) : NULL;
  r->seen = atomic_load_explicit(&s->changes, memory_order_relaxed);
  if (r->home != NULL) {
    unlist_locked(r);
    if (r->token != NULL || r->older != NULL) list_push(&s->readers, &r->link);
  }
  pthread_mutex_unlock(&s->mutex);
  assert(r->token == NULL || old == NULL || r->token->generation >= old->generation); /* the same: slot_graft */
  token_unref(old);
  token_unref(older);
}

struct token *slot_read(struct slot_reader *r, int64_t now_boot_ms) {
  /* Acquire: a reader that has seen a counter has seen everything that happened before that change. */
  if (atomic_load_explicit(&r->slot->changes, memory_order_acquire) != r->seen) reader_catch_up(r);
  struct token *t = r->token;
  if (t == NULL || now_boot_ms < t->expires_at) return t;
  r->token = NULL; /* over for good: let go now, so that its bytes are wiped soon */
  token_unref(t);
  return NULL;
}

struct token *slot_read_older(const struct slot_reader *r, int64_t now_boot_ms) {
  struct token *t = r->older;
  return t != NULL && now_boot_ms < t->expires_at ? t : NULL;
}

bool slot_outdated(struct slot *s, unsigned epoch) {
  pthread_mutex_lock(&s->mutex);
  bool outdated = epoch != s->bond.epoch && s->has_fetch && !s->closed;
  pthread_mutex_unlock(&s->mutex);
  return outdated;
}

bool slot_serves(struct slot *s, uint64_t generation) {
  pthread_mutex_lock(&s->mutex);
  int64_t now = s->clock();
  const struct token *older = s->older; /* for exchanges of a policy that was replaced */
  bool serves = (slot_valid_locked(s, now) && s->current->generation == generation) ||
                (older != NULL && older->generation == generation && now < older->expires_at);
  pthread_mutex_unlock(&s->mutex);
  return serves;
}

/* --- facts --- */

const char *slot_state_name(enum slot_state s) {
  static const char *const names[] = {"empty", "fetching", "valid", "refreshing", "failing", "expired", "closed"};
  return names[s];
}

static enum slot_state state_locked(const struct slot *s, int64_t now) {
  if (s->closed) return SLOT_CLOSED;
  bool valid = slot_valid_locked(s, now);
  if (s->fetching) return valid ? SLOT_REFRESHING : SLOT_FETCHING;
  if (s->consecutive > 0) return SLOT_FAILING;
  if (valid) return SLOT_VALID;
  return s->generation > 0 ? SLOT_EXPIRED : SLOT_EMPTY;
}

const char *fetch_reason_name(enum fetch_reason r) {
  static const char *const names[] = {"first", "expiring", "rejected", "manual", "changed"};
  return names[r];
}

static int64_t next_attempt_in_locked(const struct slot *s, int64_t now) {
  if (s->closed || !s->has_fetch || s->fetching) return -1;
  if (s->manual) return 0;
  if (s->next_attempt == SLOT_NEVER) return -1;
  return s->next_attempt > now ? s->next_attempt - now : 0;
}

void slot_facts(struct slot *s, int64_t now_boot_ms, struct slot_facts *out) {
  pthread_mutex_lock(&s->mutex);
  out->state = state_locked(s, now_boot_ms);
  out->valid = slot_valid_locked(s, now_boot_ms);
  out->has_fetch = s->has_fetch;
  out->constant = (s->traits & SLOT_CONSTANT) != 0;
  out->lasts = out->valid && s->current->expires_at == TOKEN_LASTS;
  out->generation = s->generation;
  out->expires_in_ms = out->valid ? s->current->expires_at - now_boot_ms : 0;
  out->fetching_ms = s->fetching ? now_boot_ms - s->began_at : -1;
  out->reason = s->reason;
  out->next_attempt_ms = next_attempt_in_locked(s, now_boot_ms);
  out->fetches = s->fetches;
  out->failures = s->failures;
  out->rejections = s->rejections;
  out->consecutive_failures = s->consecutive;
  out->outlook = s->outlook;
  out->permanent_ms = s->outlook != OUTLOOK_OPEN ? now_boot_ms - s->permanent_at : -1;
  out->waiters = s->nwaiters;
  out->saving = s->saving;
  memcpy(out->last_error, s->last_error, sizeof out->last_error);
  memcpy(out->unsaved, s->unsaved, sizeof out->unsaved);
  pthread_mutex_unlock(&s->mutex);
}

unsigned slot_retry_after(struct slot *s, int64_t now_boot_ms) {
  pthread_mutex_lock(&s->mutex);
  int64_t ms = next_attempt_in_locked(s, now_boot_ms);
  if (ms < 0 && !s->fetching && s->outlook == OUTLOOK_SPENT) ms = SLOT_SPENT_RETRY_S * 1000;
  pthread_mutex_unlock(&s->mutex);
  return ms <= 1000 ? 1 : (unsigned)((ms + 999) / 1000);
}

/* --- for the keeper and the family --- */

bool slot_valid_locked(const struct slot *s, int64_t now) { return s->current != NULL && now < s->current->expires_at; }

bool slot_outdated_locked(const struct slot *s) { return s->last != NULL && s->last->bond.epoch != s->bond.epoch; }

void slot_check_locked(const struct slot *s) {
  assert(s->current == NULL || s->current == s->last);
  assert(s->last == NULL || s->last->generation == s->generation);
  assert((s->nwaiters == 0) == list_empty(&s->waiters));
  assert(s->older == NULL || s->last == NULL || s->older->bond.epoch < s->last->bond.epoch);
  assert(s->has_fetch || s->current == s->last);
  assert(!s->closed || (s->last == NULL && s->brought == NULL && s->nwaiters == 0));
  assert(s->outlook == OUTLOOK_OPEN || s->consecutive > 0);
  assert(!s->posted || s->inbox != NULL);
  (void)s;
}

void slot_open_outlook_locked(struct slot *s) {
  s->outlook = OUTLOOK_OPEN;
  provenance_unref(s->provenance);
  s->provenance = NULL;
}

bool slot_hopeless_locked(const struct slot *s, int64_t until) {
  return until != 0 && s->has_fetch && !s->fetching && !s->manual && s->consecutive > 0 && s->next_attempt >= until;
}

void slot_post_locked(struct slot *s) {
  if (s->posted || s->inbox == NULL) return;
  s->posted = true;
  slot_ref(s);
  mailbox_post(s->inbox, &s->mail);
}

/* Without failures the next attempt may come at once; after one only the backoff's end counts, however many ask. */
void slot_ask_locked(struct slot *s, int64_t now) {
  if (s->closed) return;
  s->asked = true;
  if (!s->has_fetch || s->fetching) return;
  if (s->consecutive == 0 && s->next_attempt > now) s->next_attempt = now;
  if (s->next_attempt <= now) slot_post_locked(s);
}

void slot_attach(struct slot *s, const struct slot_home *home) {
  pthread_mutex_lock(&s->mutex);
  assert(s->inbox == NULL && !s->closed);
  s->inbox = home->inbox;
  s->keeper = home->keeper;
  mail_init(&s->mail, home->deliver);
  s->schedule = home->schedule;
  s->has_fetch = home->has_fetch;
  s->leaving = home->leaving;
  rng_seed(&s->rng, home->seed);
  if (s->asked && !slot_valid_locked(s, s->clock())) slot_ask_locked(s, s->clock());
  pthread_mutex_unlock(&s->mutex);
}

static bool same_schedule(const struct schedule *a, const struct schedule *b) {
  return a->refresh_fraction == b->refresh_fraction && a->refresh_before_ms == b->refresh_before_ms &&
         a->jitter == b->jitter && a->leeway_ms == b->leeway_ms && a->backoff_min_ms == b->backoff_min_ms &&
         a->backoff_max_ms == b->backoff_max_ms;
}

/* When the plan by new settings lies in the past, the old plan stands for the token at hand: a reload must not make every slot fetch. */
static void replan_locked(struct slot *s, int64_t now) {
  if (s->consecutive > 0) {
    int64_t latest = now + schedule_backoff_max(&s->schedule);
    if (latest < s->asked_off) latest = s->asked_off;
    if (s->next_attempt > latest) s->next_attempt = latest;
  } else if (slot_valid_locked(s, now) && !slot_outdated_locked(s) && s->current->expires_at != TOKEN_LASTS) {
    int64_t at = schedule_refresh_at(&s->schedule, s->current->obtained_at, s->current->renew_by, &s->rng);
    if (at > now || s->next_attempt == SLOT_NEVER) s->next_attempt = at;
  }
}

void slot_configure(struct slot *s, const struct schedule *schedule, bool has_fetch) {
  pthread_mutex_lock(&s->mutex);
  int64_t now = s->clock();
  bool gained = has_fetch && !s->has_fetch, changed = gained || !same_schedule(&s->schedule, schedule);
  s->schedule = *schedule;
  s->has_fetch = has_fetch;
  s->leaving = false;
  if (gained) { /* failures of another fetch: this one has had no attempt yet */
    s->consecutive = 0;
    slot_open_outlook_locked(s);
  }
  if (!has_fetch) {
    s->next_attempt = SLOT_NEVER;
    slot_open_outlook_locked(s);
    s->manual = false;
    if (s->current == NULL) slot_drop_last_locked(s);
    if (!s->fetching) slot_gather_locked(s, WAKE_ONE_ATTEMPT, ERR_TOKEN_MISSING);
  } else if (changed) {
    replan_locked(s, now);
  }
  if (gained && s->asked && !slot_valid_locked(s, now)) slot_ask_locked(s, now);
  pthread_mutex_unlock(&s->mutex);
  slot_wake(s);
}

/* Failures and refusals were another fetch's: the new one has had no attempt yet. */
void slot_bind(struct slot *s, const struct token_bond *bond) {
  pthread_mutex_lock(&s->mutex);
  bool first = s->bond.epoch == 0;
  if (!s->closed && (first || !token_bond_same(&s->bond, bond))) {
    unsigned epoch = s->bond.epoch + 1;
    token_bond_fini(&s->bond);
    token_bond_copy(&s->bond, bond);
    s->bond.epoch = epoch;
    if (!first) {
      int64_t now = s->clock();
      if (s->generation > 0 || s->consecutive > 0 || s->next_attempt != SLOT_NEVER) s->next_attempt = now;
      s->consecutive = 0;
      slot_open_outlook_locked(s);
      s->vain = (struct damping){0};
      accounts_fini(&s->accounts);
      if (s->has_fetch && !s->fetching) slot_post_locked(s);
    }
  }
  pthread_mutex_unlock(&s->mutex);
}

void slot_drop_older(struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  slot_drop_older_locked(s);
  pthread_mutex_unlock(&s->mutex);
}

void slot_leave(struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  s->leaving = true;
  pthread_mutex_unlock(&s->mutex);
}

void slot_try_again(struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  int64_t now = s->clock();
  if (s->consecutive > 0 && s->has_fetch && !s->closed && s->next_attempt > now) {
    slot_open_outlook_locked(s);
    s->next_attempt = now;
    slot_post_locked(s);
  }
  pthread_mutex_unlock(&s->mutex);
}

void slot_set_traits(struct slot *s, unsigned traits) {
  pthread_mutex_lock(&s->mutex);
  s->traits = traits;
  pthread_mutex_unlock(&s->mutex);
}

void slot_recheck(struct slot *s) {
  slot_try_again(s);
  pthread_mutex_lock(&s->mutex);
  if ((s->traits & SLOT_CONSTANT) != 0 && s->has_fetch && !s->closed) {
    s->recheck = true;
    slot_post_locked(s);
  }
  pthread_mutex_unlock(&s->mutex);
}

/* What has ended by itself needs no release, unless fields came with it: a refresh token outlives its access token. */
static struct token *parting_locked(const struct slot *s) {
  struct token *t = slot_previous_locked(s);
  if ((s->traits & SLOT_RELEASES) == 0 || t == NULL) return NULL;
  return s->clock() < t->expires_at || t->nfields > 0 ? token_ref(t) : NULL;
}

void slot_close(struct slot *s, bool tell_keeper) {
  pthread_mutex_lock(&s->mutex);
  if (!s->closed) {
    s->parting = parting_locked(s);
    slot_unpublish_locked(s);
    slot_drop_older_locked(s);
    slot_drop_last_locked(s);
    s->closed = true;
    slot_revoke_locked(s, UINT64_MAX);
    slot_gather_locked(s, WAKE_ALL, UV_ECANCELED);
    if (tell_keeper && s->known) slot_post_locked(s);
    slot_check_locked(s);
  }
  pthread_mutex_unlock(&s->mutex);
  slot_wake(s);
}

/* References can only come from holders of references, so "no other reference" stays true while the family's mutex keeps new ones from being handed out.
 * Waiters, running fetches and mail under way hold one each, so they count as interest. */
bool slot_in_use(struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  unsigned ours = 1 + (s->known ? 1u : 0u);
  bool used = atomic_load_explicit(&s->refs, memory_order_acquire) > ours;
  pthread_mutex_unlock(&s->mutex);
  return used;
}
