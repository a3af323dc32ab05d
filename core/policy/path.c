/* path.c: the reader of a table and the search for its lines in the source both write paths here, so that equal places give equal text. Any thread; the text
 * lives in the caller's arena. */
#include "policy/path.h"

#include <stdint.h>
#include <stdio.h>

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

bool path_is_name(struct str s) {
  if (s.n == 0 || !is_letter(s.p[0])) return false;
  for (size_t i = 1; i < s.n; i++)
    if (!is_letter(s.p[i]) && !(s.p[i] >= '0' && s.p[i] <= '9')) return false;
  return true;
}

/* At most four bytes. */
static size_t put_escaped(char *to, char c) {
  uint8_t byte = (uint8_t)c;
  if (c == '"' || c == '\\') {
    to[0] = '\\';
    to[1] = c;
    return 2;
  }
  if (c == '\n') return memcpy(to, "\\n", 2), 2;
  if (byte >= 0x20 && byte != 0x7f) return to[0] = c, 1;
  static const char hex[] = "0123456789abcdef";
  memcpy(to, "\\x", 2);
  to[2] = hex[byte >> 4];
  to[3] = hex[byte & 15];
  return 4;
}

/* Not in the middle of a UTF-8 sequence. */
static size_t cut(struct str s) {
  if (s.n <= SHOWN_MAX) return s.n;
  size_t n = SHOWN_MAX;
  while (n > SHOWN_MAX - 4 && ((uint8_t)s.p[n] & 0xc0) == 0x80) n--;
  return n;
}

struct str path_quote(struct arena *a, struct str s) {
  char text[SHOWN_MAX * 4 + 1];
  size_t shown = cut(s), n = 0;
  for (size_t i = 0; i < shown; i++) n += put_escaped(text + n, s.p[i]);
  return arena_printf(a, "\"%.*s%s\"", (int)n, text, shown < s.n ? "..." : "");
}

struct str path_text(struct arena *a, const struct path *at) {
  if (at == NULL) return STR("");
  struct str parent = path_text(a, at->parent);
  if (at->key.p == NULL) return arena_printf(a, "%.*s[%zu]", STR_FMT(parent), at->index);
  bool option = at->parent == NULL && str_starts(at->key, STR("--")); /* of the command line */
  if (!path_is_name(at->key) && !option) {
    struct str quoted = path_quote(a, at->key);
    return arena_printf(a, "%.*s[%.*s]", STR_FMT(parent), STR_FMT(quoted));
  }
  return arena_printf(a, "%.*s%s%.*s", STR_FMT(parent), parent.n > 0 ? "." : "", STR_FMT(at->key));
}
