/* provenance.h: where the parts of a value were read from, so that it can be seen later whether they have changed there: files by their stamp, anything else by a mark
 * that its owner moves.
 *
 * Built by one thread, then shared: it never changes once it has a second holder. */
#ifndef JETON_BASE_PROVENANCE_H
#define JETON_BASE_PROVENANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file_stamp.h"

struct provenance;
enum { PROVENANCE_MAX = 8 }; /* more are not noted */

/* Refcounted; any thread. The owner of what is marked moves it when that has changed. */
struct provenance_mark;
struct provenance_mark *provenance_mark_new(void);
struct provenance_mark *provenance_mark_ref(struct provenance_mark *m);
void provenance_mark_unref(struct provenance_mark *m); /* NULL is fine */
void provenance_mark_move(struct provenance_mark *m);

/* *o is NULL, or made by these before, and nobody else's yet. What is there already stays as it was noted first: what was read then may be in the value. A zero stamp:
 * there was no such file. */
void provenance_add_file(struct provenance **o, const char *path, const struct file_stamp *seen);
void provenance_add_path(struct provenance **o, const char *path);          /* as it is found now */
void provenance_add_mark(struct provenance **o, struct provenance_mark *m); /* as it stands now */
struct provenance *provenance_ref(struct provenance *o);
void provenance_unref(struct provenance *o); /* NULL is fine */
/* Is one of them another than when it was noted? One call of stat a file, of local files for the most part, as secrets' files cause anyway. NULL: no. */
bool provenance_changed(const struct provenance *o);

#endif
