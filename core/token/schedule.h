/* schedule.h: when a token is refreshed and when a failed fetch is tried again. Pure functions. */
#ifndef JETON_TOKEN_SCHEDULE_H
#define JETON_TOKEN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rand.h"

struct schedule {
  double refresh_fraction;   /* of the life, in (0, 1); used when refresh_before_ms is 0. Default 0.8 */
  int64_t refresh_before_ms; /* this long before expiry */
  double jitter;     /* of the fraction's remaining life, default 0.1: the refresh comes up to that much earlier */
  int64_t leeway_ms; /* taken off every life, for the way to the upstream; default 1 s, at most a tenth of the life */
  int64_t backoff_min_ms; /* default 200 */
  int64_t backoff_max_ms; /* default 30 s */
};
extern const struct schedule schedule_default;

/* When to refresh a token obtained at `obtained` that expires at `expires` (both CLOCK_BOOTTIME ms). Always in [obtained, expires). */
int64_t schedule_refresh_at(const struct schedule *s, int64_t obtained, int64_t expires, struct rng *r);
/* Exponential with full jitter: uniform in [min/2 … min(max, min * 2^(failures-1))]. failures >= 1. */
int64_t schedule_backoff(const struct schedule *s, unsigned failures, struct rng *r);
/* How long an issuer is left alone that asked for `ms` (Retry-After): at least that, and at most an hour, since a slip of its own must not take the token away for
 * days; up to a tenth more, so that all who were sent away do not come back together. 0 for 0. */
int64_t schedule_retry_after(int64_t ms, struct rng *r);
/* How long a fetch is left alone that has said that it cannot succeed: five minutes, or the longest backoff, and up to a tenth more. */
int64_t schedule_permanent(const struct schedule *s, struct rng *r);
int64_t schedule_backoff_max(const struct schedule *s); /* the longest there can be: a day at the most */

#endif
