/* str.c: the slice functions that are too long to inline. Pure; any thread. */
#include "base/str.h"

#include <limits.h>

void hex_write(const uint8_t *bytes, size_t n, char *out) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < n; i++) {
    *out++ = digits[bytes[i] >> 4];
    *out++ = digits[bytes[i] & 15];
  }
}

bool str_ieq_bytes(const char *a, const char *b, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (a[i] != b[i] && char_lower(a[i]) != char_lower(b[i])) return false;
  return true;
}

bool str_starts(struct str s, struct str prefix) {
  return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static bool is_ows(char c) { return c == ' ' || c == '\t'; }

struct str str_trim(struct str s) {
  while (s.n > 0 && is_ows(s.p[0])) s.p++, s.n--;
  while (s.n > 0 && is_ows(s.p[s.n - 1])) s.n--;
  return s;
}

bool str_to_u64(struct str s, unsigned long long *out) {
  unsigned long long v = 0;
  if (s.n == 0) return false;
  for (size_t i = 0; i < s.n; i++) {
    unsigned digit = (unsigned)((unsigned char)s.p[i] - '0');
    if (digit > 9 || v > (ULLONG_MAX - digit) / 10) return false;
    v = v * 10 + digit;
  }
  *out = v;
  return true;
}

enum { DISTANCE_MAX = 32 };

static unsigned min3(unsigned a, unsigned b, unsigned c) {
  unsigned m = a < b ? a : b;
  return m < c ? m : c;
}

/* Optimal string alignment: insert, delete, replace, and swap of two neighbours cost one each. */
unsigned str_distance(struct str a, struct str b) {
  unsigned d[DISTANCE_MAX + 1][DISTANCE_MAX + 1];
  unsigned an = a.n < DISTANCE_MAX ? (unsigned)a.n : DISTANCE_MAX;
  unsigned bn = b.n < DISTANCE_MAX ? (unsigned)b.n : DISTANCE_MAX;
  for (unsigned i = 0; i <= an; i++) d[i][0] = i;
  for (unsigned j = 0; j <= bn; j++) d[0][j] = j;
  for (unsigned i = 1; i <= an; i++) {
    for (unsigned j = 1; j <= bn; j++) {
      unsigned cost = a.p[i - 1] != b.p[j - 1];
      d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + cost);
      bool swapped = i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1];
      if (swapped && d[i - 2][j - 2] + 1 < d[i][j]) d[i][j] = d[i - 2][j - 2] + 1;
    }
  }
  return d[an][bn];
}
