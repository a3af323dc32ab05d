/* result.c: the checks between an issuer's answer (or a script's table) and a published token. Pure, but for the token's memory.
 *
 * Invariant: a token that leaves here has obtained_at <= now < expires_at, and is never valid for longer than the issuer said. */
#include "token/result.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

#include "base/chars.h"

static const double LIFE_MAX_S = 10.0 * 366 * 86400;

static const char *check_value(const struct fetch_result *r) {
  if (r->value.n == 0) return "the token's value is empty";
  if (!chars_all(r->value, CHAR_VALUE))
    return "the token's value holds a control byte (such as CR, LF, NUL or DEL), which no header can carry";
  if (r->nfields > TOKEN_FIELDS_MAX) return "the token has more than 16 extra fields";
  for (unsigned i = 0; i < r->nfields; i++) {
    if (r->fields[i].name.n == 0) return "an extra field of the token has an empty name";
  }
  return NULL;
}

/* One lifetime in seconds, relative to its own start; `what` sentences are for NaN or infinite, not positive, too long. */
static const char *check_life(double seconds, const char *const what[3]) {
  if (!isfinite(seconds)) return what[0];
  if (seconds <= 0) return what[1];
  if (seconds > LIFE_MAX_S) return what[2];
  return NULL;
}

static const char *const IN_WRONG[3] = {"expires_in is not a finite number", "expires_in is not positive",
                                        "expires_in is more than ten years"};
static const char *const AT_WRONG[3] = {"expires_at is not a finite number", "expires_at is in the past",
                                        "expires_at is more than ten years ahead"};

/* The moment of expiry on CLOCK_BOOTTIME, without leeway. */
static const char *find_expiry(const struct fetch_result *r, const struct result_times *t, int64_t *expires) {
  if (!r->has_expires_in && !r->has_expires_at) return "the token has no lifetime: give expires_in or expires_at";
  *expires = INT64_MAX;
  if (r->has_expires_in) {
    const char *wrong = check_life(r->expires_in, IN_WRONG);
    if (wrong != NULL) return wrong;
    *expires = t->sent_at + (int64_t)(r->expires_in * 1000);
  }
  if (r->has_expires_at) {
    const char *wrong = check_life(r->expires_at - (double)t->wall / 1000, AT_WRONG);
    if (wrong != NULL) return wrong;
    int64_t at = t->now + ((int64_t)(r->expires_at * 1000) - t->wall);
    if (at < *expires) *expires = at;
  }
  return NULL;
}

static int64_t leeway(const struct result_times *t, int64_t life) {
  int64_t most = life / 10;
  if (t->leeway_ms < 0) return 0;
  return t->leeway_ms < most ? t->leeway_ms : most;
}

struct token *result_token(const struct fetch_result *r, const struct result_times *t, const char **why) {
  if (!r->ok) {
    *why = r->error != NULL && r->error[0] != '\0' ? r->error : "the fetch failed";
    return NULL;
  }
  int64_t expires = 0;
  *why = check_value(r);
  if (*why == NULL) *why = find_expiry(r, t, &expires);
  if (*why != NULL) return NULL;
  expires -= leeway(t, expires - t->sent_at);
  if (expires <= t->now) {
    *why = "the token had expired before it arrived";
    return NULL;
  }
  struct token *token = token_new(r->value, r->fields, r->nfields);
  if (token == NULL) {
    *why = "the token is larger than 64 KiB";
    return NULL;
  }
  token->obtained_at = t->sent_at;
  token->expires_at = expires;
  assert(token->obtained_at <= t->now && t->now < token->expires_at);
  return token;
}
