/* stamp.c: see stamp.h. */
#include "proxy/stamp.h"

#include <stdio.h>

#include "base/clock.h"

/* True: the second has changed, and *tm is the new one. */
static bool moved(time_t *at, struct tm *tm) {
  time_t now = (time_t)(clock_wall_ms() / 1000);
  if (now == *at) return false;
  *at = now;
  gmtime_r(&now, tm);
  return true;
}

struct str stamp_iso(struct stamp *s) {
  struct tm tm;
  if (moved(&s->iso_at, &tm)) strftime(s->iso, sizeof s->iso, "%Y-%m-%dT%H:%M:%SZ", &tm);
  return str_of(s->iso);
}

/* Without strftime, whose names of days are the locale's. */
struct str stamp_imf(struct stamp *s) {
  static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  struct tm tm;
  if (moved(&s->imf_at, &tm))
    snprintf(s->imf, sizeof s->imf, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday,
             months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
  return str_of(s->imf);
}
