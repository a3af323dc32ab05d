/* h2_session.h: one connection that speaks HTTP/2 (RFC 9113), either side, and the streams on it.
 *
 * The session stands between a `struct stream` and the two users of the protocol, a client's connection (proxy/h2_conn.c) and a server's (http/h2_call.c). It keeps
 * what both need: frames (by nghttp2), bodies both ways with flow control, the limits that no peer may pass, and the end. Heads are the users': it hands
 * on each field as it is read, and takes heads as lists of fields.
 *
 * Reading. h2_session_feed tells events (struct h2_events) from inside; they may call any function here but h2_session_feed and h2_session_fini, and what they say is sent when
 * the feed is over. A body that its user does not take stays with the stream, bounded by its window, and is offered again by h2_stream_take.
 *
 * Writing. Whatever is said is put into frames at once (outside of a feed), so that a head with a token is serialised in the call that made it. The bytes leave
 * together when this turn of the loop ends, or at once when there are many of them, or `h2_session_write`. What the peer's windows do not let through waits with its stream.
 *
 * Windows. A stream's begins with 64 KB, opens as its user takes the bytes, and grows while that takes them at once; what it has grown by counts as queued
 * (net->queued), and no window grows when half of what may be queued is in use. The connection's is wide from the beginning and opens as bytes come, so a stream that nobody reads holds up no other, and many short bodies do not
 * wait for each other.
 *
 * The thread of the stream. */
#ifndef JETON_HTTP_H2_SESSION_H
#define JETON_HTTP_H2_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/later.h"
#include "base/list.h"
#include "base/str.h"
#include "http/h2_glitches.h"
#include "http/h2_heads.h"
#include "http/h2_ids.h"

struct h2_session;
struct h2_stream;
struct h2_fields; /* http/h2_fields.h: a head on its way out */
struct stream;

/* RFC 9113 section 7. */
enum h2_error {
  H2_NO_ERROR = 0,
  H2_PROTOCOL_ERROR = 1,
  H2_INTERNAL_ERROR = 2,
  H2_FLOW_CONTROL_ERROR = 3,
  H2_STREAM_CLOSED = 5,
  H2_FRAME_SIZE_ERROR = 6,
  H2_REFUSED_STREAM = 7,
  H2_CANCEL = 8,
  H2_ENHANCE_YOUR_CALM = 11,
  H2_INADEQUATE_SECURITY = 12,
  H2_HTTP_1_1_REQUIRED = 13
};

enum h2_block_kind { H2_HEAD, H2_TRAILERS }; /* H2_HEAD: of a request, or of a reply or an interim one */

/* All come from within h2_session_feed, but for `drained` and `closed`, which may come from a write as well. `closed` ends a stream: no event of it comes any more. */
struct h2_events {
  /* Server: HEADERS of a new stream have begun. Returns where the stream is to live, to which h2_stream_init has been applied; NULL refuses it (REFUSED_STREAM). */
  struct h2_stream *(*opened)(struct h2_session *s);
  /* A field block begins; each field of it, in order, valid during the call; and its end. `ends`: nothing comes behind it. field returns an h2_error (0: fine) that ends the stream. */
  void (*block_begin)(struct h2_stream *st, enum h2_block_kind kind);
  enum h2_error (*field)(struct h2_stream *st, struct str name, struct str value);
  enum h2_error (*block_end)(struct h2_stream *st, enum h2_block_kind kind, bool ends);
  /* Body. Returns how many bytes of it were taken, from the front; the rest is kept and offered by h2_stream_take. */
  size_t (*body)(struct h2_stream *st, struct str span);
  void (*body_end)(struct h2_stream *st); /* all of it has been taken, and the trailers have come, if there are any */
  /* The stream ends, and some of its body (st->in) has not been taken: the user may have it. NULL: it goes. */
  void (*left)(struct h2_stream *st);
  /* What one read has brought for this stream has been told; spans of it end. */
  void (*fed)(struct h2_stream *st);
  /* What waited for the peer has been put into frames, the last byte of it. */
  void (*drained)(struct h2_stream *st);
  /* Server: the whole reply has gone, and the request has not ended (RFC 9113 section 8.1). The stream is to be reset by NO_ERROR, soon. From within a write. NULL: it is, at once. */
  void (*early)(struct h2_stream *st);
  /* It has ended: both sides have said all (code NO_ERROR), the peer or the library reset it, or the connection has ended. by_peer: RST_STREAM. REFUSED_STREAM also says that
   * the peer has not looked at the request, by GOAWAY below it. The memory may go from inside. */
  void (*closed)(struct h2_stream *st, enum h2_error code, bool by_peer);
  /* The socket has not taken all of a write: for time limits, and nothing else. From within a write. May be NULL. */
  void (*stuck)(struct h2_session *s);
  /* The peer's settings have come (client: h2_session_streams tells how many streams it allows), or it has said GOAWAY: no new stream may be opened. Either may be NULL. */
  void (*settings)(struct h2_session *s);
  void (*goaway)(struct h2_session *s, enum h2_error code);
  /* From the loop, or from a write: the connection is of no use any more, and is to be closed by its user: the write failed (broken), or both sides have said GOAWAY and no
   * stream is left. */
  void (*over)(struct h2_session *s);
};

enum h2_sending {
  H2_SEND_NOTHING, /* no final head has been said */
  H2_SEND_BODY,
  H2_SEND_END, /* all has been said; some of it may wait */
  H2_SEND_CUT, /* the same, and it is not whole: RST_STREAM follows the last byte */
  H2_SEND_DONE /* END_STREAM has been put into a frame, or the stream is reset */
};
enum h2_receiving {
  H2_RECV_HEAD,
  H2_RECV_BODY, /* the user says so, in block_end of a request or of a final reply: what comes then is body or trailers */
  H2_RECV_END, /* END_STREAM has come; some of the body may not have been taken */
  H2_RECV_TOLD /* the user has been told of it */
};
enum h2_life {
  H2_LIFE_OPEN,
  H2_LIFE_RESET, /* RST_STREAM has been said by us: nothing is sent, and what comes is ignored */
  H2_LIFE_OVER   /* the library has closed it, and its user has not taken all of the body yet */
};
enum {
  H2_SPANS = 8,
  /* What a paused reader left is offered in pieces of so many bytes, as a read has where peers are slow: no more may be queued beyond where it pauses again. */
  H2_TAKE_PIECE = 32 * 1024
};

struct h2_stream {            /* embedded in its user's */
  struct h2_session *session; /* NULL: it is not open, or not any more */
  struct link link;           /* of its session */
  struct link fed;            /* of those that this read has brought something for */
  int32_t id;
  uint8_t sending;   /* enum h2_sending */
  uint8_t receiving; /* enum h2_receiving */
  uint8_t life;      /* enum h2_life */
  bool deferred;     /* the library waits for more of the body */
  bool waits;        /* its user is to be told when the peer has taken what there is */
  bool peer_reset;
  bool tunnel; /* set by its user: what the peer sends goes on behind our END_STREAM */
  uint8_t cut; /* enum h2_error: of H2_SEND_CUT */
  unsigned nspans;
  struct str spans[H2_SPANS]; /* body of this turn of the loop, behind `out` */
  size_t nspan_bytes;
  struct buf out;             /* body that waits for a window */
  size_t out_at;              /* of it, what has gone */
  struct buf in;              /* body that has come and was not taken */
  struct h2_fields *trailers; /* owned; behind the body */
  uint32_t window;            /* as it was granted last */
  uint32_t owed;              /* bytes taken that have not been granted anew */
  uint32_t run;               /* bytes taken at once since it grew last */
  uint64_t taken;             /* bytes of body put into frames: for stalls */
  /* client, clock_boot_ms: of the tokens in the body, the first end; 0: nothing in it ends */
  int64_t secrets_end;
  bool secrets_over; /* that has come while some of it waited: the stream was reset */
};

enum h2_side { H2_SERVER, H2_CLIENT };
struct h2_settings {
  enum h2_side side;
  uint32_t streams;     /* server: how many a client may have open */
  uint32_t header_list; /* what is said as SETTINGS_MAX_HEADER_LIST_SIZE */
  bool sensitive;       /* what is written holds secrets: wiped behind */
};

struct nghttp2_session;
enum h2_session_state {
  H2_OPEN,
  H2_DRAINING, /* GOAWAY has been said with the highest number: a second one follows */
  H2_LEAVING,  /* GOAWAY has been said or heard: streams end, none begins */
  H2_DEAD      /* told to terminate: nothing is fed to the library any more */
};
struct h2_session { /* embedded in its user's */
  struct nghttp2_session *ng;
  const struct h2_events *events;
  struct stream *stream;
  struct laters *laters;
  struct later later; /* writes */
  struct link streams, fed;
  struct h2_stream *reading; /* whose field block comes, so that no field has to look for it; NULL: nobody's */
  size_t block;              /* of that, what has come: names, values and 32 for each field */
  struct h2_settings settings;
  struct h2_glitches glitches;
  struct h2_heads heads;
  struct h2_out *out; /* bytes of this turn of the loop; NULL: none */
  struct h2_ids ids;  /* server: which numbers are over, and how (RFC 9113 section 5.1) */
  int32_t peer_reset; /* the stream that the peer's last RST_STREAM was for */
  unsigned nstreams;
  uint64_t heard_at; /* uv_now of the last bytes that came */
  int64_t
      secrets_end; /* client, clock_boot_ms: of the tokens in what the socket may not have taken, the first end; 0: there are none */
  uint8_t state; /* enum h2_session_state */
  bool feeding;
  bool settled; /* the peer's first SETTINGS have come */
  bool held;    /* a stream was not asked for its body, since the socket is full */
  bool broken;  /* a write failed: nothing is said any more, but something may still come */
  bool told_over;
  bool ping_out; /* a PING of ours is not answered */
};

/* Says the preface and SETTINGS. Reading and on_drain stay its user's, who hands on what they bring. */
void h2_session_init(struct h2_session *s, struct stream *stream, struct laters *laters,
                     const struct h2_settings *settings, const struct h2_events *events);
/* Ends every stream that is left (`closed`), and gives the memory back. Not from within a feed, but from within what h2_stream_take tells: the struct stays until that has returned. */
void h2_session_fini(struct h2_session *s);
/* False: the connection is to be closed (what there was to say about it has been written). */
bool h2_session_feed(struct h2_session *s, const uint8_t *p, size_t n);
/* What the stream's on_drain reports, which stays its user's. */
void h2_session_drained(struct h2_session *s, int status);
/* Puts all that may go into frames; the bytes leave now, not at the end of the turn. */
void h2_session_write(struct h2_session *s);
/* GOAWAY twice (RFC 9113 section 6.8): the second when the client has surely had the first, by h2_session_leave. And at once, with a reason, closing the session for good. */
void h2_session_drain(struct h2_session *s);
void h2_session_leave(struct h2_session *s);
void h2_session_terminate(struct h2_session *s, enum h2_error code);
/* PING; ping_out until it has been answered. */
void h2_session_ping(struct h2_session *s);
/* Client: streams that the peer lets us have open at once; 0 when it has said GOAWAY. */
uint32_t h2_session_streams(const struct h2_session *s);
bool h2_session_idle(const struct h2_session *s); /* no stream is open */
/* The socket has not taken all that was written: what is said now waits behind that. */
bool h2_session_stuck(const struct h2_session *s);

void h2_stream_init(struct h2_stream *st);
/* Client: opens a stream by this head and serialises it before it returns (not within a feed). `ends`: no body follows. 0; UV_ECONNRESET: the connection is over; UV_EAGAIN: no stream
 * may be opened on it any more. */
int h2_stream_open(struct h2_session *s, struct h2_stream *st, struct h2_fields *head, bool ends);
/* Server: 1xx, and the final head, which waits for flush or end. `ends` here: no body, no trailers. */
void h2_stream_interim(struct h2_stream *st, struct h2_fields *head);
void h2_stream_head(struct h2_stream *st, struct h2_fields *head, bool ends);
/* Body: stays where it is until flush or end. */
void h2_stream_body(struct h2_stream *st, struct str span);
void h2_stream_flush(struct h2_stream *st);
/* Client, before the body is given: it holds secrets, and nothing of it is put into frames from `end` on (clock_boot_ms; 0: they have no end). The stream is reset instead. */
void h2_stream_secrets(struct h2_stream *st, int64_t end);
/* It has such an end, and some of it has not been put into frames. */
bool h2_stream_secrets_wait(const struct h2_stream *st);
void h2_stream_forget(struct h2_stream *st); /* before the head is said: the body is not to be sent */
void h2_stream_end(struct h2_stream *st, struct h2_fields *trailers); /* takes over trailers; NULL: none */
/* Breaks off: RST_STREAM as soon as what has been said of the body has gone. Nothing is put into frames before this returns. */
void h2_stream_cut(struct h2_stream *st, enum h2_error code);
size_t h2_stream_queued(const struct h2_stream *st); /* body that waits, and the connection's bytes */
/* Body that was not taken is offered anew, until `body` takes nothing; then body_end, if that is due. From the loop. */
void h2_stream_take(struct h2_stream *st);
/* RST_STREAM. `closed` follows, from a write or the end of the feed. */
void h2_stream_reset(struct h2_stream *st, enum h2_error code);
/* Ends it (RST_STREAM if that is not over), and forgets the user: no event comes any more. Fine when it has closed. */
void h2_stream_detach(struct h2_stream *st, enum h2_error code);

#endif
