/* schedule.c: pure arithmetic on times; the jitter keeps many slots, and many proxies, from asking one issuer in step.
 *
 * Invariants: obtained <= refresh_at < expires. 1 <= backoff <= backoff_max. No setting, however odd, gets round them: the
 * keeper relies on the second to make progress, and on the first to ask for a new token while the old one serves. */
#include "token/schedule.h"

#include <assert.h>

enum {
  BACKOFF_MOST_MS = 24 * 60 * 60 * 1000, /* so that adding it to a time is always safe */
  RETRY_AFTER_MOST_MS = 60 * 60 * 1000,
  PERMANENT_MS = 5 * 60 * 1000,
};

const struct schedule schedule_default = {
    .refresh_fraction = 0.8,
    .refresh_before_ms = 0,
    .jitter = 0.1,
    .leeway_ms = 1000,
    .backoff_min_ms = 200,
    .backoff_max_ms = 30 * 1000,
};

static int64_t clamp(int64_t v, int64_t low, int64_t high) { return v < low ? low : v > high ? high : v; }

static double clamp_unit(double v) { return v >= 0 ? (v <= 1 ? v : 1) : 0; /* NaN: 0 */ }

/* Milliseconds into the life at which a refresh without jitter would come. "60 s before expiry" for a token that lives barely longer
 * would fetch without pause: there the default fraction is used. */
static int64_t planned_age(const struct schedule *s, int64_t life) {
  if (s->refresh_before_ms > 0 && s->refresh_before_ms <= life - life / 10) return life - s->refresh_before_ms;
  double fraction = s->refresh_before_ms > 0 ? schedule_default.refresh_fraction : clamp_unit(s->refresh_fraction);
  return (int64_t)((double)life * fraction);
}

int64_t schedule_refresh_at(const struct schedule *s, int64_t obtained, int64_t expires, struct rng *r) {
  assert(expires > obtained);
  int64_t life = expires - obtained;
  int64_t age = clamp(planned_age(s, life), 0, life - 1);
  int64_t earlier = (int64_t)((double)(life - age) * clamp_unit(s->jitter) * rng_unit(r));
  int64_t at = obtained + clamp(age - earlier, 0, life - 1);
  assert(obtained <= at && at < expires);
  return at;
}

int64_t schedule_backoff_max(const struct schedule *s) { return clamp(s->backoff_max_ms, 1, BACKOFF_MOST_MS); }

int64_t schedule_backoff(const struct schedule *s, unsigned failures, struct rng *r) {
  assert(failures >= 1);
  int64_t max = schedule_backoff_max(s);
  int64_t min = clamp(s->backoff_min_ms, 1, max);
  int64_t high = min;
  for (unsigned i = 1; i < failures && high < max; i++) high = high > max / 2 ? max : high * 2;
  int64_t low = min > 1 ? min / 2 : 1;
  return low + (int64_t)rng_below(r, (uint64_t)(high - low) + 1);
}

int64_t schedule_retry_after(int64_t ms, struct rng *r) {
  ms = clamp(ms, 0, RETRY_AFTER_MOST_MS);
  return ms + (int64_t)rng_below(r, (uint64_t)(ms / 10) + 1);
}

int64_t schedule_permanent(const struct schedule *s, struct rng *r) {
  int64_t max = schedule_backoff_max(s), ms = max > PERMANENT_MS ? max : PERMANENT_MS;
  return ms + (int64_t)rng_below(r, (uint64_t)(ms / 10) + 1);
}
