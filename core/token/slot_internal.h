/* slot_internal.h: the body of a slot, for slot*.c, keeper.c and family.c only.
 *
 * Invariants, asserted by slot_check under the mutex:
 *  - `changes` grows by one with every change of `current`, and only then; a reader whose `seen` equals it holds the current token.
 *  - a reader with a home that holds a token which the slot had at the last change, or has, is in `readers`; one that holds a token of before has mail.
 *  - older is NULL, or of an earlier epoch than last and for another audience.
 *  - current is NULL or last; last is NULL or has the slot's generation. A rejected or expired token is `last` but not `current`: it is never
 *    served again, but a fetch may need its extra fields (a refresh token). A slot without a fetch keeps no such token.
 *  - at most one fetch is running: `fetching`.
 *  - a waiter is in `waiters` or in `woken`, or its mail is posted, or it does not wait: so its callback runs exactly once.
 *  - a closed slot holds no token, has nobody waiting, and posts nothing.
 *
 * A fetch may fail and yet have spent what the next one would need: the issuer gave a new refresh token, and nothing else of its reply is any good. Such a fetch returns
 * extra fields without a token; they are kept as `brought`, a token that is never served, and stand in the place of `last` for the next fetch, until a token is published.
 * It is the slot that keeps them and not the policy's VM, which goes with a reload.
 *
 * The keeper does not get its work by messages, which could be lost or come twice: the slot states it (next_attempt, manual, asked, closed) and the one mail
 * only says "check". Lock order: family, slot, mailbox. */
#ifndef JETON_TOKEN_SLOT_INTERNAL_H
#define JETON_TOKEN_SLOT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "base/provenance.h"
#include "base/rand.h"
#include "token/accounts.h"
#include "token/due.h"
#include "token/refusal.h"
#include "token/schedule.h"
#include "token/slot.h"

#define SLOT_NEVER INT64_MAX

struct keeper;
struct fetch;

struct slot {
  atomic_uint refs; /* the last release frees it, on any thread */
  /* immutable */
  char *name;  /* for people */
  char *token; /* the name in the policy */
  /* .p NULL: not a family's. A family's slot does not try again by itself while no request wants its token. */
  struct str key;
  struct slot_data *data; /* a reference, or NULL */
  int64_t (*clock)(void); /* clock_boot_ms, but in tests */
  struct hash_key account_key;

  /* atomic */
  _Atomic uint64_t changes; /* written under the mutex, release; read by slot_read, acquire */
  /* The newest generation that an upstream's refusal took away, UINT64_MAX when closed; written under the mutex, relaxed: a request that is on its way at that moment may go. */
  _Atomic uint64_t revoked;
  /* written under the mutex; relaxed: it only spares slot_accepted_by the mutex. 1 << account % 64 of each whose good answers are news */
  _Atomic uint64_t unproven;

  pthread_mutex_t mutex; /* guards what follows */
  struct token *current; /* the token that is served: a reference, or NULL */
  struct token *last;    /* the token published last: a reference, or NULL */
  struct token *older;   /* what was current before a bond with another audience: a reference, or NULL */
  /* what a fetch brought since, in vain, and the next one needs: a reference, or NULL. See below */
  struct token *brought;
  struct token *parting;  /* of a closed one: what it had, until the keeper has it given back; a reference, or NULL */
  struct token_bond bond; /* of what is fetched from now on; epoch 0: it was never told */
  uint64_t generation;
  struct link waiters;
  struct link woken;   /* taken from waiters, mail not posted yet */
  unsigned nwaiters;   /* in waiters */
  struct link readers; /* that have a home and have caught up since the last change */
  bool closed;

  bool has_fetch;
  unsigned traits; /* enum slot_trait */
  bool recheck;    /* of a constant one: what it was read from has changed, or may have */
  bool leaving;    /* only a policy that was replaced names it: fetched when a request waits, not ahead of its end */
  bool fetching;
  bool manual;                   /* a refresh by hand that has not begun */
  enum fetch_reason reason;      /* of the last fetch */
  int64_t began_at;              /* the same, CLOCK_BOOTTIME ms */
  int64_t slow_at;               /* when the fetch under way is reported as slow; SLOT_NEVER: it has been */
  bool asked;                    /* somebody wanted a token since the last attempt began */
  bool rejected;                 /* an upstream refused the token published last */
  int64_t next_attempt;          /* CLOCK_BOOTTIME ms, not before; SLOT_NEVER */
  int64_t asked_off;             /* CLOCK_BOOTTIME ms: the issuer asked for no attempt before, in its last refusal */
  unsigned consecutive;          /* failed attempts since the last publication */
  enum fetch_outlook outlook;    /* of the last of them; OPEN when there is none, or something has changed since */
  int64_t permanent_at;          /* CLOCK_BOOTTIME ms of the first one whose outlook was as bad, while it is not OPEN */
  struct provenance *provenance; /* of what an outlook or a constant value depends on: a reference, or NULL */
  int64_t look_at;               /* CLOCK_BOOTTIME ms: when it is looked whether that has changed */
  struct schedule schedule;
  struct rng rng;

  uint64_t fetches, failures, rejections;
  char last_error[sizeof(((struct slot_facts *)0)->last_error)];
  bool saving;
  char unsaved[sizeof(((struct slot_facts *)0)->unsaved)];

  struct refusal
      *refusal; /* what refused the token that was taken away; until the next is published: a reference, or NULL */
  struct accounts accounts;
  struct damping vain; /* of the whole token: by generations that were refused as soon as they were fetched */

  /* the way to the keeper: set once, under the mutex */
  struct mailbox *inbox; /* NULL: no keeper yet */
  struct keeper *keeper;
  bool posted; /* mail is under way and holds a reference */
  bool known;  /* the keeper holds a reference */
  struct mail mail;

  /* keeper's thread */
  struct link link;
  struct due due;
  struct fetch *fetch; /* under way, or NULL */
};

/* The part of a keeper that its slots use; copied. */
struct slot_home {
  struct mailbox *inbox;
  struct keeper *keeper;
  void (*deliver)(struct mail *m);
  struct schedule schedule;
  bool has_fetch, leaving;
  uint64_t seed;
};
/* Connects a new slot with its keeper; once. What was asked of it before is heard now. */
void slot_attach(struct slot *s, const struct slot_home *home);
/* New settings: plans the next attempt anew, unless a fetch is under way. Causes a fetch only where the slot had no fetch function before. The slot is not
 * `leaving` afterwards. */
void slot_configure(struct slot *s, const struct schedule *schedule, bool has_fetch);
void slot_leave(struct slot *s);
/* What its values are fetched with from now on. When that differs from before, the value at hand goes on serving those that both allow, and a fetch begins at
 * once. Call it before slot_configure. */
void slot_bind(struct slot *s, const struct token_bond *bond);

/* Drops tokens, but for what is to be given back, ends waits. From then on nothing is published. tell_keeper: it is to forget the slot (not needed when it is the caller). */
void slot_close(struct slot *s, bool tell_keeper);
/* Is anybody but the keeper and the family (which holds one reference) interested in it? */
bool slot_in_use(struct slot *s);
void slot_use_clock(struct slot *s, int64_t (*clock)(void)); /* tests; before it is shared */

/* With the mutex held. */
bool slot_valid_locked(const struct slot *s, int64_t now);
void slot_drop_older_locked(struct slot *s);
void slot_drop_last_locked(struct slot *s); /* and what came behind it */
bool slot_outdated_locked(
    const struct slot *s); /* the token published last was fetched with something else than the next will be */

void slot_check_locked(const struct slot *s);
void slot_revoke_locked(struct slot *s,
                        uint64_t generation);      /* nothing goes out that was made of it, or of an older one */
void slot_post_locked(struct slot *s);             /* "check", once */
void slot_ask_locked(struct slot *s, int64_t now); /* somebody needs a token and there is none */
void slot_unpublish_locked(struct slot *s);        /* current is served no more */
/* Takes over t. Call slot_wake after the mutex is released. */
void slot_publish_locked(struct slot *s, struct token *t, int64_t now);
struct slot_failure {
  const char *why;
  int64_t retry_ms; /* how long the issuer asked not to be asked; 0: it did not */
  enum fetch_outlook outlook;
  struct provenance *provenance; /* borrowed, or NULL */
};
void slot_fail_locked(struct slot *s, const struct slot_failure *failure, int64_t now); /* the same: slot_wake */
/* From now on; before it is configured. */
void slot_set_traits(struct slot *s, unsigned traits);
/* What its secrets were read from has changed, or may have: a failed one is tried again, a constant one reads them. */
void slot_recheck(struct slot *s);
/* What the outlook hung on has changed, or may have: the next attempt may come. */
void slot_open_outlook_locked(struct slot *s);
/* The attempt that somebody who waits until then could hope for comes too late. */
bool slot_hopeless_locked(const struct slot *s, int64_t until);
/* What the next fetch is to know of those before it: borrowed, or NULL. */
static inline struct token *slot_previous_locked(const struct slot *s) {
  return s->brought != NULL ? s->brought : s->last;
}
/* Takes over t, which has no generation and no expiry of its own. */
void slot_bring_locked(struct slot *s, struct token *t);
/* What slot_previous_locked gives goes on with the extra fields of `from`, which was fetched with them: they are spent. Nothing happens when `from` is of another login:
 * asked other servers, or has other fields, or another field "login": then it is false. */
bool slot_graft_locked(struct slot *s, const struct token *from);
enum wake { WAKE_ALL, WAKE_ONE_ATTEMPT, WAKE_HOPELESS };
void slot_gather_locked(struct slot *s, enum wake which, int status); /* waiters to woken */
/* Without the mutex, with a reference held: posts the mails of the woken, a few under the mutex at a time, so that ten thousand
 * waiters do not hold up the readers. */
void slot_wake(struct slot *s);

#endif
