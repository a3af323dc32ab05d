/* slot.h: the place where one token lives, for the whole process and for longer than any policy.
 *
 * { mutex, current -> immutable refcounted token, atomic change counter, waiters, readers }. The mutex guards the swap and the
 * two lists, nothing else. A reader keeps a reference to the token it last saw; while the change counter is unchanged it takes no lock.
 * A change is told to the threads of those that hold one, so a thread that reads no more does not keep a token that was replaced.
 * Every function may be called in any thread, unless it says otherwise. */
#ifndef JETON_TOKEN_SLOT_H
#define JETON_TOKEN_SLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/str.h"
#include "token/result.h"
#include "token/token.h"

struct refusal; /* refusal.h */

/* Derived from the facts at the moment of asking, never stored: it cannot lag behind expiry. FAILING: the last attempt failed and the next
 * waits for its backoff; facts.valid tells whether an older token serves meanwhile. */
enum slot_state { SLOT_EMPTY, SLOT_FETCHING, SLOT_VALID, SLOT_REFRESHING, SLOT_FAILING, SLOT_EXPIRED, SLOT_CLOSED };
const char *slot_state_name(enum slot_state s);

/* FETCH_CHANGED: what the token is fetched with is not what the one at hand was fetched with. */
enum fetch_reason { FETCH_FIRST, FETCH_EXPIRING, FETCH_REJECTED, FETCH_MANUAL, FETCH_CHANGED };
const char *fetch_reason_name(enum fetch_reason r); /* "first" "expiring" "rejected" "manual" */

/* Of a token, by its policy. CONSTANT: its value is a secret of the policy's own, which lasts; its fetch reads where that came from, and when nothing is new there nothing
 * is published. */
enum slot_trait {
  SLOT_CONSTANT = 1,
  SLOT_RELEASES = 2 /* what it has when it is closed is given back by the policy: keeper.h, release */
};

/* What a family's slot is fetched with beside its key. Refcounted, immutable; made in any thread, read in the keeper's. */
struct slot_data {
  atomic_uint refs;
  void (*free)(struct slot_data *d); /* by the last unref, in any thread */
};
static inline struct slot_data *slot_data_ref(struct slot_data *d) {
  atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
  return d;
}
static inline void slot_data_unref(struct slot_data *d) { /* NULL is fine */
  if (d != NULL && atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1) d->free(d);
}

struct slot; /* refcounted; the body is in slot_internal.h, for the keeper and the family */

struct slot *slot_new(struct str name, struct str key); /* key.p NULL unless it is a family's */
struct slot *slot_ref(struct slot *s);
void slot_unref(struct slot *s);
/* A family's again: `shown` stands for the key in its name, and `data`, or NULL, is what it is fetched with as long as it lives. */
struct slot *slot_new_of(struct str name, struct str key, struct str shown, struct slot_data *data);
const char *slot_name(const struct slot *s); /* "api", or "tenant[acme]" with unprintable bytes as '?'; immutable */
const char *slot_token_name(const struct slot *s);    /* "api", or "tenant": the name in the policy; immutable */
struct slot_data *slot_data_of(const struct slot *s); /* borrowed, or NULL; immutable */
struct str slot_key(const struct slot *s);            /* "acme", as given; .p NULL when the slot is not a family's */

/* A thread's view of a slot. Embedded in an object of one thread; no lock of its own. */
#define SLOT_UNSEEN UINT64_MAX
struct slot_reader {
  struct slot *slot;    /* a reference */
  struct token *token;  /* a reference to the token last seen, or NULL */
  struct token *older;  /* the same of the slot's older one */
  uint64_t seen;        /* the change counter they were seen at; SLOT_UNSEEN: it was told of a change, and let go */
  struct mailbox *home; /* where it is told of changes; NULL: it lets go at its next read or its end */
  struct mail mail;     /* posted by a change */
  struct link link;     /* guarded by the slot's mutex: among its readers from a read to the next change */
};
void slot_reader_init(struct slot_reader *r, struct slot *s); /* takes a reference of its own */
/* From now on it is read, and ended, on the thread of that mailbox, which lives longer. Before the first read. */
void slot_reader_at_home(struct slot_reader *r, struct mailbox *home);
void slot_reader_fini(struct slot_reader *r);
/* The current token if it is valid at now_boot_ms, else NULL: never an expired one, never a rejected one. Borrowed until the next call
 * with this reader. No lock and no atomic write while nothing has changed. */
struct token *slot_read(struct slot_reader *r, int64_t now_boot_ms);
/* Of what the last slot_read saw, the token of before the last change of the slot's bond: while it is valid it serves receivers that only it is for, which are
 * those of exchanges that a replaced policy began. NULL: there was none. It looks for nothing newer, so that what slot_read gave stays as it is: the two are
 * judged together, and a publication in between would take the first one away. */
struct token *slot_read_older(const struct slot_reader *r, int64_t now_boot_ms);
/* Is a token of that epoch of an earlier bond than what the slot is fetched with now? Then another is on its way. Takes the mutex. */
bool slot_outdated(struct slot *s, unsigned epoch);

/* Is that generation, which a reader has seen, what one would be given now: neither over, nor taken away, nor replaced? Takes the mutex. */
bool slot_serves(struct slot *s, uint64_t generation);

/* Exchanges of the policies before the last change of the slot's bond are over. */
void slot_drop_older(struct slot *s);

/* Facts for scripts, status and logs: no secret among them. Consistent with each other. */
struct slot_facts {
  enum slot_state state;
  bool valid;
  bool has_fetch;           /* false: filled by scripts with :set only */
  bool constant;            /* SLOT_CONSTANT */
  bool lasts;               /* the current token does not end; then expires_in_ms is meaningless */
  uint64_t generation;      /* of the token published last; goes on counting after expiry and rejection */
  int64_t expires_in_ms;    /* of the current token; <= 0 when there is none that is valid */
  int64_t fetching_ms;      /* how long the fetch under way has taken; < 0: there is none */
  enum fetch_reason reason; /* of the fetch under way, or of the last one */
  int64_t next_attempt_ms;  /* until the next planned fetch, 0 when it is due; < 0: none planned, or one is running */
  uint64_t fetches, failures, rejections;
  unsigned consecutive_failures;
  enum fetch_outlook outlook; /* as the last of these said */
  int64_t permanent_ms;       /* since when one after the other has said so; < 0: the outlook is open */
  unsigned waiters;
  bool saving;          /* what is unsaved is tried again */
  char last_error[160]; /* sanitised text of the last failed fetch, or "" */
  char unsaved
      [160]; /* why what a fetch brought (a new refresh token) could not be saved, sanitised; "": it is, or need not be */
};
void slot_facts(struct slot *s, int64_t now_boot_ms, struct slot_facts *out);
/* Seconds for Retry-After: until the next attempt, rounded up, at least 1; SLOT_SPENT_RETRY_S when none is planned, since what it would be made with is spent. */
enum { SLOT_SPENT_RETRY_S = 300 };
unsigned slot_retry_after(struct slot *s, int64_t now_boot_ms);

/* Waiting for a valid token. The waiter is embedded in the exchange, zeroed before its first use. */
struct slot_waiter {
  struct mail mail;
  struct link link;     /* guarded by the slot's mutex */
  struct slot *slot;    /* home's thread: a reference; non-NULL while it waits or its mail is under way */
  struct mailbox *home; /* where done is delivered */
  uint64_t beyond;      /* set by the caller: a token of this generation is not what it waits for; 0: any is */
  /* set by the caller: CLOCK_BOOTTIME ms at which it gives up. A failed slot that tries nothing before is not waited for. 0: it is */
  int64_t until;
  bool one_attempt; /* of slot_refresh_wait: also woken by an attempt that failed; guarded by the slot's mutex */
  bool woken;       /* no longer counted as waiting; guarded by the same */
  int status;       /* the same, until the mail is posted */
  /* 0: a token was published (read it: it may be over or rejected again by now; then wait again within your time limit).
   * UV_ECANCELED: the slot was closed. ERR_TOKEN_MISSING: an attempt failed, and there is none before `until` (of slot_refresh_wait: it failed); facts tell why.
   * Set by the caller before slot_wait. */
  void (*done)(struct slot_waiter *w, int status);
};
/* Asks the keeper for a fetch when none is under way, and waits. Call on home's thread. Returns 0 when waiting (done is called once, on
 * home's thread, unless cancelled; failed attempts do not end the wait while another one comes before its `until`, its time limit is the caller's); 1 when a
 * valid token is there already; ERR_TOKEN_MISSING when the last attempt failed and the next one does not come before `until`; ERR_LIMIT when max_waiters are
 * waiting already; UV_ECANCELED when the slot is closed. */
int slot_wait(struct slot *s, struct slot_waiter *w, struct mailbox *home, unsigned max_waiters);
void slot_wait_cancel(struct slot_waiter *w); /* home's thread; afterwards done is not called. Fine when not waiting. */
/* Asks for a token without waiting for it: for requests whose token says missing = "fail" or "pass". Keeps to the backoff. */
void slot_want(struct slot *s);

/* An upstream refused `generation`.
 * SLOT_MOVED_ON: the slot has another, valid generation: replay at once. SLOT_REFRESHES: it was current; it is invalid now and a refresh is
 * under way: wait, then replay. SLOT_DAMPED: this path and client were refused fresh generations too, lately (or the slot has no fetch, and the token stays; or it is closed):
 * relay the upstream's answer. */
/* A constant slot whose secret is what it was is DAMPED as well. */
enum slot_rejected { SLOT_MOVED_ON, SLOT_REFRESHES, SLOT_DAMPED };
/* Who was refused, and by what. */
struct slot_refused {
  uint64_t account; /* slot_account */
  struct refusal *(*reply)(
      void *
          arg); /* a new reference; asked for under the slot's mutex when this refusal is the one that counts. May be NULL */
  void *arg;
};
enum slot_rejected slot_reject_by(struct slot *s, uint64_t generation, const struct slot_refused *by);
static inline enum slot_rejected slot_reject(struct slot *s, uint64_t generation) {
  return slot_reject_by(s, generation, NULL);
}
/* Was that generation taken away by a refusal, so that no request goes out with it, or is its slot closed? What was computed from a token lasts longer than the slot's
 * own hold on it, and asks here. No lock. */
bool slot_revoked(const struct slot *s, uint64_t generation);
/* The account of a path and a client: a keyed hash, of this slot's own. */
uint64_t slot_account(const struct slot *s, struct str path, struct str client);
/* A replay with `generation`, fresh from a refresh for a rejection, was refused as well: charges the account, whose further rejections are damped (1 s, doubling with
 * each such generation, to a minute), so that a path that always answers 401 or 403 cannot cause a fetch a request. The token stays: others may be accepted with it,
 * and their refusals may be a revocation. Only after SLOT_VAIN_FREE such generations, of whichever accounts, the whole token is damped as well. Returns for how many
 * ms the account is; 0: nothing new. */
int64_t slot_replay_refused(struct slot *s, uint64_t generation, uint64_t account);
enum { SLOT_VAIN_FREE = 8, SLOT_DAMP_PROVEN_MS = 4000 };
/* A request of that account was answered well with that generation: shortens its damping, and the token's, to SLOT_DAMP_PROVEN_MS after the last refused replay, and
 * keeps it that short while acceptances go on. It does not end it at once: a path that answers by turns would cause a fetch a request again. Cheap when nothing is damped: ask
 * slot_is_charged before the account is computed. */
void slot_accepted_by(struct slot *s, uint64_t generation, uint64_t account);
bool slot_is_charged(const struct slot *s);

/* Asks for a refresh by hand, backoff or not; joins a fetch that is running, unless that has taken SLOT_SLOW_MS and can be given up (keeper.h). Nothing happens
 * when the slot has no fetch. */
enum { SLOT_SLOW_MS = 2000 }; /* a fetch that takes longer leaves a line in the log */
void slot_refresh(struct slot *s);
/* What a fetch brought could not be saved where a restart looks for it, and why; NULL: now it is. For status and metrics. */
void slot_note_unsaved(struct slot *s, const char *why);
void slot_note_saving(struct slot *s, bool saving); /* saves.h: it is tried again */
/* Ends the backoff, because the cause of the last failure may have gone. Nothing happens when the last attempt did not fail. */
void slot_try_again(struct slot *s);
/* As slot_refresh, and waits for the outcome of that attempt: as slot_wait, but with 0 even when a valid token is there, and done(ERR_TOKEN_MISSING) when the
 * attempt fails. UV_ENOTSUP when the slot has no fetch. */
int slot_refresh_wait(struct slot *s, struct slot_waiter *w, struct mailbox *home, unsigned max_waiters);

#endif
