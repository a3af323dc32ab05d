/* file_lock.h: a lock for a file that is read, used up and written again, over all processes. Any thread; does not wait. */
#ifndef JETON_BASE_FILE_LOCK_H
#define JETON_BASE_FILE_LOCK_H

#include <stdbool.h>

enum { FILE_LOCK_FILES = 2 };
struct file_lock { /* embedded; FILE_LOCK_NONE before it is taken and after it is released */
  int fds[FILE_LOCK_FILES];
};
#define FILE_LOCK_NONE ((struct file_lock){{-1, -1}})

/* Through links, as a save is. 0; -EWOULDBLOCK: somebody has it; or why none is to be had: there is no directory, or it may not be written. */
int file_lock_try(const char *path, struct file_lock *l);
void file_lock_release(struct file_lock *l); /* fine when it is not held */
bool file_lock_is_held(const struct file_lock *l);

#endif
