/* pipe.h: one end of a tunnel: bytes both ways, whatever carries them (a connection of HTTP/1.1, a stream of HTTP/2).
 *
 * The protocol's code makes the end (after 101 or a CONNECT) and embeds nothing of it: the end belongs to the tunnel, `carrier` to the protocol. From then on
 * the protocol reports through `events`, and the tunnel asks through `ops`; no function of ops calls an event from inside. Owned by one loop's thread. */
#ifndef JETON_NET_PIPE_H
#define JETON_NET_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"

struct pipe_end;

struct pipe_events { /* may call any function of either end, close included */
  /* n > 0: bytes, valid during the call. UV_EOF: the peer has half-closed; the other way goes on. Another n < 0: it is gone; only close may follow. */
  void (*on_read)(struct pipe_end *p, ssize_t n, const uint8_t *data);
  /* status 0: the queued bytes have gone. Below: a write failed; only close may follow. */
  void (*on_drain)(struct pipe_end *p, int status);
};
struct pipe_ops {
  /* The tunnel says so in the iteration of the loop in which the end is made, and again as it likes. Nothing is lost while it is off. */
  void (*read)(struct pipe_end *p, bool on);
  /* Sends or queues all of it. An error of libuv: the peer is gone, only close may follow. */
  int (*write)(struct pipe_end *p, struct str bytes);
  /* Half-closes, behind the queued bytes. */
  void (*shutdown)(struct pipe_end *p);
  /* Bytes that the peer has not taken yet. */
  size_t (*queued)(const struct pipe_end *p);
  /* Both ways, at once; queued bytes are dropped. No event comes after it, and the end may go. Once, for every end. */
  void (*close)(struct pipe_end *p);
};
struct pipe_end {
  const struct pipe_ops *ops;
  void *carrier;
  const struct pipe_events *events; /* set by the tunnel before its first read */
  void *owner;                      /* the tunnel's */
};

#endif
