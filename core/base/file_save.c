/* file_save.c: see file_save.h.
 *
 * The usual way is a new file beside the target, with its mode from the first byte on, synced, and renamed over it.
 *
 * Three things make that impossible although the file itself can be written: a file that was mounted by itself into a container (rename: EBUSY), a directory that
 * belongs to somebody else (EACCES, EROFS), and a disk that is full for new files. Then the bytes go where the old ones are. What matters there is the order,
 * since a crash or a full disk may come between any two steps:
 * - what lies beyond the old end goes first, and is synced: if there is no room for it, the file is cut back and nothing is lost;
 * - then the old bytes are written over, and synced;
 * - only then is a longer old content cut to the new length. A file that is truncated first is an empty one when the disk turns out to be full. */
#include "base/file_save.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIAL_SIZE = 4096 }; /* more than any refresh token, so that a full disk shows */

static int write_at(int fd, const uint8_t *p, size_t n, size_t at) {
  while (n > 0) {
    ssize_t written = pwrite(fd, p, n, (off_t)at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    p += written;
    at += (size_t)written;
    n -= (size_t)written;
  }
  return 0;
}

static int sync_file(int fd) { return fsync(fd) == 0 ? 0 : -errno; }

/* A rename is durable only once the directory is synced. Some file systems cannot; the file is there all the same. */
static void sync_directory(const char *path) {
  char dir[PATH_MAX];
  const char *slash = strrchr(path, '/');
  int n =
      slash == NULL ? snprintf(dir, sizeof dir, ".") : snprintf(dir, sizeof dir, "%.*s", (int)(slash - path + 1), path);
  if (n < 0 || (size_t)n >= sizeof dir) return;
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)fsync(fd);
  (void)close(fd);
}

/* --- beside --- */

/* Makes a file beside target, named in `name`. A descriptor, or a negative errno. */
static int open_beside(const char *target, char name[PATH_MAX]) {
  int n = snprintf(name, PATH_MAX, "%s.XXXXXX", target);
  if (n < 0 || n >= PATH_MAX) return -ENAMETOOLONG;
  int fd = mkostemp(name, O_CLOEXEC); /* made with 0600 */
  return fd < 0 ? -errno : fd;
}

static int save_beside(const char *target, const void *p, size_t n, mode_t mode) {
  char name[PATH_MAX];
  int fd = open_beside(target, name);
  if (fd < 0) return fd;
  int rc = fchmod(fd, mode) == 0 ? 0 : -errno;
  if (rc == 0) rc = write_at(fd, p, n, 0);
  if (rc == 0) rc = sync_file(fd);
  if (close(fd) != 0 && rc == 0) rc = -errno;
  if (rc == 0 && rename(name, target) != 0) rc = -errno;
  if (rc != 0)
    (void)unlink(name);
  else
    sync_directory(target);
  return rc;
}

static int try_beside(const char *target) {
  static const uint8_t trial[TRIAL_SIZE];
  char name[PATH_MAX];
  int fd = open_beside(target, name);
  if (fd < 0) return fd;
  int rc = write_at(fd, trial, sizeof trial, 0);
  if (close(fd) != 0 && rc == 0) rc = -errno;
  (void)unlink(name);
  return rc;
}

/* --- in place --- */

/* The target, opened for writing, if it is a file that is there; or a negative errno. */
static int open_in_place(const char *target, struct stat *st) {
  int fd = open(target, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  int rc = fstat(fd, st) == 0 ? 0 : -errno;
  if (rc == 0 && !S_ISREG(st->st_mode)) rc = -EINVAL;
  if (rc == 0) return fd;
  (void)close(fd);
  return rc;
}

static int grow(int fd, const uint8_t *p, size_t n, size_t old) {
  int rc = write_at(fd, p + old, n - old, old);
  if (rc == 0) rc = sync_file(fd);
  if (rc != 0) (void)!ftruncate(fd, (off_t)old);
  return rc;
}

static int cut(int fd, size_t n) {
  if (ftruncate(fd, (off_t)n) != 0) return -errno;
  return sync_file(fd);
}

static int save_in_place(const char *target, const void *p, size_t n, mode_t mode) {
  struct stat st;
  int fd = open_in_place(target, &st);
  if (fd < 0) return fd;
  size_t old = (size_t)st.st_size;
  if ((st.st_mode & 07777) != mode) (void)fchmod(fd, mode); /* of a file that is another's: its owner's business */
  int rc = n > old ? grow(fd, p, n, old) : 0;
  if (rc == 0) rc = write_at(fd, p, n < old ? n : old, 0);
  if (rc == 0) rc = sync_file(fd);
  if (rc == 0 && n < old) rc = cut(fd, n);
  if (close(fd) != 0 && rc == 0) rc = -errno;
  return rc;
}

static int try_in_place(const char *target) {
  struct stat st;
  int fd = open_in_place(target, &st);
  if (fd >= 0) (void)close(fd);
  return fd < 0 ? fd : 0;
}

/* --- both --- */

/* Of two ways that failed, the error that says what is wrong: nobody means a file that is not there, when its directory is the trouble. */
static int worse(int beside, int in_place) {
  bool full = beside == -ENOSPC || beside == -EDQUOT || beside == -EIO;
  return full || in_place == -ENOENT || in_place == -ENOTDIR ? beside : in_place;
}

static int save_to(const char *target, const void *p, size_t n, mode_t mode) {
  int beside = save_beside(target, p, n, mode);
  if (beside == 0) return 0;
  int in_place = save_in_place(target, p, n, mode);
  return in_place == 0 ? 0 : worse(beside, in_place);
}

/* A mount point cannot be renamed over, whatever its directory allows. */
static bool is_mounted(const char *target) {
  struct statx st;
  if (statx(AT_FDCWD, target, 0, STATX_TYPE, &st) != 0) return false;
  return (st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0 && (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

static int try_to(const char *target) {
  struct stat st;
  if (stat(target, &st) == 0 && S_ISDIR(st.st_mode)) return -EISDIR;
  int beside = try_beside(target);
  /* EPERM: an immutable file, which refuses the rename as well. */
  int in_place = beside != 0 || is_mounted(target) ? try_in_place(target) : -ENOENT;
  if (beside == 0 && in_place == -ENOENT) return try_in_place(target) == -EPERM ? -EPERM : 0;
  return in_place == 0 ? 0 : worse(beside, in_place);
}

int file_save(const char *path, const void *p, size_t n, mode_t mode) {
  char *target = realpath(path, NULL); /* NULL when it does not exist yet */
  int rc = save_to(target != NULL ? target : path, p, n, mode);
  free(target);
  return rc;
}

int file_try_save(const char *path) {
  char *target = realpath(path, NULL);
  int rc = try_to(target != NULL ? target : path);
  free(target);
  return rc;
}
