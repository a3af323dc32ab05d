/* tls_lab.h: for the tests of TLS: a loop with a listener, both ends of one connection, configurations from spec/support/ca.sh. */
#ifndef JETON_SPEC_TLS_LAB_H
#define JETON_SPEC_TLS_LAB_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "check.h"
#include "net/stream.h"
#include "net/stream_internal.h"
#include "net/tls.h"

static char dir[] = "/tmp/jeton-tls-XXXXXX";
static bool has_1_3; /* this build speaks TLS 1.3 */

enum { PATIENCE_MS = 20000 };

/* --- a loop, a listener and the two ends of one connection --- */

struct end {
  struct stream stream;
  struct lab *lab;
  struct buf got;
  struct buf out; /* still to be written, from `sent` on */
  size_t sent;
  int opened; /* status of on_open; 1: not yet */
  enum tls_alpn alpn;
  unsigned how; /* of a client */
  int started;  /* what stream_start_tls_* returned */
  int ended;    /* what on_read said at the end; 0: nothing yet */
  bool live, closed, lazy /* does not read when it opens */, echo, eof_after_echo, close_on_open, close_on_read;
  bool resume_read;
  unsigned calls; /* of on_read with data */
  char reason[320];
};
struct lab { /* of one thread */
  uv_loop_t loop;
  struct net net;
  uv_tcp_t listener;
  uv_timer_t patience;
  struct sockaddr_in address;
  struct tls_client *client;
  struct tls_server *server;
  const char *host;
  struct end c, s;
};

static inline bool done_opening(const struct lab *l) { return l->c.opened <= 0 && l->s.opened <= 0; }
static inline bool both_closed(const struct lab *l) {
  return (!l->c.live || l->c.closed) && (!l->s.live || l->s.closed);
}

static inline void on_patience(uv_timer_t *t) {
  (void)t;
  fprintf(stderr, "it took too long\n");
  abort();
}

/* Turns the loop until `until` says so. */
static inline void turn(struct lab *l, bool (*until)(const struct lab *)) {
  while (!until(l)) uv_run(&l->loop, UV_RUN_ONCE);
}

static inline void on_closed(struct stream *s) { ((struct end *)s->owner)->closed = true; }
static inline void on_read(struct stream *s, ssize_t n, const uint8_t *data);

static inline void pump(struct end *e) {
  while (e->sent < e->out.n && stream_queued(&e->stream) < 256 * 1024) {
    size_t n = e->out.n - e->sent < 40000 ? e->out.n - e->sent : 40000, head = n < 100 ? n / 2 : 100;
    uv_buf_t b[2] = {uv_buf_init((char *)e->out.p + e->sent, (unsigned)head),
                     uv_buf_init((char *)e->out.p + e->sent + head, (unsigned)(n - head))};
    CHECK(stream_write(&e->stream, b, 2, true) == 0);
    e->sent += n;
  }
  if (e->sent == e->out.n && e->out.n > 0 && e->eof_after_echo) stream_shutdown(&e->stream);
}

static inline void on_drain(struct stream *s, int status) {
  CHECK(status == 0);
  pump(s->owner);
}

static inline void say_bytes(struct end *e, const void *p, size_t n) {
  buf_add(&e->out, p, n);
  pump(e);
}
static inline void say(struct end *e, const char *text) { say_bytes(e, text, strlen(text)); }

static inline void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct end *e = s->owner;
  CHECK(n != 0);
  if (n < 0) {
    e->ended = (int)n;
    return;
  }
  e->calls++;
  buf_add(&e->got, data, (size_t)n);
  if (e->echo) say_bytes(e, data, (size_t)n);
  if (e->close_on_read) stream_close(s, on_closed);
  if (e->resume_read && e->calls % 3 == 0) stream_read_stop(s);
}

static inline void on_open(struct stream *s, int status) {
  struct end *e = s->owner;
  CHECK(e->opened == 1);
  e->opened = status;
  snprintf(e->reason, sizeof e->reason, "%s", stream_reason(s));
  s->on_drain = on_drain;
  if (status != 0 && e == &e->lab->s) stream_close(s, on_closed); /* as a server does */
  if (status != 0) return;
  if (e->close_on_open) {
    stream_close(s, on_closed);
    return;
  }
  if (!e->lazy) stream_read_start(s, on_read);
  pump(e);
}

static inline void on_connection(uv_stream_t *listener, int status) {
  struct lab *l = listener->data;
  CHECK(status == 0);
  CHECK(stream_init_accept(&l->s.stream, &l->net, listener) == 0);
  l->s.live = true;
  if (l->server == NULL) {
    l->s.opened = 0;
    stream_read_start(&l->s.stream, on_read);
    return;
  }
  CHECK(stream_start_tls_server(&l->s.stream, l->server, l->s.alpn, on_open) == 0);
}

static inline void on_connected(struct stream *s, int status) {
  struct lab *l = ((struct end *)s->owner)->lab;
  CHECK(status == 0);
  stream_nodelay(s);
  if (l->client == NULL) {
    l->c.opened = 0;
    stream_read_start(s, on_read);
    pump(&l->c);
    return;
  }
  l->c.started = stream_start_tls_client(s, l->client, l->host, l->c.how, l->c.alpn, on_open);
  CHECK(l->c.started == 0);
}

static inline void end_init(struct end *e, struct lab *l) {
  *e = (struct end){.lab = l, .how = TLS_RESUME, .opened = 1};
  e->stream.owner = e;
  buf_init(&e->got);
  buf_init(&e->out);
}

/* One port for all labs of a thread, since a client keeps its sessions by address. What an earlier lab left in the queue is dropped. */
static inline int lab_socket(void) {
  static _Thread_local int fd = -1;
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (fd < 0) {
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 16) == 0);
  }
  for (int old; (old = accept(fd, NULL, NULL)) >= 0;) close(old);
  return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static inline void lab_init(struct lab *l, struct tls_client *client, struct tls_server *server, const char *host) {
  int n = sizeof l->address;
  memset(l, 0, sizeof *l);
  l->client = client;
  l->server = server;
  l->host = host;
  CHECK(uv_loop_init(&l->loop) == 0);
  net_init(&l->net, &l->loop);
  end_init(&l->c, l);
  end_init(&l->s, l);
  CHECK(uv_tcp_init(&l->loop, &l->listener) == 0);
  l->listener.data = l;
  CHECK(uv_tcp_open(&l->listener, lab_socket()) == 0);
  CHECK(uv_listen((uv_stream_t *)&l->listener, 16, on_connection) == 0);
  CHECK(uv_tcp_getsockname(&l->listener, (struct sockaddr *)&l->address, &n) == 0);
  uv_timer_init(&l->loop, &l->patience);
  uv_timer_start(&l->patience, on_patience, PATIENCE_MS, 0);
}

static inline void dial(struct lab *l, uint16_t port) {
  struct sockaddr_in to = l->address;
  if (port != 0) to.sin_port = htons(port);
  CHECK(stream_init_connect(&l->c.stream, &l->net, (struct sockaddr *)&to, on_connected) == 0);
  l->c.live = true;
}

static inline void end_close(struct end *e) {
  if (e->live && !e->closed && !e->stream.closing) stream_close(&e->stream, on_closed);
}
static inline void end_fini(struct end *e) {
  buf_fini(&e->got);
  buf_fini(&e->out);
}

static inline void lab_fini(struct lab *l) {
  end_close(&l->c);
  end_close(&l->s);
  turn(l, both_closed);
  uv_close((uv_handle_t *)&l->listener, NULL);
  uv_close((uv_handle_t *)&l->patience, NULL);
  uv_run(&l->loop, UV_RUN_DEFAULT);
  CHECK(l->net.queued == 0);
  net_fini(&l->net);
  CHECK(uv_loop_close(&l->loop) == 0); /* no handle left open */
  end_fini(&l->c);
  end_fini(&l->s);
}

/* Opens both ends, or fails to. */
static inline void lab_open(struct lab *l, struct tls_client *c, struct tls_server *s, const char *host) {
  lab_init(l, c, s, host);
  dial(l, 0);
  turn(l, done_opening);
}

/* --- configurations --- */

static inline void shell(const char *what) {
  char command[1024];
  snprintf(command, sizeof command, "cd %s && %s", dir, what);
  CHECK(system(command) == 0);
}

/* dir/name; a ring of buffers, good for one test. */
static inline const char *file(const char *name) {
  static _Thread_local char paths[64][128];
  static _Thread_local unsigned next;
  char *p = paths[next++ % 64];
  snprintf(p, sizeof paths[0], "%s/%s", dir, name);
  return p;
}

static inline struct tls_client *client_with(struct tls_client_settings s) {
  char err[256];
  if (s.ca == NULL && !s.insecure) s.ca = file("ca.pem");
  struct tls_client *c = tls_client_new(&s, err, sizeof err);
  if (c == NULL) fprintf(stderr, "%s\n", err);
  CHECK(c != NULL);
  return c;
}
static inline struct tls_client *client(void) {
  return client_with((struct tls_client_settings){.min_version = TLS_1_2});
}

static inline struct tls_server *server_with(struct tls_server_settings s, const char *name) {
  char err[256], cert[64], key[64];
  struct tls_certificate_settings one;
  if (name != NULL) {
    snprintf(cert, sizeof cert, "%s/%s.pem", dir, name);
    snprintf(key, sizeof key, "%s/%s.key", dir, name);
    one = (struct tls_certificate_settings){cert, key};
    s.certificates = &one;
    s.ncertificates = 1;
  }
  struct tls_server *v = tls_server_new(&s, err, sizeof err);
  if (v == NULL) fprintf(stderr, "%s\n", err);
  CHECK(v != NULL);
  return v;
}
static inline struct tls_server *server(const char *name) {
  return server_with((struct tls_server_settings){.min_version = TLS_1_2}, name);
}

static inline void expect_text(const char *text, const char *what) {
  if (strstr(text, what) == NULL) fprintf(stderr, "expected \"%s\" in \"%s\"\n", what, text);
  CHECK(strstr(text, what) != NULL);
}

/* Takes over both configurations. */
static inline void expect_open(struct tls_client *c, struct tls_server *s, const char *host) {
  struct lab l;
  lab_open(&l, c, s, host);
  if (l.c.opened != 0) fprintf(stderr, "%s\n", stream_reason(&l.c.stream));
  CHECK(l.c.opened == 0 && l.s.opened == 0);
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
}

/* The client refuses, with a sentence that has `what` in it, and the server saw no byte of the application. */
static inline void expect_refused(struct tls_client *c, struct tls_server *s, const char *host, const char *what) {
  struct lab l;
  lab_init(&l, c, s, host);
  buf_addz(&l.c.out, "secret");
  dial(&l, 0);
  turn(&l, done_opening);
  CHECK(l.c.opened == ERR_TLS);
  expect_text(l.c.reason, what);
  CHECK(l.s.got.n == 0);
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
}

/* Makes the certificates, and finds out what this build speaks. */
static inline void lab_setup(void) {
  char command[256], err[256];
  setlinebuf(stdout);
  signal(SIGPIPE, SIG_IGN); /* as main does */
  log_configure(&(struct log_settings){.level = LOG_ERROR});
  CHECK(mkdtemp(dir) != NULL);
  snprintf(
      command, sizeof command,
      "sh spec/support/ca.sh %s >/dev/null && cd %s && mkdir empty authorities && cp ca.pem other-ca.pem authorities",
      dir, dir);
  CHECK(system(command) == 0);
  struct tls_client_settings s = {.ca = file("ca.pem"), .min_version = TLS_1_3};
  struct tls_client *c = tls_client_new(&s, err, sizeof err);
  has_1_3 = c != NULL;
  if (!has_1_3) expect_text(err, "TLS 1.3 needs mbedTLS 3.6");
  tls_client_unref(c);
}

static inline void lab_teardown(void) {
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", dir);
  CHECK(system(command) == 0);
}

#endif
