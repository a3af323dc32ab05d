/* slot_wait.c: requests that wait for a token, and those that ask for one.
 *
 * Invariant: a waiter that slot_wait took is in exactly one place until its end: `waiters`, `woken`, its home's mailbox. The first two are
 * guarded by the slot's mutex and it moves on to the third under that same mutex; so slot_wait_cancel, which searches all of them on home's thread, misses
 * none, and no callback runs twice. */
#include <assert.h>

#include "base/err.h"
#include "token/slot_internal.h"

enum { WAKE_BATCH = 64 };

/* Home's thread. */
static void on_woken(struct mail *m) {
  struct slot_waiter *w = CONTAINER_OF(m, struct slot_waiter, mail);
  struct slot *s = w->slot;
  int status = w->status;
  assert(s != NULL && list_empty(&w->link));
  w->slot = NULL; /* before done: it may wait anew, or free the waiter */
  w->done(w, status);
  slot_unref(s);
}

static void enlist_locked(struct slot *s, struct slot_waiter *w, struct mailbox *home, bool one_attempt) {
  assert(w->slot == NULL && w->done != NULL);
  mail_init(&w->mail, on_woken);
  w->slot = slot_ref(s);
  w->home = home;
  w->one_attempt = one_attempt;
  w->woken = false;
  w->status = 0;
  list_push(&s->waiters, &w->link);
  s->nwaiters++;
}

int slot_wait(struct slot *s, struct slot_waiter *w, struct mailbox *home, unsigned max_waiters) {
  int result = 0;
  pthread_mutex_lock(&s->mutex);
  int64_t now = s->clock();
  if (s->closed) {
    result = UV_ECANCELED;
  } else if (slot_valid_locked(s, now) && (s->current->generation > w->beyond || !s->has_fetch)) {
    result = 1;
  } else if (slot_hopeless_locked(s, w->until)) {
    result = ERR_TOKEN_MISSING;
    slot_ask_locked(s, now); /* of a family that is what the next attempt comes for */
  } else if (s->nwaiters >= max_waiters) {
    result = ERR_LIMIT;
  } else {
    enlist_locked(s, w, home, false);
    slot_ask_locked(s, now);
  }
  slot_check_locked(s);
  pthread_mutex_unlock(&s->mutex);
  return result;
}

void slot_want(struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  int64_t now = s->clock();
  if (!slot_valid_locked(s, now)) slot_ask_locked(s, now);
  pthread_mutex_unlock(&s->mutex);
}

static void refresh_locked(struct slot *s) {
  if (s->closed || !s->has_fetch) return;
  if (s->fetching && s->clock() - s->began_at < SLOT_SLOW_MS) return;
  s->manual = true;
  slot_post_locked(s);
}

void slot_refresh(struct slot *s) {
  pthread_mutex_lock(&s->mutex);
  refresh_locked(s);
  pthread_mutex_unlock(&s->mutex);
}

int slot_refresh_wait(struct slot *s, struct slot_waiter *w, struct mailbox *home, unsigned max_waiters) {
  int result = 0;
  pthread_mutex_lock(&s->mutex);
  if (s->closed) {
    result = UV_ECANCELED;
  } else if (!s->has_fetch) {
    result = UV_ENOTSUP;
  } else if (s->nwaiters >= max_waiters) {
    result = ERR_LIMIT;
  } else {
    enlist_locked(s, w, home, true);
    refresh_locked(s);
  }
  pthread_mutex_unlock(&s->mutex);
  return result;
}

void slot_gather_locked(struct slot *s, enum wake which, int status) {
  for (struct link *l = s->waiters.next, *next; l != &s->waiters; l = next) {
    next = l->next;
    struct slot_waiter *w = CONTAINER_OF(l, struct slot_waiter, link);
    if (which == WAKE_ONE_ATTEMPT && !w->one_attempt) continue;
    if (which == WAKE_HOPELESS && !slot_hopeless_locked(s, w->until)) continue;
    list_remove(l);
    list_push(&s->woken, l);
    w->woken = true;
    w->status = status;
    s->nwaiters--;
  }
}

void slot_wake(struct slot *s) {
  for (bool more = true; more;) {
    pthread_mutex_lock(&s->mutex);
    for (unsigned i = 0; i < WAKE_BATCH; i++) {
      struct link *l = list_pop(&s->woken);
      if (l == NULL) break;
      struct slot_waiter *w = CONTAINER_OF(l, struct slot_waiter, link);
      mailbox_post(w->home, &w->mail); /* from here on w is its home thread's alone */
    }
    more = !list_empty(&s->woken);
    pthread_mutex_unlock(&s->mutex);
  }
}

void slot_wait_cancel(struct slot_waiter *w) {
  struct slot *s = w->slot;
  if (s == NULL) return;
  pthread_mutex_lock(&s->mutex);
  if (list_empty(&w->link)) {
    bool taken_back = mailbox_cancel(w->home, &w->mail);
    assert(taken_back);
    (void)taken_back;
  } else {
    if (!w->woken) s->nwaiters--;
    list_remove(&w->link);
  }
  slot_check_locked(s);
  pthread_mutex_unlock(&s->mutex);
  w->slot = NULL;
  slot_unref(s);
}
