/* base64.c: see base64.h. */
#include "base/base64.h"

#include <stdbool.h>
#include <stdint.h>

static const char alphabets[2][65] = {
    [BASE64_PADDED] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    [BASE64_URL] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"};

size_t base64_room(size_t n) { return n / BASE64_GROUP * BASE64_GROUP_TEXT + BASE64_GROUP_TEXT; }

/* Encodes the 1 to 3 bytes at p; returns how many characters carry bits of them: one more than there are bytes. */
static size_t encode_group(const char *alphabet, const unsigned char *p, size_t n, char *out) {
  uint32_t bits = (uint32_t)p[0] << 16;
  if (n > 1) bits |= (uint32_t)p[1] << 8;
  if (n > 2) bits |= p[2];
  for (size_t i = 0; i <= n; i++) out[i] = alphabet[bits >> (18 - 6 * i) & 63];
  return n + 1;
}

size_t base64_encode(enum base64_form form, const void *bytes, size_t n, char *out) {
  const unsigned char *p = bytes;
  size_t made = 0;
  for (size_t i = 0; i < n; i += BASE64_GROUP)
    made += encode_group(alphabets[form], p + i, n - i < BASE64_GROUP ? n - i : BASE64_GROUP, out + made);
  while (form == BASE64_PADDED && made % BASE64_GROUP_TEXT != 0) out[made++] = '=';
  return made;
}

static int digit_value(const char *alphabet, char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == alphabet[62]) return 62;
  return c == alphabet[63] ? 63 : -1;
}

/* Without its padding; false when the padding is there but wrong. */
static bool strip_padding(struct str *s) {
  size_t whole = s->n;
  while (s->n > 0 && whole - s->n < 2 && s->p[s->n - 1] == '=') s->n--;
  return whole == s->n || whole % BASE64_GROUP_TEXT == 0;
}

const char *base64_decode(enum base64_form form, struct str s, char *out, size_t *made) {
  uint32_t bits = 0;
  unsigned have = 0;
  *made = 0;
  if (!strip_padding(&s)) return "base64 with wrong padding";
  if (s.n % BASE64_GROUP_TEXT == 1) return "base64 that ends too early";
  for (size_t i = 0; i < s.n; i++) {
    int v = digit_value(alphabets[form], s.p[i]);
    if (v < 0) return "not base64: a character that does not belong there";
    bits = bits << 6 | (uint32_t)v;
    have += 6;
    if (have < 8) continue;
    have -= 8;
    out[(*made)++] = (char)(bits >> have & 255);
  }
  return (bits & ((1u << have) - 1)) != 0 ? "base64 with bits left over at its end" : NULL;
}
