/* result.h: the result of a fetch or a set, and the one place that decides whether it makes a token. */
#ifndef JETON_TOKEN_RESULT_H
#define JETON_TOKEN_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "token/token.h"

/* What a failed fetch says of the next one: that it may well succeed; that it cannot, unless somebody changes something; or that what it is made with is spent, so
 * that asking again is in vain and may do harm. */
enum fetch_outlook { OUTLOOK_OPEN, OUTLOOK_PERMANENT, OUTLOOK_SPENT };

/* Borrowed from the caller, and judged here: a lifetime must exist, be finite and positive after the leeway; one of more than 10 years, as issuers write for
 * "for ever", counts as 10 years. What can only be another unit is refused with the question. The value must not be empty, nor text with a line end at its edge; what
 * else cannot stand in a header is refused there. When both expires_in and expires_at are given, the earlier counts. Not ok: `error` is a sanitised message without secrets, and `retry_after` the
 * seconds, if any, for which the issuer asked not to be asked again; the fields, if any, are what the next fetch is to have in place of the last token's. */
struct fetch_result {
  bool ok;
  struct str value;
  struct token_field fields[TOKEN_FIELDS_MAX];
  unsigned nfields;
  bool has_expires_in, has_expires_at;
  bool lasts;        /* it does not end, and has neither of these: a secret of the policy's */
  double expires_in; /* seconds from sent_at */
  double expires_at; /* seconds since the epoch */
  /* seconds from sent_at that what the next fetch needs (a refresh token) lives; <= 0: nothing is known */
  double refresh_expires_in;
  const char *error;
  double retry_after; /* 0: not told */
  enum fetch_outlook outlook;
  /* what the values that it was made of are bound to: `audience` and `sealed` alone count. The caller's */
  struct token_bond bond;
};

struct result_times {
  int64_t sent_at; /* CLOCK_BOOTTIME ms: expires_in counts from here */
  int64_t now;     /* CLOCK_BOOTTIME ms */
  int64_t wall; /* CLOCK_REALTIME ms, at the same moment as now: expires_at is carried over to CLOCK_BOOTTIME with it */
  int64_t leeway_ms; /* at most a tenth of the life is taken */
};

/* A token with obtained_at and expires_at set (no generation yet), valid at t->now. Or NULL, with a sentence in *why (static, or r->error)
 * that holds no byte of the result. */
struct token *result_token(const struct fetch_result *r, const struct result_times *t, const char **why);

#endif
