/* json.c: see json.h. */
#include "base/json.h"

#include <stdbool.h>

#include "base/utf8.h"

static unsigned escape_hex(unsigned char c, char out[JSON_ESCAPE_MAX]) {
  static const char digits[] = "0123456789abcdef";
  out[0] = '\\';
  out[1] = 'u';
  out[2] = out[3] = '0';
  out[4] = digits[c >> 4];
  out[5] = digits[c & 15];
  return 6;
}

static bool is_plain(unsigned char c) { return c >= 0x20 && c != 0x7f && c != '"' && c != '\\'; }

unsigned json_escape_byte(unsigned char c, char out[JSON_ESCAPE_MAX]) {
  char letter = c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : c == '"' || c == '\\' ? (char)c : '\0';
  out[0] = (char)c;
  if (is_plain(c)) return 1;
  if (letter == '\0') return escape_hex(c, out);
  out[0] = '\\';
  out[1] = letter;
  return 2;
}

static bool is_plain_ascii(unsigned char c) { return c < 0x80 && is_plain(c); }

void json_add_text(struct buf *b, struct str s) {
  const uint8_t *p = (const uint8_t *)s.p;
  char escape[JSON_ESCAPE_MAX];
  for (size_t i = 0, plain = 0; i < s.n; i = plain) {
    while (plain < s.n && is_plain_ascii(p[plain])) plain++;
    buf_add(b, p + i, plain - i);
    if (plain == s.n) break;
    size_t length = utf8_length(p + plain, s.n - plain);
    if (length == 0)
      buf_addz(b, "\\ufffd");
    else if (length == 1)
      buf_add(b, escape, json_escape_byte(p[plain], escape));
    else if (utf8_is_control(p + plain, length))
      buf_add(b, escape, escape_hex(p[plain + 1], escape)); /* U+0080 to U+009F: the second byte is the code point */
    else
      buf_add(b, p + plain, length);
    plain += length > 0 ? length : 1;
  }
}

void json_add_string(struct buf *b, struct str s) {
  buf_addz(b, "\"");
  json_add_text(b, s);
  buf_addz(b, "\"");
}
