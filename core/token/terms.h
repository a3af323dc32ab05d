/* terms.h: on what terms a script's handle may use a token. policy/binding.c copies them out of the policy when it makes the handle, so that nothing below
 * `policy` includes its headers. Immutable. */
#ifndef JETON_TOKEN_TERMS_H
#define JETON_TOKEN_TERMS_H

#include <stdbool.h>
#include <stdint.h>

#include "token/secret.h"

struct audience;

struct token_terms {
  struct audience *audience;  /* the servers that may receive it; NULL: none. Borrowed: the handle takes a reference */
  enum token_missing missing; /* wait, fail or pass: for a request while there is none */
  bool reveal;                /* a script may have its bytes */
  int64_t wait_ms;            /* how long a request or a script waits for one */
  unsigned max_waiters;       /* how many may wait at a time */
};

#endif
