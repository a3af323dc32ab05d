/* readiness.h: whether requests would be served: a policy is active, and every token that counts has a valid value. Control's thread. */
#ifndef JETON_OPS_READINESS_H
#define JETON_OPS_READINESS_H

#include <stdbool.h>

#include "base/buf.h"
#include "policy/policy.h"
#include "token/token_set.h"

/* Families do not count, since their keys come with requests; nor tokens without which requests pass (missing = "pass"), nor those with ready = false. No policy (NULL):
 * not ready. */
bool readiness_of(const struct policy *p, const struct token_set *tokens);
/* The tokens that are missing, each with why: lines ("token api: fetching for 12 s\n"), or the members of a JSON list. Nothing of a token is in it. */
void readiness_say(const struct policy *p, const struct token_set *tokens, struct buf *out);
void readiness_json(const struct policy *p, const struct token_set *tokens, struct buf *out);

/* "fetching for 12 s (first)", or why the last attempt failed: one line, for people. */
void readiness_say_why(const struct slot_facts *f, struct buf *out);

#endif
