/* h1_reply.c: the only place that writes HTTP/1 to a client: interim replies, heads, bodies and their framing.
 *
 * A reply is collected as an array of spans (the head, then spans that still lie in the read buffer, with chunk lines between them) and written by
 * one call of the system at the end of the read that brought it: a small reply is one read and one write. Spans lie where they are for no longer than
 * the callback, so a worker keeps a few arrays for all its connections. With a single one, as it was, replies that one read of an upstream's HTTP/2 brought side by side pushed each other out half done: two writes each. Every byte leaves in the flush of the turn that brought it, a chunk's last CRLF
 * included: clients hand a chunk on when they have read that.
 *
 * How a body is framed for this client is decided here: a length where it is known, else chunks, else (HTTP/1.0) the connection's end.
 *
 * A failed write is noted, and the connection closed from the loop (h1_conn.c, `later`): the exchange never ends inside its own step. Until then all that it says is
 * dropped. */
#include <assert.h>
#include <stdlib.h>

#include "base/must.h"
#include "http/writer.h"
#include "net/uv_buf.h"
#include "proxy/conn.h"
#include "proxy/h1_message.h"
#include "proxy/worker_state.h"

_Static_assert((int)H1_LINE_MAX >= (int)CHUNK_LINE_MAX, "a line holds any chunk's size");

static struct conn *conn_of(const struct downstream *d) { return d->conn; }
static struct h1_message *message_of(const struct downstream *d) { return d->conn->h1.u.message; }

enum { SPARE_OUTS = 64, COPIED = 1024, JOINED = 4096 };

void h1_outs_init(struct h1_outs *all) {
  *all = (struct h1_outs){.free = NULL};
  buf_init(&all->text);
}

static void free_out(struct h1_out *o) {
  buf_fini(&o->head);
  free(o);
}

void h1_outs_fini(struct h1_outs *all) {
  for (struct h1_out *o = all->free, *next; o != NULL; o = next) {
    next = o->next;
    free_out(o);
  }
  buf_fini(&all->text);
}

void h1_outs_give(struct h1_outs *all, struct h1_out *o) {
  buf_reset(&o->head);
  if (all->nfree == SPARE_OUTS) {
    free_out(o);
    return;
  }
  o->next = all->free;
  all->free = o;
  all->nfree++;
}

static struct h1_out *take_out(struct h1_outs *all) {
  struct h1_out *o = all->free;
  if (o != NULL) {
    all->free = o->next;
    all->nfree--;
  } else {
    o = must_malloc(sizeof *o);
    buf_init(&o->head);
    o->head.sensitive = true; /* what a reply says may be a secret, and the array is kept */
  }
  o->n = o->nlines = 0;
  return o;
}

/* --- collecting and writing --- */

static void write_now(struct conn *c, const uv_buf_t *v, unsigned n) {
  if (c->h1.broken) return;
  if (stream_write(&c->stream, v, n, false) != 0) {
    c->h1.broken = true;
    later_post(&c->worker->later, &c->h1.later);
    return;
  }
  if (stream_queued(&c->stream) > 0) h1_arm(c);
}

static void write_one(struct conn *c, struct str bytes) {
  const uv_buf_t b = uv_buf_of(bytes);
  write_now(c, &b, 1);
}

static void flush(struct downstream *d) {
  struct conn *c = conn_of(d);
  struct h1_message *m = message_of(d);
  struct h1_out *o = m->out;
  if (o == NULL) return;
  m->reply = H1_REPLY_BEGUN;
  m->out = NULL;
  write_now(c, o->v, o->n);
  for (unsigned i = 0; i < o->n && !c->h1.broken; i++) d->sent += o->v[i].len;
  h1_outs_give(&c->worker->outs, o);
}

/* The array, with room for `n` more spans. */
static struct h1_out *collect(struct conn *c, unsigned n) {
  struct h1_message *m = c->h1.u.message;
  if (m->out != NULL && m->out->n + n > H1_OUT_MAX) flush(&c->h1.down);
  if (m->out == NULL) m->out = take_out(&c->worker->outs);
  return m->out;
}

static bool ends_in_head(const struct h1_out *o) { return o->n == 1 && o->v[0].base == (char *)o->head.p; }

/* Small spans in front of all large ones are copied behind one another: one span is sent for less than two (`send`, no array to be read by the kernel).
 * True: the span itself must stay where it is. */
static bool add(struct h1_out *o, struct str span) {
  if ((o->n == 0 || ends_in_head(o)) && span.n <= COPIED && o->head.n + span.n <= JOINED) {
    buf_adds(&o->head, span);
    o->v[0] = uv_buf_of(buf_str(&o->head));
    o->n = 1;
    return false;
  }
  o->v[o->n++] = uv_buf_of(span);
  return true;
}

/* --- what an exchange says --- */

static void interim(struct downstream *d, int status, const struct headers *headers) {
  struct conn *c = conn_of(d);
  struct h1_message *m = message_of(d);
  const struct request *r = m->parser.to.request;
  if (status == 100) {
    if (!r->expect_continue || m->continued || m->complete || m->seen > 0) return;
    m->continued = true;
    write_one(c, STR("HTTP/1.1 100 Continue\r\n\r\n"));
    h1_arm(c); /* it is the client's turn now */
    return;
  }
  if (r->version == HTTP_1_0) return; /* it knows no interim replies (RFC 9110 section 15.2) */
  struct buf b;
  buf_init(&b);
  write_response_head(
      &b, &(struct response_head){
              .status = status, .headers = headers, .no_body = true, .keep_alive = true, .client = HTTP_1_1});
  write_one(c, buf_str(&b));
  buf_fini(&b);
}

static struct framing framing_for(const struct request *to, const struct reply *r) {
  bool chunks = to->version != HTTP_1_0;
  if (r->framing.kind == FRAMING_LENGTH && r->trailers && chunks && !r->no_body) /* only chunks can carry them */
    return (struct framing){FRAMING_CHUNKED, 0};
  if (r->framing.kind == FRAMING_CHUNKED && !chunks) return (struct framing){FRAMING_UNTIL_CLOSE, 0};
  return r->framing;
}

static void head(struct downstream *d, const struct reply *r) {
  struct conn *c = conn_of(d);
  struct h1_message *m = message_of(d);
  const struct request *to = m->parser.to.request;
  struct framing f = framing_for(to, r);
  assert(m->reply == H1_REPLY_NONE);
  m->no_body = r->no_body;
  m->chunked = f.kind == FRAMING_CHUNKED && !r->no_body;
  c->h1.until_close = f.kind == FRAMING_UNTIL_CLOSE && !r->no_body;
  m->keep_alive = to->keep_alive && f.kind != FRAMING_UNTIL_CLOSE && m->complete && !m->refused && !to->is_connect &&
                  !c->worker->draining;
  struct response_head h = {.status = r->status,
                            .reason = r->reason,
                            .headers = r->headers,
                            .framing = f,
                            .no_body = r->no_body,
                            .keep_alive = r->tunnel || m->keep_alive,
                            .client = r->tunnel ? HTTP_1_1 : to->version,
                            .upgrade = r->upgrade};
  struct h1_out *o = collect(c, 1);
  assert(o->n == 0 && o->head.n == 0);
  write_response_head(&o->head, &h);
  o->v[o->n++] = uv_buf_of(buf_str(&o->head));
  m->reply = H1_REPLY_WAITS;
}

static bool take_back(struct downstream *d) {
  struct conn *c = conn_of(d);
  if (message_of(d)->reply == H1_REPLY_BEGUN) return false;
  struct h1_message *m = message_of(d);
  if (m->out != NULL) h1_outs_give(&c->worker->outs, m->out);
  m->out = NULL;
  m->reply = H1_REPLY_NONE;
  return true;
}

static void body(struct downstream *d, struct str span) {
  struct h1_message *m = message_of(d);
  if (m->no_body || span.n == 0) return;
  struct h1_out *o = collect(conn_of(d), 3);
  if (!m->chunked) {
    (void)add(o, span);
    return;
  }
  char *line = o->lines[o->nlines];
  if (add(o, (struct str){line, write_chunk_line(line, span.n)})) o->nlines++;
  (void)add(o, span);
  (void)add(o, STR("\r\n"));
}

static void passed(struct downstream *d, size_t n) {
  struct conn *c = conn_of(d);
  d->sent += n;
  if (stream_queued(&c->stream) > 0) h1_arm(c);
}

static void end(struct downstream *d, const struct headers *trailers) {
  struct conn *c = conn_of(d);
  struct h1_message *m = message_of(d);
  struct buf last;
  buf_init(&last);
  if (m->chunked) {
    write_chunk_end(&last, trailers);
    (void)add(collect(c, 1), buf_str(&last));
  }
  flush(d);
  buf_fini(&last);
  h1_message_over(c, m->keep_alive && m->complete);
}

static struct stream *raw(struct downstream *d) {
  struct conn *c = conn_of(d);
  const struct h1_message *m = message_of(d);
  bool as_it_is = !m->no_body && !m->chunked && m->out == NULL && !c->h1.broken;
  return as_it_is ? &c->stream : NULL;
}

static size_t queued(const struct downstream *d) { return stream_queued(&d->conn->stream); }

const struct downstream_ops h1_downstream = {
    .interim = interim,
    .head = head,
    .take_back = take_back,
    .body = body,
    .passed = passed,
    .flush = flush,
    .end = end,
    .reset = h1_reset,
    .want = h1_want,
    .raw = raw,
    .queued = queued,
    .take_over = h1_take_over,
};

struct str h1_https_only(struct h1_outs *all) {
  static const char text[] = "400 Bad Request\nthis port speaks HTTPS only\n";
  struct header type = {.name = STR("Content-Type"), .value = STR("text/plain")};
  struct headers fields = {.v = &type, .n = 1};
  buf_reset(&all->text);
  write_response_head(
      &all->text,
      &(struct response_head){
          .status = 400, .headers = &fields, .framing = {FRAMING_LENGTH, sizeof text - 1}, .client = HTTP_1_1});
  buf_add(&all->text, text, sizeof text - 1);
  return buf_str(&all->text);
}
