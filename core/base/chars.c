/* chars.c: see chars.h. */
#include "base/chars.h"

/* clang-format off */
const uint8_t char_class[256] = { /* 32 a row */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  /* 00 */
    4, 7, 6, 7, 7, 7, 7, 7, 6, 6, 7, 7, 6, 63, 15, 6, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 6, 6, 6, 6, 6, 6,  /* 20 */
    6, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 6, 6, 6, 7, 15,  /* 40 */
    7, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 6, 7, 6, 15, 0,  /* 60 */
    4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,  /* 80 */
    4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,  /* a0 */
    4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,  /* c0 */
    4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,  /* e0 */
};
/* clang-format on */

static bool odd_bytes(const char *p, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (p[i] == '_' || (p[i] == '-' && i + 1 < n && p[i + 1] == '-')) return true;
  return false;
}
#ifdef __SSE2__
static inline bool odd_vector(const char *p) { /* 16 bytes and the one behind */
  const __m128i dash = _mm_set1_epi8('-'), low_line = _mm_set1_epi8('_');
  __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p),
          next = _mm_loadu_si128((const __m128i *)(const void *)(p + 1));
  __m128i twice = _mm_and_si128(_mm_cmpeq_epi8(v, dash), _mm_cmpeq_epi8(next, dash));
  return _mm_movemask_epi8(_mm_or_si128(twice, _mm_cmpeq_epi8(v, low_line))) != 0;
}
/* Of a name of 9 to 16 bytes: the first eight with the one behind each, beside the last eight with the one in front of each. */
static inline bool odd_short(const char *p, size_t n) {
  const __m128i dash = _mm_set1_epi8('-'), low_line = _mm_set1_epi8('_');
  const char *last = p + n - 8;
  __m128i v = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)(const void *)p),
                                 _mm_loadl_epi64((const __m128i *)(const void *)last)),
          beside = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)(const void *)(p + 1)),
                                      _mm_loadl_epi64((const __m128i *)(const void *)(last - 1)));
  __m128i twice = _mm_and_si128(_mm_cmpeq_epi8(v, dash), _mm_cmpeq_epi8(beside, dash));
  return _mm_movemask_epi8(_mm_or_si128(twice, _mm_cmpeq_epi8(v, low_line))) != 0;
}
bool chars_odd(struct str s) {
  if (s.n < 9) return odd_bytes(s.p, s.n);
  if (s.n < 17) return odd_short(s.p, s.n);
  for (const char *p = s.p, *last = s.p + s.n - 17; p < last; p += 16)
    if (odd_vector(p)) return true;
  return odd_vector(s.p + s.n - 17) || s.p[s.n - 1] == '_';
}
#else
bool chars_odd(struct str s) { return odd_bytes(s.p, s.n); }
#endif
