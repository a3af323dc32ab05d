/* fuzz.h: what the fuzz targets of messages share: one read whole, cut in two and byte by byte must give the same story, and one that is written anew and read again must be the
 * same message. */
#ifndef JETON_SPEC_FUZZ_H
#define JETON_SPEC_FUZZ_H

#include "../unit/feed.h"
#include "http/writer.h"

static const struct http_limits fuzz_limits = {
    .request_line = 300, .head = 1500, .headers = 12, .chunk_line = 100, .chunk_overhead = 200};

/* What our own rules let through, llhttp reads as we do: a difference is refused, and yet it is a fault in one of the two, to be looked into. */
static inline void fuzz_readings_agree(const struct feed *f) { CHECK(!f->parser.fault.disagreed); }

/* Leaves what the whole one said in f, to be ended by feed_done. The story may hold NUL: bodies do. */
static inline void fuzz_every_way(struct feed *f, struct str in, size_t cut) {
  const struct { size_t first, step; } ways[] = {{cut, in.n}, {1, 1}};
  feed_all(f, in, in.n, in.n);
  fuzz_readings_agree(f);
  for (size_t i = 0; i < 2; i++) {
    struct feed g = {.response = f->response, .method = f->method, .limits = f->limits};
    feed_all(&g, in, ways[i].first, ways[i].step);
    CHECK(str_eq(buf_str(&f->said), buf_str(&g.said)));
    feed_done(&g);
  }
}

static inline void fuzz_check_fields(const struct headers *h) {
  for (unsigned i = 0; i < h->n; i++) CHECK(header_name_valid(h->v[i].name) && header_value_valid(h->v[i].value));
}

static inline bool fuzz_head_was_read(const struct feed *f) { return f->said.n > 0 && f->said.p[0] == '1'; }

/* --- through the writer and back --- */

/* What can be said of either kind of head: the caller compares the rest with g, and ends it by feed_done. */
static inline void fuzz_read_again(struct feed *g, struct buf *out) {
  feed_all(g, buf_str(out), out->n, out->n);
  CHECK(fuzz_head_was_read(g));
  buf_fini(out);
}

/* The same method, target, host and framing. False: it is not forwarded in this form. */
static inline bool fuzz_request_again(struct request *r, struct feed *g) {
  if (r->is_connect || r->authority.p == NULL) return false;
  headers_strip_hop_by_hop(&r->headers);
  struct request_head h = {.method = r->method,
                           .path = r->path,
                           .query = r->query,
                           .host = r->authority,
                           .headers = &r->headers,
                           .framing = {r->framing, r->content_length},
                           .keep_alive = r->keep_alive,
                           .expect_continue = r->expect_continue,
                           .te_trailers = headers_has_token(&r->headers, H_TE, STR("trailers")),
                           .upgrade = r->upgrade_protocol};
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  CHECK(write_request_head(&out, &h) == 0);
  fuzz_read_again(g, &out);
  const struct request *again = &g->request;
  CHECK(str_eq(again->method, r->method) && str_eq(again->path, r->path) && str_eq(again->query, r->query));
  CHECK((again->query.p == NULL) == (r->query.p == NULL) && str_eq(again->authority, r->authority));
  CHECK(again->framing == r->framing && again->content_length == r->content_length);
  return true;
}

/* The same status and length. */
static inline void fuzz_response_again(struct response *r, struct feed *g) {
  headers_strip_hop_by_hop(&r->headers);
  struct response_head h = {.status = r->status,
                            .reason = r->reason,
                            .headers = &r->headers,
                            .framing = {r->framing, r->content_length},
                            .no_body = r->framing == FRAMING_NONE,
                            .keep_alive = r->keep_alive,
                            .client = HTTP_1_1};
  struct buf out;
  buf_init(&out);
  write_response_head(&out, &h);
  fuzz_read_again(g, &out);
  CHECK(g->reply.status == r->status && (g->reply.framing == FRAMING_LENGTH) == (r->framing == FRAMING_LENGTH));
  CHECK(r->framing != FRAMING_LENGTH || g->reply.content_length == r->content_length);
}

#endif
