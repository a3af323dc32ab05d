/* feed.h: gives a message to the parser in pieces and writes down what it said, as one line, so that tests and fuzzers can
 * compare: how the bytes were cut must not show. Every piece is a heap block of its own that is freed at once, so a slice into the input is found. */
#ifndef JETON_SPEC_FEED_H
#define JETON_SPEC_FEED_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "check.h"
#include "http/parser.h"

/* What to read: a request, or the reply to `method`. */
struct feed {
  bool response;
  const char *method;
  const struct http_limits *limits; /* NULL: the default */
  struct arena arena;
  struct request request;
  struct http_parser parser;
  struct response reply;
  bool in_body;
  struct buf said;
};

static inline void feed_list(struct buf *b, const char *what, const struct headers *h) {
  buf_addf(b, " %s[", what);
  bool first = true;
  for (unsigned i = 0; i < h->n; i++) {
    if (h->v[i].name.p == NULL) continue;
    buf_addf(b, "%s%.*s: %.*s", first ? "" : "|", STR_FMT(h->v[i].name), STR_FMT(h->v[i].value));
    first = false;
  }
  buf_addz(b, "]");
}

static inline void feed_framing(struct buf *b, enum http_framing f, uint64_t length, bool keep) {
  static const char *const names[] = {"none", "length", "chunked", "until-close"};
  buf_addf(b, " %s", names[f]);
  if (f == FRAMING_LENGTH) buf_addf(b, "=%llu", (unsigned long long)length);
  buf_addz(b, keep ? " keep" : " close");
}

static inline void feed_head(struct feed *f) {
  struct buf *b = &f->said;
  if (f->response) {
    const struct response *r = &f->reply;
    buf_addf(b, "%s %d (%.*s)", http_version_text(r->version).p, r->status, STR_FMT(r->reason));
    feed_framing(b, r->framing, r->content_length, r->keep_alive);
    if (r->has_length && r->framing != FRAMING_LENGTH)
      buf_addf(b, " has-length=%llu", (unsigned long long)r->content_length);
    feed_list(b, "", &r->headers);
    return;
  }
  const struct request *r = &f->request;
  buf_addf(b, "%s %.*s path=%.*s", http_version_text(r->version).p, STR_FMT(r->method), STR_FMT(r->path));
  if (r->query.p != NULL) buf_addf(b, " query=%.*s", STR_FMT(r->query));
  if (r->authority.p != NULL) buf_addf(b, " authority=%.*s", STR_FMT(r->authority));
  feed_framing(b, r->framing, r->content_length, r->keep_alive);
  if (r->expect_continue) buf_addz(b, " expect");
  if (r->absolute_form) buf_addz(b, " absolute");
  if (r->is_connect) buf_addz(b, " connect");
  if (r->is_head) buf_addz(b, " head");
  if (r->upgrade) buf_addf(b, " upgrade=%.*s", STR_FMT(r->upgrade_protocol));
  feed_list(b, "", &r->headers);
}

static inline void feed_start(struct feed *f) {
  arena_init(&f->arena, NULL, 0);
  buf_init(&f->said);
  f->in_body = false;
  const struct http_limits *l = f->limits != NULL ? f->limits : &http_limits_default;
  if (f->response)
    http_parser_init_response(&f->parser, &f->arena, l, &f->reply, str_of(f->method != NULL ? f->method : "GET"));
  else
    http_parser_init_request(&f->parser, &f->arena, l, &f->request);
}

/* True while the parser wants more. */
static inline bool feed_event(struct feed *f, enum parse_event e, struct str span) {
  bool body = e == PARSE_BODY;
  if (body != f->in_body && e != PARSE_MORE) {
    buf_addz(&f->said, body ? " body(" : ")");
    f->in_body = body;
  }
  switch (e) {
    case PARSE_MORE: return true;
    case PARSE_HEAD: feed_head(f); return true;
    case PARSE_BODY:
      CHECK(span.n > 0);
      buf_adds(&f->said, span);
      return true;
    case PARSE_END: {
      const struct headers *t = f->response ? &f->reply.trailers : &f->request.trailers;
      if (t->n > 0) feed_list(&f->said, "trailers", t);
      buf_addz(&f->said, " end");
      return false;
    }
    case PARSE_ERROR:
      CHECK(f->parser.fault.text != NULL && f->parser.fault.text[0] != '\0');
      buf_addf(&f->said, "%s%d %s", f->said.n > 0 ? " !" : "!", f->parser.fault.status, f->parser.fault.text);
      return false;
  }
  return false;
}

/* Feeds one piece; false when the message is over. *used: bytes consumed. */
static inline bool feed_piece(struct feed *f, const uint8_t *data, size_t n, size_t *used) {
  uint8_t *copy = malloc(n > 0 ? n : 1);
  CHECK(copy != NULL);
  if (n > 0) memcpy(copy, data, n);
  const uint8_t *at = copy;
  size_t left = n;
  bool more;
  enum parse_event e;
  do {
    struct str span = {NULL, 0};
    e = http_parser_next(&f->parser, &at, &left, &span);
    CHECK(e != PARSE_MORE || left == 0);
    more = feed_event(f, e, span);
  } while (more && e != PARSE_MORE);
  *used = (size_t)(at - copy);
  CHECK(*used + left == n);
  free(copy);
  return more;
}

/* Feeds all of it, `first` bytes and then `step` at a time, and then the end of the stream. What was left unread is told when the message ended. */
static inline void feed_all(struct feed *f, struct str in, size_t first, size_t step) {
  size_t at = 0, used, n = first < in.n ? first : in.n;
  bool more = true;
  feed_start(f);
  while (more && at < in.n) {
    more = feed_piece(f, (const uint8_t *)in.p + at, n, &used);
    at += used;
    n = in.n - at < step ? in.n - at : step;
  }
  if (more) {
    enum parse_event e = http_parser_eof(&f->parser);
    if (e == PARSE_MORE)
      buf_addz(&f->said, "nothing");
    else
      feed_event(f, e, (struct str){NULL, 0});
  } else if (f->parser.fault.text == NULL) {
    buf_addf(&f->said, " rest=%zu", in.n - at);
  }
}

static inline void feed_done(struct feed *f) {
  arena_reset(&f->arena);
  buf_fini(&f->said);
}

static inline bool feed_says(struct feed *f, struct str in, size_t first, size_t step, const char *expected) {
  feed_all(f, in, first, step);
  bool same = strcmp(buf_z(&f->said), expected) == 0;
  if (!same)
    fprintf(stderr, "input:    %.*s\ncut:      %zu, then %zu\nsaid:     %s\nexpected: %s\n",
            (int)(in.n < 2000 ? in.n : 2000), in.p, first, step, buf_z(&f->said), expected);
  feed_done(f);
  return same;
}

/* Whole, byte by byte, and cut in two at every place (at some 500 places when it is long): the same every time. */
static inline bool feed_every_way(struct feed *f, struct str in, const char *expected) {
  size_t stride = in.n / 500 + 1;
  if (!feed_says(f, in, in.n, in.n, expected) || !feed_says(f, in, 1, 1, expected)) return false;
  for (size_t cut = 1; cut < in.n; cut += stride)
    if (!feed_says(f, in, cut, in.n, expected)) return false;
  return true;
}

#endif
