/* relay.c: the least that a proxy can do. Each client's connection has one to the origin, and bytes are copied both ways: one read and one
 * write a side and request, nothing is parsed, nothing is added. What a proxy costs above it is the price of being one.
 *
 * usage: relay ORIGIN_PORT, prints "port N". One thread, epoll. An end stops reading while its peer's socket is full. */
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

enum { CHUNK = 64 * 1024, EVENTS = 256 };

struct end {
  int fd;
  bool known;      /* to epoll */
  uint32_t events; /* that epoll watches for; 0: paused */
  struct pair *pair;
  size_t nheld, at; /* bytes for this end that its socket has not taken */
  char *held;
};
struct pair {
  struct end client, origin;
  bool over;
  struct pair *next_over;
};
struct relay {
  int epoll, listener;
  in_port_t origin_port;
  struct pair *over; /* freed after the batch of events that may still name them */
  char chunk[CHUNK];
};

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void watch(struct relay *r, struct end *e, uint32_t events) {
  if (e->known && e->events == events) return;
  struct epoll_event ev = {.events = events, .data.ptr = e};
  if (epoll_ctl(r->epoll, e->known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, e->fd, &ev) != 0) die("epoll_ctl");
  e->known = true;
  e->events = events;
}

static void pair_end(struct relay *r, struct pair *p) {
  if (p->over) return;
  p->over = true;
  (void)close(p->client.fd);
  (void)close(p->origin.fd);
  p->next_over = r->over;
  r->over = p;
}

static void free_over(struct relay *r) {
  while (r->over != NULL) {
    struct pair *p = r->over;
    r->over = p->next_over;
    free(p->client.held);
    free(p->origin.held);
    free(p);
  }
}

static struct end *other(struct end *e) { return e == &e->pair->client ? &e->pair->origin : &e->pair->client; }

/* What `to` does not take now is held, and its other end is not read until it has. */
static bool hold(struct relay *r, struct end *to, const char *p, size_t n) {
  if (to->held == NULL && (to->held = malloc(CHUNK)) == NULL) return false;
  memcpy(to->held, p, n);
  to->nheld = n;
  to->at = 0;
  watch(r, to, EPOLLOUT);
  watch(r, other(to), 0);
  return true;
}

static bool readable(struct relay *r, struct end *from) {
  ssize_t n = recv(from->fd, r->chunk, CHUNK, 0);
  if (n < 0 && errno == EAGAIN) return true;
  if (n <= 0) return false;
  struct end *to = other(from);
  ssize_t sent = send(to->fd, r->chunk, (size_t)n, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return false;
  if (sent < 0) sent = 0;
  return sent == n || hold(r, to, r->chunk + sent, (size_t)(n - sent));
}

static bool writable(struct relay *r, struct end *to) {
  ssize_t sent = send(to->fd, to->held + to->at, to->nheld - to->at, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN;
  to->at += (size_t)sent;
  if (to->at < to->nheld) return true;
  watch(r, to, EPOLLIN);
  watch(r, other(to), EPOLLIN);
  return true;
}

static void end_init(struct end *e, struct pair *p, int fd) {
  e->fd = fd;
  e->pair = p;
  int on = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void pair_start(struct relay *r, int client) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = r->origin_port};
  int origin = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct pair *p = calloc(1, sizeof *p);
  /* On the loopback interface this does not wait. */
  if (p == NULL || origin < 0 || connect(origin, (struct sockaddr *)&a, sizeof a) != 0) die("connect");
  end_init(&p->client, p, client);
  end_init(&p->origin, p, origin);
  watch(r, &p->client, EPOLLIN);
  watch(r, &p->origin, EPOLLIN);
}

static void accept_all(struct relay *r) {
  for (;;) {
    int fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    pair_start(r, fd);
  }
}

static void listen_somewhere(struct relay *r) {
  r->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  if (bind(r->listener, (struct sockaddr *)&a, n) != 0 || listen(r->listener, 4096) != 0) die("listen");
  if (getsockname(r->listener, (struct sockaddr *)&a, &n) != 0) die("getsockname");
  r->epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->listener, &e) != 0) die("epoll_ctl");
  (void)printf("port %u\n", (unsigned)ntohs(a.sin_port));
  (void)fflush(stdout);
}

static void step(struct relay *r, struct end *e) {
  if (e->pair->over) return;
  if (e->events == 0) return pair_end(r, e->pair); /* paused: this can only be its end */
  bool goes_on = e->nheld > e->at ? writable(r, e) : readable(r, e);
  if (!goes_on) pair_end(r, e->pair);
}

int main(int argc, char **argv) {
  struct relay *r = calloc(1, sizeof *r);
  if (argc != 2 || r == NULL) return 64;
  r->origin_port = htons((in_port_t)atoi(argv[1]));
  (void)signal(SIGPIPE, SIG_IGN);
  listen_somewhere(r);
  struct epoll_event events[EVENTS];
  for (;;) {
    int n = epoll_wait(r->epoll, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
      if (events[i].data.ptr == NULL)
        accept_all(r);
      else
        step(r, events[i].data.ptr);
    }
    free_over(r);
  }
}
