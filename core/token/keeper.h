/* keeper.h: the state machine of every slot: when to fetch, what to publish, when to try again.
 *
 * Knows neither libuv nor Lua: time, timers and the fetch itself come through struct keeper_host, so that the C tests run
 * it on a virtual clock. Owned by the keeper's thread; other threads reach it through slot.h, which posts mail to it.
 *
 * empty -> fetching -> valid -> refreshing -> valid ...; failing: the last attempt failed, backing off (a valid token still
 * serves); expired: there was a token and it is over. One fetch at a time a slot, whoever asks and however often. */
#ifndef JETON_TOKEN_KEEPER_H
#define JETON_TOKEN_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mailbox.h"
#include "base/rand.h"
#include "token/schedule.h"
#include "token/slot.h"

enum fetch_reason { FETCH_FIRST, FETCH_EXPIRING, FETCH_REJECTED, FETCH_MANUAL };
const char *fetch_reason_name(enum fetch_reason r); /* "first" "expiring" "rejected" "manual" */

struct fetch; /* one running fetch: owned by the host from start_fetch until keeper_fetch_done */
struct fetch {
  struct slot *slot;          /* a reference */
  enum fetch_reason reason;
  unsigned attempt;           /* 1, 2, … since the last success */
  int64_t sent_at;            /* CLOCK_BOOTTIME ms at the start: expires_in counts from here */
  struct token *previous;     /* a reference, or NULL */
  void *host_data;
};

struct keeper_host {
  void *ctx;
  int64_t (*now)(void *ctx);                      /* CLOCK_BOOTTIME ms */
  /* Runs the policy's fetch function for this slot; ends with exactly one keeper_fetch_done, also on time-out (the host's: fetch timeout). */
  void (*start_fetch)(void *ctx, struct fetch *f);
  /* One timer for the whole keeper: call keeper_run_due at or after `at` (CLOCK_BOOTTIME ms; INT64_MAX: none). */
  void (*set_timer)(void *ctx, int64_t at);
};

struct keeper;
struct keeper *keeper_new(const struct keeper_host *host, struct mailbox *inbox, uint64_t seed);
void keeper_free(struct keeper *k); /* no fetch may be running: end them first with keeper_fetch_done */

/* A slot for `name`, with this schedule from now on: found by name when it exists (its token stays), else made. `fetch_now`: a slot without a
 * valid token starts its first fetch at once. `has_fetch` false: filled only by set. Returns a new reference. Keeper's thread. */
struct slot *keeper_adopt(struct keeper *k, struct str name, struct str key, const struct schedule *s, bool has_fetch, bool fetch_now);
/* Slots that the new policy no longer names: closed, their waiters ended, their token dropped. Keeper's thread. `keep` tells which stay. */
void keeper_retain(struct keeper *k, bool (*keep)(void *arg, const char *token_name), void *arg);
void keeper_run_due(struct keeper *k);

/* The outcome of a fetch. ok: value with expiry, from what the script returned, checked here: a lifetime must exist, be finite, positive after the
 * leeway, and at most 10 years; a value must be non-empty and fit in a header (no CR, LF, NUL). Not ok: `error` is the sanitised message. */
struct fetch_result {
  bool ok;
  struct str value;
  struct token_field fields[TOKEN_FIELDS_MAX];
  unsigned nfields;
  bool has_expires_in, has_expires_at;
  double expires_in;  /* seconds from sent_at */
  double expires_at;  /* seconds since the epoch */
  const char *error;
};
void keeper_fetch_done(struct keeper *k, struct fetch *f, const struct fetch_result *r); /* frees f */
/* tokens.x:set(value, …): publishes at once, as a new generation; any thread. Returns 0 or a sentence (static) that says what is wrong. */
const char *slot_set(struct slot *s, const struct fetch_result *r);
void keeper_each(struct keeper *k, void (*fn)(void *arg, struct slot *s), void *arg); /* keeper's thread, or before it runs */

#endif
