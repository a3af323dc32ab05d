/* percent.c: see percent.h. */
#include "base/percent.h"

static bool is_alphanumeric(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static unsigned escape(unsigned char c, char out[PERCENT_MAX]) {
  static const char digits[] = "0123456789ABCDEF";
  out[0] = '%';
  out[1] = digits[c >> 4];
  out[2] = digits[c & 15];
  return 3;
}

unsigned percent_escape_byte(unsigned char c, char out[PERCENT_MAX]) {
  if (!is_alphanumeric(c) && c != '-' && c != '.' && c != '_' && c != '~') return escape(c, out);
  out[0] = (char)c;
  return 1;
}

unsigned percent_escape_form_byte(unsigned char c, char out[PERCENT_MAX]) {
  if (!is_alphanumeric(c) && c != '-' && c != '.' && c != '_' && c != '*' && c != ' ') return escape(c, out);
  out[0] = c == ' ' ? '+' : (char)c;
  return 1;
}

bool percent_unescape(struct str s, bool form, char *out, size_t *n) {
  *n = 0;
  for (size_t i = 0; i < s.n; i++) {
    char c = s.p[i];
    if (c == '%') {
      int high = s.n - i > 2 ? hex_value(s.p[i + 1]) : -1, low = s.n - i > 2 ? hex_value(s.p[i + 2]) : -1;
      if (high < 0 || low < 0) return false;
      c = (char)(high << 4 | low);
      i += 2;
    } else if (c == '+' && form) {
      c = ' ';
    }
    out[(*n)++] = c;
  }
  return true;
}
