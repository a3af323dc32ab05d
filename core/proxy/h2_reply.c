/* h2_reply.c: the only place that writes HTTP/2 to a client: interim replies, heads, bodies, trailers, resets.
 *
 * A head waits until the flush, since an error may take it back, and since one that ends the stream says so in its own frame. Frames are made in the flush, and leave together
 * with those of all other streams at the end of this turn of the loop (http/h2_session.h). Framing fields are not written: a frame ends the stream. A Content-Length goes out where it
 * is known.
 *
 * What the log counts as sent (downstream.sent) are fields as they are said, since what compression leaves of them is not known before the frame is made, and body; of a reply whose client
 * left the body that has been put into frames (h2_answered, tell_gone). */
#include <assert.h>

#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/h2_conn.h"
#include "proxy/worker_state.h"

static struct h2_fields *fields_new(struct exchange *ex) {
  struct h2_fields *f = arena_alloc(&ex->arena, sizeof *f);
  h2_fields_init(f, &ex->arena);
  return f;
}

static void count_fields(struct h2_request *r, const struct h2_fields *f) {
  if (r->stream.session != NULL) r->down.sent += h2_fields_size(f);
}

static void interim(struct downstream *d, int status, const struct headers *headers) {
  struct h2_request *r = h2_request_of(d);
  static const struct headers none;
  if (r->malformed || r->state != H2_REQUEST_BUSY) return;
  if (status == 100) {
    if (!d->exchange->request.expect_continue || r->continued || r->seen > 0 || r->stream.receiving >= H2_RECV_END)
      return;
    r->continued = true;
    headers = &none;
  }
  struct h2_fields *f = fields_new(d->exchange);
  h2_fields_response(f, status, headers, false, 0);
  count_fields(r, f);
  h2_stream_interim(&r->stream, f);
  h2_arm(r);
}

/* RFC 9110 section 8.6 */
static bool says_length(const struct reply *r) {
  bool allowed = r->status >= 200 && r->status != 204 && !r->tunnel;
  if (r->framing.kind == FRAMING_NONE) return allowed && !r->no_body;
  return allowed && r->framing.kind == FRAMING_LENGTH;
}

static void head(struct downstream *d, const struct reply *reply) {
  struct h2_request *r = h2_request_of(d);
  assert(r->head == NULL);
  r->bodiless = reply->no_body && !reply->tunnel;
  r->head = fields_new(d->exchange);
  h2_fields_response(r->head, reply->status, reply->headers, says_length(reply), reply->framing.length);
}

static bool take_back(struct downstream *d) {
  struct h2_request *r = h2_request_of(d);
  bool can = r->stream.sending == H2_SEND_NOTHING;
  if (can) {
    r->head = NULL;
    h2_stream_forget(&r->stream);
    d->sent = r->said = 0;
  }
  return can;
}

static void body(struct downstream *d, struct str span) {
  struct h2_request *r = h2_request_of(d);
  if (r->bodiless || r->malformed || r->stream.session == NULL) return;
  h2_stream_body(&r->stream, span);
  d->sent += span.n;
  r->said += span.n;
}

static void send_head(struct h2_request *r, bool ends) {
  struct h2_fields *f = r->head;
  r->head = NULL;
  if (f == NULL || r->malformed) return;
  count_fields(r, f);
  h2_stream_head(&r->stream, f, ends);
}

/* Whether the client has something to take, after what was said. */
static void look_at_queue(struct h2_request *r) {
  r->stream.waits = h2_stream_queued(&r->stream) > 0;
  h2_arm(r);
}

static void flush(struct downstream *d) {
  struct h2_request *r = h2_request_of(d);
  send_head(r, r->bodiless);
  h2_stream_flush(&r->stream);
  look_at_queue(r);
}

static struct h2_fields *trailers_of(struct h2_request *r, const struct headers *trailers) {
  struct h2_fields f;
  h2_fields_init(&f, &r->down.exchange->arena);
  if (r->bodiless || !h2_fields_trailers(&f, trailers)) return NULL;
  count_fields(r, &f);
  return h2_fields_keep(&f);
}

static void end(struct downstream *d, const struct headers *trailers) {
  struct h2_request *r = h2_request_of(d);
  struct h2_fields *kept = trailers_of(r, trailers);
  bool alone = r->head != NULL && r->stream.nspan_bytes == 0 && kept == NULL;
  send_head(r, alone);
  h2_stream_end(&r->stream, kept);
  h2_answered(r, REPLY_WHOLE);
}

static void reset(struct downstream *d) {
  struct h2_request *r = h2_request_of(d);
  bool cancelled = d->exchange->failure.code == UV_ECANCELED; /* by the upstream: its word is passed on */
  struct h2_session *s = r->stream.session;                   /* NULL: the stream is gone */
  r->head = NULL;
  h2_stream_cut(&r->stream, cancelled ? H2_CANCEL : H2_INTERNAL_ERROR);
  h2_answered(r, s == NULL ? REPLY_ABORTED : REPLY_CUT);
  if (s != NULL) h2_session_write(s); /* nothing else may be said on this connection for a long time */
}

static void want(struct downstream *d) {
  struct h2_request *r = h2_request_of(d);
  later_post(&d->conn->worker->later, &r->later);
}

static void passed(struct downstream *d, size_t n) { d->sent += n; } /* never: raw gives nothing */
static struct stream *raw(struct downstream *d) {
  (void)d;
  return NULL;
}
static size_t queued(const struct downstream *d) { return h2_stream_queued(&h2_request_of(d)->stream); }

const struct downstream_ops h2_downstream = {
    .interim = interim,
    .head = head,
    .take_back = take_back,
    .body = body,
    .passed = passed,
    .flush = flush,
    .end = end,
    .reset = reset,
    .want = want,
    .raw = raw,
    .queued = queued,
    .take_over = h2_take_over,
};
