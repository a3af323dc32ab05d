/* str.h: a borrowed slice of bytes. Never owns, never NUL-terminated unless said. */
#ifndef JETON_BASE_STR_H
#define JETON_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
  const char *p;
  size_t n;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_FMT(s) (int)(s).n, (s).p /* for "%.*s" */

/* Changes ASCII letters only, whatever the locale. */
static inline char char_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

/* Of a hexadecimal digit in either case; -1: it is none. */
static inline int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = char_lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Two digits for each byte, in lower case and without an end. */
void hex_write(const uint8_t *bytes, size_t n, char *out);

static inline struct str str_of(const char *z) { return (struct str){z, z != NULL ? strlen(z) : 0}; }
static inline bool str_eq(struct str a, struct str b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }
bool str_ieq_bytes(const char *a, const char *b, size_t n);
static inline bool str_ieq(struct str a, struct str b) {
  return a.n == b.n && str_ieq_bytes(a.p, b.p, a.n);
} /* ASCII case-insensitive */
bool str_starts(struct str s, struct str prefix);
struct str str_trim(struct str s);                      /* strips SP and HTAB (RFC 9110 section 5.6.3, OWS) */
bool str_to_u64(struct str s, unsigned long long *out); /* decimal digits only; false on overflow, sign or emptiness */
/* Edit distance (Damerau-Levenshtein, at most 32 bytes of each), for "did you mean". */
unsigned str_distance(struct str a, struct str b);

#endif
