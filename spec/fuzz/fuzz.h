/* fuzz.h: what the parser's fuzz targets share: a message read whole, cut in two and byte by byte must give the same story. */
#ifndef JETON_SPEC_FUZZ_H
#define JETON_SPEC_FUZZ_H

#include "../unit/feed.h"

static const struct http_limits fuzz_limits = {
    .request_line = 300, .head = 1500, .headers = 12, .chunk_line = 100, .chunk_overhead = 200};

/* Leaves what the whole one said in f, to be ended by feed_done. The story may hold NUL: bodies do. */
static inline void fuzz_every_way(struct feed *f, struct str in, size_t cut) {
  const struct { size_t first, step; } ways[] = {{cut, in.n}, {1, 1}};
  feed_all(f, in, in.n, in.n);
  for (size_t i = 0; i < 2; i++) {
    struct feed g = {.response = f->response, .method = f->method, .limits = f->limits};
    feed_all(&g, in, ways[i].first, ways[i].step);
    CHECK(str_eq(buf_str(&f->said), buf_str(&g.said)));
    feed_done(&g);
  }
}

/* What llhttp makes of a head. */
struct fuzz_opinion {
  bool read, chunked;
  uint64_t length;
};
static inline int fuzz_on_head(llhttp_t *l) {
  struct fuzz_opinion *o = l->data;
  *o = (struct fuzz_opinion){.read = true, .chunked = (l->flags & F_CHUNKED) != 0, .length = l->content_length};
  return 1; /* no body */
}

/* A head that we took, llhttp takes as well, and finds the same body behind it. `in` begins with it; `framing` is what we found, NONE when it does
 * not follow from the head alone. */
static inline void fuzz_llhttp_agrees(struct str in, bool response, enum http_framing framing, uint64_t length) {
  const llhttp_settings_t settings = {.on_headers_complete = fuzz_on_head};
  struct fuzz_opinion o = {.read = false};
  llhttp_t l;
  if (!response && in.p[0] == '\r') in = (struct str){in.p + 2, in.n - 2}; /* one empty line before a request */
  const char *end = memmem(in.p, in.n, "\r\n\r\n", 4);
  CHECK(end != NULL);
  if (memchr(in.p, '\t', (size_t)(end - in.p)) != NULL)
    return; /* it takes spaces around a framing value, but no tab (RFC 9110 section 5.6.3) */
  llhttp_init(&l, response ? HTTP_RESPONSE : HTTP_REQUEST, &settings);
  l.data = &o;
  llhttp_errno_t code = llhttp_execute(&l, in.p, (size_t)(end - in.p) + 4);
  if (!o.read && code == HPE_INVALID_METHOD) return; /* it does not know the whole registry */
  if (!o.read) fprintf(stderr, "llhttp: %s: %s\n", llhttp_errno_name(code), llhttp_get_error_reason(&l));
  CHECK(o.read);
  if (framing == FRAMING_NONE) return;
  CHECK(o.chunked == (framing == FRAMING_CHUNKED));
  CHECK(framing != FRAMING_LENGTH || o.length == length);
}

static inline void fuzz_check_fields(const struct headers *h) {
  for (unsigned i = 0; i < h->n; i++) CHECK(header_name_valid(h->v[i].name) && header_value_valid(h->v[i].value));
}

static inline bool fuzz_head_was_read(const struct feed *f) { return f->said.n > 0 && f->said.p[0] == '1'; }

#endif
