/* file_lock.c: see file_lock.h.
 *
 * The lock is flock(2)'s, which ends with the process however it ends. It is on a file beside the path ("PATH.lock"), since the file itself is replaced by each
 * save; that file stays, as removing it would let two hold two files of one name. The file itself is locked as well, where it is there: two containers that have only that
 * file in common share nothing beside it, and in a directory that may not be written it is all there is. As a save may have put another file in its
 * place, its lock counts only while it is still the one at the path. */
#include "base/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BESIDE, SELF };

static int take(int fd) { return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno; }

/* 0 when there is such a lock now, or none is to be had for want of the file beside; -EWOULDBLOCK: somebody has it. */
static int take_beside(const char *target, int *fd) {
  char name[PATH_MAX];
  int n = snprintf(name, sizeof name, "%s.lock", target);
  if (n < 0 || n >= PATH_MAX) return -ENAMETOOLONG;
  *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  return *fd < 0 ? -errno : take(*fd);
}

static int take_self(const char *target, int *fd) {
  struct stat held, there;
  *fd = open(target, O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (*fd < 0) *fd = open(target, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (*fd < 0) return -errno;
  int rc = take(*fd);
  if (rc != 0) return rc;
  bool same =
      fstat(*fd, &held) == 0 && stat(target, &there) == 0 && held.st_ino == there.st_ino && held.st_dev == there.st_dev;
  return same ? 0 : -EWOULDBLOCK;
}

/* Both, or the one that can be had. Of two failures the first says more: there is no directory, or it may not be written. */
static int take_both(const char *target, int fds[FILE_LOCK_FILES]) {
  int beside = take_beside(target, &fds[BESIDE]);
  if (beside == -EWOULDBLOCK) return beside;
  int self = take_self(target, &fds[SELF]);
  if (self == -EWOULDBLOCK) return self;
  return beside == 0 || self == 0 ? 0 : beside;
}

int file_lock_try(const char *path, struct file_lock *l) {
  *l = FILE_LOCK_NONE;
  char *target = realpath(path, NULL); /* NULL when it does not exist yet */
  int rc = take_both(target != NULL ? target : path, l->fds);
  free(target);
  if (rc != 0) file_lock_release(l);
  return rc;
}

void file_lock_release(struct file_lock *l) {
  for (int i = 0; i < FILE_LOCK_FILES; i++) {
    if (l->fds[i] >= 0) (void)close(l->fds[i]);
    l->fds[i] = -1;
  }
}

bool file_lock_is_held(const struct file_lock *l) { return l->fds[BESIDE] >= 0 || l->fds[SELF] >= 0; }
