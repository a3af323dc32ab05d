/* moment.h: moments as servers write them: ISO 8601 with its profile RFC 3339, and the dates of HTTP. Pure; any thread. */
#ifndef JETON_BASE_MOMENT_H
#define JETON_BASE_MOMENT_H

#include "base/str.h"

/* Reads, with blanks around it or without:
 *   "2026-01-31T08:00:00Z", "2026-01-31 09:00:00.25+01:00", "20260131T080000Z", without the seconds as well; the zone is "Z", "UTC", "GMT" or an offset
 *   "Sat, 31 Jan 2026 08:00:00 GMT", and the two other forms of RFC 9110 section 5.6.7; years of two digits are those nearest to `now`, up to 50 years ahead
 * NULL with *seconds since the epoch, fraction included; or a static sentence that says what is wrong. A date without a zone is no moment. now: seconds since the
 * epoch. */
const char *moment_parse(struct str text, double now, double *seconds);

#endif
