/* access.c: see access.h.
 *
 * A sink that takes nothing (a full pipe, a full disk) never stops a worker: lines that do not fit behind those
 * that wait are counted as lost, and the log says so once until writing works again. */
#include "base/access.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/must.h"

/* Without waiting, for the path may be a FIFO's or /dev/stdout. */
static int open_path(const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0640);
  return fd >= 0 ? fd : uv_translate_sys_error(errno);
}

static void use(struct access_log *a, struct sink sink) {
  struct stat st;
  a->sink = sink;
  a->whole = fstat(sink.fd, &st) == 0 && S_ISREG(st.st_mode) ? ACCESS_BUFFER : PIPE_BUF;
}

int access_open(struct access_log *a, uv_loop_t *loop, const char *path) {
  struct sink sink = {.fd = path != NULL ? open_path(path) : STDOUT_FILENO, .kind = SINK_OPENED};
  if (sink.fd < 0) return sink.fd;
  if (path == NULL) sink_open(&sink, STDOUT_FILENO);
  *a = (struct access_log){.path = path != NULL ? must_strdup(path) : NULL};
  use(a, sink);
  buf_init(&a->buf);
  return uv_timer_init(loop, &a->timer); /* which cannot fail */
}

static size_t count_lines(const uint8_t *p, size_t n) {
  size_t lines = 0;
  for (size_t i = 0; i < n; i++) lines += p[i] == '\n';
  return lines;
}

/* How much of the n bytes goes into one write: whole lines within the bound, or one line that is longer than it. */
static size_t portion(const struct access_log *a, const uint8_t *p, size_t n) {
  if (n <= a->whole) return n;
  const uint8_t *end = memrchr(p, '\n', a->whole);
  if (end == NULL) end = memchr(p, '\n', n);
  return end != NULL ? (size_t)(end - p) + 1 : n;
}

static void report(struct access_log *a, int error) {
  if (!a->failing) log_warn("access log: lines are being lost: %s", err_text(uv_translate_sys_error(error)));
  a->failing = true;
}

/* Writes as much as the kernel takes, and returns the number of bytes. */
static size_t write_lines(struct access_log *a) {
  size_t at = 0;
  while (at < a->buf.n) {
    ssize_t n = sink_write(&a->sink, a->buf.p + at, portion(a, a->buf.p + at, a->buf.n - at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return at;
    if (n < 0) { /* these lines will not be written: drop them, the next ones may fare better */
      report(a, errno);
      a->lost += count_lines(a->buf.p + at, a->buf.n - at);
      return a->buf.n;
    }
    a->failing = false;
    at += (size_t)n;
  }
  return at;
}

static void on_timer(uv_timer_t *timer) {
  struct access_log *a = CONTAINER_OF(timer, struct access_log, timer);
  a->waiting = false;
  access_flush(a);
}

static void start_timer(struct access_log *a) {
  if (a->waiting || uv_is_closing((uv_handle_t *)&a->timer)) return;
  a->waiting = uv_timer_start(&a->timer, on_timer, ACCESS_FLUSH_MS, 0) == 0;
}

void access_flush(struct access_log *a) {
  if (a->buf.n == 0) return;
  buf_drop(&a->buf, write_lines(a));
  if (a->buf.n > 0) start_timer(a);
}

void access_line(struct access_log *a, const char *line, size_t n) {
  if (a->buf.n + n + 1 > ACCESS_BUFFER) access_flush(a);
  if (a->buf.n > 0 && a->buf.n + n + 1 > ACCESS_BUFFER) {
    report(a, EAGAIN);
    a->lost++;
    return;
  }
  buf_add(&a->buf, line, n);
  buf_add(&a->buf, "\n", 1);
  start_timer(a);
}

int access_reopen(struct access_log *a) {
  if (a->path == NULL) return 0;
  access_flush(a);
  int fd = open_path(a->path);
  if (fd < 0) return fd;
  sink_close(&a->sink);
  use(a, (struct sink){fd, SINK_OPENED});
  return 0;
}

void access_close(struct access_log *a) {
  access_flush(a);
  a->lost += count_lines(a->buf.p, a->buf.n);
  sink_close(&a->sink);
  free(a->path);
  a->path = NULL;
  buf_fini(&a->buf);
  uv_close((uv_handle_t *)&a->timer, NULL);
}
