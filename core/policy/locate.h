/* locate.h: the lines at which the keys of a policy's table are written, found in its source text.
 *
 * A table that has been made no longer knows its lines, so the text is read once more by a small tokenizer. What it does not understand it leaves
 * out: a place without a line is shown without one, never with a wrong one by intent. */
#ifndef JETON_POLICY_LOCATE_H
#define JETON_POLICY_LOCATE_H

#include "base/arena.h"
#include "base/str.h"

struct locator;

/* text: the whole file; need not be valid Lua. The locator lives in the arena and borrows nothing of the text. */
struct locator *locator_new(struct arena *a, struct str text);
/* path: as path_text writes it. The line, from 1; 0: not known. */
unsigned locator_line(const struct locator *l, struct str path);

#endif
