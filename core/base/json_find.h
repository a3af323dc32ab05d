/* json_find.h: one string out of a JSON text (RFC 8259), without making anything of the rest: of a file with a secret in it nothing is to be left behind. Any thread. */
#ifndef JETON_BASE_JSON_FIND_H
#define JETON_BASE_JSON_FIND_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

/* The text is one JSON value, whitespace around it aside; a byte order mark in front is passed over. */
bool json_valid(struct str text);
/* Appends the string at text[names[0]][names[1]]… to out. NULL, or why not (static): then out is as before. Of two members of a name the last counts, as in most parsers. */
const char *json_find_string(struct str text, const struct str *names, unsigned n, struct buf *out);

#endif
