/* stream.c: plain streams (TCP, Unix sockets) over libuv, and what all streams have in common. Owned by the thread of net->loop.
 *
 * Reading: recv(2) into net->scratch when libuv finds the socket readable, so an idle stream holds no buffer. (read(2), as libuv does it, goes through the
 * file layer, which costs a tenth of a microsecond; and it says EOF where the last bytes and a reset come in one poll.)
 * Passing on: a read that is to go to another stream as it is goes there through the thread's pipe, in the same iteration of the loop, so that all that is said of
 * writing holds for it.
 * Writing: send(2) first, while libuv has nothing of ours to write (again cheaper than write(2) and libuv's way to it). What the kernel does not take is
 * copied into a queue of two buffers: one is in libuv's hands
 * (one uv_write at a time), the other gathers what comes meanwhile; they change places when the write has completed.
 * FIN is sent with shutdown(2) rather than uv_shutdown: the queue is ours, so there is no request to keep and nothing to wait for.
 *
 * Invariants: s->queue is non-NULL exactly while a uv_write is under way; s->queued is the sum of its two buffers. After stream_close
 * only libuv's own callbacks still come (the write and connect requests are cancelled), then on_close. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "base/must.h"
#include "base/secmem.h"
#include "net/address.h"
#include "net/keepalive.h"
#include "net/stream_internal.h"

struct stream_queue {
  uv_write_t req;
  struct buf flying;  /* in libuv's hands */
  struct buf waiting; /* gathers what comes meanwhile */
  uint64_t landed;    /* bytes that the kernel has taken whole buffers of */
};
enum { QUEUE_KEPT = 16 * 1024 /* what has flown keeps its memory for what waits next, up to so much */ };

/* A connection attempt; uv.handle.data points to it until it has ended. */
struct attempt {
  uv_connect_t req;
  uv_timer_t late;  /* reports an error that connect(2) gave at once, after the caller has returned */
  struct stream *s; /* NULL: the stream has been closed meanwhile */
  int status;
};

void net_init(struct net *net, uv_loop_t *loop) {
  *net = (struct net){.loop = loop, .queued_most = QUEUED_MOST};
  list_init(&net->handshakes);
  splice_init(&net->splice);
  net->scratch = secmem_alloc_passing(SCRATCH_SIZE);
  net->clear = secmem_alloc_passing(CLEAR_SIZE);
}

void net_fini(struct net *net) {
  splice_fini(&net->splice);
  secmem_free_passing(net->scratch, SCRATCH_SIZE);
  secmem_free_passing(net->clear, CLEAR_SIZE);
  *net = (struct net){0};
}

static struct stream *stream_of(uv_handle_t *h) { return CONTAINER_OF(h, struct stream, uv); }

static int fd_of(const struct stream *s) {
  uv_os_fd_t fd = -1;
  return uv_fileno(&s->uv.handle, &fd) == 0 ? fd : -1;
}

void net_forget(struct net *net) {
  if (net->forgot == net->reads) return;
  net->forgot = net->reads;
  secmem_wipe(net->scratch, SCRATCH_SIZE);
}

/* --- passing on --- */

/* Peers whose reads bring less are slow: their bytes go the common way. It costs no more then; and a client that sends byte by byte would have the kernel hold
 * a page for each of them in the other socket's queue. */
enum { PASS_MIN = 16 * 1024 };

static void forget_pass(struct stream *s) {
  if (s->pass_to == NULL) return;
  s->pass_to->pass_from = NULL;
  s->pass_to = NULL;
}

void stream_pass_on(struct stream *s, struct stream *to, uint64_t most) {
  if (s->ops != &stream_plain_ops || to->ops != &stream_plain_ops || s->closing || to->closing) return;
  if (s->net->got < PASS_MIN) return;
  assert(s->net == to->net);
  forget_pass(s);
  if (to->pass_from != NULL) forget_pass(to->pass_from);
  s->pass_to = to;
  to->pass_from = s;
  s->pass_most = most < SPLICE_SIZE ? (uint32_t)most : SPLICE_SIZE;
}

/* The read of s, into the pipe. False: it is to be read as ever. */
static bool pass_in(struct stream *s, size_t room) {
  struct stream *to = s->pass_to;
  forget_pass(s);
  if (to->queue != NULL || to->eof_sent) return false;
  s->net->got = splice_from(&s->net->splice, fd_of(s), s->pass_most < room ? s->pass_most : room);
  if (s->net->got == UV_ENOSYS) return false;
  if (s->net->got > 0) s->net->passed = to;
  return true;
}

/* Moves the bytes in the pipe to `to` or its queue. */
static int pass_out(struct stream *to, size_t n) {
  struct net *net = to->net;
  net->writes++;
  ssize_t went = splice_to(&net->splice, fd_of(to), n);
  if (went < 0) return (int)went;
  if ((size_t)went == n) return 0;
  uv_buf_t rest = uv_buf_init((char *)net->scratch, (unsigned)(n - (size_t)went));
  splice_rest(&net->splice, net->scratch, rest.len);
  return stream_plain_write(to, &rest, 1, false);
}
_Static_assert((int)SPLICE_SIZE <= (int)SCRATCH_SIZE, "what the pipe holds fits there");

/* s's owner first: `to` may take it down. Both live on until the loop closes them. */
static void tell_passed(struct stream *s, size_t n) {
  struct stream *to = s->net->passed;
  s->net->passed = NULL;
  int rc = pass_out(to, n);
  s->on_read(s, (ssize_t)n, NULL);
  if (rc != 0 && !to->closing) to->ops->raw_drain(to, rc);
}

/* --- reading --- */

/* libuv asks for a buffer when the socket is readable, and would read(2) into it. It is read here instead, and libuv gets the answer that there is no room,
 * which it passes on at once and without a call of its own. */
static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out) {
  (void)suggested;
  struct stream *s = stream_of(h);
  struct net *net = s->net;
  int fd = fd_of(s);
  size_t room =
      net->queued == 0 ? SCRATCH_SIZE : SCRATCH_SIZE / 4; /* where peers are slow, what is read may have to wait */
  net->reads++;
  *out = uv_buf_init(NULL, 0);
  if (s->pass_to != NULL && pass_in(s, room)) return;
  do net->got = recv(fd, net->scratch, room, 0);
  while (net->got < 0 && errno == EINTR);
  if (net->got < 0) net->got = errno == EAGAIN ? UV_EAGAIN : uv_translate_sys_error(errno);
  if (net->got == 0) net->got = UV_EOF;
}

static void on_uv_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf) {
  (void)buf;
  struct stream *s = stream_of((uv_handle_t *)uv);
  if (n == UV_ENOBUFS) n = s->net->got;
  if (n == UV_EAGAIN) return;
  if (n < 0) stream_plain_read_stop(s);
  if (s->net->passed != NULL)
    tell_passed(s, (size_t)n);
  else
    s->ops->raw_read(s, n, n > 0 ? s->net->scratch : NULL);
}

void stream_plain_read_start(struct stream *s) {
  if (s->reading || s->closing) return;
  s->reading = uv_read_start(&s->uv.stream, on_alloc, on_uv_read) == 0;
  assert(s->reading); /* refused only for a stream that is not open */
}

void stream_plain_read_stop(struct stream *s) {
  if (!s->reading) return;
  s->reading = false;
  uv_read_stop(&s->uv.stream);
}

void stream_tell_end(struct stream *s, int status) {
  stream_read_fn on_read = s->on_read;
  s->on_read = NULL;
  if (on_read != NULL) on_read(s, status, NULL);
}

static void plain_raw_read(struct stream *s, ssize_t n, const uint8_t *data) {
  if (n < 0)
    stream_tell_end(s, (int)n);
  else
    s->on_read(s, n, data);
}

/* --- writing --- */

static void on_written(uv_write_t *req, int status);

static void queue_free(struct stream *s) {
  struct stream_queue *q = s->queue;
  s->net->queued -= s->queued;
  s->queued = 0;
  s->queue = NULL;
  buf_fini(&q->flying);
  buf_fini(&q->waiting);
  free(q);
}

/* Gives `waiting` to libuv. */
static int queue_fly(struct stream *s) {
  struct stream_queue *q = s->queue;
  struct buf landed = q->flying;
  q->flying = q->waiting;
  q->waiting = landed;
  if (q->waiting.cap > QUEUE_KEPT)
    buf_fini(&q->waiting); /* else a slow peer would have twice what waits for it */
  else
    buf_reset(&q->waiting);
  q->waiting.sensitive = false; /* only until the next sensitive write; buf_reset has wiped it */
  uv_buf_t b = {.base = (char *)q->flying.p, .len = q->flying.n};
  s->net->writes++;
  return uv_write(&q->req, &s->uv.stream, &b, 1, on_written);
}

static void on_written(uv_write_t *req, int status) {
  struct stream *s = req->data;
  if (s->closing) {
    queue_free(s);
    return;
  }
  struct stream_queue *q = s->queue;
  q->landed += q->flying.n;
  s->queued -= q->flying.n;
  s->net->queued -= q->flying.n;
  if (status == 0 && q->waiting.n > 0) {
    status = queue_fly(s);
    if (status == 0) return;
  }
  queue_free(s);
  if (status == 0 && s->eof_sent) stream_plain_shutdown(s);
  s->ops->raw_drain(s, status);
}

/* Copies what is behind the first `skip` bytes to the queue. */
static void queue_add(struct stream *s, const uv_buf_t *bufs, unsigned nbufs, size_t skip, bool sensitive) {
  struct buf *to = &s->queue->waiting;
  if (sensitive) to->sensitive = true;
  size_t before = to->n;
  for (unsigned i = 0; i < nbufs; i++) {
    size_t passed = skip < bufs[i].len ? skip : bufs[i].len;
    skip -= passed;
    buf_add(to, bufs[i].base + passed, bufs[i].len - passed);
  }
  s->queued += to->n - before;
  s->net->queued += to->n - before;
}

static int queue_start(struct stream *s, const uv_buf_t *bufs, unsigned nbufs, size_t skip, bool sensitive) {
  struct stream_queue *q = must_calloc(1, sizeof *q);
  q->req.data = s;
  s->queue = q;
  queue_add(s, bufs, nbufs, skip, sensitive);
  int rc = queue_fly(s);
  if (rc != 0) queue_free(s);
  return rc;
}

static size_t total(const uv_buf_t *bufs, unsigned nbufs) {
  size_t n = 0;
  for (unsigned i = 0; i < nbufs; i++) n += bufs[i].len;
  return n;
}

/* How much the kernel took at once, perhaps nothing, or a negative error. A uv_buf_t may be cast to a struct iovec: uv/unix.h says so. */
static ssize_t send_now(const struct stream *s, const uv_buf_t *bufs, unsigned nbufs) {
  const struct msghdr message = {.msg_iov = (struct iovec *)bufs, .msg_iovlen = nbufs};
  int fd = fd_of(s);
  ssize_t n;
  do n = nbufs == 1 ? send(fd, bufs->base, bufs->len, MSG_NOSIGNAL) : sendmsg(fd, &message, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  if (n >= 0) return n;
  return errno == EAGAIN || errno == ENOBUFS ? 0 : uv_translate_sys_error(errno);
}

int stream_plain_write(struct stream *s, const uv_buf_t *bufs, unsigned nbufs, bool sensitive) {
  if (s->queue != NULL) {
    queue_add(s, bufs, nbufs, 0, sensitive);
    return 0;
  }
  s->net->writes++;
  ssize_t n = send_now(s, bufs, nbufs);
  if (n < 0) return (int)n;
  if ((size_t)n == total(bufs, nbufs)) return 0;
  return queue_start(s, bufs, nbufs, (size_t)n, sensitive);
}

void stream_plain_shutdown(struct stream *s) {
  s->eof_sent = true;
  if (s->queue == NULL) shutdown(fd_of(s), SHUT_WR); /* on failure the peer has gone, which the next read reports */
}

void stream_mute(struct stream *s) { shutdown(fd_of(s), SHUT_WR); /* on failure there is no peer */ }

/* The kernel may hold megabytes that it has taken from us and the peer has not taken from it: these bytes count as not taken. */
static uint64_t kernel_holds(const struct stream *s) {
  int held = 0;
  return ioctl(fd_of(s), SIOCOUTQ, &held) == 0 && held > 0 ? (uint64_t)held : 0;
}

static size_t in_libuvs_hands(const struct stream *s) { return uv_stream_get_write_queue_size(&s->uv.stream); }

uint64_t stream_left(const struct stream *s) {
  return s->queue != NULL ? s->queue->landed + s->queue->flying.n - in_libuvs_hands(s) : 0;
}

uint64_t stream_taken(const struct stream *s) { return stream_left(s) - kernel_holds(s); }

uint64_t stream_untaken(const struct stream *s) {
  uint64_t queued = s->queue != NULL ? s->queue->waiting.n + in_libuvs_hands(s) : 0;
  return queued + kernel_holds(s);
}

bool stream_unread(const struct stream *s) {
  int n = 0;
  return ioctl(fd_of(s), FIONREAD, &n) == 0 && n > 0;
}

int stream_peer_end(const struct stream *s) {
  struct pollfd p = {.fd = fd_of(s), .events = POLLRDHUP};
  if (poll(&p, 1, 0) <= 0) return 0;
  return (p.revents & (POLLERR | POLLHUP)) != 0 ? UV_ECONNRESET : UV_EOF;
}

static void plain_raw_drain(struct stream *s, int status) {
  if (s->on_drain != NULL) s->on_drain(s, status);
}

/* --- opening --- */

static const char *plain_reason(const struct stream *s) {
  (void)s;
  return "";
}
static void plain_fini(struct stream *s) { (void)s; }

static void reset_fields(struct stream *s, struct net *net) {
  void *owner = s->owner;
  *s = (struct stream){.ops = &stream_plain_ops, .net = net, .owner = owner};
}

int stream_init_accept(struct stream *s, struct net *net, uv_stream_t *listener) {
  reset_fields(s, net);
  if (listener->type == UV_NAMED_PIPE)
    uv_pipe_init(net->loop, &s->uv.pipe, 0);
  else if (listener->type == UV_TCP)
    uv_tcp_init(net->loop, &s->uv.tcp);
  else
    return UV_EINVAL;
  int rc = uv_accept(listener, &s->uv.stream);
  if (rc != 0) abort(); /* refused only when there is no connection to take, which breaks the contract */
  return 0;
}

void stream_init_socket(struct stream *s, struct net *net, int fd, bool is_unix) {
  reset_fields(s, net);
  if (is_unix)
    uv_pipe_init(net->loop, &s->uv.pipe, 0);
  else
    uv_tcp_init(net->loop, &s->uv.tcp);
  int rc = is_unix ? uv_pipe_open(&s->uv.pipe, fd) : uv_tcp_open(&s->uv.tcp, fd);
  if (rc != 0) abort(); /* refused only for a descriptor that is no socket of that kind, or is another handle's */
}

static void attempt_end(struct attempt *a, int status) {
  struct stream *s = a->s;
  if (s == NULL) return;
  stream_open_fn on_open = s->on_open;
  s->uv.handle.data = NULL;
  s->on_open = NULL;
  on_open(s, status);
}

static void on_connected(uv_connect_t *req, int status) {
  struct attempt *a = CONTAINER_OF(req, struct attempt, req);
  attempt_end(a, status);
  free(a);
}

static void on_late_closed(uv_handle_t *h) { free(CONTAINER_OF(h, struct attempt, late)); }
static void on_late(uv_timer_t *timer) {
  struct attempt *a = CONTAINER_OF(timer, struct attempt, late);
  uv_close((uv_handle_t *)timer, on_late_closed);
  attempt_end(a, a->status);
}

static struct attempt *attempt_new(struct stream *s, stream_open_fn on_open) {
  struct attempt *a = must_calloc(1, sizeof *a);
  a->s = s;
  s->uv.handle.data = a;
  s->on_open = on_open;
  return a;
}

bool net_may_keep(struct net *net, int fd) {
  bool may = net->fd_max == 0 || fd < net->fd_max;
  if (!may) net->fd_tight = true;
  return may;
}

bool net_has_descriptor(struct net *net) {
  if (!net->fd_tight) return true;
  int fd = fcntl(uv_backend_fd(net->loop), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return false;
  close(fd);
  return net_may_keep(net, fd);
}

/* With its socket. On an error the handle is there all the same. */
static int open_tcp(struct net *net, uv_tcp_t *tcp, int family) {
  uv_os_fd_t fd;
  bool may = net_has_descriptor(net);
  int rc = may ? uv_tcp_init_ex(net->loop, tcp, (unsigned)family) : UV_EMFILE;
  if (rc != 0)
    (void)uv_tcp_init(net->loop, tcp); /* cannot fail without a socket */
  else if (uv_fileno((uv_handle_t *)tcp, &fd) == 0 && !net_may_keep(net, fd))
    rc = UV_EMFILE;
  return rc;
}

int stream_init_connect(struct stream *s, struct net *net, const struct sockaddr *addr, stream_open_fn on_open) {
  reset_fields(s, net);
  int rc = open_tcp(net, &s->uv.tcp, addr->sa_family);
  struct attempt *a = attempt_new(s, on_open);
  a->status = rc != 0 ? rc : uv_tcp_connect(&a->req, &s->uv.tcp, addr, on_connected);
  if (a->status == 0) return 0;
  /* No descriptor, no route, …: the handle is the loop's already and can only be closed, so this comes as a failed attempt. */
  uv_timer_init(net->loop, &a->late);
  return uv_timer_start(&a->late, on_late, 0, 0);
}

int stream_init_connect_unix(struct stream *s, struct net *net, const char *path, stream_open_fn on_open) {
  reset_fields(s, net);
  if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path) return UV_ENAMETOOLONG; /* libuv would cut it short */
  int rc = uv_pipe_init(net->loop, &s->uv.pipe, 0);
  if (rc != 0) return rc;
  uv_pipe_connect(&attempt_new(s, on_open)->req, &s->uv.pipe, path, on_connected);
  return 0;
}

/* --- what all kinds have in common --- */

void stream_read_start(struct stream *s, stream_read_fn on_read) {
  assert(on_read != NULL);
  if (s->closing) return;
  bool started = s->on_read != NULL;
  s->on_read = on_read;
  if (!started) s->ops->read_start(s);
}

void stream_read_stop(struct stream *s) {
  if (s->closing || s->on_read == NULL) return;
  s->on_read = NULL;
  s->ops->read_stop(s);
}

int stream_write(struct stream *s, const uv_buf_t *bufs, unsigned nbufs, bool sensitive) {
  if (s->closing) return ERR_CLOSED;
  if (s->eof_sent) return UV_EPIPE;
  if (total(bufs, nbufs) == 0) return 0;
  return s->ops->write(s, bufs, nbufs, sensitive);
}

void stream_shutdown(struct stream *s) {
  if (s->closing || s->eof_sent) return;
  s->ops->shutdown(s);
  s->eof_sent = true;
}

static void on_uv_closed(uv_handle_t *h) {
  struct stream *s = stream_of(h);
  assert(s->queue == NULL);
  s->ops->fini(s);
  if (s->on_closed != NULL) s->on_closed(s);
}

static void close_begin(struct stream *s, stream_closed_fn on_closed) {
  assert(!s->closing);
  struct attempt *a = s->uv.handle.data;
  if (a != NULL) a->s = NULL;
  s->uv.handle.data = NULL;
  forget_pass(s);
  if (s->pass_from != NULL) forget_pass(s->pass_from);
  s->closing = true;
  s->reading = false;
  s->on_read = NULL;
  s->on_drain = NULL;
  s->on_open = NULL;
  s->on_closed = on_closed;
}

void stream_close(struct stream *s, stream_closed_fn on_closed) {
  if (s->ops->close != NULL) s->ops->close(s);
  close_begin(s, on_closed);
  uv_close(&s->uv.handle, on_uv_closed);
}

void stream_reset(struct stream *s, stream_closed_fn on_closed) {
  close_begin(s, on_closed);
  if (s->uv.handle.type == UV_TCP && uv_tcp_close_reset(&s->uv.tcp, on_uv_closed) == 0) return;
  uv_close(&s->uv.handle, on_uv_closed);
}

void stream_nodelay(struct stream *s) {
  if (s->uv.handle.type == UV_TCP && !s->closing) uv_tcp_nodelay(&s->uv.tcp, 1);
}

void stream_keepalive(struct stream *s, const struct keepalive *k) {
  if (s->uv.handle.type == UV_TCP && !s->closing) keepalive_set(fd_of(s), k);
}

const char *stream_reason(const struct stream *s) { return s->ops->reason(s); }

const struct stream_ops stream_plain_ops = {
    .read_start = stream_plain_read_start,
    .read_stop = stream_plain_read_stop,
    .write = stream_plain_write,
    .shutdown = stream_plain_shutdown,
    .reason = plain_reason,
    .raw_read = plain_raw_read,
    .raw_drain = plain_raw_drain,
    .fini = plain_fini,
};
