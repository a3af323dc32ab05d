/* slot.h: the place where one token lives, for the whole process and for longer than any policy.
 *
 * { mutex, current -> immutable refcounted token, atomic generation, waiters }. The mutex guards the swap and the
 * waiters, nothing else. A reader keeps a reference to the token it last saw; while the atomic generation is unchanged it takes no lock. */
#ifndef JETON_TOKEN_SLOT_H
#define JETON_TOKEN_SLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/str.h"
#include "token/token.h"

enum slot_state { SLOT_EMPTY, SLOT_FETCHING, SLOT_VALID, SLOT_REFRESHING, SLOT_FAILING, SLOT_EXPIRED, SLOT_CLOSED };
const char *slot_state_name(enum slot_state s);

struct slot; /* refcounted; the body is in slot.c and, for the keeper, slot_internal.h */

struct slot *slot_new(struct str name, struct str key); /* key.p NULL unless it is a family's */
struct slot *slot_ref(struct slot *s);
void slot_unref(struct slot *s);
const char *slot_name(const struct slot *s); /* "api", or "tenant[acme]"; immutable */

/* A thread's view of a slot. Embedded in what belongs to one thread; no locking of its own. */
struct slot_reader {
  struct slot *slot;   /* a reference */
  struct token *token; /* a reference to the token last seen, or NULL */
  uint64_t seen;       /* the change counter it was seen at */
};
void slot_reader_init(struct slot_reader *r, struct slot *s); /* takes a reference of its own */
void slot_reader_fini(struct slot_reader *r);
/* The current token if it is valid at now_boot_ms, else NULL. Borrowed until the next call with this reader.
 * No lock and no atomic write while nothing has changed. */
struct token *slot_read(struct slot_reader *r, int64_t now_boot_ms);

/* Facts for scripts, status and logs: no secret among them. Consistent with each other. */
struct slot_facts {
  enum slot_state state;
  bool valid;
  uint64_t generation;
  int64_t expires_in_ms;    /* of the current token; <= 0 when there is none that is valid */
  int64_t next_attempt_ms;  /* until the next planned fetch; < 0: none planned */
  uint64_t fetches, failures, rejections;
  unsigned consecutive_failures;
  unsigned waiters;
  char last_error[160];     /* sanitised text of the last failed fetch, or "" */
};
void slot_facts(struct slot *s, int64_t now_boot_ms, struct slot_facts *out);
/* Seconds for Retry-After: until the next attempt, rounded up, at least 1. */
unsigned slot_retry_after(struct slot *s, int64_t now_boot_ms);

/* Waiting for a valid token. The waiter is embedded in the exchange. */
struct slot_waiter {
  struct mail mail;
  struct link link;       /* guarded by the slot's mutex */
  struct slot *slot;      /* non-NULL while it waits or its mail is under way */
  struct mailbox *home;   /* where done is delivered */
  int status;
  void (*done)(struct slot_waiter *w, int status); /* 0: a token was published; UV_ECANCELED: the slot was closed */
};
/* Asks the keeper for a fetch when none is under way, and waits. Returns 0 when waiting (done is called once, on home's thread,
 * unless cancelled); 1 when a valid token is there already; ERR_LIMIT when max_waiters are waiting already. */
int slot_wait(struct slot *s, struct slot_waiter *w, struct mailbox *home, unsigned max_waiters);
void slot_wait_cancel(struct slot_waiter *w); /* home's thread; afterwards done is not called. Fine when not waiting. */

/* An upstream refused `generation`. Any thread.
 * SLOT_MOVED_ON: the slot has another, valid generation: replay at once. SLOT_REFRESHES: it was current; it is invalid now and a refresh is
 * under way: wait, then replay. SLOT_DAMPED: fresh generations were refused too, lately: relay the upstream's answer. */
enum slot_rejected { SLOT_MOVED_ON, SLOT_REFRESHES, SLOT_DAMPED };
enum slot_rejected slot_reject(struct slot *s, uint64_t generation);
/* A replay with `generation`, fresh from a refresh for a rejection, was refused as well: damps further rejections
 * (exponentially, to a minute), so that one path that always answers 401 cannot cause a fetch a request. */
void slot_replay_rejected(struct slot *s, uint64_t generation);
/* A request was answered well with that generation: ends the damping. Cheap when there is none (one relaxed load). */
void slot_accepted(struct slot *s, uint64_t generation);
/* Asks for a refresh by hand; single flight as ever. */
void slot_refresh(struct slot *s);

#endif
