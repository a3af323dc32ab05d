/* stream.h: a byte stream to a peer, plain (TCP, Unix socket) or TLS, behind one small table of functions.
 *
 * Nothing above this header knows which it is. A stream is embedded in its owner, belongs to one loop's thread, and
 * keeps no buffer while it is idle: reads land in the thread's scratch buffer and are valid only during the callback.
 *
 * Life: stream_init_* -> (open) -> stream_close -> on_closed. The owner's memory may go only after on_closed.
 * A callback may call any function of the stream, stream_close included; after stream_close nothing but on_closed is called. */
#ifndef JETON_NET_STREAM_H
#define JETON_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/str.h"
#include "net/splice.h"

struct keepalive;
struct stream;
struct tls_session; /* net/tls.h: the state of one TLS connection */

/* One for each thread with a loop. */
struct net {
  uv_loop_t *loop;
  uint8_t *scratch;      /* SCRATCH_SIZE bytes; the sockets' reads land here */
  ssize_t got;           /* by the read that is being reported */
  struct stream *passed; /* its bytes are in the pipe and go there; NULL: they are in scratch */
  struct splice splice;
  uint8_t *clear;         /* CLEAR_SIZE bytes; TLS streams decrypt into them */
  uint64_t reads, writes; /* system calls made by streams: checked by the cost specs */
  uint64_t forgot;        /* `reads` when the scratch buffer was wiped last */
  uint64_t queued;        /* bytes that wait in all write queues of this thread */
  uint64_t queued_most;   /* a worker's limits.buffered, of its present policy */
  /* Descriptors from this one on are not for connections; 0: there is no such bound. fd_tight: it has been met, and from then on it is asked each time */
  int fd_max;
  bool fd_tight;
  /* of tls_pace.c: handshakes of clients that wait, and the time that this iteration of the loop (its uv_now) has spent on others */
  struct link handshakes;
  uint64_t handshake_iteration;
  int64_t handshake_us;
};
enum {
  SCRATCH_SIZE =
      128 *
      1024, /* large bodies cost a tenth less than with half of it; a twentieth less again with twice, all of it locked */
  QUEUED_MOST = 64 * 1024 * 1024,       /* of a thread that nobody has told another */
  CLEAR_SIZE = SCRATCH_SIZE + 16 * 1024 /* all that one read can hold, and the rest of a record */
};
/* The buffers are secret memory: replies of token issuers pass through them. */
void net_init(struct net *net, uv_loop_t *loop);
void net_fini(struct net *net);
/* Wipes what the last reads have left in the scratch buffer. From a timer: not below a read's callback. */
void net_forget(struct net *net);

/* The last descriptors of the process are not for connections of clients or to upstreams: whoever asks the control socket why there are none needs one, and so do
 * fetches, look-ups of names and files. The system gives the lowest that is free, so one beyond the bound says that all others are taken. It costs nothing before
 * that has happened once. has_descriptor: the next one may be kept. may_keep: this one may. */
bool net_has_descriptor(struct net *net);
bool net_may_keep(struct net *net, int fd);

/* n > 0: data of n bytes, valid during the call; data is NULL when they have been passed on (stream_pass_on). n < 0: UV_EOF (the peer sent FIN, or close_notify), or an error;
 * reading has stopped then. Never called with 0. */
typedef void (*stream_read_fn)(struct stream *s, ssize_t n, const uint8_t *data);
/* The write queue has become empty after stream_write had left something in it, or (status < 0) a write failed:
 * the stream is broken then and the owner should close it. */
typedef void (*stream_drain_fn)(struct stream *s, int status);
typedef void (*stream_closed_fn)(struct stream *s);
/* status 0: open, ready to write. */
typedef void (*stream_open_fn)(struct stream *s, int status);

struct stream_ops;
struct stream_queue; /* bytes that the kernel did not take yet, copied */
struct stream {
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } uv;
  const struct stream_ops *ops;
  struct net *net;
  void *owner;
  stream_read_fn on_read; /* NULL: reading is stopped */
  stream_drain_fn on_drain;
  stream_closed_fn on_closed;
  stream_open_fn on_open;
  struct stream_queue *queue; /* NULL while nothing waits */
  size_t queued;              /* bytes in it */
  struct stream *pass_to;     /* the next read's bytes go there; NULL: to on_read */
  struct stream *pass_from;   /* whose pass_to is this one */
  uint32_t pass_most;         /* how many at the most */
  struct tls_session *tls;    /* NULL: plain */
  bool closing;               /* stream_close or stream_reset was called */
  bool eof_sent;              /* stream_shutdown was called */
  bool reading;               /* libuv watches the socket */
};

/* stream_init_* set every field but owner, which the caller may set before or after.
 *
 * Takes the connection that a listener's connection callback reports with status 0. On failure nothing needs closing. */
int stream_init_accept(struct stream *s, struct net *net, uv_stream_t *listener);
/* Takes a connected socket: from accept4(2), of TCP or of a Unix socket. */
void stream_init_socket(struct stream *s, struct net *net, int fd, bool is_unix);
/* Connects. on_open is called exactly once, later, unless this returns an error (then nothing needs closing)
 * or stream_close comes first. A failed stream must be closed as well. */
int stream_init_connect(struct stream *s, struct net *net, const struct sockaddr *addr, stream_open_fn on_open);
int stream_init_connect_unix(struct stream *s, struct net *net, const char *path, stream_open_fn on_open);

/* Starting when it has been started only changes the callback (no system call). Stop and start cost an epoll_ctl
 * each, so they are for backpressure only. */
void stream_read_start(struct stream *s, stream_read_fn on_read);
void stream_read_stop(struct stream *s);

/* Writes as much as the kernel takes, in one system call, and copies the rest into the queue. Returns 0 or an error (the stream is broken). The caller stops
 * producing while stream_queued(s) is above its high-water mark and goes on at on_drain. `sensitive`: the queued copy is wiped when it is freed. */
int stream_write(struct stream *s, const uv_buf_t *bufs, unsigned nbufs, bool sensitive);
static inline size_t stream_queued(const struct stream *s) { return s->queued; }
/* Of the bytes that have been queued since something began to wait: how many have left for the kernel. 0 while nothing waits. */
uint64_t stream_left(const struct stream *s);
/* Grows with every byte that the peer's side has taken while something is queued; only differences mean anything. One system call: for timers
 * (net/stall.h). */
uint64_t stream_taken(const struct stream *s);
/* Bytes that the peer has not taken yet: in the queue, and in the kernel. One system call. */
uint64_t stream_untaken(const struct stream *s);
bool stream_unread(const struct stream *s); /* bytes of the peer wait in the kernel. One system call. */
/* While reading is stopped, an end comes to nobody's notice: UV_EOF when the peer has sent FIN, perhaps behind bytes that are not read yet, an error when the
 * connection has failed, else 0. One system call: for timers. */
int stream_peer_end(const struct stream *s);
/* The next read passes up to `most` bytes on to `to` within the kernel, and on_read hears how many, without data: the same as if it had written them all.
 * Called from s's on_read, for that one read. This is a wish: when one of the two is TLS, when `to` still has something queued, when the last read was a small
 * one, or when the system cannot, the bytes come to on_read as ever. It is forgotten when one of them closes. When `to` breaks, its on_drain reports it. */
void stream_pass_on(struct stream *s, struct stream *to, uint64_t most);
/* Sends FIN (and close_notify) once the queue is empty. */
void stream_shutdown(struct stream *s);
/* What is queued never leaves: writes fail from now on, which on_drain reports. Before a close that has to wait for something. */
void stream_mute(struct stream *s);
/* Closes at once; queued bytes are dropped. on_closed is called later from the loop. */
void stream_close(struct stream *s, stream_closed_fn on_closed);
/* As stream_close, with RST: how the peer learns that a message was cut short. */
void stream_reset(struct stream *s, stream_closed_fn on_closed);

void stream_nodelay(struct stream *s);
void stream_keepalive(struct stream *s, const struct keepalive *k); /* TCP only */
/* Why a TLS stream failed, as a sentence; "" when there is nothing to say. */
const char *stream_reason(const struct stream *s);

#endif
