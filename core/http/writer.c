/* writer.c: heads on their way out, made anew from parsed fields.
 *
 * Every start line is put together here and every framing field is written here, once, from struct framing: what the peer or a script put
 * into the list under those names is passed over, so no message can go out with two of them (RFC 9112 section 6). Other fields go out in order, their names as they
 * came. Bytes are copied into reserved room; nothing is formatted.
 *
 * Invariant: on error `out` holds what it held before, and what had been written behind that is wiped. Pure but for `out`; any thread. */
#include "http/writer.h"

#include <assert.h>

#include "base/err.h"
#include "http/parent.h"
#include "token/secret.h"

enum { DECIMAL_MAX = 20, HEX_MAX = 16, LINE_MIN = 64 };

/* Names and values are short: two moves that may overlap spare most of them a call of memcpy. */
static inline uint8_t *copy(uint8_t *to, const void *from, size_t n) {
  const uint8_t *p = from;
  if (n > 32) {
    memcpy(to, p, n);
  } else if (n >= 16) {
    uint8_t head[16], tail[16];
    memcpy(head, p, 16), memcpy(tail, p + n - 16, 16);
    memcpy(to, head, 16), memcpy(to + n - 16, tail, 16);
  } else if (n >= 8) {
    uint64_t head, tail;
    memcpy(&head, p, 8), memcpy(&tail, p + n - 8, 8);
    memcpy(to, &head, 8), memcpy(to + n - 8, &tail, 8);
  } else {
    for (size_t i = 0; i < n; i++) to[i] = p[i];
  }
  return to + n;
}
static inline uint8_t *copy_str(uint8_t *to, struct str s) { return copy(to, s.p, s.n); }
#define COPY(to, literal) copy(to, literal, sizeof(literal) - 1)

static inline void put(struct buf *b, const void *p, size_t n) {
  copy(buf_reserve(b, n), p, n);
  b->n += n;
}
#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

/* name ": " value CRLF */
static inline size_t field_size(struct str name, struct str value) { return name.n + value.n + 4; }
static inline uint8_t *copy_field(uint8_t *to, struct str name, struct str value) {
  to = COPY(copy_str(to, name), ": ");
  return COPY(copy_str(to, value), "\r\n");
}

static void put_field(struct buf *b, struct str name, struct str value) {
  size_t n = field_size(name, value);
  copy_field(buf_reserve(b, n), name, value);
  b->n += n;
}

static void put_length(struct buf *b, uint64_t n) {
  static const char name[] = "Content-Length: ";
  char digits[DECIMAL_MAX];
  unsigned at = DECIMAL_MAX;
  do {
    digits[--at] = (char)('0' + n % 10);
    n /= 10;
  } while (n > 0);
  uint8_t *to = COPY(buf_reserve(b, sizeof name + DECIMAL_MAX + 2), name);
  memcpy(to, digits + at, DECIMAL_MAX - at);
  to = COPY(to + DECIMAL_MAX - at, "\r\n");
  b->n = (size_t)(to - b->p);
}

bool request_start_safe(const struct request_head *h) {
  return h->method.n > 0 && chars_all(h->method, CHAR_TOKEN) && chars_all(h->path, CHAR_TARGET) &&
         chars_all(h->query, CHAR_TARGET) && h->host.n > 0 && chars_all(h->host, CHAR_TARGET) &&
         chars_all(h->upgrade, CHAR_VALUE);
}

int write_secret_query(struct buf *out, const struct request_head *h) {
  assert(h->secrets != NULL && out->sensitive);
  size_t before = out->n;
  int rc = secret_expand(h->query_secret, h->secrets, out);
  if (rc != 0) return rc;
  return chars_all((struct str){(const char *)out->p + before, out->n - before}, CHAR_TARGET) ? 0 : ERR_SECRET_BYTES;
}

/* The same line with secrets in it. */
static int put_secret_line(struct buf *b, const struct request_head *h) {
  put(b, h->method.p, h->method.n);
  PUT(b, " ");
  put(b, h->absolute.p, h->absolute.n);
  put(b, h->path.n > 0 ? h->path.p : "/", h->path.n > 0 ? h->path.n : 1);
  PUT(b, "?");
  int rc = write_secret_query(b, h);
  if (rc != 0) return rc;
  PUT(b, " HTTP/1.1\r\n");
  put_field(b, STR("Host"), h->host);
  return 0;
}

static int put_request_line(struct buf *b, const struct request_head *h) {
  struct str path = h->path.n > 0 ? h->path : STR("/");
  if (h->query_secret != NULL) return put_secret_line(b, h);
  uint8_t *to = buf_reserve(b, h->method.n + h->absolute.n + path.n + h->query.n + h->host.n + LINE_MIN);
  to = copy_str(to, h->method);
  *to++ = ' ';
  if (h->absolute.n > 0) {
    to = copy_str(to, h->absolute);
    if (str_eq(path, STR("*"))) path.n = 0; /* RFC 9112 section 3.2.4 */
  }
  to = copy_str(to, path);
  if (h->query.p != NULL) {
    *to++ = '?';
    to = copy_str(to, h->query);
  }
  to = COPY(to, " HTTP/1.1\r\n");
  to = copy_field(to, STR("Host"), h->host);
  b->n = (size_t)(to - b->p);
  return 0;
}

static int put_secret_field(struct buf *b, const struct header *f, struct secret_context *ctx) {
  assert(ctx != NULL && b->sensitive);
  put(b, f->name.p, f->name.n);
  PUT(b, ": ");
  int rc = secret_expand(f->secret, ctx, b);
  if (rc != 0) return rc;
  PUT(b, "\r\n");
  return 0;
}

static inline bool goes_out(const struct header *f, unsigned skip) {
  return f->name.p != NULL && !(header_traits[f->id] & skip);
}

static inline const char *line_end(const struct header *f) { return f->value.p + f->value.n + sizeof "\r\n" - 1; }

/* Lines that lie behind one another as they came, of which v[i] is the first: one copy. Returns the index behind them. */
static inline unsigned put_lines(struct buf *b, const struct headers *h, unsigned i, unsigned skip) {
  const struct header *f = &h->v[i], *const end = h->v + h->n;
  const char *from = f->name.p, *to;
  do to = line_end(f++);
  while (f < end && f->whole_line && f->name.p == to && !(header_traits[f->id] & skip));
  put(b, from, (size_t)(to - from));
  return (unsigned)(f - h->v);
}

/* Fields in their order. ctx NULL: secrets are left out. */
static int put_fields(struct buf *b, const struct headers *h, unsigned skip, struct secret_context *ctx) {
  for (unsigned i = 0; i < h->n;) {
    const struct header *f = &h->v[i];
    if (f->whole_line && goes_out(f, skip)) {
      i = put_lines(b, h, i, skip);
      continue;
    }
    i++;
    if (!goes_out(f, skip)) continue;
    if (f->secret == NULL) {
      put_field(b, f->name, f->value);
    } else if (ctx != NULL) {
      int rc = put_secret_field(b, f, ctx);
      if (rc != 0) return rc;
    }
  }
  return 0;
}

static void put_request_framing(struct buf *b, const struct framing *f) {
  assert(f->kind != FRAMING_UNTIL_CLOSE); /* a request's end cannot be told that way */
  if (f->kind == FRAMING_LENGTH) put_length(b, f->length);
  if (f->kind == FRAMING_CHUNKED) PUT(b, "Transfer-Encoding: chunked\r\n");
}

/* One Connection field that names all that is ours (RFC 9110 section 7.6.1). */
static void put_request_connection(struct buf *b, const struct request_head *h) {
  bool te = h->te_trailers;
  if (h->upgrade.p != NULL) {
    put_field(b, STR("Connection"), te ? STR("upgrade, TE") : STR("upgrade"));
  } else if (!h->keep_alive) {
    put_field(b, STR("Connection"), te ? STR("close, TE") : STR("close"));
  } else if (te) {
    put_field(b, STR("Connection"), STR("TE"));
  }
  if (te) PUT(b, "TE: trailers\r\n");
  if (h->upgrade.p != NULL) put_field(b, STR("Upgrade"), h->upgrade);
}

int write_request_head(struct buf *out, const struct request_head *h) {
  int rc;
  if (!request_start_safe(h)) return ERR_PROTOCOL;
  struct secret_head all = secret_head_begin(out, h->secrets);
  do {
    rc = put_request_line(out, h);
    if (rc == 0) rc = put_fields(out, h->headers, HEADER_NOT_IN_REQUEST, h->secrets);
    if (rc == 0 && h->parent != NULL) rc = parent_add_authorization(h->parent, out);
  } while (secret_head_again(&all, rc));
  if (rc != 0) return rc;
  put_request_framing(out, &h->framing);
  put_request_connection(out, h);
  if (h->expect_continue) PUT(out, "Expect: 100-continue\r\n");
  PUT(out, "\r\n");
  return 0;
}

static void put_status_line(struct buf *b, const struct response_head *h) {
  bool fit = h->reason.p != NULL && chars_all(h->reason, CHAR_VALUE);
  struct str reason = fit ? h->reason : str_of(status_phrase(h->status));
  uint8_t *to = buf_reserve(b, reason.n + LINE_MIN);
  assert(h->status >= 100 && h->status <= 599);
  to = COPY(to, "HTTP/1.1 ");
  *to++ = (uint8_t)('0' + h->status / 100);
  *to++ = (uint8_t)('0' + h->status / 10 % 10);
  *to++ = (uint8_t)('0' + h->status % 10);
  *to++ = ' ';
  to = COPY(copy_str(to, reason), "\r\n");
  b->n = (size_t)(to - b->p);
}

/* Whether the connection can go on behind this message. */
static bool put_response_framing(struct buf *b, const struct response_head *h) {
  if (h->no_body) {
    bool allowed = h->status >= 200 && h->status != 204; /* RFC 9110 section 8.6 */
    if (allowed && h->framing.kind == FRAMING_LENGTH) put_length(b, h->framing.length);
    return true;
  }
  switch (h->framing.kind) {
    case FRAMING_NONE: put_length(b, 0); return true;
    case FRAMING_LENGTH: put_length(b, h->framing.length); return true;
    case FRAMING_CHUNKED:
      if (h->client == HTTP_1_0) return false;
      PUT(b, "Transfer-Encoding: chunked\r\n");
      return true;
    case FRAMING_UNTIL_CLOSE: break;
  }
  return false;
}

static void put_response_connection(struct buf *b, const struct response_head *h, bool keep) {
  if (h->upgrade.p != NULL) {
    put_field(b, STR("Connection"), keep || h->status < 200 ? STR("upgrade") : STR("upgrade, close"));
    put_field(b, STR("Upgrade"), h->upgrade);
  } else if (h->status < 200) {
    return; /* not the last word on this connection */
  } else if (!keep) {
    PUT(b, "Connection: close\r\n");
  } else if (h->client == HTTP_1_0) {
    PUT(b, "Connection: keep-alive\r\n");
  }
}

void write_response_head(struct buf *out, const struct response_head *h) {
  put_status_line(out, h);
  (void)put_fields(out, h->headers, HEADER_NOT_IN_REPLY, NULL);
  bool keep = put_response_framing(out, h) && h->keep_alive;
  put_response_connection(out, h, keep);
  PUT(out, "\r\n");
}

unsigned write_chunk_line(char line[CHUNK_LINE_MAX], size_t n) {
  char digits[HEX_MAX];
  unsigned at = HEX_MAX;
  do {
    digits[--at] = "0123456789abcdef"[n & 15];
    n >>= 4;
  } while (n > 0);
  unsigned used = HEX_MAX - at;
  memcpy(line, digits + at, used);
  line[used++] = '\r';
  line[used++] = '\n';
  return used;
}

void write_chunk_end(struct buf *out, const struct headers *trailers) {
  PUT(out, "0\r\n");
  for (unsigned i = 0; trailers != NULL && i < trailers->n; i++) {
    const struct header *f = &trailers->v[i];
    if (f->name.p != NULL && f->secret == NULL && trailer_allowed(f->name)) put_field(out, f->name, f->value);
  }
  PUT(out, "\r\n");
}
