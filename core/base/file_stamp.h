/* file_stamp.h: tells without reading a file whether it is the same as before: another inode, size or time means another file or another content. Zero: no file
 * was there. */
#ifndef JETON_BASE_FILE_STAMP_H
#define JETON_BASE_FILE_STAMP_H

#include <stdbool.h>
#include <sys/stat.h>

struct file_stamp {
  dev_t dev;
  ino_t ino;
  off_t size;
  struct timespec mtime, ctime; /* ctime: of a file whose mtime was set back, and of a new mode */
};

static inline struct file_stamp file_stamp_of(const struct stat *st) {
  return (struct file_stamp){st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim};
}

static inline bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b) {
  return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec &&
         a->mtime.tv_nsec == b->mtime.tv_nsec && a->ctime.tv_sec == b->ctime.tv_sec &&
         a->ctime.tv_nsec == b->ctime.tv_nsec;
}

#endif
