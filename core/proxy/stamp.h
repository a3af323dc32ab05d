/* stamp.h: the present second as text, made once a second. Embedded in the worker; its thread. */
#ifndef JETON_PROXY_STAMP_H
#define JETON_PROXY_STAMP_H

#include <time.h>

#include "base/str.h"

struct stamp { /* all zero: nothing is made yet */
  time_t iso_at, imf_at;
  char iso[32], imf[40];
};

/* Both end in a NUL that does not count, and stay until the next call. */
struct str stamp_iso(struct stamp *s); /* "2026-11-23T20:08:37Z": the access log's */
struct str stamp_imf(struct stamp *s); /* "Mon, 23 Nov 2026 20:08:37 GMT": an IMF-fixdate (RFC 9110 section 5.6.7) */

#endif
