/* control_client.c: one request over the control socket, with blocking calls: a command has nothing else to do. */
#include "ops/control_client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "http/parser.h"

/* Whose process answers there: a file in a directory that all may write to can be anybody's. */
static int check_peer(int fd, unsigned *stranger) {
  struct ucred peer;
  socklen_t n = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0) return -errno;
  const uid_t own = geteuid();
  if (peer.uid == own || peer.uid == 0 || own == 0) return 0;
  *stranger = (unsigned)peer.uid;
  return UV_EPERM;
}

static int connect_to(const char *path) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof a.sun_path) return UV_ENAMETOOLONG;
  memcpy(a.sun_path, path, strlen(path));
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) return fd;
  int status = -errno;
  (void)close(fd);
  return status;
}

static int send_all(int fd, struct str s) {
  while (s.n > 0) {
    ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    s.p += n;
    s.n -= (size_t)n;
  }
  return 0;
}

/* Feeds what was read to the parser. 1: the answer is complete; 0: more is needed; or an error. */
static int take(struct http_parser *p, const uint8_t *data, size_t n, struct buf *body) {
  for (;;) {
    struct str span;
    switch (http_parser_next(p, &data, &n, &span)) {
      case PARSE_MORE: return 0;
      case PARSE_HEAD: break;
      case PARSE_BODY: buf_adds(body, span); break;
      case PARSE_END: return 1;
      case PARSE_ERROR: return ERR_PROTOCOL;
    }
  }
}

static int receive(int fd, struct str method, struct arena *a, struct buf *body) {
  struct response response;
  struct http_parser parser;
  http_parser_init_response(&parser, a, &http_limits_default, &response, method);
  for (;;) {
    uint8_t piece[16 * 1024];
    ssize_t n = recv(fd, piece, sizeof piece, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) return http_parser_eof(&parser) == PARSE_END ? response.status : ERR_TRUNCATED;
    int complete = take(&parser, piece, (size_t)n, body);
    if (complete != 0) return complete > 0 ? response.status : complete;
  }
}

int control_ask(const char *path, const char *method, const char *target, struct buf *body, unsigned *stranger) {
  *stranger = CONTROL_OWN;
  int fd = connect_to(path);
  if (fd < 0) return fd;
  int wrong = check_peer(fd, stranger);
  if (wrong != 0) {
    (void)close(fd);
    return wrong;
  }
  struct buf request;
  buf_init(&request);
  buf_addf(&request, "%s %s HTTP/1.1\r\nhost: jeton\r\nconnection: close\r\n%s\r\n", method, target,
           strcmp(method, "POST") == 0 ? "content-length: 0\r\n" : "");
  int status = send_all(fd, buf_str(&request));
  buf_fini(&request);
  _Alignas(16) uint8_t first[4096];
  struct arena arena;
  arena_init(&arena, first, sizeof first);
  if (status == 0) status = receive(fd, str_of(method), &arena, body);
  arena_reset(&arena);
  (void)close(fd);
  return status;
}

int control_wait_gone(const char *path, int64_t limit_ms) {
  int64_t until = clock_boot_ms() + limit_ms;
  while (clock_boot_ms() < until) {
    int fd = connect_to(path);
    if (fd < 0) return 0;
    (void)close(fd);
    (void)nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
  }
  return UV_ETIMEDOUT;
}
