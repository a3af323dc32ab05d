/* splice.c: see splice.h. */
#include "net/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

void splice_init(struct splice *p) { *p = (struct splice){.in = -1, .out = -1}; }

void splice_fini(struct splice *p) {
  if (p->in >= 0) close(p->in);
  if (p->out >= 0) close(p->out);
  splice_init(p);
}

/* Without the right to a larger pipe it works with the smaller one. */
static bool is_made(struct splice *p) {
  int ends[2];
  if (p->in >= 0) return true;
  if (p->refused) return false;
  p->refused = pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0;
  if (p->refused) return false;
  p->out = ends[0];
  p->in = ends[1];
  (void)fcntl(p->in, F_SETPIPE_SZ, SPLICE_SIZE);
  return true;
}

static ssize_t move(int from, int to, size_t n) {
  ssize_t moved;
  do moved = splice(from, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  while (moved < 0 && errno == EINTR);
  return moved;
}

ssize_t splice_from(struct splice *p, int fd, size_t most) {
  if (!is_made(p)) return UV_ENOSYS;
  ssize_t n = move(fd, p->in, most);
  if (n > 0) return n;
  if (n == 0) return UV_EOF;
  if (errno == EAGAIN) return UV_EAGAIN;
  if (errno != EINVAL && errno != ENOSYS && errno != EPERM) return uv_translate_sys_error(errno);
  splice_fini(p);
  p->refused = true;
  return UV_ENOSYS;
}

static void empty(struct splice *p) {
  uint8_t dropped[4096];
  while (read(p->out, dropped, sizeof dropped) > 0) continue;
}

ssize_t splice_to(struct splice *p, int fd, size_t n) {
  size_t went = 0;
  while (went < n) {
    ssize_t moved = move(p->out, fd, n - went);
    if (moved < 0 && errno == EAGAIN) break;
    if (moved <= 0) {
      int rc = moved < 0 ? uv_translate_sys_error(errno) : UV_EIO;
      empty(p);
      return rc;
    }
    went += (size_t)moved;
  }
  return (ssize_t)went;
}

void splice_rest(struct splice *p, uint8_t *out, size_t n) {
  for (size_t got = 0; got < n;) {
    ssize_t k = read(p->out, out + got, n - got);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) abort(); /* the pipe is ours and holds them: it cannot be */
    got += (size_t)k;
  }
}
