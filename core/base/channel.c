/* channel.c: see channel.h.
 *
 * One lock for all channels of a process. An operation may have arms on several, and under one lock matching it, unlinking its other arms and
 * cancelling it are each one step: an arm that is in a list can be fired, always. With a lock for each channel a matched operation would leave dead arms in the
 * others' lists, to be told from live ones by a flag that is claimed atomically, and what is ready could change while it is counted. The lock is
 * held for some list operations, and for posting a mail; items are made and freed outside of it. spec/unit/channel_test.c prints what a send costs, alone
 * and with eight threads.
 *
 * Invariants, whenever the lock is free:
 *  - receivers wait only at a channel that is open and holds nothing, where no sender waits;
 *  - senders wait only at a channel that is open and holds `capacity` items or more (more: some were handed back);
 *  - a wait is in the lists of all its arms and has no mail posted, or in none and has been posted once.
 * Lock order: the registry's mutex (base/named.h), this lock, a mailbox's. A wait holds references to its channels through its owner. */
#include "base/channel.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"

struct channels {
  struct named named;
  pthread_mutex_t lock; /* guards the lists, items and state of every channel, and `open` */
  unsigned open;        /* channels */
  atomic_size_t bytes;  /* relaxed: a sum, nothing follows from it */
};

struct channel {
  struct named named;
  /* immutable */
  struct channels *all;
  unsigned capacity;
  bool surplus; /* made when there were CHANNELS_MAX */
  /* guarded by all->lock */
  bool closed;
  uint64_t accepted; /* items, ever: the number of the next */
  size_t length;
  struct link items;
  struct link senders, receivers; /* arms */
};

static void lock(struct channels *all) {
  if (pthread_mutex_lock(&all->lock) != 0) abort();
}
static void unlock(struct channels *all) {
  if (pthread_mutex_unlock(&all->lock) != 0) abort();
}

static struct channel_arm *arm_of(struct link *l) { return CONTAINER_OF(l, struct channel_arm, link); }
static struct channel_arm *first(struct link *arms) { return list_empty(arms) ? NULL : arm_of(arms->next); }

/* --- firing, under the lock --- */

static void unlink_arms(struct channel_wait *w) {
  for (unsigned i = 0; i < w->n; i++) list_remove(&w->arms[i].link);
  w->waiting = false;
}

/* The arm of a wait: from the post on it is its home thread's alone. */
static void fire(struct channel_arm *arm, bool taken) {
  struct channel_wait *w = arm->wait;
  arm->taken = taken;
  w->fired = (unsigned)(arm - w->arms);
  unlink_arms(w);
  mailbox_post(w->home, &w->mail);
}

static void hold(struct channel *ch, struct channel_item *item) {
  list_push(&ch->items, &item->link);
  ch->length++;
}

static void accept_item(struct channel *ch, struct channel_arm *sender) {
  sender->item->number = ch->accepted++;
  struct channel_arm *receiver = first(&ch->receivers);
  if (receiver != NULL) {
    receiver->item = sender->item;
    fire(receiver, true);
  } else {
    hold(ch, sender->item);
  }
  sender->item = NULL;
}

/* A place has become free: the sender that has waited longest takes it. */
static void refill(struct channel *ch) {
  struct channel_arm *sender;
  while (ch->length < ch->capacity && (sender = first(&ch->senders)) != NULL) {
    accept_item(ch, sender);
    fire(sender, true);
  }
}

static bool can_fire(const struct channel_arm *arm) {
  const struct channel *ch = arm->channel;
  if (ch->closed) return true;
  if (arm->sends) return !list_empty(&ch->receivers) || ch->length < ch->capacity;
  return ch->length > 0 || !list_empty(&ch->senders);
}

static bool fire_send(struct channel_arm *arm) {
  if (arm->channel->closed) return false;
  accept_item(arm->channel, arm);
  return true;
}

static bool fire_receive(struct channel_arm *arm) {
  struct channel *ch = arm->channel;
  struct link *l = list_pop(&ch->items);
  struct channel_arm *sender = first(&ch->senders);
  if (l != NULL) {
    arm->item = CONTAINER_OF(l, struct channel_item, link);
    ch->length--;
    refill(ch);
  } else if (sender != NULL) { /* capacity 0: they meet */
    arm->item = sender->item;
    arm->item->number = ch->accepted++;
    sender->item = NULL;
    fire(sender, true);
  }
  return arm->item != NULL;
}

static int try_arms(struct channel_arm *arms, unsigned n, struct rng *rng) {
  unsigned candidates = 0;
  for (unsigned i = 0; i < n; i++) candidates += can_fire(&arms[i]);
  if (candidates == 0) return UV_EAGAIN;
  uint64_t pick = candidates > 1 ? rng_next(rng) % candidates : 0;
  unsigned i = 0;
  for (;; i++) {
    if (can_fire(&arms[i]) && pick-- == 0) break;
  }
  arms[i].taken = arms[i].sends ? fire_send(&arms[i]) : fire_receive(&arms[i]);
  return (int)i;
}

/* --- operations --- */

int channel_try(struct channel_arm *arms, unsigned n, struct rng *rng) {
  assert(n > 0);
  struct channels *all = arms[0].channel->all;
  lock(all);
  int fired = try_arms(arms, n, rng);
  unlock(all);
  return fired;
}

static void on_fired(struct mail *m) {
  struct channel_wait *w = CONTAINER_OF(m, struct channel_wait, mail);
  w->done(w);
}

static void enlist(struct channel_wait *w) {
  mail_init(&w->mail, on_fired);
  w->waiting = true;
  for (unsigned i = 0; i < w->n; i++) {
    struct channel_arm *arm = &w->arms[i];
    arm->wait = w;
    list_push(arm->sends ? &arm->channel->senders : &arm->channel->receivers, &arm->link);
  }
}

int channel_wait(struct channel_wait *w, struct rng *rng) {
  assert(w->n > 0);
  struct channels *all = w->arms[0].channel->all;
  lock(all);
  int fired = try_arms(w->arms, w->n, rng);
  if (fired == UV_EAGAIN) enlist(w);
  unlock(all);
  return fired;
}

void channel_defer(struct channel_wait *w, unsigned fired) {
  mail_init(&w->mail, on_fired);
  w->fired = fired;
  mailbox_post(w->home, &w->mail);
}

bool channel_stop(struct channel_wait *w) {
  struct channels *all = w->arms[0].channel->all;
  lock(all);
  bool fired = !w->waiting;
  if (fired) {
    bool taken_back = mailbox_cancel(w->home, &w->mail);
    assert(taken_back);
    (void)taken_back;
  } else {
    unlink_arms(w);
  }
  unlock(all);
  return fired;
}

void channel_return(struct channel *ch, struct channel_item *item) {
  lock(ch->all);
  struct channel_arm *receiver = first(&ch->receivers);
  if (receiver != NULL) {
    receiver->item = item;
    fire(receiver, true);
  } else {
    struct link *after = ch->items.next;
    while (after != &ch->items && CONTAINER_OF(after, struct channel_item, link)->number < item->number)
      after = after->next;
    list_push(after, &item->link);
    ch->length++;
  }
  unlock(ch->all);
}

bool channel_close(struct channel *ch) {
  named_release(&ch->named); /* first: nobody gets a closed one by its name */
  lock(ch->all);
  bool open = !ch->closed;
  if (open) {
    ch->closed = true;
    ch->all->open--;
    struct channel_arm *arm;
    while ((arm = first(&ch->senders)) != NULL) fire(arm, false);
    while ((arm = first(&ch->receivers)) != NULL) fire(arm, false);
  }
  unlock(ch->all);
  return open;
}

/* --- facts --- */

const char *channel_name(const struct channel *ch) { return ch->named.name; }
unsigned channel_capacity(const struct channel *ch) { return ch->capacity; }
struct channels *channel_owner(const struct channel *ch) {
  return ch->all;
}

size_t channel_length(struct channel *ch) {
  lock(ch->all);
  size_t length = ch->length;
  unlock(ch->all);
  return length;
}

bool channel_closed(struct channel *ch) {
  lock(ch->all);
  bool closed = ch->closed;
  unlock(ch->all);
  return closed;
}

/* --- what all have in common --- */

struct channels *channels_of(struct named *n) {
  assert(n->kind == &channels_kind);
  return CONTAINER_OF(n, struct channels, named);
}

static struct named *make_channels(const void *settings) {
  (void)settings;
  struct channels *all = must_calloc(1, sizeof *all);
  if (pthread_mutex_init(&all->lock, NULL) != 0) abort();
  atomic_init(&all->bytes, 0);
  return &all->named;
}

static void free_channels(struct named *n) {
  struct channels *all = channels_of(n);
  assert(all->open == 0 && atomic_load(&all->bytes) == 0);
  pthread_mutex_destroy(&all->lock);
  free(all);
}

const struct named_kind channels_kind = {"jeton.channel", make_channels, free_channels};

bool channels_charge(struct channels *all, size_t bytes) {
  size_t before = atomic_fetch_add_explicit(&all->bytes, bytes, memory_order_relaxed);
  if (bytes <= CHANNEL_BYTES_MAX && before <= CHANNEL_BYTES_MAX - bytes) return true;
  channels_discharge(all, bytes);
  return false;
}

void channels_discharge(struct channels *all, size_t bytes) {
  (void)atomic_fetch_sub_explicit(&all->bytes, bytes, memory_order_relaxed);
}

/* --- life --- */

struct settings {
  struct channels *all;
  unsigned capacity;
};

static struct named *make_channel(const void *settings) {
  const struct settings *s = settings;
  struct channel *ch = must_calloc(1, sizeof *ch);
  ch->all = s->all;
  ch->capacity = s->capacity;
  list_init(&ch->items);
  list_init(&ch->senders);
  list_init(&ch->receivers);
  lock(ch->all);
  ch->surplus = ch->all->open++ >= CHANNELS_MAX;
  unlock(ch->all);
  return &ch->named;
}

static void free_channel(struct named *n) {
  struct channel *ch = CONTAINER_OF(n, struct channel, named);
  assert(list_empty(&ch->senders) && list_empty(&ch->receivers));
  for (struct link *l; (l = list_pop(&ch->items)) != NULL;) {
    struct channel_item *item = CONTAINER_OF(l, struct channel_item, link);
    item->free(item);
  }
  lock(ch->all);
  if (!ch->closed) ch->all->open--;
  unlock(ch->all);
  free(ch);
}

static const struct named_kind channel_kind = {"jeton.channel", make_channel, free_channel};

int channel_join(struct registry *names, struct channels *all, struct str name, unsigned capacity, struct channel **out,
                 unsigned *has) {
  assert(capacity <= CHANNEL_CAPACITY_MAX);
  struct named *n = named_get(names, &channel_kind, name, &(struct settings){all, capacity});
  struct channel *ch = CONTAINER_OF(n, struct channel, named);
  *has = ch->capacity;
  int status = ch->surplus ? ERR_LIMIT : ch->capacity != capacity ? UV_EEXIST : 0;
  if (status != 0)
    named_unref(n);
  else
    *out = ch;
  return status;
}

struct channel *channel_ref(struct channel *ch) {
  (void)named_ref(&ch->named);
  return ch;
}

void channel_unref(struct channel *ch) { named_unref(&ch->named); }
