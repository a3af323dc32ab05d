/* own_dir.h: a directory of this process alone, for a control socket that nobody has named.
 *
 * Its name cannot be known before, and only this user may enter it (mkdtemp, mode 0700): in /tmp anybody could otherwise take the name first. Main thread. */
#ifndef JETON_OPS_OWN_DIR_H
#define JETON_OPS_OWN_DIR_H

#include <stdbool.h>
#include <stddef.h>

/* Makes it, in $XDG_RUNTIME_DIR or else in /tmp; out: DIR/name. False, with a line on standard error: it cannot be made. */
bool own_dir_make(const char *name, char *out, size_t size);
/* Removes what `out` names, and its directory. */
void own_dir_remove(const char *path);

#endif
