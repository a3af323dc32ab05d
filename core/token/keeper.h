/* keeper.h: the state machine of every slot: when to fetch, what to publish, when to try again.
 *
 * Knows neither libuv's loop nor Lua: time, timers and the fetch itself come through struct keeper_host, so that the C tests run
 * it on a virtual clock. Owned by the keeper's thread; other threads reach it through slot.h, which posts mail to it.
 *
 * empty -> fetching -> valid -> refreshing -> valid ...; failing: the last attempt failed, backing off (a valid token still
 * serves); expired: there was a token and it is over. One fetch at a time a slot, however many ask for it. */
#ifndef JETON_TOKEN_KEEPER_H
#define JETON_TOKEN_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mailbox.h"
#include "base/provenance.h"
#include "base/rand.h"
#include "token/family.h"
#include "token/refusal.h"
#include "token/result.h"
#include "token/schedule.h"
#include "token/slot.h"

/* One running fetch: owned by the host from start_fetch until keeper_fetch_done. Which function to run: slot_token_name(f->slot), slot_key(f->slot). */
struct fetch {
  struct slot *slot; /* a reference */
  enum fetch_reason reason;
  unsigned attempt; /* 1, 2, … since the last success */
  int64_t sent_at;  /* CLOCK_BOOTTIME ms at the start: expires_in counts from here */
  struct token *
      previous; /* a reference to the token published last, over or rejected as it may be (its extra fields may hold a refresh token), or NULL */
  struct refusal *refusal; /* a reference: the reply that refused the token that it is to replace; NULL: none did */
  struct token_bond bond;  /* the slot's when it began; the token's when it has ended well */
  /* a reference, or NULL: the servers that it has sent requests to so far. The host's to fill */
  struct audience *asked;
  struct provenance *provenance; /* the same: where what it has used was read from */
  void *host_data;
  bool proof; /* it may be of a function that the slot never gets; it is not given up */
};
void fetch_free(
    struct fetch
        *f); /* for a fetch that the host made itself, as a proof does; the slot's reference stays the caller's */

struct keeper_host {
  void *ctx;
  int64_t (*now)(void *ctx);  /* CLOCK_BOOTTIME ms: the clock that slots themselves read */
  int64_t (*wall)(void *ctx); /* CLOCK_REALTIME ms: for expires_at */
  /* Runs the policy's fetch function for this slot; ends with exactly one keeper_fetch_done, also on time-out (the host's: fetch timeout).
   * keeper_fetch_done may be called from inside. */
  void (*start_fetch)(void *ctx, struct fetch *f);
  /* One timer for the whole keeper: call keeper_run_due at or after `at` (CLOCK_BOOTTIME ms; INT64_MAX: none). */
  void (*set_timer)(void *ctx, int64_t at);
  /* Ends a fetch that hangs, without keeper_fetch_done: f is the keeper's again. False: it goes on, since what it carries (a refresh token) may be spent, and its
   * reply is the only successor. NULL: none is given up. */
  bool (*give_up_fetch)(void *ctx, struct fetch *f);
  /* A slot with SLOT_RELEASES has left (its key is idle, no policy names it, keeper_part): what it had last is to be given back to its issuer. Both are borrowed. NULL: nothing
   * is. */
  void (*release)(void *ctx, struct slot *s, struct token *last);
};

struct keeper;
struct keeper *keeper_new(const struct keeper_host *host, struct mailbox *inbox, uint64_t seed); /* *host is copied */
/* What is fetched while the process ends: whatever is due; what a request waits for, and nothing ahead of its end; nothing. A fetch under way is not touched by
 * any of them. Keeper's thread. */
enum keeper_pace { KEEPER_AHEAD, KEEPER_WANTED, KEEPER_NONE };
void keeper_slow_down(struct keeper *k, enum keeper_pace pace);
/* Closes every slot. No fetch may be running: end them first with keeper_fetch_done. Keeper's thread, before its mailbox is closed. */
void keeper_free(struct keeper *k);

/* A slot for `name`, with this schedule from now on: found by name when it exists (its token stays, and nothing is fetched because of it),
 * else made. `fetch_now`: a slot without a valid token starts its first fetch at once (a failing one keeps to its backoff). `has_fetch` false:
 * filled only by set. Returns a new reference. Keeper's thread. */
struct slot *keeper_adopt(struct keeper *k, struct str name, struct str key, const struct schedule *s, bool has_fetch,
                          bool fetch_now);
/* The same for a family: its slots, those there are and those to come, have this schedule. Returns a new reference. Keeper's thread. */
struct token_family *keeper_adopt_family(struct keeper *k, struct str name, const struct schedule *s, bool has_fetch,
                                         unsigned max, int64_t idle_ms);
/* What a slot that is there, or a family's, is fetched with from now on (slot_bind). Before it is adopted. Keeper's thread. */
void keeper_bind(struct keeper *k, struct str name, bool family, const struct token_bond *bond);
/* The traits of such a slot, or such slots, from now on. Before it is adopted. Keeper's thread. */
void keeper_set_traits(struct keeper *k, struct str name, bool family, unsigned traits);
void keeper_recheck(struct keeper *k, struct str name); /* slot_recheck of the single token. Keeper's thread. */
/* The slot of a single token, or the family, as it is: unlike adopting, finding changes no schedule. A new reference, or NULL. Keeper's thread. */
struct slot *keeper_find(struct keeper *k, struct str name);
struct token_family *keeper_find_family(struct keeper *k, struct str name);
/* For a token that the new policy no longer names (as one token, or as a family: under one name they are two). Until it is adopted again it is fetched only
 * when a request waits for it or asks for it: exchanges of the old policy lack nothing, and the issuer is not asked for tokens that nobody needs. Keeper's
 * thread. */
void keeper_leave(struct keeper *k, struct str name, bool family);
/* The fetch functions have changed: those that failed are tried at once where a request wants the token. Keeper's thread. */
void keeper_try_again(struct keeper *k);
void keeper_drop_older(struct keeper *k); /* slot_drop_older of all. Keeper's thread. */
/* Closes the slots and families that no policy names any longer, ends their waiters and drops their tokens. Keeper's thread. `keep` answers which stay.
 * Exchanges pin their policy: call it when the last exchange of a policy that names them is over. A fetch that runs for a closed slot ends as ever, with
 * keeper_fetch_done; its outcome is dropped. */
typedef bool (*keeper_keep_fn)(void *arg, const char *token_name, bool family);
void keeper_retain(struct keeper *k, keeper_keep_fn keep, void *arg);
/* For the end of the process: closes the slots that have something to give back, but for those that are being fetched: ask again when such a fetch has ended. */
void keeper_part(struct keeper *k);
void keeper_run_due(struct keeper *k);

/* A proof: a fetch by a function that is not the slot's yet, made of what `bond` says. It takes the slot's one place for a fetch, has the newest that a refresh needs,
 * and what it brings is not thrown away, since it may be all that is left of a login. The fetch is the host's, who runs it and ends it with keeper_proof_done.
 * `previous`, borrowed: what it has instead of the slot's own; NULL: that. NULL is returned when a fetch of the slot runs (ask again when it has ended) or the
 * slot is closed. Keeper's thread. */
struct fetch *keeper_begin_proof(struct keeper *k, struct slot *s, const struct token_bond *bond,
                                 struct token *previous);
/* Frees f. Returns NULL, or why it failed: then the slot is as before, and no failure counts. A token that is made of the same as the slot's serves at once. One
 * that is not is in `held`, for keeper_publish_held once the slot is bound to its kind; what the slot has meanwhile goes on with the new extra fields. */
struct proof_outcome {
  struct token *held; /* a reference, or NULL */
  bool handed_back;   /* held's login is the slot's, which goes on with its extra fields */
};
const char *keeper_proof_done(struct keeper *k, struct fetch *f, const struct fetch_result *r,
                              struct proof_outcome *out);
void keeper_publish_held(struct keeper *k, struct slot *s, struct token *held); /* takes the reference */

/* Takes the outcome of a fetch (result.h) and frees f. Of two tokens the one whose fetch was sent later counts: a fetch that was under way while another thread
 * set a token that is still valid does not replace it. */
void keeper_fetch_done(struct keeper *k, struct fetch *f, const struct fetch_result *r);
/* tokens.x:set(value, …): publishes at once, as a new generation; any thread. Returns NULL, or a sentence that says what is wrong. */
const char *slot_set(struct slot *s, const struct fetch_result *r);
/* Every slot with or without a token, a family's once it has been asked for. Keeper's thread, or before it runs. fn calls no function of the keeper. */
void keeper_each(struct keeper *k, void (*fn)(void *arg, struct slot *s), void *arg);

#endif
