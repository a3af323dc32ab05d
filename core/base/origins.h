/* origins.h: where the parts of a value were read from, so that it can be seen later whether they have changed there: files by their stamp, anything else by a mark
 * that its owner moves.
 *
 * Built by one thread, then shared: it never changes once it has a second holder. */
#ifndef JETON_BASE_ORIGINS_H
#define JETON_BASE_ORIGINS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file_stamp.h"

struct origins;
enum { ORIGINS_MAX = 8 }; /* more are not noted */

/* Refcounted; any thread. The owner of what is marked moves it when that has changed. */
struct origin_mark;
struct origin_mark *origin_mark_new(void);
struct origin_mark *origin_mark_ref(struct origin_mark *m);
void origin_mark_unref(struct origin_mark *m); /* NULL is fine */
void origin_mark_move(struct origin_mark *m);

/* *o is NULL, or made by these before, and nobody else's yet. What is there already stays as it was noted first: what was read then may be in the value. A zero stamp:
 * there was no such file. */
void origins_add_file(struct origins **o, const char *path, const struct file_stamp *seen);
void origins_add_path(struct origins **o, const char *path);      /* as it is found now */
void origins_add_mark(struct origins **o, struct origin_mark *m); /* as it stands now */
struct origins *origins_ref(struct origins *o);
void origins_unref(struct origins *o); /* NULL is fine */
/* Is one of them another than when it was noted? One call of stat a file, of local files for the most part, as secrets' files cause anyway. NULL: no. */
bool origins_changed(const struct origins *o);

#endif
