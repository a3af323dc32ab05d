/* watch.h: reports when one of a set of files has changed. Directories are watched, not the files, so that an editor that writes a new file and renames it over
 * the old one, or a link that is swapped, counts like a write in place. One loop's thread. */
#ifndef JETON_OPS_WATCH_H
#define JETON_OPS_WATCH_H

#include <stddef.h>
#include <uv.h>

#include "base/file_stamp.h"

enum { WATCH_DEBOUNCE_MS = 100, WATCH_PATIENCE_MS = 1000 };

struct watch;
struct watch *watch_new(uv_loop_t *loop, void (*changed)(void *arg), void *arg);
struct watched_path {
  const char *path;
  const struct file_stamp *seen; /* what its reader saw: a change since then is reported. NULL: it is read now */
};
/* Replaces the set. A change of a path that was in the set before is still reported, whatever `seen` is. Returns 0, or the first error of a directory that
 * cannot be watched (the others are watched all the same; that one is tried again at each event of another). */
int watch_set(struct watch *w, const struct watched_path *v, size_t n);
/* Nothing is called any more; the memory goes once the loop has closed the handles. */
void watch_close(struct watch *w);

#endif
