/* slot_publish.c: everything that gives a slot a token or takes one away: publication, failure; rejection is in slot_refused.c.
 *
 * Invariants: generations count up by one per publication, for the slot's whole life. A token that was taken away is never current again.
 * A rejection names the generation it is about; it takes away that one or nothing, so any number of 401s for one generation cause
 * one fetch, and a late 401 for an older one causes none. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "token/keeper.h"
#include "token/slot_internal.h"

/* Once each until they read again, so a thread that rests is woken once and not at every refresh. They are few: a handle and its fields in each VM. */
static void tell_readers_locked(struct slot *s) {
  for (struct link *l; (l = list_pop(&s->readers)) != NULL;) {
    struct slot_reader *r = CONTAINER_OF(l, struct slot_reader, link);
    mailbox_post(r->home, &r->mail);
  }
}

static void bump_locked(struct slot *s) {
  atomic_fetch_add_explicit(&s->changes, 1, memory_order_release);
  tell_readers_locked(s);
}

void slot_unpublish_locked(struct slot *s) {
  if (s->current == NULL) return;
  token_unref(s->current); /* not the last reference: s->last has one */
  s->current = NULL;
  if (!s->has_fetch) slot_drop_last_locked(s);
  bump_locked(s);
}

static void drop_brought_locked(struct slot *s) {
  token_unref(s->brought);
  s->brought = NULL;
}

void slot_drop_last_locked(struct slot *s) {
  token_unref(s->last);
  s->last = NULL;
  drop_brought_locked(s);
}

void slot_drop_older_locked(struct slot *s) {
  if (s->older == NULL) return;
  token_unref(s->older);
  s->older = NULL;
  bump_locked(s);
}

void slot_bring_locked(struct slot *s, struct token *t) {
  token_unref(s->brought);
  s->brought = t;
}

/* Exchanges of the policy before may be on their way to servers that the new token is not for. */
static void keep_older_locked(struct slot *s, const struct token *next, int64_t now) {
  if (!slot_valid_locked(s, now) || s->current->bond.epoch == next->bond.epoch ||
      audience_same(s->current->bond.audience, next->bond.audience))
    return;
  token_unref(s->older);
  s->older = token_ref(s->current);
}

/* The refresh may be planned for a time that is over when the fetch took long, or for the next millisecond when the life is tiny: the
 * shortest backoff is the least distance, so that no issuer is asked in a tight loop. */
static int64_t plan_refresh_locked(struct slot *s, int64_t now) {
  const struct token *t = s->current;
  if (!s->has_fetch || t->expires_at == TOKEN_LASTS) return SLOT_NEVER;
  int64_t at = schedule_refresh_at(&s->schedule, t->obtained_at, t->renew_by, &s->rng);
  int64_t distance = s->schedule.backoff_min_ms > 1 ? s->schedule.backoff_min_ms : 1;
  int64_t soonest = t->expires_at - now < distance ? t->expires_at : now + distance;
  return at > soonest ? at : soonest;
}

void slot_publish_locked(struct slot *s, struct token *t, int64_t now) {
  assert(!s->closed && t->generation == 0 && t->obtained_at <= now && now < t->expires_at);
  keep_older_locked(s, t, now);
  token_unref(s->current);
  token_unref(s->last);
  t->generation = ++s->generation;
  s->last = t;
  s->current = token_ref(t);
  drop_brought_locked(s);
  bump_locked(s);
  s->consecutive = 0;
  slot_open_outlook_locked(s);
  s->asked = s->rejected = false;
  refusal_unref(s->refusal);
  s->refusal = NULL;
  s->next_attempt = slot_outdated_locked(s) && s->has_fetch ? now : plan_refresh_locked(s, now);
  slot_gather_locked(s, WAKE_ALL, 0);
  slot_check_locked(s);
}

static bool is_same_login(const struct token *a, const struct token *b) {
  const struct str LOGIN = STR("login");
  if (b->nfields == 0 || a->nfields != b->nfields || !audience_same(a->asked, b->asked)) return false;
  for (unsigned i = 0; i < a->nfields; i++) {
    if (token_bytes(b, a->fields[i].name).p == NULL) return false;
  }
  return str_eq(token_bytes(a, LOGIN), token_bytes(b, LOGIN));
}

/* `old` with other fields. NULL: too large, though both are not. */
static struct token *with_fields(const struct token *old, const struct token *from) {
  struct token *t = token_new(old->value, from->fields, from->nfields);
  if (t == NULL) return NULL;
  t->generation = old->generation;
  t->obtained_at = old->obtained_at;
  t->expires_at = old->expires_at;
  t->renew_by = old->renew_by;
  token_bond_copy(&t->bond, &old->bond);
  t->asked = old->asked != NULL ? audience_ref(old->asked) : NULL;
  return t;
}

bool slot_graft_locked(struct slot *s, const struct token *from) {
  struct token *old = slot_previous_locked(s);
  if (old == NULL || !is_same_login(old, from)) return false;
  struct token *t = with_fields(old, from);
  if (t == NULL) return false; /* the fields are of a login that is about to change */
  if (old == s->brought) {
    slot_bring_locked(s, t);
    return true;
  }
  s->last = t;
  if (s->current != NULL) {
    token_unref(s->current);
    s->current = token_ref(t);
    bump_locked(s);
  }
  token_unref(old);
  slot_check_locked(s);
  return true;
}

/* Whole text or its beginning; control bytes become '?', since it is shown in places that do not escape. */
static void note_text(char *to, size_t size, const char *why) {
  size_t n = strlen(why);
  if (n > size - 1) n = size - 1;
  while (n > 0 && ((unsigned char)why[n] & 0xc0) == 0x80) n--; /* not in the middle of a UTF-8 character */
  for (size_t i = 0; i < n; i++) to[i] = (unsigned char)why[i] < ' ' || why[i] == 0x7f ? '?' : why[i];
  to[n] = '\0';
}

void slot_note_unsaved(struct slot *s, const char *why) {
  pthread_mutex_lock(&s->mutex);
  note_text(s->unsaved, sizeof s->unsaved, why != NULL ? why : "");
  pthread_mutex_unlock(&s->mutex);
}

void slot_note_saving(struct slot *s, bool saving) {
  pthread_mutex_lock(&s->mutex);
  s->saving = saving;
  pthread_mutex_unlock(&s->mutex);
}

static void note_outlook_locked(struct slot *s, const struct slot_failure *f, int64_t now) {
  int64_t since = s->outlook != OUTLOOK_OPEN ? s->permanent_at : now;
  slot_open_outlook_locked(s);
  if (f->outlook == OUTLOOK_OPEN) return;
  s->outlook = f->outlook;
  s->permanent_at = since;
  s->provenance = f->provenance != NULL ? provenance_ref(f->provenance) : NULL;
  s->look_at = now;
}

void slot_fail_locked(struct slot *s, const struct slot_failure *f, int64_t now) {
  s->failures++;
  s->consecutive++;
  note_outlook_locked(s, f, now);
  int64_t wait = schedule_backoff(&s->schedule, s->consecutive, &s->rng);
  int64_t asked = schedule_retry_after(f->retry_ms, &s->rng);
  if (f->outlook != OUTLOOK_OPEN) {
    int64_t permanent = schedule_permanent(&s->schedule, &s->rng);
    if (asked < permanent) asked = permanent;
  }
  s->asked_off = f->outlook == OUTLOOK_SPENT ? SLOT_NEVER : now + asked;
  s->next_attempt = !s->has_fetch || f->outlook == OUTLOOK_SPENT ? SLOT_NEVER : now + (asked > wait ? asked : wait);
  note_text(s->last_error, sizeof s->last_error, f->why);
  slot_gather_locked(s, WAKE_ONE_ATTEMPT, ERR_TOKEN_MISSING);
  slot_gather_locked(s, WAKE_HOPELESS, ERR_TOKEN_MISSING);
  slot_check_locked(s);
}

const char *slot_set(struct slot *s, const struct fetch_result *r) {
  pthread_mutex_lock(&s->mutex);
  int64_t leeway_ms = s->schedule.leeway_ms, sent = s->clock();
  struct token_bond bond;
  token_bond_copy(&bond, &s->bond);
  pthread_mutex_unlock(&s->mutex);

  const char *why = NULL;
  struct result_times times = {sent, sent, clock_wall_ms(), leeway_ms};
  struct token *t = result_token(r, &times, &why);
  if (t != NULL) {
    t->bond = bond; /* but for the audience: the policy that sets it says who may receive it */
    t->bond.audience = r->bond.audience != NULL ? audience_ref(r->bond.audience) : NULL;
    t->bond.sealed = r->bond.sealed;
  }
  token_bond_fini(&bond);
  if (t == NULL) return why;

  pthread_mutex_lock(&s->mutex);
  int64_t now = s->clock();
  bool over = now >= t->expires_at, closed = s->closed;
  if (!over && !closed) {
    slot_publish_locked(s, t, now);
    slot_post_locked(s); /* the keeper's timer has a new expiry to watch */
  }
  pthread_mutex_unlock(&s->mutex);
  if (over || closed) {
    token_unref(t);
    return closed ? "the token is no longer part of any policy" : "the token had expired before it arrived";
  }
  slot_wake(s);
  return NULL;
}
