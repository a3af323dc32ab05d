/* headcheck.c: the strict look at a head's raw bytes that comes before anything is read from them.
 *
 * Why: parsers are lenient where the web is (folds, bare LF, empty names, double spaces), each in its own way. Two that disagree about such
 * bytes are what request smuggling is made of, so they never get through here.
 *
 * Design: a state machine over byte classes, one function a state. Each function eats as much as it can in a tight loop and leaves at the first
 * byte that ends its part, so the dispatcher runs a few times a line and not once a byte. Nearly all heads come in one piece and in the usual form: for them
 * whole_start_line and whole_lines do without the states, sixteen bytes at a time, and leave to the states whatever they do not know. Limits cut the input before it is looked at, which makes the verdict a function of the bytes alone, however they
 * arrive. Where each line lies is noted on the way, so that nobody has to look for it again.
 *
 * Invariant: after DONE every line of the head ends in CRLF and no other CR or LF is in it; every field line is token ":" value.
 * Owned by whoever embeds the struct; no state outside it. */
#include "http/headcheck.h"

#include <string.h>

/* The order counts: up to REASON we are in the start line; from DONE on nothing is consumed any more. */
enum state {
  METHOD,
  TARGET,
  VERSION,
  STATUS_VERSION,
  STATUS,
  REASON,
  START_LF,
  LINE,
  NAME,
  VALUE,
  VALUE_LF,
  END_LF,
  DONE,
  REFUSED
};

/* Longer than any registered method (RFC 9112 section 3: 501 for such). */
enum { METHOD_MAX = 32 };

static inline bool is(uint8_t byte, unsigned class) { return (char_class[byte] & class) != 0; }

static const uint8_t *refuse(struct headcheck *c, const uint8_t *p, int status, const char *text) {
  c->state = REFUSED;
  c->fault_status = status;
  c->fault = text;
  return p;
}

/* The byte at p may not stand here: `otherwise` says what was expected, unless the byte itself tells more. */
static const uint8_t *refuse_byte(struct headcheck *c, const uint8_t *p, const char *otherwise) {
  /* A record of TLS begins with its kind: an alert, or a handshake. */
  if (c->at == 0 && c->state == METHOD && *p == 0x16)
    return refuse(c, p, 400, "the client speaks TLS: is it http:// that it should ask?");
  if (c->at == 0 && c->state == STATUS_VERSION && (*p == 0x15 || *p == 0x16))
    return refuse(c, p, 400, "the server answers in TLS: is it https:// there?");
  if (*p == '\n') return refuse(c, p, 400, "bare LF in the head (RFC 9112 section 2.2)");
  if (*p == '\r') return refuse(c, p, 400, otherwise);
  if (*p == 0) return refuse(c, p, 400, "NUL in the head (RFC 9110 section 5.5)");
  return refuse(c, p, 400, otherwise);
}

/* Bytes of the input in front of p. */
static inline size_t before(const struct headcheck *c, const uint8_t *p) { return (size_t)(p - c->fed); }

static const uint8_t *in_method(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  for (; p < end && is(*p, CHAR_TOKEN); p++)
    if (++c->at > METHOD_MAX) return refuse(c, p, 501, "the method is longer than any known one (RFC 9112 section 3)");
  if (p == end) return p;
  if (*p != ' ') return refuse_byte(c, p, "the method is not a token (RFC 9112 section 3.1)");
  if (c->at == 0) return refuse(c, p, 400, "white space before the request line (RFC 9112 section 2.2)");
  c->state = TARGET;
  c->at = 0;
  return p + 1;
}

static const uint8_t *in_target(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  const uint8_t *start = p;
  p += chars_span(p, (size_t)(end - p), before(c, p), CHAR_TARGET);
  if (p > start) c->at = 1;
  if (p == end) return p;
  if (*p == '\r') return refuse(c, p, 400, "a request line without a version (RFC 9112 section 3)");
  if (*p != ' ') return refuse_byte(c, p, "a byte that may not stand in a request target (RFC 9112 section 3.2)");
  if (c->at == 0) return refuse(c, p, 400, "two spaces in the request line (RFC 9112 section 3)");
  c->state = VERSION;
  c->at = 0;
  return p + 1;
}

/* "HTTP/" DIGIT "." DIGIT; which versions are served is for the parser to say. */
static bool version_byte(unsigned at, uint8_t byte) {
  static const char form[] = "HTTP/1.1";
  if (at == 5 || at == 7) return byte >= '0' && byte <= '9';
  return byte == (uint8_t)form[at];
}

static const uint8_t *in_version(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  if (c->at == 0 && end - p > 8 && memcmp(p, "HTTP/1.1\r", 9) == 0) {
    c->state = START_LF;
    return p + 9;
  }
  for (; p < end && c->at < 8; p++, c->at++) {
    if (*p == ' ') return refuse(c, p, 400, "more than two spaces in the request line (RFC 9112 section 3)");
    if (!version_byte(c->at, *p))
      return refuse_byte(c, p, "no HTTP version at the end of the request line (RFC 9112 section 2.3)");
  }
  if (p == end) return p;
  if (*p != '\r') return refuse_byte(c, p, "bytes behind the version (RFC 9112 section 3)");
  c->state = START_LF;
  return p + 1;
}

static const uint8_t *in_status_version(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  if (c->at == 0 && end - p > 8 && memcmp(p, "HTTP/1.1 ", 9) == 0) {
    c->state = STATUS;
    return p + 9;
  }
  for (; p < end && c->at < 8; p++, c->at++)
    if (!version_byte(c->at, *p))
      return refuse_byte(c, p, "the reply does not begin with an HTTP version (RFC 9112 section 4)");
  if (p == end) return p;
  if (*p != ' ') return refuse_byte(c, p, "no space behind the version (RFC 9112 section 4)");
  c->state = STATUS;
  c->at = 0;
  return p + 1;
}

/* Three digits, 100 to 599 (RFC 9110 section 15). The space behind them is left out by some when there is no reason. */
static const uint8_t *in_status(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  for (; p < end && c->at < 3; p++, c->at++) {
    bool fine = c->at == 0 ? *p >= '1' && *p <= '5' : *p >= '0' && *p <= '9';
    if (!fine) return refuse_byte(c, p, "the status is not three digits from 100 to 599 (RFC 9110 section 15)");
  }
  if (p == end) return p;
  if (*p != ' ' && *p != '\r') return refuse_byte(c, p, "the status is longer than three digits (RFC 9112 section 4)");
  c->state = *p == ' ' ? REASON : START_LF;
  return p + 1;
}

static const uint8_t *in_reason(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  p += chars_span(p, (size_t)(end - p), before(c, p), CHAR_VALUE);
  if (p == end) return p;
  if (*p != '\r') return refuse_byte(c, p, "a control byte in the reason (RFC 9112 section 4)");
  c->state = START_LF;
  return p + 1;
}

static uint32_t offset(const struct headcheck *c, const uint8_t *p) { return c->total + (uint32_t)(p - c->fed); }

static const uint8_t *in_name(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  for (; p < end && is(*p, CHAR_TOKEN); p++) c->odd = c->odd || *p == '_' || *p == '-';
  if (p == end) return p;
  if (*p == ' ' || *p == '\t')
    return refuse(c, p, 400, "white space between a field's name and its colon (RFC 9112 section 5.1)");
  if (*p != ':') return refuse_byte(c, p, "a field name is not a token (RFC 9110 section 5.1)");
  if (c->table != NULL) c->table[c->fields - 1].value = offset(c, p + 1);
  c->state = VALUE;
  return p + 1;
}

static inline bool is_crlf(const uint8_t *p, const uint8_t *end) { return end - p >= 2 && memcmp(p, "\r\n", 2) == 0; }

/* p + n <= end, for the constant n: a comparison with a pointer that the loops keep. */
static inline bool holds(const uint8_t *p, const uint8_t *end, size_t n) { return (uintptr_t)p <= (uintptr_t)end - n; }

/* Where `stop` ends the plain name at p; NULL: there is no name, or another byte ends it. */
static inline __attribute__((always_inline)) const uint8_t *plain_name(const uint8_t *p, const uint8_t *end,
                                                                       const uint8_t *fed, char stop, unsigned *odd) {
#ifdef __SSE2__
  if (holds(p, end, 16)) { /* nearly every name ends within */
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    unsigned stops = ~(unsigned)_mm_movemask_epi8(chars_fine(v, CHAR_NAME)) & 0xffff;
    if (stops != 0) {
      unsigned dashes = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
      const uint8_t *at = p + __builtin_ctz(stops);
      *odd |= dashes & dashes >> 1; /* of the value, too: it is a hint */
      return *at == (uint8_t)stop && at > p ? at : NULL;
    }
  }
#endif
  size_t n = chars_span(p, (size_t)(end - p), (size_t)(p - fed), CHAR_NAME);
  if (n > 0 && *odd == 0) *odd = chars_odd((struct str){(const char *)p, n});
  return n > 0 && p + n < end && p[n] == (uint8_t)stop ? p + n : NULL;
}

/* The CRLF that ends the value at p; NULL: it does not lie in the input, or another byte ends the value. */
static inline __attribute__((always_inline)) const uint8_t *value_end(const uint8_t *p, const uint8_t *end,
                                                                      const uint8_t *fed) {
#ifdef __SSE2__
  for (; holds(p, end, 17); p += 16) { /* and one byte more, for the LF */
    unsigned stops = chars_controls(p);
    if (stops == 0) continue;
    p += __builtin_ctz(stops);
    if (memcmp(p, "\r\n", 2) == 0) return p;
    break;
  }
#endif
  p += chars_span(p, (size_t)(end - p), (size_t)(p - fed), CHAR_VALUE);
  return is_crlf(p, end) ? p : NULL;
}

/* Field lines of plain names that lie in the input as a whole. Stops at the first that is not one, for the states to look at. */
static const uint8_t *whole_lines(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  const uint8_t *const fed = c->fed; /* locals: the table could be anywhere */
  const uint32_t most = c->table_cap < c->limits.fields ? c->table_cap : c->limits.fields;
  const uintptr_t section = (uintptr_t)fed - c->total; /* what the notes count from */
  unsigned odd = c->odd;
  if (c->table == NULL) return p;
  struct headcheck_field *at = c->table + c->fields, *const last = c->table + most;
  for (; at < last; at++) {
    const uint8_t *colon = plain_name(p, end, fed, ':', &odd);
    if (colon == NULL) break;
    const uint8_t *cr = value_end(colon + 1, end, fed);
    if (cr == NULL) break;
    at->name = (uint32_t)((uintptr_t)p - section);
    at->value = (uint32_t)((uintptr_t)colon - section) + 1;
    at->end = (uint32_t)((uintptr_t)cr - section);
    p = cr + 2;
  }
  c->odd = odd != 0;
  c->fields = (uint32_t)(at - c->table);
  return p;
}

/* A start line of the usual form that lies in the input as a whole, with its CRLF. Otherwise p: the states look at it. */
static const uint8_t *whole_start_line(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  const uint8_t *at = p;
  unsigned odd = 0; /* of no concern here */
  if (c->kind == HEADCHECK_REQUEST) {
    const uint8_t *space = plain_name(p, end, p, ' ', &odd);
    if (space == NULL || space - p > METHOD_MAX) return p;
    at = space + 1;
    at += chars_span(at, (size_t)(end - at), (size_t)(at - p), CHAR_TARGET);
    if (at == space + 1 || end - at < 11 || memcmp(at, " HTTP/1.1\r\n", 11) != 0) return p;
    at += 9;
  } else {
    if (end - p < 15 || memcmp(p, "HTTP/1.1 ", 9) != 0 || p[9] < '1' || p[9] > '5' || p[12] != ' ') return p;
    if ((uint8_t)(p[10] - '0') > 9 || (uint8_t)(p[11] - '0') > 9) return p;
    at = value_end(p + 13, end, p);
    if (at == NULL) return p;
  }
  size_t line = (size_t)(at - p);
  if (line > c->limits.line) return p;
  c->line = (uint32_t)line;
  c->state = LINE;
  return at + 2;
}

static const uint8_t *at_line(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  if (is(*p, CHAR_TOKEN)) {
    if (c->fields == c->limits.fields) return refuse(c, p, 431, "more header fields than the limit");
    if (c->table != NULL && c->fields == c->table_cap) {
      c->full = true;
      return p;
    }
    if (c->table != NULL) c->table[c->fields].name = offset(c, p);
    c->fields++;
    c->state = NAME;
    return in_name(c, p, end);
  }
  if (*p == '\r') {
    c->state = END_LF;
    return p + 1;
  }
  if (*p == ':') return refuse(c, p, 400, "an empty field name (RFC 9110 section 5.1)");
  if (*p != ' ' && *p != '\t') return refuse_byte(c, p, "a field name is not a token (RFC 9110 section 5.1)");
  if (c->fields == 0) return refuse(c, p, 400, "white space before the first field (RFC 9112 section 2.2)");
  return refuse(c, p, 400, "a folded line (RFC 9112 section 5.2)");
}

static const uint8_t *in_value(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  p += chars_span(p, (size_t)(end - p), before(c, p), CHAR_VALUE);
  if (p == end) return p;
  if (*p != '\r') return refuse_byte(c, p, "a control byte in a field's value (RFC 9110 section 5.5)");
  if (c->table != NULL) c->table[c->fields - 1].end = offset(c, p);
  if (end - p > 1 && p[1] == '\n') { /* spares the usual line a turn of the dispatcher */
    c->state = LINE;
    return p + 2;
  }
  c->state = VALUE_LF;
  return p + 1;
}

static const uint8_t *at_lf(struct headcheck *c, const uint8_t *p, enum state next) {
  if (*p != '\n') return refuse(c, p, 400, "bare CR in the head (RFC 9112 section 2.2)");
  c->state = (uint8_t)next;
  return p + 1;
}

/* One part of the head; p < end. */
static inline const uint8_t *step(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  switch ((enum state)c->state) {
    case METHOD: return in_method(c, p, end);
    case TARGET: return in_target(c, p, end);
    case VERSION: return in_version(c, p, end);
    case STATUS_VERSION: return in_status_version(c, p, end);
    case STATUS: return in_status(c, p, end);
    case REASON: return in_reason(c, p, end);
    case LINE: return at_line(c, p, end);
    case NAME: return in_name(c, p, end);
    case VALUE: return in_value(c, p, end);
    case START_LF: return at_lf(c, p, LINE);
    case VALUE_LF: return at_lf(c, p, LINE);
    case END_LF: return at_lf(c, p, DONE);
    case DONE:
    case REFUSED: break;
  }
  return p;
}

/* The start line up to its CR, or up to the limit. */
static const uint8_t *start_line(struct headcheck *c, const uint8_t *p, const uint8_t *end) {
  const uint8_t *from = p, *stop = end;
  size_t room = c->limits.line - c->line;
  if ((size_t)(end - p) > room) stop = p + room;
  while (p < stop && c->state <= REASON) p = step(c, p, stop);
  c->line += (uint32_t)(p - from) - (c->state == START_LF ? 1 : 0);
  if (p == end || p < stop || c->state > REASON) return p;
  if (*p != '\r' && *p != '\n')
    return refuse(c, p, 414, "the request line is longer than the limit (RFC 9112 section 3)");
  return step(c, p, p + 1);
}

void headcheck_init(struct headcheck *c, enum headcheck_kind kind, const struct headcheck_limits *limits) {
  *c = (struct headcheck){.kind = (uint8_t)kind, .limits = *limits};
  c->state = kind == HEADCHECK_REQUEST ? METHOD : kind == HEADCHECK_RESPONSE ? STATUS_VERSION : LINE;
}

void headcheck_table(struct headcheck *c, struct headcheck_field *table, uint32_t cap) {
  c->table = table;
  c->table_cap = cap;
  c->full = false;
}

enum headcheck_result headcheck_feed(struct headcheck *c, const uint8_t *p, size_t n, size_t *consumed) {
  const uint8_t *at = p, *end = p + n;
  size_t room = c->limits.total - c->total;
  if (n > room) end = p + room;
  c->fed = p;
  if (c->total == 0 && c->kind != HEADCHECK_TRAILERS) at = whole_start_line(c, at, end);
  if (c->state <= REASON) at = start_line(c, at, end);
  if (c->state == LINE) at = whole_lines(c, at, end);
  if (c->state == LINE && is_crlf(at, end)) {
    c->state = DONE;
    at += 2;
  }
  while (at < end && c->state < DONE && !c->full) at = step(c, at, end);
  c->total += (uint32_t)(at - p);
  *consumed = (size_t)(at - p);
  if (n > room && at == end && c->state < DONE)
    refuse(c, at, 431, "the head is longer than the limit (RFC 6585 section 5)");
  if (c->full) return HEADCHECK_FULL;
  return c->state == DONE ? HEADCHECK_DONE : c->state == REFUSED ? HEADCHECK_REFUSED : HEADCHECK_MORE;
}
