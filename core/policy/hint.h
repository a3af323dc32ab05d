/* hint.h: how a policy's values are shown, which of them never are, and guesses at what was meant. Used while a table is read (policy/schema.h). */
#ifndef JETON_POLICY_HINT_H
#define JETON_POLICY_HINT_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/schema.h"

#define HINT_DURATION_MAX_MS (UINT64_C(365) * 24 * 3600 * 1000) /* no timeout of a policy is longer */

const char *hint_type(struct schema *s, int value); /* "a table", "an opaque secret" */
const char *hint_value(struct schema *s, const struct path *at,
                       int value); /* quoted and cut, or hint_type where a secret may stand */
bool hint_hidden(struct schema *s, const struct path *at, int value);
const char *hint_write_duration(struct arena *a, uint64_t ms);                 /* "5m", "250ms" */
const char *hint_write_size(struct arena *a, uint64_t bytes);                  /* "64k", "100" */
const char *hint_write_choices(struct arena *a, const struct choice *choices); /* "\"a\", \"b\" or \"c\"" */
/* Guesses, as the user would write them, quotes included; NULL: none. */
const char *hint_duration(struct schema *s, int value);
const char *hint_size(struct schema *s, int value);
const char *hint_choice(struct schema *s, int value, const struct choice *choices);
const char *hint_quoted(struct schema *s, struct str text);

#endif
