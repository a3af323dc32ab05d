/* file_save.h: new content for a file that must not be lost: durable, and whole as far as the file system lets it be. Any thread; blocks. */
#ifndef JETON_BASE_FILE_SAVE_H
#define JETON_BASE_FILE_SAVE_H

#include <stddef.h>
#include <sys/types.h>

/* Through links: the target is replaced, not the link. Readers see the old content or the new, but for a file that no other can take the place of (mounted by
 * itself, in a directory that may not be written): that one is written in place. 0 or a negative errno; then the old content is still there. */
int file_save(const char *path, const void *p, size_t n, mode_t mode);
/* Whether file_save would succeed, found by trying: 0, or why not. Leaves nothing behind, and the file as it is. */
int file_try_save(const char *path);

#endif
