/* percent.h: percent-encoding (RFC 3986 section 2.1). Pure; any thread. */
#ifndef JETON_BASE_PERCENT_H
#define JETON_BASE_PERCENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

enum { PERCENT_MAX = 3 };
/* Writes one byte, 1 or PERCENT_MAX characters, and returns how many. Letters, digits and "-._~" stay (section 2.3). For callers that see a text in pieces. */
unsigned percent_escape_byte(unsigned char c, char out[PERCENT_MAX]);
/* The same as application/x-www-form-urlencoded has it (WHATWG URL, section 5.2): "*-._" stay, and a space becomes "+". */
unsigned percent_escape_form_byte(unsigned char c, char out[PERCENT_MAX]);
/* Into `out`, which has room for s.n bytes, or is s itself; *n: how many came. form: "+" is a space. False: a "%" without two hexadecimal digits behind it. */
bool percent_unescape(struct str s, bool form, char *out, size_t *n);

#endif
