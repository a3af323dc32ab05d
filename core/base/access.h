/* access.h: where the access log goes: one sink a thread, buffered, so that a request costs no system call for its line.
 *
 * Lines are gathered up to ACCESS_BUFFER bytes and written with O_APPEND in whole lines, so that several threads may share one file
 * (on a pipe whole lines of at most PIPE_BUF bytes). What waits is written after ACCESS_FLUSH_MS at the latest, by a uv_timer that
 * runs only while something waits. Owned by one loop's thread. */
#ifndef JETON_BASE_ACCESS_H
#define JETON_BASE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/sink.h"

enum { ACCESS_BUFFER = 64 * 1024, ACCESS_FLUSH_MS = 200 };

struct access_log {
  uv_timer_t timer;
  char *path; /* NULL: standard output */
  struct sink sink;
  struct buf buf;
  /* write at most this much at once (cut at a line's end): the most that the kernel does not mix with others' lines */
  size_t whole;
  uint64_t lost; /* lines that could not be written */
  bool waiting;  /* the timer runs */
  bool failing;  /* the last write failed, and that has been logged */
};

/* path NULL: standard output. 0, or a libuv error and nothing needs closing. */
int access_open(struct access_log *a, uv_loop_t *loop, const char *path);
/* One line without its newline; control bytes must have been escaped by the caller. */
void access_line(struct access_log *a, const char *line, size_t n);
void access_flush(struct access_log *a);
/* Opens the path again (after a rotation); on failure the old file stays in use. */
int access_reopen(struct access_log *a);
/* Writes the lines that wait. *a must live until the loop has run the timer's close callback. */
void access_close(struct access_log *a);

#endif
