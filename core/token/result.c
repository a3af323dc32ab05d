/* result.c: the checks between an issuer's answer (or a script's table) and a published token. Pure, but for the token's memory.
 *
 * Invariant: a token that leaves here has obtained_at <= now < expires_at, and is never valid for longer than the issuer said. */
#include "token/result.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/chars.h"

enum { UNITS = 4 }; /* seconds, milli-, micro- and nanoseconds */

static const double LIFE_MAX_S = 10.0 * 366 * 86400;
/* Seconds since the epoch for the year 5138, and 2^62: between them lie milliseconds and smaller units of now; beyond are the largest integers, which mean "for
 * ever". */
static const double UNIT_FROM = 1e11, UNIT_TO = 4611686018427387904.0;
static const double YEAR_S = 366.0 * 86400, MOMENT_FROM = 1e9;

static struct str without_edges(struct str s) {
  while (s.n > 0 && strchr(" \t\r\n", s.p[0]) != NULL && s.p[0] != '\0') s = (struct str){s.p + 1, s.n - 1};
  while (s.n > 0 && strchr(" \t\r\n", s.p[s.n - 1]) != NULL && s.p[s.n - 1] != '\0') s.n--;
  return s;
}

/* A key may have any bytes: what cannot stand in a header is refused where it is put into one. But text with a line end behind it is what a file or a command gave, and
 * was meant without. */
static const char *check_value(const struct fetch_result *r) {
  if (r->value.n == 0) return "the token's value is empty";
  struct str inner = without_edges(r->value);
  if (inner.n == 0) return "the token's value is nothing but white space";
  if (chars_all(inner, CHAR_VALUE) && !chars_all(r->value, CHAR_VALUE))
    return "the token's value has a line end at its edge, which no header can carry: leave it out, as value:match "
           "\"^%s*(.-)%s*$\" does";
  if (r->nfields > TOKEN_FIELDS_MAX) return "the token has more than 16 extra fields";
  for (unsigned i = 0; i < r->nfields; i++) {
    if (r->fields[i].name.n == 0) return "an extra field of the token has an empty name";
  }
  return NULL;
}

/* In seconds, relative to its own start. A longer life is cut: the issuer's word is that it is good then. */
static int64_t life_ms(double seconds) { return (int64_t)((seconds < LIFE_MAX_S ? seconds : LIFE_MAX_S) * 1000); }

/* Seconds, or thousandths and smaller, that are a moment of these years: an issuer, or a script, that gives the end of the life in the place of its length. Taken as
 * a length it would let a dead token serve for decades. 2^31-1 means "for ever". */
static bool is_moment(double seconds, const struct result_times *t) {
  double wall = (double)t->wall / 1000;
  if (seconds == INT32_MAX) return false;
  for (int unit = 0; unit < UNITS && seconds >= MOMENT_FROM;
       unit++, seconds /= 1000) /* also with a clock that stands at 1970 */
    if (seconds > wall - YEAR_S && seconds < wall + 2 * YEAR_S) return true;
  return false;
}

static const char *check_in(double seconds, const struct result_times *t) {
  if (!isfinite(seconds)) return "expires_in is not a finite number";
  if (seconds <= 0) return "expires_in is not positive";
  if (is_moment(seconds, t)) return "expires_in is a moment of these years, not a length: give it as expires_at";
  return NULL;
}

static const char *check_at(double seconds, const struct result_times *t) {
  if (!isfinite(seconds)) return "expires_at is not a finite number";
  if (seconds >= UNIT_FROM && seconds < UNIT_TO)
    return "expires_at is thousands of years ahead: milliseconds? It is seconds since the epoch";
  if (seconds <= 0) return "expires_at is not positive";
  if (seconds * 1000 > (double)t->wall) return NULL;
  return seconds < LIFE_MAX_S
             ? "expires_at is in the past: a length? It is seconds since the epoch; a length is expires_in"
             : "expires_at is in the past";
}

/* The moment of expiry on CLOCK_BOOTTIME, without leeway. */
static const char *find_expiry(const struct fetch_result *r, const struct result_times *t, int64_t *expires) {
  *expires = TOKEN_LASTS;
  if (r->lasts) return NULL;
  if (!r->has_expires_in && !r->has_expires_at)
    return "the token has no lifetime: give expires_in or expires_at (to jeton.oauth2: lifetime)";
  *expires = INT64_MAX;
  if (r->has_expires_in) {
    const char *wrong = check_in(r->expires_in, t);
    if (wrong != NULL) return wrong;
    *expires = t->sent_at + life_ms(r->expires_in);
  }
  if (r->has_expires_at) {
    const char *wrong = check_at(r->expires_at, t);
    if (wrong != NULL) return wrong;
    int64_t at = t->now + life_ms(r->expires_at - (double)t->wall / 1000);
    if (at < *expires) *expires = at;
  }
  return NULL;
}

static int64_t leeway(const struct result_times *t, int64_t life) {
  int64_t most = life / 10;
  if (t->leeway_ms < 0) return 0;
  return t->leeway_ms < most ? t->leeway_ms : most;
}

/* What a refresh needs may end before the token does: then the refresh is planned by its life. */
static int64_t renew_by(const struct fetch_result *r, const struct result_times *t, int64_t expires) {
  if (!(r->refresh_expires_in > 0) || r->refresh_expires_in > LIFE_MAX_S) return expires; /* also of NaN */
  int64_t life = (int64_t)(r->refresh_expires_in * 1000);
  int64_t at = t->sent_at + life - leeway(t, life);
  return at > t->sent_at && at < expires ? at : expires;
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
  if (!r->lasts) expires -= leeway(t, expires - t->sent_at);
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
  token->renew_by = renew_by(r, t, expires);
  assert(token->obtained_at <= t->now && t->now < token->expires_at);
  return token;
}
