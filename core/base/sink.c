/* sink.c: see sink.h. A pipe or terminal that is opened anew through /proc has an open file description of its own, and with it O_NONBLOCK of its own. Where that
 * is refused (a pipe that another user made, no /proc) the kernel is asked before each write. Any thread; a sink never changes once it is open. */
#include "base/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void sink_open(struct sink *s, int fd) {
  struct stat st;
  *s = (struct sink){.fd = fd, .kind = SINK_PLAIN};
  if (fstat(fd, &st) != 0) return;
  if (S_ISSOCK(st.st_mode)) s->kind = SINK_SOCKET;
  if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode)) return;
  char path[32];
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int own = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  s->kind = own >= 0 ? SINK_OPENED : SINK_ASKED;
  if (own >= 0) s->fd = own;
}

void sink_close(struct sink *s) {
  if (s->kind == SINK_OPENED) (void)close(s->fd);
  s->fd = -1;
}

ssize_t sink_write(const struct sink *s, const uint8_t *p, size_t n) {
  if (s->kind == SINK_SOCKET) return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (s->kind == SINK_ASKED) {
    struct pollfd asked = {.fd = s->fd, .events = POLLOUT};
    if (poll(&asked, 1, 0) == 0) {
      errno = EAGAIN;
      return -1;
    }
    if (n > PIPE_BUF) n = PIPE_BUF; /* a pipe says that there is room when this much fits */
  }
  return write(s->fd, p, n);
}
