/* lex.h: Lua's tokens, as far as locate.c has to tell them apart. */
#ifndef JETON_POLICY_LEX_H
#define JETON_POLICY_LEX_H

#include <stdbool.h>

#include "base/str.h"

enum token_kind { TOKEN_END, TOKEN_NAME, TOKEN_KEYWORD, TOKEN_STRING, TOKEN_NUMBER, TOKEN_SIGN };

struct lex { /* a copy of it is a place to go back to */
  const char *p, *end;
  unsigned line; /* at p */
  /* the present token */
  enum token_kind kind;
  struct str text; /* a name, number or sign as written; a string without its quotes, escapes as written */
  unsigned at;     /* its line */
};

void lex_init(struct lex *l, struct str text); /* skips a first line that begins with '#'; the first token is present */
void lex_next(struct lex *l);
bool lex_is(const struct lex *l, const char *sign_or_keyword);

#endif
