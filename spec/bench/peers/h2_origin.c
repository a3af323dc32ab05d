/* h2_origin.c: origin.c's answers over HTTP/2 with prior knowledge, around nghttp2. One thread, epoll.
 *
 *   GET /bytes/N   a body of N bytes
 *   GET /echo      the fields of the request as they arrived, for checks before a measurement
 *   GET /stats     "requests=… received=… sent=…": bodies, in bytes, unfinished ones included
 *   anything else  a small JSON text, after the request's body has been read
 *
 * usage: h2_origin, prints "port N". Its windows are as large as they can be and the library opens them by itself, so that what limits an upload is the proxy. All that a read
 * brings is answered in one write; while that one waits for the socket, nothing is read. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  IN = 256 * 1024,
  OUT = 256 * 1024,
  EVENTS = 256,
  PATH = 64,
  TEXT_MAX = 4096,
  WINDOW = INT32_MAX,
  STREAMS = 1000
};

/* A request, from its head to its end. Those that are over are kept for the next ones. */
struct answer {
  char path[PATH];
  const char *body;   /* NULL: zeros */
  uint64_t left, len; /* of the body */
  size_t ntext;
  char *text; /* the fields, as "name: value" lines: /echo and /stats */
  struct answer *next;
};

struct conn {
  int fd;
  bool writing; /* registered for EPOLLOUT instead of EPOLLIN */
  nghttp2_session *session;
  uint8_t *left; /* of the last write: what the socket did not take */
  size_t nleft;
};

static struct origin {
  int epoll, listener;
  uint64_t requests, received, sent;
  struct answer *spare;
  uint8_t in[IN], out[OUT];
} origin;

static const char SMALL[] = "{\"message\":\"hello, world\"}\n";

static void die(const char *what) {
  perror(what);
  exit(1);
}

static struct answer *answer_new(void) {
  struct answer *a = origin.spare;
  if (a == NULL) return calloc(1, sizeof *a);
  origin.spare = a->next;
  *a = (struct answer){.next = NULL};
  return a;
}
static void answer_free(struct answer *a) {
  free(a->text);
  a->text = NULL;
  a->next = origin.spare;
  origin.spare = a;
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *buf, size_t n, uint32_t *flags,
                         nghttp2_data_source *source, void *arg) {
  (void)s, (void)id, (void)arg;
  struct answer *a = source->ptr;
  if (n > a->left) n = (size_t)a->left;
  if (a->body != NULL)
    memcpy(buf, a->body + (a->len - a->left), n);
  else
    memset(buf, 0, n);
  a->left -= n;
  origin.sent += n;
  if (a->left == 0) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return (ssize_t)n;
}

static nghttp2_nv field(const char *name, const char *value) {
  return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                      .value = (uint8_t *)(uintptr_t)value,
                      .namelen = strlen(name),
                      .valuelen = strlen(value)};
}

static void choose_body(struct answer *a) {
  if (strncmp(a->path, "/bytes/", 7) == 0) {
    a->len = strtoull(a->path + 7, NULL, 10);
  } else if (strcmp(a->path, "/echo") == 0) {
    a->body = a->text;
    a->len = a->ntext;
  } else if (strcmp(a->path, "/stats") == 0) {
    if (a->text == NULL && (a->text = malloc(TEXT_MAX)) == NULL) die("malloc");
    a->len =
        (uint64_t)snprintf(a->text, TEXT_MAX, "requests=%lu received=%lu sent=%lu\n", (unsigned long)origin.requests,
                           (unsigned long)origin.received, (unsigned long)origin.sent);
    a->body = a->text;
  } else {
    a->body = SMALL;
    a->len = sizeof SMALL - 1;
  }
  a->left = a->len;
}

static int respond(nghttp2_session *s, int32_t id, struct answer *a) {
  char length[24];
  choose_body(a);
  (void)snprintf(length, sizeof length, "%lu", (unsigned long)a->len);
  nghttp2_nv fields[] = {field(":status", "200"), field("content-type", "application/json"),
                         field("content-length", length)};
  nghttp2_data_provider body = {.source.ptr = a, .read_callback = read_body};
  origin.requests++;
  return nghttp2_submit_response(s, id, fields, 3, a->len > 0 ? &body : NULL);
}

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *f, void *arg) {
  (void)arg;
  if (f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  struct answer *a = answer_new();
  if (a == NULL) return NGHTTP2_ERR_CALLBACK_FAILURE;
  return nghttp2_session_set_stream_user_data(s, f->hd.stream_id, a);
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t nname,
                     const uint8_t *value, size_t nvalue, uint8_t flags, void *arg) {
  (void)flags, (void)arg;
  struct answer *a = nghttp2_session_get_stream_user_data(s, f->hd.stream_id);
  if (a == NULL) return 0;
  if (nname == 5 && memcmp(name, ":path", 5) == 0 && nvalue < sizeof a->path) {
    memcpy(a->path, value, nvalue);
    a->path[nvalue] = '\0';
    if (strcmp(a->path, "/echo") == 0 && (a->text = malloc(TEXT_MAX)) == NULL) die("malloc");
  } else if (a->text != NULL && a->ntext + nname + nvalue + 3 < TEXT_MAX) { /* what stands behind the path */
    a->ntext += (size_t)sprintf(a->text + a->ntext, "%.*s: %.*s\n", (int)nname, (const char *)name, (int)nvalue,
                                (const char *)value);
  }
  return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *arg) {
  (void)arg;
  if ((f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA) || (f->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
    return 0;
  struct answer *a = nghttp2_session_get_stream_user_data(s, f->hd.stream_id);
  return a == NULL ? 0 : respond(s, f->hd.stream_id, a);
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *arg) {
  (void)s, (void)flags, (void)id, (void)data, (void)arg;
  origin.received += n;
  return 0;
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t error, void *arg) {
  (void)error, (void)arg;
  struct answer *a = nghttp2_session_get_stream_user_data(s, id);
  if (a != NULL) answer_free(a);
  return 0;
}

static nghttp2_session *session_new(struct conn *c) {
  nghttp2_session_callbacks *callbacks;
  nghttp2_session *s;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) die("nghttp2");
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
  if (nghttp2_session_server_new(&s, callbacks, c) != 0) die("nghttp2");
  nghttp2_session_callbacks_del(callbacks);
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS},
                                             {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW}};
  if (nghttp2_submit_settings(s, NGHTTP2_FLAG_NONE, settings, 2) != 0 ||
      nghttp2_session_set_local_window_size(s, NGHTTP2_FLAG_NONE, 0, WINDOW) != 0)
    die("nghttp2");
  return s;
}

static void conn_free(struct conn *c) {
  nghttp2_session_del(c->session);
  (void)close(c->fd);
  free(c->left);
  free(c);
}

static void watch(struct conn *c, bool writing) {
  if (c->writing == writing) return;
  c->writing = writing;
  struct epoll_event e = {.events = writing ? EPOLLOUT : EPOLLIN, .data.ptr = c};
  if (epoll_ctl(origin.epoll, EPOLL_CTL_MOD, c->fd, &e) != 0) die("epoll_ctl");
}

/* Writes these bytes, and keeps what the socket does not take. */
static bool write_some(struct conn *c, const uint8_t *p, size_t n) {
  ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return false;
  if (sent < 0) sent = 0;
  if ((size_t)sent == n) return true;
  c->nleft = n - (size_t)sent;
  c->left = malloc(c->nleft);
  if (c->left == NULL) die("malloc");
  memcpy(c->left, p + sent, c->nleft);
  return true;
}

/* All that the session wants to send, by the buffer, until the socket is full. */
static bool send_all(struct conn *c) {
  bool more = true;
  while (more && c->nleft == 0) {
    size_t n = 0;
    while (n <= OUT - 20000) { /* a frame and its head, and no larger ones are agreed on */
      const uint8_t *p;
      ssize_t got = nghttp2_session_mem_send(c->session, &p);
      if (got < 0) return false;
      if (got == 0) break;
      memcpy(origin.out + n, p, (size_t)got);
      n += (size_t)got;
    }
    more = n > OUT - 20000;
    if (n > 0 && !write_some(c, origin.out, n)) return false;
  }
  watch(c, c->nleft > 0);
  return c->nleft > 0 || nghttp2_session_want_read(c->session) || nghttp2_session_want_write(c->session);
}

static bool readable(struct conn *c) {
  ssize_t n = recv(c->fd, origin.in, IN, 0);
  if (n < 0 && errno == EAGAIN) return true;
  if (n <= 0) return false;
  return nghttp2_session_mem_recv(c->session, origin.in, (size_t)n) == n && send_all(c);
}

static bool writable(struct conn *c) {
  uint8_t *p = c->left;
  size_t n = c->nleft;
  c->left = NULL;
  c->nleft = 0;
  bool good = write_some(c, p, n);
  free(p);
  return good && send_all(c);
}

static void accept_all(void) {
  for (;;) {
    int fd = accept4(origin.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) die("calloc");
    c->fd = fd;
    c->session = session_new(c);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(origin.epoll, EPOLL_CTL_ADD, fd, &e) != 0) die("epoll_ctl");
    if (!send_all(c)) conn_free(c);
  }
}

static void listen_somewhere(void) {
  origin.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  if (bind(origin.listener, (struct sockaddr *)&a, n) != 0 || listen(origin.listener, 4096) != 0) die("listen");
  if (getsockname(origin.listener, (struct sockaddr *)&a, &n) != 0) die("getsockname");
  origin.epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(origin.epoll, EPOLL_CTL_ADD, origin.listener, &e) != 0) die("epoll_ctl");
  (void)printf("port %u\n", (unsigned)ntohs(a.sin_port));
  (void)fflush(stdout);
}

int main(void) {
  (void)signal(SIGPIPE, SIG_IGN);
  listen_somewhere();
  struct epoll_event events[EVENTS];
  for (;;) {
    int n = epoll_wait(origin.epoll, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
      struct conn *c = events[i].data.ptr;
      if (c == NULL)
        accept_all();
      else if (!(c->writing ? writable(c) : readable(c)))
        conn_free(c);
    }
  }
}
