/* units.c: "1.5s" and "64k" by integer arithmetic, so that no locale and no rounding of doubles takes part. */
#include "base/units.h"

#include <stddef.h>

struct unit {
  const char *name;
  uint64_t factor;
};

static const struct unit durations[] = {{"ms", 1},      {"s", 1000},         {"m", 60 * 1000},
                                        {"h", 3600000}, {"d", 24 * 3600000}, {"", 1000}};
static const struct unit sizes[] = {{"", 1},        {"b", 1},        {"k", 1 << 10}, {"kb", 1 << 10},
                                    {"m", 1 << 20}, {"mb", 1 << 20}, {"g", 1 << 30}, {"gb", 1 << 30}};

/* Takes the leading digits off *s. */
static struct str take_digits(struct str *s) {
  struct str digits = {s->p, 0};
  while (digits.n < s->n && s->p[digits.n] >= '0' && s->p[digits.n] <= '9') digits.n++;
  s->p += digits.n;
  s->n -= digits.n;
  return digits;
}

/* digits ("25" of "0.25") times factor, rounded to the nearest. */
static uint64_t fraction_of(struct str digits, uint64_t factor) {
  uint64_t sum = 0, scale = 1;
  for (size_t i = 0; i < digits.n && i < 9; i++) { /* 10^9 * 86,400,000 fits; what is behind it is below a nanosecond */
    scale *= 10;
    sum = sum * 10 + (uint64_t)(digits.p[i] - '0');
  }
  return (sum * factor + scale / 2) / scale;
}

static const struct unit *find(const struct unit *units, size_t n, struct str name) {
  for (size_t i = 0; i < n; i++)
    if (str_ieq(name, str_of(units[i].name))) return &units[i];
  return NULL;
}

bool units_duration_ms(struct str s, int64_t *ms) {
  unsigned long long whole;
  struct str digits = take_digits(&s), fraction = {0};
  if (!str_to_u64(digits, &whole)) return false;
  if (s.n > 0 && s.p[0] == '.') {
    s.p++, s.n--;
    fraction = take_digits(&s);
    if (fraction.n == 0) return false;
  }
  const struct unit *u = find(durations, sizeof durations / sizeof *durations, s);
  if (u == NULL || whole > (uint64_t)INT64_MAX / u->factor - 1) return false;
  *ms = (int64_t)(whole * u->factor + fraction_of(fraction, u->factor));
  return true;
}

bool units_size(struct str s, uint64_t *bytes) {
  unsigned long long whole;
  struct str digits = take_digits(&s);
  if (!str_to_u64(digits, &whole)) return false;
  const struct unit *u = find(sizes, sizeof sizes / sizeof *sizes, s);
  if (u == NULL || whole > UINT64_MAX / u->factor) return false;
  *bytes = whole * u->factor;
  return true;
}
