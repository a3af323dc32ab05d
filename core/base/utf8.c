/* utf8.c: see utf8.h. */
#include "base/utf8.h"

size_t utf8_length(const uint8_t *p, size_t n) {
  static const struct {
    uint8_t first_min, first_max, second_min, second_max, length;
  } forms[] = {{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
               {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
               {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
  if (n == 0) return 0;
  if (p[0] < 0x80) return 1;
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    if (p[0] < forms[i].first_min || p[0] > forms[i].first_max) continue;
    if (n < forms[i].length || p[1] < forms[i].second_min || p[1] > forms[i].second_max) return 0;
    for (size_t k = 2; k < forms[i].length; k++)
      if (p[k] < 0x80 || p[k] > 0xbf) return 0;
    return forms[i].length;
  }
  return 0;
}

bool utf8_is_control(const uint8_t *p, size_t length) {
  if (length == 1) return p[0] < 0x20 || p[0] == 0x7f;
  return length == 2 && p[0] == 0xc2 && p[1] < 0xa0;
}
