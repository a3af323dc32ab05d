/* h2_stream.c: one stream's bodies, both ways. See h2_session.h.
 *
 * Sending. A body is offered to the library in two parts: `out`, which waits since a window or the socket was full, and behind it the spans of this turn, which
 * stay where they are. The library asks how much there is (h2_stream_read_body) and then has that put into frames (h2_stream_send_body), so no byte is copied that
 * can leave at once. While the socket has not taken HELD_ABOVE bytes no stream is asked for more (`held`): else one client that does not read would
 * have all its windows' worth moved into the socket's queue. A body that breaks off ends in the same way (H2_SEND_CUT): the library would send RST_STREAM in front of what waits, and the
 * reader would get less than had come.
 *
 * Receiving. `in` holds what came and was not taken, which its window bounds. The window opens by what was taken (h2_stream_take), and doubles when one window's worth was taken as it
 * came: then the peer waits for us and not we for our reader. */
#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "http/h2_fields.h"
#include "http/h2_internal.h"

enum {
  HELD_ABOVE = 128 * 1024,
  BORROW_ABOVE = 1024,
  FRAME_HEAD = 9, /* RFC 9113 section 4.1 */
  WINDOW_START = NGHTTP2_INITIAL_WINDOW_SIZE,
  /* 100 Mbit/s and 50 ms are 625 KB, and up to a sixteenth of it is on its way to be granted anew; with what a slow reader's queue may hold it stays below 1 MiB */
  WINDOW_MOST = 672 * 1024
};

void h2_stream_init(struct h2_stream *st) {
  *st = (struct h2_stream){.window = WINDOW_START};
  list_init(&st->link);
  list_init(&st->fed);
  buf_init(&st->out);
  buf_init(&st->in);
}

/* Gives back what it holds. */
static void release(struct h2_stream *st) {
  struct h2_session *s = st->session;
  if (s->reading == st) s->reading = NULL;
  h2_account(s, 0, st->out.n - st->out_at + st->in.n + (st->window - WINDOW_START));
  buf_fini(&st->out);
  buf_fini(&st->in);
  st->out_at = 0;
  st->nspans = 0;
  st->nspan_bytes = 0;
  free(st->trailers);
  st->trailers = NULL;
  list_remove(&st->fed);
  list_remove(&st->link);
  s->nstreams--;
  st->session = NULL;
}

/* --- sending --- */

static size_t backlog(const struct h2_session *s) { return h2_out_size(s) + stream_queued(s->stream); }

void h2_stream_secrets(struct h2_stream *st, int64_t end) {
  st->out.sensitive = true;
  st->secrets_end = end;
}

bool h2_stream_secrets_wait(const struct h2_stream *st) {
  return st->secrets_end != 0 && st->session != NULL && h2_stream_waiting(st) > 0;
}

static bool has_outlived_secrets(struct h2_stream *st) {
  st->secrets_over = st->secrets_end != 0 && clock_boot_ms() >= st->secrets_end;
  return st->secrets_over;
}

/* From here on it is a matter of the socket, as with a head. */
static void note_secrets(struct h2_session *s, const struct h2_stream *st) {
  if (st->secrets_end != 0 && (s->secrets_end == 0 || st->secrets_end < s->secrets_end))
    s->secrets_end = st->secrets_end;
}

ssize_t h2_stream_read_body(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t n, uint32_t *flags,
                            nghttp2_data_source *source, void *arg) {
  struct h2_session *s = arg;
  struct h2_stream *st = source->ptr;
  size_t waiting = h2_stream_waiting(st);
  (void)buf;
  if (waiting == 0 && st->sending != H2_SEND_END) { /* of one that is cut the last byte has brought RST_STREAM */
    st->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  if (waiting > 0 && has_outlived_secrets(st)) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM */
  if (waiting > 0 && backlog(s) > HELD_ABOVE) {
    st->deferred = s->held = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  if (n > waiting) n = waiting;
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (n < waiting || st->sending != H2_SEND_END) return (ssize_t)n;
  *flags |= NGHTTP2_DATA_FLAG_EOF;
  if (st->trailers != NULL) {
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    if (nghttp2_submit_trailer(ng, id, st->trailers->v, st->trailers->n) != 0) return NGHTTP2_ERR_CALLBACK_FAILURE;
  }
  return (ssize_t)n;
}

static void send_piece(struct h2_session *s, struct str piece) {
  if (piece.n > BORROW_ABOVE)
    h2_out_borrow(s, piece);
  else
    h2_out_copy(s, piece.p, piece.n);
}

/* From `out`, which may go below us: copied. */
static size_t send_waiting(struct h2_stream *st, size_t n) {
  size_t there = st->out.n - st->out_at;
  if (n > there) n = there;
  if (n == 0) return 0;
  h2_out_copy(st->session, st->out.p + st->out_at, n);
  st->out_at += n;
  h2_account(st->session, 0, n);
  if (st->out_at == st->out.n) {
    buf_fini(&st->out);
    st->out_at = 0;
  }
  return n;
}

static size_t send_span(struct h2_stream *st, size_t n) {
  struct str *first = &st->spans[0];
  struct str piece = {first->p, n < first->n ? n : first->n};
  send_piece(st->session, piece);
  first->p += piece.n;
  first->n -= piece.n;
  st->nspan_bytes -= piece.n;
  if (first->n == 0) {
    st->nspans--;
    for (unsigned i = 0; i < st->nspans; i++) st->spans[i] = st->spans[i + 1];
  }
  return piece.n;
}

int h2_stream_send_body(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t n,
                        nghttp2_data_source *source, void *arg) {
  struct h2_session *s = arg;
  struct h2_stream *st = source->ptr;
  (void)ng, (void)frame;
  assert(frame->data.padlen == 0);
  h2_out_copy(s, head, FRAME_HEAD);
  st->taken += n;
  note_secrets(s, st);
  n -= send_waiting(st, n);
  while (n > 0) n -= send_span(st, n);
  if (st->sending == H2_SEND_CUT && h2_stream_waiting(st) == 0) h2_stream_reset(st, (enum h2_error)st->cut);
  return 0;
}

/* What is left of this turn's spans waits. */
static void keep_spans(struct h2_stream *st) {
  if (st->nspans == 0) return;
  if (st->out_at > 0) {
    buf_drop(&st->out, st->out_at);
    st->out_at = 0;
  }
  for (unsigned i = 0; i < st->nspans; i++) buf_adds(&st->out, st->spans[i]);
  h2_account(st->session, st->nspan_bytes, 0);
  st->nspans = 0;
  st->nspan_bytes = 0;
}

static void wake(struct h2_stream *st) {
  if (!st->deferred) return;
  st->deferred = false;
  (void)nghttp2_session_resume_data(st->session->ng, st->id);
}

void h2_stream_unhold(struct h2_stream *st) {
  if (h2_stream_waiting(st) > 0) wake(st);
}

/* Frames are made now, but for what is said from within a feed. */
static void send_now(struct h2_stream *st) {
  struct h2_session *s = st->session;
  if (!s->feeding) h2_session_pump(s);
  if (st->session != NULL) keep_spans(st);
}

void h2_stream_body(struct h2_stream *st, struct str span) {
  if (st->session == NULL || span.n == 0 || st->life != H2_LIFE_OPEN) return;
  if (st->nspans == H2_SPANS) h2_stream_flush(st);
  if (st->session == NULL) return;
  st->spans[st->nspans++] = span;
  st->nspan_bytes += span.n;
}

void h2_stream_flush(struct h2_stream *st) {
  if (st->session == NULL) return;
  if (st->nspan_bytes > 0) wake(st);
  send_now(st);
}

void h2_stream_forget(struct h2_stream *st) {
  assert(st->sending == H2_SEND_NOTHING);
  if (st->session != NULL) h2_account(st->session, 0, st->out.n - st->out_at);
  buf_fini(&st->out); /* more spans than there is room for were put there */
  st->out_at = 0;
  st->nspans = 0;
  st->nspan_bytes = 0;
}

void h2_stream_interim(struct h2_stream *st, struct h2_fields *head) {
  struct h2_session *s = st->session;
  if (s == NULL || st->life != H2_LIFE_OPEN) return;
  if (s->feeding) h2_fields_must_last(head);
  (void)nghttp2_submit_headers(s->ng, NGHTTP2_FLAG_NONE, st->id, NULL, head->v, head->n, NULL);
  if (!s->feeding) h2_session_pump(s);
}

void h2_stream_head(struct h2_stream *st, struct h2_fields *head, bool ends) {
  struct h2_session *s = st->session;
  if (s == NULL || st->life != H2_LIFE_OPEN) return;
  nghttp2_data_provider body = {.source = {.ptr = st}, .read_callback = h2_stream_read_body};
  st->sending = ends ? H2_SEND_END : H2_SEND_BODY;
  if (s->feeding) h2_fields_must_last(head);
  (void)nghttp2_submit_response(s->ng, st->id, head->v, head->n, ends ? NULL : &body);
}

void h2_stream_end(struct h2_stream *st, struct h2_fields *trailers) {
  if (st->session == NULL || st->life != H2_LIFE_OPEN || st->sending >= H2_SEND_END) {
    if (st->session != NULL) send_now(st);
    free(trailers);
    return;
  }
  st->trailers = trailers;
  st->sending = H2_SEND_END;
  wake(st);
  send_now(st);
}

void h2_stream_cut(struct h2_stream *st, enum h2_error code) {
  if (st->session == NULL || st->life != H2_LIFE_OPEN) return;
  keep_spans(st);
  if (h2_stream_waiting(st) == 0) {
    h2_stream_reset(st, code);
    return;
  }
  st->sending = H2_SEND_CUT;
  st->cut = (uint8_t)code;
  wake(st);
}

int h2_stream_open(struct h2_session *s, struct h2_stream *st, struct h2_fields *head, bool ends) {
  assert(s->settings.side == H2_CLIENT && !s->feeding);
  if (s->broken || s->state == H2_DEAD) return UV_ECONNRESET;
  if (s->nstreams >= h2_session_streams(s)) return UV_EAGAIN; /* it would wait in the library */
  nghttp2_data_provider body = {.source = {.ptr = st}, .read_callback = h2_stream_read_body};
  st->sending = ends ? H2_SEND_END : H2_SEND_BODY;
  int32_t id = nghttp2_submit_request(s->ng, NULL, head->v, head->n, ends ? NULL : &body, st);
  if (id < 0) return UV_EAGAIN; /* no number is left */
  st->id = id;
  st->session = s;
  list_push(&s->streams, &st->link);
  s->nstreams++;
  h2_session_pump(s);
  return st->session != NULL ? 0 : UV_ECONNRESET;
}

size_t h2_stream_queued(const struct h2_stream *st) {
  return st->session != NULL ? h2_stream_waiting(st) + backlog(st->session) : 0;
}

/* --- receiving --- */

/* The reader keeps up: a window that is small for the way here is what holds the peer back. */
static void maybe_grow(struct h2_stream *st, size_t n) {
  struct h2_session *s = st->session;
  st->run += (uint32_t)n;
  if (st->run < st->window || st->window >= WINDOW_MOST) return;
  st->run = 0;
  if (s->stream->net->queued + st->window > s->stream->net->queued_most / 2) return;
  uint32_t window = st->window * 2 < WINDOW_MOST ? st->window * 2 : WINDOW_MOST;
  if (nghttp2_session_set_local_window_size(s->ng, NGHTTP2_FLAG_NONE, st->id, (int32_t)window) != 0) return;
  h2_account(s, window - st->window, 0);
  st->window = window;
}

/* The library grants anew when half of a window has been taken, which lets a path that takes long wait: one of 100 Mbit/s and 50 ms carried 72 Mbit/s. So a window that has
 * grown opens by sixteenths, and this is counted here. A small one opens by halves, since most bodies that it is for are short. */
static void consume(struct h2_stream *st, size_t n) {
  if (n == 0 || st->session == NULL || st->receiving >= H2_RECV_END) return;
  st->owed += (uint32_t)n;
  if (st->owed < st->window / (st->window > WINDOW_START ? 16 : 2)) return;
  (void)nghttp2_submit_window_update(st->session->ng, NGHTTP2_FLAG_NONE, st->id, (int32_t)st->owed);
  st->owed = 0;
}

static void tell_end(struct h2_stream *st) {
  if (st->receiving != H2_RECV_END || st->in.n > 0) return;
  st->receiving = H2_RECV_TOLD;
  st->session->events->body_end(st);
}

void h2_stream_received(struct h2_stream *st, struct str span) {
  struct h2_session *s = st->session;
  if (list_empty(&st->fed)) list_push(&s->fed, &st->fed);
  size_t took = st->in.n == 0 ? s->events->body(st, span) : 0;
  if (st->session == NULL) return;
  consume(st, took);
  if (took == span.n) {
    maybe_grow(st, took);
    return;
  }
  st->run = 0;
  if (st->in.n == 0) (void)buf_reserve(&st->in, st->window); /* doubling up to it would take twice as much */
  buf_add(&st->in, span.p + took, span.n - took);
  h2_account(s, span.n - took, 0);
}

void h2_stream_received_end(struct h2_stream *st) {
  if (list_empty(&st->fed)) list_push(&st->session->fed, &st->fed);
  st->receiving = H2_RECV_END;
  tell_end(st);
}

/* In pieces, so that a reader which pauses again has not been given a window's worth more. Nothing comes meanwhile: what has been taken goes at the end. False: the stream has ended. */
static bool offer(struct h2_stream *st, size_t *taken) {
  struct h2_session *s = st->session;
  size_t at = 0;
  while (at < st->in.n) {
    size_t n = st->in.n - at < H2_TAKE_PIECE ? st->in.n - at : H2_TAKE_PIECE;
    size_t took = s->events->body(st, (struct str){(const char *)st->in.p + at, n});
    if (st->session == NULL) return false;
    if (took == 0) break;
    s->events->fed(st); /* the span ends with that, and its bytes go now */
    if (st->session == NULL) return false;
    at += took;
    consume(st, took);
  }
  *taken = at;
  return true;
}

void h2_stream_take(struct h2_stream *st) {
  struct h2_session *s = st->session;
  size_t taken;
  if (s == NULL || !offer(st, &taken)) return;
  h2_account(s, 0, taken);
  buf_drop(&st->in, taken);
  if (st->in.n == 0) buf_fini(&st->in);
  tell_end(st);
  if (st->session != NULL && st->life == H2_LIFE_OVER && st->receiving == H2_RECV_TOLD)
    h2_stream_over(st, NGHTTP2_NO_ERROR);
  if (!s->feeding) h2_session_pump(s);
}

/* --- the end --- */

/* A reply that has come whole, and waits for its reader, is told before. */
static bool has_more_to_tell(const struct h2_stream *st, uint32_t code) {
  return code == NGHTTP2_NO_ERROR && st->session->settings.side == H2_CLIENT && st->receiving == H2_RECV_END;
}

/* What has come before the end is its reader's, however late that reads: a reset says nothing of it, and with HTTP/1 it would have been told before the end was seen. */
static void leave_rest(struct h2_stream *st) {
  if (st->in.n > 0 && st->life != H2_LIFE_RESET && st->session->events->left != NULL) st->session->events->left(st);
}

void h2_stream_over(struct h2_stream *st, uint32_t code) {
  struct h2_session *s = st->session;
  if (has_more_to_tell(st, code)) {
    st->life = H2_LIFE_OVER;
    return;
  }
  bool by_peer = st->peer_reset;
  leave_rest(st);
  release(st);
  s->events->closed(st, (enum h2_error)code, by_peer);
}

/* The connection has ended. */
void h2_stream_lost(struct h2_stream *st) {
  struct h2_session *s = st->session;
  leave_rest(st);
  release(st);
  s->events->closed(st, H2_INTERNAL_ERROR, false);
}

void h2_stream_reset(struct h2_stream *st, enum h2_error code) {
  struct h2_session *s = st->session;
  if (s == NULL || st->life != H2_LIFE_OPEN) return;
  st->life = H2_LIFE_RESET;
  (void)nghttp2_submit_rst_stream(s->ng, NGHTTP2_FLAG_NONE, st->id, code);
  if (s->settings.side == H2_SERVER && st->receiving < H2_RECV_END) h2_ids_reset(&s->ids, st->id);
}

void h2_stream_detach(struct h2_stream *st, enum h2_error code) {
  struct h2_session *s = st->session;
  if (s == NULL) return;
  (void)nghttp2_session_set_stream_user_data(s->ng, st->id, NULL);
  if (st->sending != H2_SEND_DONE || st->receiving < H2_RECV_END) h2_stream_reset(st, code);
  release(st);
  if (!s->feeding) h2_session_pump(s);
}
