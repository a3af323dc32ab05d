/* units.h: durations and sizes as users write them. */
#ifndef JETON_BASE_UNITS_H
#define JETON_BASE_UNITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* "250ms" "2s" "5m" "1h" "1d", or digits alone meaning seconds; a decimal fraction is allowed. False when it is none of them. */
bool units_duration_ms(struct str s, int64_t *ms);
/* "64k" "1m" "2g" (powers of 1024, either case, optional trailing b), or digits alone meaning bytes. */
bool units_size(struct str s, uint64_t *bytes);

#endif
