/* small_http.c: see small_http.h. */
#include "ops/small_http.h"

#include "base/buf.h"
#include "http/writer.h"

static void begin_request(struct small_http *c) {
  arena_reset(&c->arena);
  c->body = 0;
  http_parser_init_request(&c->parser, &c->arena, &http_limits_default, &c->request);
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct small_http *c = s->owner;
  if (n < 0) {
    c->events->gone(c);
    return;
  }
  size_t left = (size_t)n;
  for (;;) {
    struct str span;
    switch (http_parser_next(&c->parser, &data, &left, &span)) {
      case PARSE_MORE: return;
      case PARSE_HEAD: break;
      case PARSE_BODY:
        c->body += span.n;
        if (c->body <= c->events->body_max) break;
        c->events->gone(c);
        return;
      case PARSE_END:
        if (!c->events->request(c, left)) return;
        begin_request(c);
        break;
      case PARSE_ERROR: {
        const struct http_fault *f = &c->parser.fault;
        c->events->fault(c, f->status != 0 ? f->status : 400, f->text);
        return;
      }
    }
  }
}

int small_http_accept(struct small_http *c, struct net *net, uv_stream_t *listener,
                      const struct small_http_events *events) {
  int status = stream_init_accept(&c->stream, net, listener);
  if (status != 0) return status;
  c->stream.owner = c;
  c->events = events;
  arena_init(&c->arena, c->first, sizeof c->first);
  small_http_next(c);
  return 0;
}

void small_http_next(struct small_http *c) {
  begin_request(c);
  stream_read_start(&c->stream, on_read);
}

int small_http_answer(struct small_http *c, int status, const struct headers *headers, struct str body, bool keep_alive,
                      bool sensitive) {
  struct response_head head = {.status = status,
                               .headers = headers,
                               .framing = {FRAMING_LENGTH, body.n},
                               .no_body = c->request.is_head,
                               .keep_alive = keep_alive,
                               .client = c->request.version};
  struct buf out;
  buf_init(&out);
  out.sensitive = sensitive;
  write_response_head(&out, &head);
  if (!head.no_body) buf_adds(&out, body);
  uv_buf_t piece = uv_buf_init((char *)out.p, (unsigned)out.n);
  int failed = stream_write(&c->stream, &piece, 1, sensitive);
  buf_fini(&out);
  return failed;
}

void small_http_close(struct small_http *c, void (*on_closed)(struct stream *s)) {
  stream_close(&c->stream, on_closed);
}
