/* origin.c: the server behind every proxy that is measured. One thread, epoll, a fixed answer: it costs little, and the same for all.
 *
 *   GET /bytes/N   a body of N bytes
 *   GET /echo      the head of the request as it arrived, for checks before a measurement
 *   GET /stats     "requests=… received=… sent=…": bodies, in bytes, unfinished ones included
 *   anything else  a small JSON text, after the request's body (Content-Length only) has been read
 *
 * usage: origin, prints "port N". A connection is either read from or, while a long answer waits for the socket, written to: never both,
 * so one request is in work at a time and what a client pipelines waits in `held`. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MAX = 16 * 1024, CHUNK = 256 * 1024, EVENTS = 256 };

struct conn {
  int fd;
  bool writing;       /* registered for EPOLLOUT instead of EPOLLIN */
  bool answer_due;    /* the body that is read now ends a request */
  uint64_t body_left; /* of the request */
  uint64_t send_left; /* of the answer's body, all zeros */
  size_t nheld;
  char held[HEAD_MAX]; /* the beginning of a head that has not come whole */
};

struct origin {
  int epoll, listener;
  uint64_t requests, received, sent;
  char in[HEAD_MAX + CHUNK];
  char zeros[CHUNK];
};

static const char SMALL[] =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"message\":\"hello, world\"}\n";

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void conn_free(struct conn *c) {
  (void)close(c->fd);
  free(c);
}

static void watch(struct origin *o, struct conn *c, bool writing) {
  if (c->writing == writing) return;
  c->writing = writing;
  struct epoll_event e = {.events = writing ? EPOLLOUT : EPOLLIN, .data.ptr = c};
  if (epoll_ctl(o->epoll, EPOLL_CTL_MOD, c->fd, &e) != 0) die("epoll_ctl");
}

/* Heads and small answers always fit into an empty socket buffer. */
static bool send_all(struct conn *c, const char *p, size_t n, int flags) {
  return send(c->fd, p, n, MSG_NOSIGNAL | flags) == (ssize_t)n;
}

static bool send_body(struct origin *o, struct conn *c) {
  while (c->send_left > 0) {
    size_t n = c->send_left < CHUNK ? (size_t)c->send_left : CHUNK;
    ssize_t sent = send(c->fd, o->zeros, n, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) break;
    if (sent < 0) return false;
    c->send_left -= (uint64_t)sent;
    o->sent += (uint64_t)sent;
  }
  watch(o, c, c->send_left > 0);
  return true;
}

static bool answer_text(struct conn *c, const char *body, size_t n) {
  char head[128];
  int h = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", n);
  return send_all(c, head, (size_t)h, MSG_MORE) && send_all(c, body, n, 0);
}

static bool answer_stats(struct origin *o, struct conn *c) {
  char text[128];
  int n = snprintf(text, sizeof text, "requests=%llu received=%llu sent=%llu\n", (unsigned long long)o->requests,
                   (unsigned long long)o->received, (unsigned long long)o->sent);
  return answer_text(c, text, (size_t)n);
}

static bool answer_bytes(struct origin *o, struct conn *c, uint64_t n) {
  char head[128];
  int h = snprintf(head, sizeof head,
                   "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %llu\r\n\r\n",
                   (unsigned long long)n);
  c->send_left = n;
  return send_all(c, head, (size_t)h, MSG_MORE) && send_body(o, c);
}

/* `head` ends with a zero instead of its last line end. */
static bool answer(struct origin *o, struct conn *c, const char *head, size_t n) {
  o->requests++;
  if (strncmp(head, "GET /bytes/", 11) == 0) return answer_bytes(o, c, strtoull(head + 11, NULL, 10));
  if (strncmp(head, "GET /echo", 9) == 0) return answer_text(c, head, n);
  if (strncmp(head, "GET /stats", 10) == 0) return answer_stats(o, c);
  const char *length = strcasestr(head, "\r\ncontent-length:");
  c->body_left = length == NULL ? 0 : strtoull(length + 17, NULL, 10);
  if (c->body_left > 0) {
    c->answer_due = true;
    if (strcasestr(head, "\r\nexpect:") != NULL) return send_all(c, "HTTP/1.1 100 Continue\r\n\r\n", 25, 0);
    return true;
  }
  return send_all(c, SMALL, sizeof SMALL - 1, 0);
}

static bool take_body(struct origin *o, struct conn *c, size_t *at, size_t n) {
  size_t took = n - *at < c->body_left ? n - *at : (size_t)c->body_left;
  c->body_left -= took;
  *at += took;
  o->received += took;
  if (c->body_left > 0) return true;
  c->answer_due = false;
  return send_all(c, SMALL, sizeof SMALL - 1, 0);
}

/* Works through the bytes; what is left of an unfinished head is held. False: the connection is over. */
static bool consume(struct origin *o, struct conn *c, size_t n) {
  size_t at = 0;
  while (at < n && c->send_left == 0) {
    if (c->answer_due) {
      if (!take_body(o, c, &at, n)) return false;
      continue;
    }
    char *end = memmem(o->in + at, n - at, "\r\n\r\n", 4);
    if (end == NULL) break;
    end[2] = '\0';
    char *head = o->in + at;
    at = (size_t)(end + 4 - o->in);
    if (!answer(o, c, head, (size_t)(end + 2 - head))) return false;
  }
  c->nheld = n - at;
  if (c->nheld > sizeof c->held) return false;
  memcpy(c->held, o->in + at, c->nheld);
  return true;
}

static bool readable(struct origin *o, struct conn *c) {
  size_t held = c->nheld;
  memcpy(o->in, c->held, held);
  ssize_t n = recv(c->fd, o->in + held, sizeof o->in - held, 0);
  if (n < 0 && errno == EAGAIN) return true;
  return n > 0 && consume(o, c, held + (size_t)n);
}

static bool writable(struct origin *o, struct conn *c) {
  if (!send_body(o, c)) return false;
  if (c->send_left > 0 || c->nheld == 0) return true;
  memcpy(o->in, c->held, c->nheld);
  return consume(o, c, c->nheld);
}

static void accept_all(struct origin *o) {
  for (;;) {
    int fd = accept4(o->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) die("calloc");
    c->fd = fd;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(o->epoll, EPOLL_CTL_ADD, fd, &e) != 0) die("epoll_ctl");
  }
}

static void listen_somewhere(struct origin *o) {
  o->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  if (bind(o->listener, (struct sockaddr *)&a, n) != 0 || listen(o->listener, 4096) != 0) die("listen");
  if (getsockname(o->listener, (struct sockaddr *)&a, &n) != 0) die("getsockname");
  o->epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(o->epoll, EPOLL_CTL_ADD, o->listener, &e) != 0) die("epoll_ctl");
  (void)printf("port %u\n", (unsigned)ntohs(a.sin_port));
  (void)fflush(stdout);
}

int main(void) {
  struct origin *o = calloc(1, sizeof *o);
  if (o == NULL) die("calloc");
  (void)signal(SIGPIPE, SIG_IGN);
  listen_somewhere(o);
  struct epoll_event events[EVENTS];
  for (;;) {
    int n = epoll_wait(o->epoll, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
      struct conn *c = events[i].data.ptr;
      if (c == NULL)
        accept_all(o);
      else if (!(c->writing ? writable(o, c) : readable(o, c)))
        conn_free(c);
    }
  }
}
