/* fuzz.h: what the parser's fuzz targets share: a message read whole, cut in two and byte by byte must give the same story. */
#ifndef JETON_SPEC_FUZZ_H
#define JETON_SPEC_FUZZ_H

#include "../unit/feed.h"

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

#endif
