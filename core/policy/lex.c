/* lex.c: splits Lua source (manual section 3.1) into tokens. Made for text that Lua has accepted, and safe for any other: it always moves on and ends at
 * the text's end. Any thread. */
#include "policy/lex.h"

static const char *const keywords[] = {"and",      "break",  "do",   "else", "elseif", "end",  "false", "for",
                                       "function", "goto",   "if",   "in",   "local",  "nil",  "not",   "or",
                                       "repeat",   "return", "then", "true", "until",  "while"};
/* Longest first, where one begins another. */
static const char *const signs[] = {"...", "..", "==", "~=", "<=", ">=", "//", "<<", ">>", "::"};

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

static struct str rest(const struct lex *l) { return (struct str){l->p, (size_t)(l->end - l->p)}; }

static void step(struct lex *l) {
  if (*l->p == '\n') l->line++;
  l->p++;
}

/* At "[[" or "[==[": how many equals signs; -1 when it is not a long bracket. */
static int long_bracket(const struct lex *l) {
  const char *p = l->p + 1;
  while (p < l->end && *p == '=') p++;
  return p < l->end && *p == '[' && *l->p == '[' ? (int)(p - l->p - 1) : -1;
}

static bool closes(const struct lex *l, int level) {
  if (l->end - l->p < level + 2 || *l->p != ']' || l->p[level + 1] != ']') return false;
  for (int i = 1; i <= level; i++)
    if (l->p[i] != '=') return false;
  return true;
}

static struct str take_long(struct lex *l, int level) {
  l->p += level + 2;
  const char *from = l->p;
  while (l->p < l->end && !closes(l, level)) step(l);
  struct str text = {from, (size_t)(l->p - from)};
  if (l->p < l->end) l->p += level + 2;
  return text;
}

static void skip_comment(struct lex *l) {
  l->p += 2;
  int level = l->p < l->end && *l->p == '[' ? long_bracket(l) : -1;
  if (level >= 0) {
    take_long(l, level);
    return;
  }
  while (l->p < l->end && *l->p != '\n') l->p++;
}

static void skip_blank(struct lex *l) {
  while (l->p < l->end) {
    if (is_space(*l->p)) {
      step(l);
    } else if (str_starts(rest(l), STR("--"))) {
      skip_comment(l);
    } else {
      return;
    }
  }
}

static struct str take_quoted(struct lex *l) {
  char quote = *l->p++;
  const char *from = l->p;
  while (l->p < l->end && *l->p != quote && *l->p != '\n') {
    if (*l->p == '\\' && l->p + 1 < l->end) step(l); /* the next byte is taken whatever it is */
    step(l);
  }
  struct str text = {from, (size_t)(l->p - from)};
  if (l->p < l->end && *l->p == quote) l->p++;
  return text;
}

static struct str take_word(struct lex *l) {
  const char *from = l->p;
  while (l->p < l->end && (is_letter(*l->p) || is_digit(*l->p))) l->p++;
  return (struct str){from, (size_t)(l->p - from)};
}

static struct str take_number(
    struct lex *l) { /* manual section 3.1; a sign belongs to it behind an exponent's letter */
  const char *from = l->p;
  bool hex = str_starts(rest(l), STR("0x")) || str_starts(rest(l), STR("0X"));
  while (l->p < l->end) {
    char c = *l->p;
    char before = l->p > from ? (char)(l->p[-1] | 0x20) : '\0';
    bool sign = (c == '+' || c == '-') && before == (hex ? 'p' : 'e');
    if (!is_letter(c) && !is_digit(c) && c != '.' && !sign) break;
    l->p++;
  }
  return (struct str){from, (size_t)(l->p - from)};
}

static struct str take_sign(struct lex *l) {
  const char *from = l->p;
  for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
    struct str sign = str_of(signs[i]);
    if (!str_starts(rest(l), sign)) continue;
    l->p += sign.n;
    return (struct str){from, sign.n};
  }
  l->p++;
  return (struct str){from, 1};
}

static bool is_keyword(struct str word) {
  for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
    if (str_eq(word, str_of(keywords[i]))) return true;
  return false;
}

static void set(struct lex *l, enum token_kind kind, struct str text) {
  l->kind = kind;
  l->text = text;
}

void lex_next(struct lex *l) {
  skip_blank(l);
  l->at = l->line;
  if (l->p >= l->end) {
    set(l, TOKEN_END, STR(""));
    return;
  }
  char c = *l->p;
  int level = c == '[' ? long_bracket(l) : -1;
  if (is_letter(c)) {
    struct str word = take_word(l);
    set(l, is_keyword(word) ? TOKEN_KEYWORD : TOKEN_NAME, word);
  } else if (is_digit(c) || (c == '.' && l->p + 1 < l->end && is_digit(l->p[1]))) {
    set(l, TOKEN_NUMBER, take_number(l));
  } else if (c == '"' || c == '\'') {
    set(l, TOKEN_STRING, take_quoted(l));
  } else if (level >= 0) {
    set(l, TOKEN_STRING, take_long(l, level));
  } else {
    set(l, TOKEN_SIGN, take_sign(l));
  }
}

void lex_init(struct lex *l, struct str text) {
  *l = (struct lex){.p = text.p, .end = text.n > 0 ? text.p + text.n : text.p, .line = 1};
  if (str_starts(text, STR("\xef\xbb\xbf"))) l->p += 3;
  if (l->p < l->end && *l->p == '#')
    while (l->p < l->end && *l->p != '\n') l->p++;
  lex_next(l);
}

bool lex_is(const struct lex *l, const char *sign_or_keyword) {
  return (l->kind == TOKEN_SIGN || l->kind == TOKEN_KEYWORD) && str_eq(l->text, str_of(sign_or_keyword));
}
