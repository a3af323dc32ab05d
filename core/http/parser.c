/* parser.c: pulls one message out of a connection's bytes.
 *
 * Stages, a function each: gather the head while headcheck looks at it and notes its lines, judge it (http/judge.c); then the body. Each
 * function consumes what it can and returns the event to report, or AGAIN when the next stage should go on with what is left.
 *
 * Every part is read twice. Our own check and judge come first: they are stricter than any parser, and each refusal of theirs has its own status and
 * sentence. What they let through is then read by llhttp (http/reading.h), which must find the same method, target, version, status, fields, framing and end
 * in it. A difference refuses the message and marks the fault (`disagreed`), since it means that one of the two is wrong.
 *
 * A body with a length is counted here and not shown to llhttp; the length was compared when its head was. So bytes that pass by in the kernel
 * (http_parser_passed) and bytes that come through here are the same to the parser.
 *
 * Tried: to leave heads to our own check alone, with llhttp in the fuzz targets. It spares a quarter of a plain exchange's instructions, and makes our own
 * reading the only one.
 *
 * Memory: a head that arrives whole is copied once into the arena; one in pieces into a buffer that doubles, so at most twice its limit. Chunk lines share one
 * small buffer, and only when a read cuts them. Owned by one loop's thread. */
#include "http/parser.h"

#include <assert.h>

#include "http/judge.h"
#include "http/writer.h"

enum { AGAIN = -1 };
enum stage {
  BLANK,
  BLANK_LF,
  HEAD,
  LENGTH,
  UNTIL_CLOSE,
  CHUNK_LINE,
  CHUNK_DATA,
  CHUNK_CR,
  CHUNK_LF,
  TRAILERS,
  END,
  FAILED
};
/* A chunk line's free bytes (size, CRLFs and some extension), and the smallest gathering buffer. */
enum { CHUNK_FREE = 16, GATHER_MIN = 64, GATHER_HEAD_MIN = 1024, HEX_DIGITS_MAX = 16 };

static int fail(struct http_parser *p, int status, const char *text) {
  p->fault = (struct http_fault){.status = p->is_response ? 0 : status, .text = text};
  p->stage = FAILED;
  return PARSE_ERROR;
}

static struct headers *headers_of(struct http_parser *p) {
  return p->is_response ? &p->to.response->headers : &p->to.request->headers;
}
static struct headers *trailers_of(struct http_parser *p) {
  return p->is_response ? &p->to.response->trailers : &p->to.request->trailers;
}
static enum http_framing framing_of(const struct http_parser *p) {
  return p->is_response ? p->to.response->framing : p->to.request->framing;
}

/* --- helpers --- */

/* Our own rules found nothing wrong. */
static int fail_reading(struct http_parser *p, const char *text) {
  int e = fail(p, 400, text);
  p->fault.disagreed = true;
  return e;
}

/* Appends to the gathered bytes. `last`: nothing more follows, so no room is kept for it. */
static void gather(struct http_parser *p, const uint8_t *data, size_t n, bool last, uint32_t least) {
  size_t need = p->ngathered + n;
  if (need > p->gather_cap) {
    size_t cap = p->gather_cap * 2 > least ? p->gather_cap * 2 : least;
    if (last || cap < need) cap = need;
    uint8_t *grown = arena_alloc(p->arena, cap);
    if (p->ngathered > 0) memcpy(grown, p->gathered, p->ngathered);
    p->gathered = grown;
    p->gather_cap = (uint32_t)cap;
  }
  if (n > 0) memcpy(p->gathered + p->ngathered, data, n);
  p->ngathered = (uint32_t)need;
}

static void gather_anew(struct http_parser *p) {
  p->gathered = NULL;
  p->ngathered = p->gather_cap = 0;
}

static void advance(const uint8_t **data, size_t *n, size_t by) {
  *data += by;
  *n -= by;
}

static void begin_section(struct http_parser *p, enum headcheck_kind kind, uint32_t line_max) {
  headcheck_init(&p->check, kind, &(struct headcheck_limits){line_max, p->limits->headers, p->limits->head});
  headcheck_table(&p->check, p->lines, HTTP_PARSER_LINES);
}

/* Room for the notes of further field lines: in the arena. */
static void more_lines(struct http_parser *p) {
  uint32_t cap = p->check.table_cap * 2;
  struct headcheck_field *table = arena_alloc(p->arena, cap * sizeof *table);
  memcpy(table, p->check.table, p->check.fields * sizeof *table);
  headcheck_table(&p->check, table, cap);
}

/* What is refused is of use to the log alone: a part of it. */
static void gather_refused(struct http_parser *p, const uint8_t *data, size_t n) {
  enum { KEPT = 1024 };
  if (p->ngathered < KEPT) gather(p, data, n < KEPT - p->ngathered ? n : KEPT - p->ngathered, true, 0);
}

/* Gathers a head or trailer section. AGAIN: it is whole and clean. */
static int gather_section(struct http_parser *p, const uint8_t **data, size_t *n, uint32_t least) {
  if (*n == 0) return PARSE_MORE;
  for (;;) {
    size_t used;
    enum headcheck_result r = headcheck_feed(&p->check, *data, *n, &used);
    if (r == HEADCHECK_REFUSED) {
      gather_refused(p, *data, *n);
      return fail(p, p->check.fault_status, p->check.fault);
    }
    gather(p, *data, used, r == HEADCHECK_DONE, least);
    advance(data, n, used);
    if (r == HEADCHECK_DONE) return AGAIN;
    if (r == HEADCHECK_MORE) return PARSE_MORE;
    more_lines(p);
  }
}

static enum stage stage_of_body(const struct http_parser *p) {
  switch (framing_of(p)) {
    case FRAMING_LENGTH: return p->body_left > 0 ? LENGTH : END;
    case FRAMING_CHUNKED: return CHUNK_LINE;
    case FRAMING_UNTIL_CLOSE: return UNTIL_CLOSE;
    case FRAMING_NONE: break;
  }
  return END;
}

/* --- stages --- */

/* A server should pass over one empty line before a request (RFC 9112 section 2.2): some clients end a body with it. */
static int stage_blank(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  (void)span;
  if (*n == 0) return PARSE_MORE;
  if (**data == '\r') {
    advance(data, n, 1);
    p->stage = BLANK_LF;
  } else {
    p->stage = HEAD;
  }
  return AGAIN;
}

static int stage_blank_lf(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  (void)span;
  if (*n == 0) return PARSE_MORE;
  if (**data != '\n') return fail(p, 400, "bare CR in the head (RFC 9112 section 2.2)");
  advance(data, n, 1);
  p->stage = HEAD;
  return AGAIN;
}

static struct http_fault judge_head(struct http_parser *p) {
  struct str line = {(const char *)p->gathered, p->check.line};
  struct http_fault wrong = p->is_response ? response_line(line, p->to.response) : request_line(line, p->to.request);
  if (wrong.text != NULL) return wrong;
  headers_take(headers_of(p), line.p, &p->check);
  return p->is_response ? response_fields(p->to.response, p->head_request, p->connect_request)
                        : request_fields(p->to.request);
}

static bool readings_of_head_agree(struct http_parser *p) {
  char *head = (char *)p->gathered;
  return p->is_response ? reading_of_response(&p->reading, head, p->ngathered, p->to.response)
                        : reading_of_request(&p->reading, head, p->ngathered, p->to.request);
}

static int stage_head(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  (void)span;
  int e = gather_section(p, data, n, GATHER_HEAD_MIN);
  if (e != AGAIN) return e;
  struct http_fault wrong = judge_head(p);
  if (wrong.text != NULL) return fail(p, wrong.status, wrong.text);
  if (!readings_of_head_agree(p)) return fail_reading(p, "two readings of the head differ");
  p->body_left = p->is_response ? p->to.response->content_length : p->to.request->content_length;
  p->stage = (uint8_t)stage_of_body(p);
  gather_anew(p);
  return PARSE_HEAD;
}

/* Up to body_left bytes as a span. */
static int take_body(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  size_t take = *n < p->body_left ? *n : (size_t)p->body_left;
  *span = (struct str){(const char *)*data, take};
  advance(data, n, take);
  p->body_left -= take;
  return PARSE_BODY;
}

static int stage_length(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  if (*n == 0) return PARSE_MORE;
  int e = take_body(p, data, n, span);
  if (p->body_left == 0) p->stage = END;
  return e;
}

static int stage_until_close(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  if (*n == 0) return PARSE_MORE;
  p->body_left = *n;
  return take_body(p, data, n, span);
}

static size_t token_span(struct str s, size_t i) {
  while (i < s.n && (char_class[(uint8_t)s.p[i]] & CHAR_TOKEN)) i++;
  return i;
}

/* Behind the quote at s[i]: where the quoted string ends, or 0. */
static size_t quoted_span(struct str s, size_t i) {
  for (i++; i < s.n; i++) {
    if (s.p[i] == '"') return i + 1;
    if (s.p[i] == '\\') i++;
    if (i < s.n && !(char_class[(uint8_t)s.p[i]] & CHAR_VALUE)) return 0;
  }
  return 0;
}

/* *( ";" token [ "=" ( token / quoted-string ) ] ), without the white space that RFC 9112 section 7.1.1 calls bad. */
static bool extensions_valid(struct str s) {
  size_t i = 0;
  while (i < s.n) {
    if (s.p[i] != ';') return false;
    size_t name = i + 1;
    i = token_span(s, name);
    if (i == name) return false;
    if (i == s.n || s.p[i] != '=') continue;
    size_t value = ++i;
    i = i < s.n && s.p[i] == '"' ? quoted_span(s, i) : token_span(s, i);
    if (i <= value) return false;
  }
  return true;
}

/* line: up to and with its LF. Returns what is wrong with it, or NULL; *digits is how many bytes make the size. */
static const char *chunk_line_check(struct str line, uint64_t *size, size_t *digits) {
  size_t i = 0;
  *size = 0;
  if (line.n < 2 || line.p[line.n - 2] != '\r') return "bare LF in a chunk line (RFC 9112 section 7.1)";
  line.n -= 2;
  for (; i < line.n && hex_value(line.p[i]) >= 0; i++) {
    if (i == HEX_DIGITS_MAX) return "a chunk size of more than 16 digits (RFC 9112 section 7.1)";
    *size = *size << 4 | (uint64_t)hex_value(line.p[i]);
  }
  if (i == 0) return "a chunk size that is not a hexadecimal number (RFC 9112 section 7.1)";
  if (*size > INT64_MAX) return "a chunk size that is negative to some (RFC 9112 section 7.1)";
  *digits = i;
  if (!extensions_valid((struct str){line.p + i, line.n - i}))
    return "bytes behind a chunk size that are no extension (RFC 9112 section 7.1.1)";
  return NULL;
}

/* Small chunks are fine, small chunks with large lines for ever are an attack (CVE-2024-22019): lines must be earned by data. */
static bool overhead_fits(struct http_parser *p, size_t line, uint64_t data) {
  uint64_t spent = p->overhead + line;
  p->overhead = data >= spent || spent - data <= CHUNK_FREE ? 0 : spent - data - CHUNK_FREE;
  return p->overhead <= p->limits->chunk_overhead;
}

static int read_chunk_line(struct http_parser *p, struct str line) {
  uint64_t size;
  size_t digits;
  const char *wrong = chunk_line_check(line, &size, &digits);
  if (wrong != NULL) return fail(p, 400, wrong);
  if (!overhead_fits(p, line.n, size)) return fail(p, 400, "chunk lines that outweigh their data");
  if (!reading_of_chunk_line(&p->reading, line, digits, size))
    return fail_reading(p, "two readings of a chunk's size differ");
  p->body_left = size;
  p->stage = CHUNK_DATA;
  if (size == 0) {
    gather_anew(p);
    begin_section(p, HEADCHECK_TRAILERS, 0);
    p->stage = TRAILERS;
  }
  return AGAIN;
}

static int stage_chunk_line(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  (void)span;
  if (*n == 0) return PARSE_MORE;
  size_t room = p->limits->chunk_line - p->ngathered, look = *n < room ? *n : room;
  const uint8_t *lf = look > 0 ? memchr(*data, '\n', look) : NULL;
  if (lf == NULL && look == room) return fail(p, 400, "a chunk line longer than the limit (RFC 9112 section 7.1.1)");
  size_t take = lf != NULL ? (size_t)(lf - *data) + 1 : look;
  struct str line = {(const char *)*data, take};
  if (lf == NULL || p->ngathered > 0) {
    gather(p, *data, take, false, GATHER_MIN);
    line = (struct str){(const char *)p->gathered, p->ngathered};
  }
  advance(data, n, take);
  if (lf == NULL) return PARSE_MORE;
  p->ngathered = 0;
  return read_chunk_line(p, line);
}

static int stage_chunk_data(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  if (*n == 0) return PARSE_MORE;
  int e = take_body(p, data, n, span);
  if (!reading_of_chunk_data(&p->reading, *span)) return fail_reading(p, "two readings of a chunk's data differ");
  if (p->body_left == 0) p->stage = CHUNK_CR;
  return e;
}

static int chunk_end_byte(struct http_parser *p, const uint8_t **data, size_t *n, uint8_t byte, enum stage next) {
  if (*n == 0) return PARSE_MORE;
  if (**data != byte) return fail(p, 400, "no CRLF behind a chunk's data (RFC 9112 section 7.1)");
  if (!reading_of_chunk_end(&p->reading, (char)byte)) return fail_reading(p, "two readings of a chunk's end differ");
  advance(data, n, 1);
  p->stage = (uint8_t)next;
  return AGAIN;
}

static int stage_chunk_cr(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  (void)span;
  return chunk_end_byte(p, data, n, '\r', CHUNK_LF);
}

static int stage_chunk_lf(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  (void)span;
  return chunk_end_byte(p, data, n, '\n', CHUNK_LINE);
}

/* Forbidden names are dropped (RFC 9110 section 6.5.1). */
static void drop_forbidden(struct headers *list) {
  unsigned kept = 0;
  for (unsigned i = 0; i < list->n; i++)
    if (trailer_allowed(list->v[i].name)) list->v[kept++] = list->v[i];
  list->n = kept;
}

static int stage_trailers(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  (void)span;
  int e = gather_section(p, data, n, GATHER_MIN);
  if (e != AGAIN) return e;
  struct headers *list = trailers_of(p);
  struct str section = {(const char *)p->gathered, p->ngathered};
  headers_take(list, section.p, &p->check);
  bool agree = reading_of_trailers(&p->reading, section, list);
  drop_forbidden(list);
  if (headers_may_have(list, H_CONTENT_LENGTH) || headers_may_have(list, H_TRANSFER_ENCODING))
    return fail(p, 400,
                "a framing field in a trailer section (RFC 9110 section 6.5.1)"); /* somebody might act upon it */
  if (!agree) return fail_reading(p, "two readings of the trailer section differ");
  p->stage = END;
  return AGAIN;
}

static int stage_end(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  (void)p, (void)data, (void)n, (void)span;
  return PARSE_END;
}

static int stage_failed(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  (void)p, (void)data, (void)n, (void)span;
  return PARSE_ERROR;
}

/* --- public --- */

static void init(struct http_parser *p, struct arena *a, const struct http_limits *l, enum headcheck_kind kind) {
  bool response = kind == HEADCHECK_RESPONSE;
  const size_t unset = offsetof(struct http_parser, arena); /* what is in front is made when it is needed */
  memset((char *)p + unset, 0, sizeof *p - unset);
  p->arena = a;
  p->limits = l;
  p->is_response = response;
  p->stage = response ? HEAD : BLANK;
  begin_section(p, kind, l->request_line);
}

void http_parser_init_request(struct http_parser *p, struct arena *a, const struct http_limits *l,
                              struct request *into) {
  init(p, a, l, HEADCHECK_REQUEST);
  memset(into, 0, sizeof *into);
  headers_init(&into->headers, a);
  headers_init(&into->trailers, a);
  p->to.request = into;
}

void http_parser_init_response(struct http_parser *p, struct arena *a, const struct http_limits *l,
                               struct response *into, struct str method) {
  init(p, a, l, HEADCHECK_RESPONSE);
  memset(into, 0, sizeof *into);
  headers_init(&into->headers, a);
  headers_init(&into->trailers, a);
  p->to.response = into;
  p->head_request = str_eq(method, STR("HEAD"));
  p->connect_request = str_eq(method, STR("CONNECT"));
}

enum parse_event http_parser_next(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span) {
  static int (*const stages[])(struct http_parser *, const uint8_t **, size_t *, struct str *) = {
      [BLANK] = stage_blank,
      [BLANK_LF] = stage_blank_lf,
      [HEAD] = stage_head,
      [LENGTH] = stage_length,
      [UNTIL_CLOSE] = stage_until_close,
      [CHUNK_LINE] = stage_chunk_line,
      [CHUNK_DATA] = stage_chunk_data,
      [CHUNK_CR] = stage_chunk_cr,
      [CHUNK_LF] = stage_chunk_lf,
      [TRAILERS] = stage_trailers,
      [END] = stage_end,
      [FAILED] = stage_failed,
  };
  for (;;) {
    int e = stages[p->stage](p, data, n, span);
    if (e != AGAIN) return (enum parse_event)e;
  }
}

enum parse_event http_parser_eof(struct http_parser *p) {
  if (p->stage == FAILED) return PARSE_ERROR;
  if (p->stage == END || p->stage == UNTIL_CLOSE) {
    p->stage = END;
    return PARSE_END;
  }
  if (!http_parser_started(p)) return PARSE_MORE;
  return (enum parse_event)fail(
      p, 400,
      p->stage <= HEAD ? "the peer closed within the head" : "the peer closed within the body (RFC 9112 section 8)");
}

bool http_parser_at_end(const struct http_parser *p) { return p->stage == END; }

uint64_t http_parser_passable(const struct http_parser *p) { return p->stage == LENGTH ? p->body_left : 0; }

void http_parser_passed(struct http_parser *p, size_t n) {
  assert(n <= http_parser_passable(p));
  p->body_left -= n;
  if (p->body_left == 0) p->stage = END;
}

struct str http_parser_first_line(const struct http_parser *p) {
  struct str s = {(const char *)p->gathered, 0};
  while (s.n < p->ngathered && s.p[s.n] != '\r' && s.p[s.n] != '\n') s.n++;
  return s;
}

bool http_parser_started(const struct http_parser *p) { return p->stage > HEAD || p->ngathered > 0; }
