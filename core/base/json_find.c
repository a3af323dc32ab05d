/* json_find.c: see json_find.h.
 *
 * The whole text is passed over first, with a bound for its depth, so that what looks into it afterwards knows that every value ends. Nothing is copied but the string
 * that was asked for, into its owner's buffer, whose end is wiped when it comes to nothing. */
#include "base/json_find.h"

#include <string.h>

#include "base/secmem.h"
#include "base/utf8.h"

enum { DEPTH_MAX = 100 };

struct scan {
  const char *p, *end;
  int depth;
};

static char peek(const struct scan *s) { return s->p < s->end ? *s->p : '\0'; }

static void skip_space(struct scan *s) {
  while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) s->p++;
}

static bool take(struct scan *s, char c) {
  if (peek(s) != c || s->p == s->end) return false;
  s->p++;
  return true;
}

/* Four hexadecimal digits; -1: there are none. */
static int take_hex(struct scan *s) {
  int v = 0;
  for (int i = 0; i < 4; i++) {
    int digit = s->p < s->end ? hex_value(*s->p++) : -1;
    if (digit < 0) return -1;
    v = v << 4 | digit;
  }
  return v;
}

static unsigned put_utf8(unsigned code, char out[4]) {
  if (code < 0x80) return (void)(out[0] = (char)code), 1;
  unsigned n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  static const unsigned first[] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (unsigned i = n - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3f));
  out[0] = (char)(first[n] | code);
  return n;
}

/* Behind "\u". A character beyond the first plane is two surrogates (section 7). 0: it is none. */
static unsigned take_code(struct scan *s, char out[4]) {
  int high = take_hex(s), low = 0;
  if (high < 0 || (high >= 0xdc00 && high < 0xe000)) return 0;
  if (high < 0xd800 || high >= 0xdc00) return put_utf8((unsigned)high, out);
  if (!take(s, '\\') || !take(s, 'u') || (low = take_hex(s)) < 0xdc00 || low >= 0xe000) return 0;
  return put_utf8(0x10000 + ((unsigned)(high - 0xd800) << 10 | (unsigned)(low - 0xdc00)), out);
}

/* One character of a string, decoded; 0: it is not well formed. */
static unsigned take_character(struct scan *s, char out[4]) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  if ((unsigned char)*s->p < 0x20) return 0;
  if (*s->p != '\\') {
    size_t n = utf8_length((const uint8_t *)s->p, (size_t)(s->end - s->p));
    if (n > 0) memcpy(out, s->p, n);
    s->p += n;
    return (unsigned)n;
  }
  s->p++;
  if (take(s, 'u')) return take_code(s, out);
  const char *at = peek(s) != '\0' ? strchr(from, *s->p) : NULL;
  if (at == NULL) return 0;
  s->p++;
  out[0] = to[at - from];
  return 1;
}

/* Is it the string `name`? out, not NULL: what it is. False: it is not well formed. */
static bool take_string(struct scan *s, struct str name, bool *same, struct buf *out) {
  char c[4];
  size_t at = 0;
  *same = true;
  if (!take(s, '"')) return false;
  while (s->p < s->end && *s->p != '"') {
    unsigned n = take_character(s, c);
    if (n == 0) return false;
    *same = *same && name.n - at >= n && memcmp(name.p + at, c, n) == 0;
    if (*same) at += n;
    if (out != NULL) buf_add(out, c, n);
  }
  secmem_wipe(c, sizeof c);
  *same = *same && at == name.n;
  return take(s, '"');
}

static bool skip_digits(struct scan *s) {
  const char *from = s->p;
  while (s->p < s->end && *s->p >= '0' && *s->p <= '9') s->p++;
  return s->p > from;
}

static bool skip_number(struct scan *s) {
  (void)take(s, '-');
  if (!take(s, '0') && !skip_digits(s)) return false;
  if (take(s, '.') && !skip_digits(s)) return false;
  if (!take(s, 'e') && !take(s, 'E')) return true;
  if (!take(s, '+')) (void)take(s, '-');
  return skip_digits(s);
}

static bool skip_word(struct scan *s) {
  static const struct str words[] = {{"true", 4}, {"false", 5}, {"null", 4}};
  struct str rest = {s->p, (size_t)(s->end - s->p)};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    if (!str_starts(rest, words[i])) continue;
    s->p += words[i].n;
    return true;
  }
  return false;
}

static bool skip_value(struct scan *s);

/* What stands between brackets, of a list or an object. */
static bool skip_members(struct scan *s, char end, bool named) {
  bool same;
  if (++s->depth > DEPTH_MAX) return false;
  skip_space(s);
  if (take(s, end)) return s->depth--, true;
  do {
    skip_space(s);
    if (named && (!take_string(s, STR(""), &same, NULL) || (skip_space(s), !take(s, ':')))) return false;
    if (!skip_value(s)) return false;
    skip_space(s);
  } while (take(s, ','));
  s->depth--;
  return take(s, end);
}

static bool skip_value(struct scan *s) {
  bool same;
  skip_space(s);
  switch (peek(s)) {
    case '{': return take(s, '{') && skip_members(s, '}', true);
    case '[': return take(s, '[') && skip_members(s, ']', false);
    case '"': return take_string(s, STR(""), &same, NULL);
    case 't':
    case 'f':
    case 'n': return skip_word(s);
    default: return skip_number(s);
  }
}

static struct scan scan_of(struct str text) {
  static const struct str mark = {"\xef\xbb\xbf", 3};
  if (str_starts(text, mark)) text = (struct str){text.p + mark.n, text.n - mark.n};
  return (struct scan){text.p, text.p + text.n, 0};
}

bool json_valid(struct str text) {
  struct scan s = scan_of(text);
  if (!skip_value(&s)) return false;
  skip_space(&s);
  return s.p == s.end;
}

/* To the member of that name, of an object. False: it has none, or is none. The text is well formed. */
static bool go_to(struct scan *s, struct str name) {
  const char *found = NULL;
  bool same;
  skip_space(s);
  if (!take(s, '{')) return false;
  skip_space(s);
  while (peek(s) == '"') {
    (void)take_string(s, name, &same, NULL);
    skip_space(s);
    (void)take(s, ':');
    if (same) found = s->p;
    (void)skip_value(s);
    skip_space(s);
    (void)take(s, ',');
    skip_space(s);
  }
  if (found != NULL) s->p = found;
  return found != NULL;
}

const char *json_find_string(struct str text, const struct str *names, unsigned n, struct buf *out) {
  struct scan s = scan_of(text);
  bool same;
  if (!json_valid(text)) return "it is not JSON";
  for (unsigned i = 0; i < n; i++)
    if (!go_to(&s, names[i])) return "it has no such field";
  skip_space(&s);
  if (peek(&s) != '"') return "that field is not a string";
  (void)take_string(&s, STR(""), &same, out);
  return NULL;
}
