/* moment.c: see moment.h.
 *
 * A scanner that takes what it knows and leaves the rest, so each form is the row of its parts. A text that has the shape of a date, and is none, is told by what it
 * lacks (a zone, a time of day), since that is what its author has to add.
 *
 * strptime would read names of the process's locale, and no zone; timegm takes the 31st of February for the 3rd of March. */
#include "base/moment.h"

#include <stdbool.h>
#include <stdint.h>

static const char NO_DATE[] =
    "expected a date such as \"2026-01-31T08:00:00Z\" (ISO 8601) or \"Sat, 31 Jan 2026 08:00:00 GMT\" (HTTP)";
static const char NO_TIME[] = "a date without a time of day, such as T08:00:00Z behind it";
static const char NO_ZONE[] = "a date without a zone is no moment: with \"Z\" behind it, it is UTC";
static const char NO_SUCH[] = "there is no such date or time of day";

struct scan {
  const char *p, *end;
};
struct civil {
  int year, month, day, hour, minute, second;
  double fraction;
};

/* --- taking parts --- */

static bool take(struct scan *s, char c) {
  if (s->p == s->end || *s->p != c) return false;
  s->p++;
  return true;
}

static bool take_text(struct scan *s, struct str text) {
  if ((size_t)(s->end - s->p) < text.n || !str_ieq((struct str){s->p, text.n}, text)) return false;
  s->p += text.n;
  return true;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* From `least` to `most` digits. */
static bool take_number(struct scan *s, int least, int most, int *out) {
  int n = 0;
  *out = 0;
  for (; n < most && s->p < s->end && is_digit(*s->p); n++) *out = *out * 10 + (*s->p++ - '0');
  return n >= least;
}

static int letters(struct scan *s) {
  const char *from = s->p;
  while (s->p < s->end && char_lower(*s->p) >= 'a' && char_lower(*s->p) <= 'z') s->p++;
  return (int)(s->p - from);
}

static bool take_month(struct scan *s, int *month) {
  static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
  for (*month = 1; *month <= 12; ++*month)
    if (take_text(s, (struct str){names + 3 * (*month - 1), 3})) return true;
  return false;
}

/* --- the calendar --- */

/* Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day comes last. */
static int64_t days_of(int year, int month, int day) {
  if (month <= 2) year--;
  int64_t era = (year >= 0 ? year : year - 399) / 400, in_era = year - era * 400;
  int64_t in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
  return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

/* A leap second is the second behind it: what reads such a date wants a moment, not an error. */
static const char *epoch_of(const struct civil *c, int offset_s, double *seconds) {
  if (c->month < 1 || c->month > 12 || c->day < 1 || c->minute > 59 || c->second > 60) return NO_SUCH;
  if (c->hour > 24 || (c->hour == 24 && (c->minute > 0 || c->second > 0))) return NO_SUCH;
  int64_t first = days_of(c->year, c->month, 1);
  int64_t next = c->month < 12 ? days_of(c->year, c->month + 1, 1) : days_of(c->year + 1, 1, 1);
  if (c->day > next - first) return NO_SUCH;
  int64_t whole = (first + c->day - 1) * 86400 + c->hour * 3600 + c->minute * 60 + c->second - offset_s;
  *seconds = (double)whole + c->fraction;
  return NULL;
}

/* --- ISO 8601 --- */

static void take_fraction(struct scan *s, double *fraction) {
  if (s->end - s->p < 2 || (*s->p != '.' && *s->p != ',') || !is_digit(s->p[1])) return;
  s->p++;
  for (double unit = 0.1; s->p < s->end && is_digit(*s->p); unit /= 10) *fraction += (*s->p++ - '0') * unit;
}

static bool take_zone(struct scan *s, int *offset_s) {
  int hours, minutes = 0;
  *offset_s = 0;
  (void)take(s, ' ');
  if (take_text(s, STR("Z")) || take_text(s, STR("UTC")) || take_text(s, STR("GMT"))) return true;
  bool behind = take(s, '-');
  if (!behind && !take(s, '+')) return false;
  if (!take_number(s, 2, 2, &hours)) return false;
  if (take(s, ':') || (s->p < s->end && is_digit(*s->p)))
    if (!take_number(s, 2, 2, &minutes)) return false;
  *offset_s = (hours * 3600 + minutes * 60) * (behind ? -1 : 1);
  return hours < 24 && minutes < 60;
}

static bool take_clock(struct scan *s, bool extended, struct civil *c) {
  if (!take_number(s, 2, 2, &c->hour) || (extended && !take(s, ':')) || !take_number(s, 2, 2, &c->minute)) return false;
  if (extended ? take(s, ':') : s->p < s->end && is_digit(*s->p))
    if (!take_number(s, 2, 2, &c->second)) return false;
  take_fraction(s, &c->fraction);
  return true;
}

static const char *parse_iso(struct scan *s, double *seconds) {
  struct civil c = {0};
  int offset;
  if (!take_number(s, 4, 4, &c.year)) return NO_DATE;
  bool extended = take(s, '-');
  if (!take_number(s, 2, 2, &c.month) || (extended && !take(s, '-')) || !take_number(s, 2, 2, &c.day)) return NO_DATE;
  if (s->p == s->end) return extended ? NO_TIME : NO_DATE;
  if (!take(s, 'T') && !take(s, 't') && !take(s, ' ')) return NO_DATE;
  if (!take_clock(s, extended, &c)) return NO_DATE;
  if (s->p == s->end) return NO_ZONE;
  if (!take_zone(s, &offset) || s->p != s->end) return NO_DATE;
  return epoch_of(&c, offset, seconds);
}

/* --- HTTP --- */

static int whole_year(int of_century, double now) {
  int this_year = 1970 + (int)(now / (365.2425 * 86400));
  int year = this_year / 100 * 100 + of_century;
  return year > this_year + 50 ? year - 100 : year;
}

static bool take_time(struct scan *s, struct civil *c) {
  return take_number(s, 2, 2, &c->hour) && take(s, ':') && take_number(s, 2, 2, &c->minute) && take(s, ':') &&
         take_number(s, 2, 2, &c->second);
}

/* Behind the day's name. GMT is UTC by another name, and written as an offset by some. */
static bool take_common(struct scan *s, double now, struct civil *c) {
  if (!take(s, ',') || !take(s, ' ') || !take_number(s, 1, 2, &c->day)) return false;
  if (take(s, '-')) { /* RFC 850 */
    int more;
    if (!take_month(s, &c->month) || !take(s, '-') || !take_number(s, 2, 2, &c->year)) return false;
    c->year = take_number(s, 2, 2, &more) ? c->year * 100 + more : whole_year(c->year, now);
  } else if (!take(s, ' ') || !take_month(s, &c->month) || !take(s, ' ') || !take_number(s, 4, 4, &c->year)) {
    return false;
  }
  return take(s, ' ') && take_time(s, c) && take(s, ' ') &&
         (take_text(s, STR("GMT")) || take_text(s, STR("UTC")) || take_text(s, STR("+0000")));
}

/* As C's asctime writes it, behind the day's name. */
static bool take_asctime(struct scan *s, struct civil *c) {
  if (!take(s, ' ') || !take_month(s, &c->month) || !take(s, ' ')) return false;
  (void)take(s, ' ');
  return take_number(s, 1, 2, &c->day) && take(s, ' ') && take_time(s, c) && take(s, ' ') &&
         take_number(s, 4, 4, &c->year);
}

static const char *parse_http(struct scan *s, double now, double *seconds) {
  struct civil c = {0};
  if (letters(s) < 3) return NO_DATE;
  bool common = s->p < s->end && *s->p == ',';
  if (!(common ? take_common(s, now, &c) : take_asctime(s, &c)) || s->p != s->end) return NO_DATE;
  return epoch_of(&c, 0, seconds);
}

const char *moment_parse(struct str text, double now, double *seconds) {
  text = str_trim(text);
  struct scan s = {text.p, text.p + text.n};
  if (text.n == 0) return NO_DATE;
  return is_digit(text.p[0]) ? parse_iso(&s, seconds) : parse_http(&s, now, seconds);
}
