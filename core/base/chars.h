/* chars.h: which bytes may stand where in a message, and how far they go. Pure; any thread.
 *
 * The functions for spans check sixteen bytes at a time where the machine can; the table gives the same answer for one byte. They are inlined, since the texts
 * are short: a dozen names and values make a head. */
#ifndef JETON_BASE_CHARS_H
#define JETON_BASE_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/str.h"

/* char_class[byte] is a set of these. */
enum {
  CHAR_TOKEN = 1,  /* RFC 9110 section 5.6.2 */
  CHAR_TARGET = 2, /* in a request target: any visible US-ASCII */
  CHAR_VALUE = 4,  /* in a field value or reason: HTAB, SP, visible, obs-text */
  CHAR_HOST = 8,   /* in a registered name or IPv4 address: letters, digits, "-._~" */
  CHAR_NAME =
      16, /* letters, digits and "-", of which nearly every field name is made; other bytes may still be CHAR_TOKEN */
  CHAR_NAME_LOW = 32 /* the same without upper case: of HTTP/2 */
};
extern const uint8_t char_class[256];

#ifdef __SSE2__
static inline __m128i chars_fine(__m128i v, unsigned class) {
  const __m128i space = _mm_set1_epi8(0x20), del = _mm_set1_epi8(0x7f);
  if (class == CHAR_TARGET) /* signed: bytes that are not US-ASCII are below SP */
    return _mm_and_si128(_mm_cmpgt_epi8(v, space), _mm_cmplt_epi8(v, del));
  if (class == CHAR_VALUE) {
    __m128i visible = _mm_andnot_si128(_mm_cmpeq_epi8(v, del), _mm_cmpeq_epi8(_mm_max_epu8(v, space), v));
    return _mm_or_si128(visible, _mm_cmpeq_epi8(v, _mm_set1_epi8('\t')));
  }
  const __m128i last_letter = _mm_set1_epi8('z' - 'a'), last_digit = _mm_set1_epi8(9);
  __m128i letter = _mm_sub_epi8(class == CHAR_NAME_LOW ? v : _mm_or_si128(v, space), _mm_set1_epi8('a')),
          digit = _mm_sub_epi8(v, _mm_set1_epi8('0'));
  __m128i alnum = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(letter, last_letter), letter),
                               _mm_cmpeq_epi8(_mm_min_epu8(digit, last_digit), digit));
  __m128i name = _mm_or_si128(alnum, _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
  if (class == CHAR_NAME || class == CHAR_NAME_LOW) return name;
  __m128i low_line_or_tilde =
      _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('_')), _mm_cmpeq_epi8(v, _mm_set1_epi8('~')));
  return _mm_or_si128(_mm_or_si128(name, low_line_or_tilde), _mm_cmpeq_epi8(v, _mm_set1_epi8('.')));
}

/* Which of the sixteen bytes are none of the class: bit 0 is the first. */
static inline unsigned chars_stops(const uint8_t *p, unsigned class) {
  __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
  return ~(unsigned)_mm_movemask_epi8(chars_fine(v, class)) & 0xffff;
}

/* How many of the n bytes, 8 to 15, are of the class: the first eight beside the last eight, which overlap. */
static inline __attribute__((always_inline)) size_t chars_span_short(const uint8_t *p, size_t n, unsigned class) {
  __m128i first = _mm_loadl_epi64((const __m128i *)(const void *)p),
          last = _mm_loadl_epi64((const __m128i *)(const void *)(p + n - 8));
  unsigned stops = ~(unsigned)_mm_movemask_epi8(chars_fine(_mm_unpacklo_epi64(first, last), class)) & 0xffff;
  if (stops == 0) return n;
  size_t at = (size_t)__builtin_ctz(stops);
  return at < 8 ? at : at - 8 + n - 8;
}
#endif

#ifdef __SSE2__
/* Which of the sixteen bytes are control bytes: those that may not stand in a value, and HTAB. */
static inline unsigned chars_controls(const uint8_t *p) {
  __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
  __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v), del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
  return (unsigned)_mm_movemask_epi8(_mm_or_si128(low, del));
}
#endif

/* How many bytes from p on are of the class, which is a constant: all but TOKEN have vectors. `before` bytes in front of p may be read as well,
 * and spare a short rest its loop. */
static inline __attribute__((always_inline)) size_t chars_span(const uint8_t *p, size_t n, size_t before,
                                                               unsigned class) {
  size_t i = 0;
#ifdef __SSE2__
  bool vectors = class != CHAR_TOKEN;
  for (; vectors && n - i >= 16; i += 16) {
    unsigned stops = chars_stops(p + i, class);
    if (stops != 0) return i + (size_t)__builtin_ctz(stops);
  }
  if (n == i) return n;
  if (vectors && n + before >= 16) {
    unsigned stops = chars_stops(p + n - 16, class) >> (16 - (n - i));
    return stops != 0 ? i + (size_t)__builtin_ctz(stops) : n;
  }
  if (vectors && n >= 8) return chars_span_short(p, n, class); /* i is 0 */
#else
  (void)before;
#endif
  while (i < n && (char_class[p[i]] & class)) i++;
  return i;
}

/* "_" or "--" is in it: some servers read such a name as another one, with "-" in its place. */
bool chars_odd(struct str s);

/* All of it is of the class, a constant. True when it is empty. */
static inline __attribute__((always_inline)) bool chars_all(struct str s, unsigned class) {
  return s.n == 0 || chars_span((const uint8_t *)s.p, s.n, 0, class) == s.n;
}

/* In a cookie's value (RFC 6265 section 4.1.1). */
static inline bool char_in_cookie(char c) {
  return c > ' ' && c < 0x7f && c != '"' && c != ',' && c != ';' && c != '\\';
}

#endif
