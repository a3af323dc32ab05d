/* stream_internal.h: the seam between a stream's two kinds; for core/net/stream.c and core/net/tls*.c only.
 *
 * Every stream begins plain: s->ops = &stream_plain_ops. TLS takes a plain, open stream over by setting s->tls and
 * s->ops = &its_own_ops, and works on the socket through the stream_plain_* functions. Upward it calls s->on_read, s->on_drain and s->on_open
 * itself; each of these may close the stream, after which s->closing is set, those callbacks are NULL and nothing but ops->fini comes. */
#ifndef JETON_NET_STREAM_INTERNAL_H
#define JETON_NET_STREAM_INTERNAL_H

#include "base/buf.h"
#include "net/stream.h"

struct stream_ops {
  /* --- calls of the stream's owner; never made after stream_close --- */
  /* s->on_read has been set (it was NULL before): deliver from now on, but never from inside this call. */
  void (*read_start)(struct stream *s);
  /* s->on_read has been set to NULL. */
  void (*read_stop)(struct stream *s);
  /* Contract of stream_write; the sum of the bufs is > 0 and stream_shutdown has not been called. */
  int (*write)(struct stream *s, const uv_buf_t *bufs, unsigned nbufs, bool sensitive);
  /* Contract of stream_shutdown; called once at the most. */
  void (*shutdown)(struct stream *s);
  /* stream_close (not stream_reset) is about to close: a last word that must not wait. NULL: none. */
  void (*close)(struct stream *s);
  const char *(*reason)(const struct stream *s); /* contract of stream_reason; also after stream_close */

  /* --- events of the socket; never called after stream_close --- */
  /* Raw bytes (in net->scratch), or n < 0 as with stream_read_fn: the socket is no longer read then. Never 0. */
  void (*raw_read)(struct stream *s, ssize_t n, const uint8_t *data);
  /* The queue of raw bytes has become empty, or (status < 0) a write failed and the queue was dropped. */
  void (*raw_drain)(struct stream *s, int status);

  /* The end: called once, from the loop, just before on_closed, with no frame of this stream on the stack: free s->tls here. */
  void (*fini)(struct stream *s);
};

extern const struct stream_ops stream_plain_ops;

/* Reads raw bytes into ops->raw_read, or stops. Both are fine when nothing changes (and cost nothing then). */
void stream_plain_read_start(struct stream *s);
void stream_plain_read_stop(struct stream *s);
/* Writes raw bytes now as far as the kernel takes them, the rest is copied to the queue (and ops->raw_drain comes later).
 * s->queued and net->queued count what waits. 0 or an error. Never calls back from inside. */
int stream_plain_write(struct stream *s, const uv_buf_t *bufs, unsigned nbufs, bool sensitive);
/* FIN once the queue is empty. */
void stream_plain_shutdown(struct stream *s);

/* Ends reading and gives the owner the reason (UV_EOF or an error), if it is reading. The stream may be closed on return. */
void stream_tell_end(struct stream *s, int status);

#endif
