/* channel.h: messages between threads, in order, each to one receiver. It never reads their contents.
 *
 * A channel holds up to `capacity` items; with capacity 0 a sender and a receiver meet. An operation is a set of arms, each a send or a receive on some
 * channel, of which exactly one fires: a plain send is a set of one. What can fire at once does so inside the call; else the set waits, and a counterpart in any thread
 * fires one of its arms, which one mail reports.
 *
 * What holds:
 *  - An item that was accepted is received once, or is in its channel when the last reference to that goes. A receiver that was given one and
 *    cannot use it hands it back (channel_return).
 *  - Items leave a channel in the order in which they were accepted, so each sender's in the order of its sends. Items that were handed back go before all
 *    that were accepted after them and are still there.
 *  - Receivers are served in the order in which they began to wait, and so are senders. Nobody overtakes those who wait.
 *  - Among the arms that can fire at once, each is as likely as the other.
 *
 * Every function may be called in any thread, unless it says otherwise. */
#ifndef JETON_BASE_CHANNEL_H
#define JETON_BASE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/named.h"
#include "base/rand.h"

enum {
  CHANNELS_MAX = 1024,              /* open ones of a process */
  CHANNEL_CAPACITY_MAX = 64 * 1024, /* items */
  CHANNEL_BYTES_MAX = 64 << 20,     /* of all items of a process that somebody sends, holds or has not freed yet */
};

/* Shared by all channels of a process: a named object, got with no settings. The holder of a channel holds this longer. */
struct channels;
extern const struct named_kind channels_kind;
struct channels *channels_of(struct named *n);
/* Bytes of items: false when it would be more than CHANNEL_BYTES_MAX, and nothing has changed. */
bool channels_charge(struct channels *all, size_t bytes);
void channels_discharge(struct channels *all, size_t bytes);

/* A value under way: embedded in the message. Between a successful send and the receive it belongs to the channel. */
struct channel_item {
  struct link link;
  uint64_t number; /* the channel's order */
  void (*free)(struct channel_item *item);
};

struct channel; /* a named object */
/* The open channel of that name (named_valid), or a new one: one reference. 0; UV_EEXIST: there is one, of another capacity, which is in *has; ERR_LIMIT: there are
 * CHANNELS_MAX. The last reference frees it with what it holds. */
int channel_join(struct registry *names, struct channels *all, struct str name, unsigned capacity, struct channel **out,
                 unsigned *has);
struct channel *channel_ref(struct channel *ch);
void channel_unref(struct channel *ch);
const char *channel_name(const struct channel *ch);
unsigned channel_capacity(const struct channel *ch);
struct channels *channel_owner(const struct channel *ch);
size_t channel_length(struct channel *ch); /* items in it now; a moment later it may be otherwise */
bool channel_closed(struct channel *ch);
/* No more sends: those that wait fail. What is in it can still be received; then receives fire with no item. The name is free for a new channel at once.
 * false: it was closed already. */
bool channel_close(struct channel *ch);
/* An item that a receive gave goes back to its place: to the receiver that waits for it, or in front of all items accepted after it. Also when the channel is
 * closed. */
void channel_return(struct channel *ch, struct channel_item *item);

struct channel_wait;
struct channel_arm {
  struct channel *channel; /* the caller holds a reference until the operation is over */
  bool sends;
  /* Sends: the item to send, the caller's until the arm has fired with `taken`. Receives: the item received, once the arm has fired; NULL: it is closed and
   * empty. */
  struct channel_item *item;
  bool taken;       /* fired: the item changed hands; false: the channel is closed */
  struct link link; /* guarded by the channels' lock, while it waits */
  struct channel_wait *wait;
};

/* Fires one of the n arms that can fire now and returns its index, or UV_EAGAIN. With more than one candidate, k of them in the order of the arms, the one
 * at rng_next(rng) mod k is taken; rng is not asked otherwise. Zeroed arms but for channel, sends and item. */
int channel_try(struct channel_arm *arms, unsigned n, struct rng *rng);

struct channel_wait { /* embedded in the waiter; zeroed before its use */
  struct mail mail;
  struct mailbox *home;
  struct channel_arm *arms;
  unsigned n;
  unsigned fired;                       /* index of the arm */
  bool waiting;                         /* guarded by the channels' lock */
  void (*done)(struct channel_wait *w); /* on home's thread: an arm has fired */
};
/* As channel_try; with UV_EAGAIN it waits from then on: done is called once, on home's thread, unless channel_stop comes before. w->arms, n, home, done and
 * the arms are set; n > 0. Call it on home's thread. */
int channel_wait(struct channel_wait *w, struct rng *rng);
/* An arm has fired inside of channel_try, but its owner wants the report from the loop: done is called as if it had waited. w as for channel_wait. */
void channel_defer(struct channel_wait *w, unsigned fired);
/* Ends a wait whose done has not been called, on home's thread; it will not be called any more. True: an arm had fired (w->fired): the caller deals with it as done
 * would have. False: none has, and none will. */
bool channel_stop(struct channel_wait *w);

#endif
