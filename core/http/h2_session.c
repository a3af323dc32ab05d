/* h2_session.c: the life of a connection of HTTP/2: what comes is fed to the library, whose callbacks become events; what the library has to say is put into frames; and
 * the end. See h2_session.h.
 *
 * The library keeps the protocol's states and its compression. What it leaves to us: which numbers of closed streams are faults (h2_ids.h), what a peer may cost
 * (h2_glitches.h), that a frame is not fed to a session that has been told to end (CVE-2026-27135), frames that it drops without a word (h2_heads.h), and all memory that a field block might fill (h2_fields.c). Its own
 * guards (CONTINUATION, resets, acknowledgements that wait, entries of SETTINGS) are on besides.
 *
 * Order of a turn: feed (callbacks, no frame leaves) -> `fed` of each stream that was told something -> frames -> `drained` -> the write, at the end of the turn. A stream's user never
 * hears of its own call from inside, but for `closed`, when frames that are made end the stream.
 *
 * States: OPEN -> DRAINING (shutdown notice) -> LEAVING (GOAWAY, theirs or ours) -> DEAD. DEAD: no byte is fed, and what is left to say is written. */
#include "http/h2_session.h"

#include <assert.h>
#include <stdlib.h>

#include "base/must.h"
#include "base/secmem.h"
#include "http/h2_internal.h"
#include "http/h2_memory.h"

enum {
  /* Of all streams together, from the first byte on. It bounds no memory, since it opens as bytes come. With 64 KB, bodies too short for their own windows to grow
   * shared 64 KB for each round trip, however many they were. A path of 100 Mbit/s and 50 ms holds 625 KB, and the library opens a window by halves. */
  CONNECTION_WINDOW = 1536 * 1024,
  TABLE = 4096,                /* of the encoder: what a peer may ask us to keep at the most */
  ACKS = 100,                  /* of PING and SETTINGS, that wait for a peer which does not read */
  ENTRIES = 32,                /* of one SETTINGS */
  FRAME_MOST = 16384,          /* of a frame that comes: we say nothing of SETTINGS_MAX_FRAME_SIZE */
  HEAD_MOST = 2 * 1024 * 1024, /* of one that we send: what it is made of has limits of its own */
  /* what things cost (h2_glitches.h), and what goes well is worth */
  COST_FRAME = 1,
  COST_RESET = 4,
  COST_STREAM_ERROR = 8,
  BEYOND_UNIT = 4096, /* of a field block, beyond what we said that we take: costs COST_FRAME */
  COST_CRUMB = 4,     /* a window that opens by less than CRUMB, and is no wider then */
  CRUMB = 256,
  WORTH_STREAM = 8,
  WORTH_BODY =
      2, /* of a frame of DATA with body in it, and one for each BODY_UNIT of that: windows and PINGs go with bodies */
  BODY_UNIT = 2048
};

static struct h2_session *session_of(void *arg) { return arg; }
static uint64_t now_ms(const struct h2_session *s) { return uv_now(s->stream->net->loop); }
static struct h2_stream *stream_of(nghttp2_session *ng, int32_t id) {
  return nghttp2_session_get_stream_user_data(ng, id);
}

/* --- what a peer may cost --- */

static void charge(struct h2_session *s, uint32_t cost) {
  switch (glitches_add(&s->glitches, cost, now_ms(s))) {
    case GLITCHES_FINE: break;
    case GLITCHES_LEAVE: h2_session_leave(s); break;
    case GLITCHES_TERMINATE: h2_session_terminate(s, H2_ENHANCE_YOUR_CALM); break;
  }
}

/* A callback's answer: nothing is read behind a session's end. */
static int go_on(const struct h2_session *s) { return s->state == H2_DEAD ? NGHTTP2_ERR_CALLBACK_FAILURE : 0; }

/* --- frames that come --- */

static bool is_open(nghttp2_session *ng, int32_t id) { return nghttp2_session_get_stream_local_close(ng, id) >= 0; }

/* Behind our RST_STREAM. Whatever is late ends at the client's own end of the stream; and HEADERS that do not end it are malformed, late or not (RFC 9113 section 8.1). */
static void judge_late(struct h2_session *s, uint8_t type, uint8_t flags, int32_t id) {
  bool ends = (flags & NGHTTP2_FLAG_END_STREAM) != 0;
  charge(s, COST_FRAME);
  if (ends)
    h2_ids_ended(&s->ids, id);
  else if (type == NGHTTP2_HEADERS)
    h2_session_terminate(s, H2_PROTOCOL_ERROR);
}

/* HEADERS or DATA for a number that no stream has. A client opens all numbers itself: what comes for one that has ended was on its way, or is sent for its own sake. */
static void judge_number(struct h2_session *s, uint8_t type, uint8_t flags, int32_t id) {
  if (id == 0 || is_open(s->ng, id)) return;
  if (s->settings.side == H2_CLIENT) {
    charge(s, COST_FRAME);
    return;
  }
  if (id % 2 == 0) return; /* the library knows that no client opens it */
  switch (h2_ids_judge(&s->ids, id)) {
    case H2_ID_NEW:
      if (type == NGHTTP2_HEADERS) h2_ids_open(&s->ids, id);
      break;
    case H2_ID_SKIPPED: h2_session_terminate(s, H2_PROTOCOL_ERROR); break;
    case H2_ID_ENDED: h2_session_terminate(s, H2_STREAM_CLOSED); break;
    case H2_ID_MAY_BE_LATE: judge_late(s, type, flags, id); break;
  }
}

static void earn_body(struct h2_session *s, size_t n) {
  glitches_earn(&s->glitches, WORTH_BODY + (uint32_t)(n / BODY_UNIT));
}

/* What the library does not tell of (h2_heads.h), before it gets it. */
static void judge_head(struct h2_session *s, const struct h2_frame_head *f) {
  switch (f->type) {
    case NGHTTP2_DATA: judge_number(s, f->type, f->flags, f->stream); break;
    case NGHTTP2_PRIORITY: /* of no effect (RFC 9113 section 5.3.2), but for its faults */
      if (f->stream == 0 || f->stream == f->dependency)
        h2_session_terminate(s, H2_PROTOCOL_ERROR);
      else
        charge(s, COST_FRAME);
      break;
    case NGHTTP2_CONTINUATION:
      if (f->length > FRAME_MOST) h2_session_terminate(s, H2_FRAME_SIZE_ERROR);
      break;
    default: charge(s, COST_FRAME); break;
  }
}

static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *arg) {
  struct h2_session *s = session_of(arg);
  (void)ng;
  switch (hd->type) {
    case NGHTTP2_HEADERS: judge_number(s, hd->type, hd->flags, hd->stream_id); break;
    case NGHTTP2_DATA:
      if ((hd->flags & NGHTTP2_FLAG_PADDED) != 0 || (hd->length == 0 && (hd->flags & NGHTTP2_FLAG_END_STREAM) == 0))
        charge(s, COST_FRAME); /* padding is no body: what there is beside it is seen at the end (padded_body) */
      else
        earn_body(s, hd->length);
      break;
    case NGHTTP2_RST_STREAM:
      charge(s, COST_RESET);
      h2_ids_ended(&s->ids, hd->stream_id);
      break;
    case NGHTTP2_SETTINGS:
    case NGHTTP2_PING:
      if ((hd->flags & NGHTTP2_FLAG_ACK) == 0) charge(s, COST_FRAME);
      break;
    default: charge(s, COST_FRAME); break; /* earned by the streams and bodies that they serve */
  }
  return go_on(s);
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *arg) {
  struct h2_session *s = session_of(arg);
  int32_t id = frame->hd.stream_id;
  struct h2_stream *st = stream_of(ng, id);
  if (s->settings.side == H2_SERVER && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
    st = s->events->opened(s);
    if (st == NULL) {
      charge(s, COST_FRAME);
      h2_ids_reset(&s->ids, id);
      (void)nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
      return go_on(s);
    }
    st->id = id;
    st->session = s;
    list_push(&s->streams, &st->link);
    s->nstreams++;
    (void)nghttp2_session_set_stream_user_data(ng, id, st);
  }
  s->reading = st;
  s->block = 0;
  if (st != NULL && st->life == H2_LIFE_OPEN)
    s->events->block_begin(st, st->receiving == H2_RECV_HEAD ? H2_HEAD : H2_TRAILERS);
  return go_on(s);
}

static void end_by(struct h2_stream *st, enum h2_error code) {
  struct h2_session *s = st->session;
  if (s == NULL) return;
  if (code == H2_ENHANCE_YOUR_CALM) {
    h2_session_terminate(s, code);
    return;
  }
  charge(s, COST_STREAM_ERROR);
  h2_stream_reset(st, code);
}

/* References into the table make a block of megabytes out of some hundred bytes, and each of its bytes is looked at: what goes beyond the limit is paid for. */
static void charge_beyond(struct h2_session *s, size_t field) {
  size_t most = s->settings.header_list;
  s->block += field;
  if (s->block <= most) return;
  size_t before = s->block - field > most ? s->block - field - most : 0;
  uint32_t units = (uint32_t)((s->block - most) / BEYOND_UNIT - before / BEYOND_UNIT);
  if (units > 0) charge(s, units * COST_FRAME);
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t nname,
                     const uint8_t *value, size_t nvalue, uint8_t flags, void *arg) {
  struct h2_session *s = session_of(arg);
  struct h2_stream *st = s->reading;
  (void)ng, (void)frame, (void)flags;
  charge_beyond(s, nname + nvalue + 32);
  if (st == NULL || st->life != H2_LIFE_OPEN) return go_on(s);
  enum h2_error e =
      s->events->field(st, (struct str){(const char *)name, nname}, (struct str){(const char *)value, nvalue});
  if (e != H2_NO_ERROR) end_by(st, e);
  return go_on(s);
}

/* The library would pass it over. */
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
                             uint8_t flags, void *arg) {
  struct h2_stream *st = stream_of(ng, frame->hd.stream_id);
  (void)name, (void)value, (void)flags;
  if (st != NULL) end_by(st, H2_PROTOCOL_ERROR);
  return go_on(session_of(arg));
}

static void block_has_ended(struct h2_session *s, const nghttp2_frame *frame) {
  struct h2_stream *st = stream_of(s->ng, frame->hd.stream_id);
  bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (st == NULL || st->life != H2_LIFE_OPEN) return;
  if (frame->headers.pri_spec.stream_id == frame->hd.stream_id) { /* RFC 7540 section 5.3.1 */
    end_by(st, H2_PROTOCOL_ERROR);
    return;
  }
  enum h2_block_kind kind = st->receiving == H2_RECV_HEAD ? H2_HEAD : H2_TRAILERS;
  if (list_empty(&st->fed)) list_push(&s->fed, &st->fed);
  if (ends && kind == H2_HEAD) st->receiving = H2_RECV_TOLD;
  enum h2_error e = s->events->block_end(st, kind, ends);
  if (st->session == NULL) return;
  if (e != H2_NO_ERROR)
    end_by(st, e);
  else if (ends && kind == H2_TRAILERS)
    h2_stream_received_end(st);
}

static void settings_have_come(struct h2_session *s, const nghttp2_frame *frame) {
  if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) return;
  s->settled = true;
  if (s->events->settings != NULL) s->events->settings(s);
}

/* It makes frames of a few bytes each. One that tops up a wide window does not: gRPC's clients send one for every message that they have read, however small. */
static bool is_crumb(nghttp2_session *ng, const nghttp2_window_update *f) {
  int32_t id = f->hd.stream_id;
  if (f->window_size_increment >= CRUMB || (id != 0 && stream_of(ng, id) == NULL)) return false;
  int32_t now =
      id == 0 ? nghttp2_session_get_remote_window_size(ng) : nghttp2_session_get_stream_remote_window_size(ng, id);
  return now < CRUMB;
}

/* on_begin_frame has charged it as empty. padlen counts the byte that says how long the padding is, too. */
static void padded_body(struct h2_session *s, const nghttp2_frame *frame) {
  if ((frame->hd.flags & NGHTTP2_FLAG_PADDED) == 0 || frame->hd.length <= frame->data.padlen) return;
  glitches_earn(&s->glitches, COST_FRAME);
  earn_body(s, frame->hd.length - frame->data.padlen);
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *arg) {
  struct h2_session *s = session_of(arg);
  struct h2_stream *st;
  switch (frame->hd.type) {
    case NGHTTP2_HEADERS: block_has_ended(s, frame); break;
    case NGHTTP2_DATA:
      padded_body(s, frame);
      st = stream_of(ng, frame->hd.stream_id);
      if (st != NULL && st->life == H2_LIFE_OPEN && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
        h2_stream_received_end(st);
      break;
    case NGHTTP2_RST_STREAM:
      st = stream_of(ng, frame->hd.stream_id);
      if (st != NULL) st->peer_reset = true;
      s->peer_reset = frame->hd.stream_id;
      break;
    case NGHTTP2_SETTINGS: settings_have_come(s, frame); break;
    case NGHTTP2_WINDOW_UPDATE:
      if (is_crumb(ng, &frame->window_update)) charge(s, COST_CRUMB);
      break;
    case NGHTTP2_PING:
      if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) s->ping_out = false;
      break;
    case NGHTTP2_GOAWAY:
      if (s->state < H2_LEAVING) s->state = H2_LEAVING;
      if (s->events->goaway != NULL) s->events->goaway(s, (enum h2_error)frame->goaway.error_code);
      break;
    default: break;
  }
  return go_on(s);
}

static int on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int error, void *arg) {
  struct h2_session *s = session_of(arg);
  (void)ng, (void)frame, (void)error;
  charge(s, COST_FRAME); /* and its stream's reset, which follows (note_reset) */
  return go_on(s);
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *arg) {
  struct h2_session *s = session_of(arg);
  struct h2_stream *st = stream_of(ng, id);
  (void)flags;
  (void)nghttp2_session_consume_connection(ng, n); /* whoever reads slowly is bounded by the stream's window */
  if (st != NULL && st->life == H2_LIFE_OPEN)
    h2_stream_received(st, (struct str){(const char *)p, n});
  else
    (void)nghttp2_session_consume_stream(ng, id, n);
  return go_on(s);
}

/* --- streams that end --- */

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *arg) {
  struct h2_session *s = session_of(arg);
  struct h2_stream *st = stream_of(ng, id);
  bool by_peer = id == s->peer_reset; /* any code may stand in a RST_STREAM, NO_ERROR as well */
  if (code == NGHTTP2_NO_ERROR && !by_peer) glitches_earn(&s->glitches, WORTH_STREAM);
  if (st != NULL) h2_stream_over(st, code);
  return 0;
}

/* By the library, which does not tell of all that makes it do so (a body that differs from its length, CVE-2025-8671). */
static void note_reset(struct h2_session *s, const struct h2_stream *st) {
  if (st == NULL || st->life != H2_LIFE_OPEN) return; /* h2_stream_reset has noted it, and end_by charged */
  charge(s, COST_STREAM_ERROR);
  if (s->settings.side == H2_SERVER && st->receiving < H2_RECV_END) h2_ids_reset(&s->ids, st->id);
}

/* A whole reply in front of a request that is not (RFC 9113 section 8.1): the rest is not wanted. And the library resets by itself what it finds malformed. */
static int on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *arg) {
  struct h2_session *s = session_of(arg);
  if (frame->hd.type == NGHTTP2_DATA) earn_body(s, frame->hd.length);
  if (frame->hd.type == NGHTTP2_RST_STREAM) note_reset(s, stream_of(ng, frame->hd.stream_id));
  if (frame->hd.stream_id == 0 || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 ||
      (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
    return 0;
  struct h2_stream *st = stream_of(ng, frame->hd.stream_id);
  if (st == NULL) return 0;
  st->sending = H2_SEND_DONE;
  if (s->settings.side != H2_SERVER || st->receiving >= H2_RECV_END || st->tunnel) return 0;
  if (s->events->early != NULL)
    s->events->early(st);
  else
    h2_stream_reset(st, H2_NO_ERROR);
  return 0;
}

static int on_frame_not_sent(nghttp2_session *ng, const nghttp2_frame *frame, int error, void *arg) {
  (void)error, (void)arg;
  if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_RESPONSE)
    (void)nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_INTERNAL_ERROR);
  return 0;
}

/* --- frames that go --- */

static void tell_over(struct h2_session *s) {
  if (s->told_over) return;
  s->told_over = true;
  later_post(s->laters, &s->later);
}

void h2_session_pump(struct h2_session *s) {
  assert(!s->feeding);
  if (s->ng == NULL) return; /* a stream that has ended took its connection with it, below a call that began here */
  const uint8_t *p;
  ssize_t n = 0;
  s->feeding = true; /* the library may not be asked for frames from within itself */
  while (!s->broken && (n = nghttp2_session_mem_send(s->ng, &p)) > 0) {
    h2_out_copy(s, p, (size_t)n);
    if (s->settings.sensitive)
      secmem_wipe((void *)(uintptr_t)p, (size_t)n); /* it may hold a token, and lies there till the next one */
  }
  s->feeding = false;
  if (n < 0) {
    s->state = H2_DEAD;
    tell_over(s);
  }
  if (!nghttp2_session_want_read(s->ng) && !nghttp2_session_want_write(s->ng)) tell_over(s);
  if (h2_out_borrows(s))
    h2_out_write(s);
  else if (h2_out_size(s) > 0)
    later_post(s->laters, &s->later);
}

void h2_session_tell_drained(struct h2_session *s) {
  for (struct link *l = s->streams.next, *next; l != &s->streams; l = next) {
    struct h2_stream *st = CONTAINER_OF(l, struct h2_stream, link);
    next = l->next;
    if (!st->waits || h2_stream_queued(st) > 0) continue;
    st->waits = false;
    s->events->drained(st);
  }
}

void h2_session_write(struct h2_session *s) {
  if (!s->feeding) h2_session_pump(s);
  h2_out_write(s);
}

static void on_later(struct later *l) {
  struct h2_session *s = CONTAINER_OF(l, struct h2_session, later);
  h2_out_write(s);
  if (s->broken || s->told_over) {
    s->events->over(s);
    return;
  }
  h2_session_tell_drained(s);
}

/* The socket has taken all. */
void h2_session_drained(struct h2_session *s, int status) {
  if (!h2_session_stuck(s) && s->out == NULL) s->secrets_end = 0;
  if (status < 0) {
    s->broken = true;
    s->events->over(s);
    return;
  }
  if (s->held) {
    s->held = false;
    for (struct link *l = s->streams.next; l != &s->streams; l = l->next)
      h2_stream_unhold(CONTAINER_OF(l, struct h2_stream, link));
    h2_session_pump(s);
    h2_out_write(s);
  }
  h2_session_tell_drained(s);
}

/* --- feeding --- */

static void tell_fed(struct h2_session *s) {
  struct link *l;
  while ((l = list_pop(&s->fed)) != NULL) s->events->fed(CONTAINER_OF(l, struct h2_stream, fed));
}

static void give(struct h2_session *s, const uint8_t *p, size_t n) {
  if (n == 0 || s->state == H2_DEAD) return;
  ssize_t used = nghttp2_session_mem_recv(s->ng, p, n);
  if (used == NGHTTP2_ERR_BAD_CLIENT_MAGIC) h2_session_terminate(s, H2_PROTOCOL_ERROR);
  if (used == NGHTTP2_ERR_FLOODED) h2_session_terminate(s, H2_ENHANCE_YOUR_CALM);
  if (used < 0 || !nghttp2_session_want_read(s->ng)) s->state = H2_DEAD;
}

bool h2_session_feed(struct h2_session *s, const uint8_t *p, size_t n) {
  assert(!s->feeding);
  if (s->state == H2_DEAD) return false;
  size_t before, upto;
  struct h2_frame_head head;
  s->heard_at = now_ms(s);
  s->feeding = true;
  while (s->state != H2_DEAD && h2_heads_next(&s->heads, p, n, &before, &upto, &head)) {
    give(s, p, before); /* first what comes before: it says which streams there are */
    if (s->state != H2_DEAD) judge_head(s, &head);
    give(s, p + before, upto - before);
    p += upto;
    n -= upto;
  }
  give(s, p, n);
  s->feeding = false;
  tell_fed(s);
  h2_session_pump(s);
  if (!nghttp2_session_want_read(s->ng))
    s->state = H2_DEAD; /* what the library ended itself shows when its GOAWAY has become a frame */
  if (s->state == H2_DEAD) h2_out_write(s);
  h2_session_tell_drained(s);
  return s->state != H2_DEAD;
}

/* --- the end --- */

void h2_session_drain(struct h2_session *s) {
  if (s->state != H2_OPEN) return;
  s->state = H2_DRAINING;
  (void)nghttp2_submit_shutdown_notice(s->ng);
  h2_session_ping(s);
}

void h2_session_leave(struct h2_session *s) {
  if (s->state >= H2_LEAVING) return;
  s->state = H2_LEAVING;
  (void)nghttp2_submit_goaway(s->ng, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(s->ng),
                              NGHTTP2_NO_ERROR, NULL, 0);
  if (!s->feeding) h2_session_pump(s);
}

void h2_session_terminate(struct h2_session *s, enum h2_error code) {
  if (s->state == H2_DEAD) return;
  s->state = H2_DEAD;
  (void)nghttp2_session_terminate_session(s->ng, code);
  if (!s->feeding) h2_session_pump(s);
}

void h2_session_ping(struct h2_session *s) {
  if (s->ping_out || s->state == H2_DEAD) return;
  s->ping_out = true;
  (void)nghttp2_submit_ping(s->ng, NGHTTP2_FLAG_NONE, NULL);
  if (!s->feeding) h2_session_pump(s);
}

uint32_t h2_session_streams(const struct h2_session *s) {
  if (s->state != H2_OPEN || !nghttp2_session_check_request_allowed(s->ng)) return 0;
  return nghttp2_session_get_remote_settings(s->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

bool h2_session_idle(const struct h2_session *s) { return s->nstreams == 0; }
bool h2_session_stuck(const struct h2_session *s) { return stream_queued(s->stream) > 0; }

/* --- life --- */

static nghttp2_session_callbacks *callbacks_new(void) {
  nghttp2_session_callbacks *c;
  if (nghttp2_session_callbacks_new(&c) != 0) out_of_memory(0);
  nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(c, on_header);
  nghttp2_session_callbacks_set_on_invalid_header_callback2(c, on_invalid_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_invalid_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
  nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_sent);
  nghttp2_session_callbacks_set_on_frame_not_send_callback(c, on_frame_not_sent);
  nghttp2_session_callbacks_set_send_data_callback(c, h2_stream_send_body);
  return c;
}

static nghttp2_option *options_new(const struct h2_settings *settings) {
  nghttp2_option *o;
  if (nghttp2_option_new(&o) != 0) out_of_memory(0);
  nghttp2_option_set_no_auto_window_update(o, 1);
  nghttp2_option_set_no_closed_streams(o, 1);
  nghttp2_option_set_max_deflate_dynamic_table_size(o, TABLE);
  nghttp2_option_set_max_outbound_ack(o, ACKS);
  nghttp2_option_set_max_settings(o, ENTRIES);
  nghttp2_option_set_peer_max_concurrent_streams(o, 100); /* until it says so (RFC 9113 section 6.5.2) */
  nghttp2_option_set_max_send_header_block_length(o, HEAD_MOST);
  (void)settings;
  return o;
}

static void say_settings(struct h2_session *s) {
  bool server = s->settings.side == H2_SERVER;
  nghttp2_settings_entry v[] = {
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, s->settings.header_list},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
      server ? (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, s->settings.streams}
             : (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
  };
  if (nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, v, sizeof v / sizeof *v) != 0) out_of_memory(0);
}

void h2_session_init(struct h2_session *s, struct stream *stream, struct laters *laters,
                     const struct h2_settings *settings, const struct h2_events *events) {
  bool server = settings->side == H2_SERVER;
  nghttp2_session_callbacks *callbacks = callbacks_new();
  nghttp2_option *options = options_new(settings);
  *s = (struct h2_session){.events = events,
                           .stream = stream,
                           .laters = laters,
                           .settings = *settings,
                           .heard_at = uv_now(stream->net->loop)};
  s->glitches.since = s->heard_at;
  s->heads.left = server ? H2_PREFACE_SIZE : 0;
  later_init(&s->later, on_later);
  list_init(&s->streams);
  list_init(&s->fed);
  nghttp2_mem mem = settings->sensitive ? *h2_memory() : (nghttp2_mem){0};
  int rc = (server ? nghttp2_session_server_new3 : nghttp2_session_client_new3)(&s->ng, callbacks, s, options,
                                                                                settings->sensitive ? &mem : NULL);
  if (rc != 0) out_of_memory(0);
  nghttp2_option_del(options);
  nghttp2_session_callbacks_del(callbacks);
  say_settings(s);
  if (nghttp2_session_set_local_window_size(s->ng, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0) out_of_memory(0);
  h2_session_pump(s);
}

void h2_session_fini(struct h2_session *s) {
  assert(!s->feeding);
  s->state = H2_DEAD;
  s->broken = true; /* nothing is written any more */
  while (!list_empty(&s->streams)) {
    struct h2_stream *st = CONTAINER_OF(s->streams.next, struct h2_stream, link);
    (void)nghttp2_session_set_stream_user_data(s->ng, st->id, NULL);
    h2_stream_lost(st);
  }
  later_cancel(&s->later);
  h2_out_drop(s);
  nghttp2_session_del(s->ng);
  s->ng = NULL;
}
