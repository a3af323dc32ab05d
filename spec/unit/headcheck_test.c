/* headcheck_test.c: the verdict on raw heads, however they are cut. */
#include "http/headcheck.h"

#include <stdio.h>
#include <string.h>

#include "check.h"

static const struct headcheck_limits roomy = {1 << 16, 1 << 10, 1 << 20};

enum { FIELDS_MAX = 8 };

/* The notes on a head that is done are of all its lines, in order. */
static void check_notes(const char *p, const struct headcheck *c) {
  uint32_t at = c->kind == HEADCHECK_TRAILERS ? 0 : c->line + 2;
  for (uint32_t i = 0; i < c->fields; i++) {
    const struct headcheck_field *f = &c->table[i];
    CHECK(f->name == at && f->value > at + 1 && f->end >= f->value);
    CHECK(memchr(p + at, ':', f->value - at) == p + f->value - 1);
    CHECK(memchr(p + at, '\r', c->total - at) == p + f->end);
    at = f->end + 2;
  }
  CHECK(c->total == at + 2);
}

/* Feeds `step` bytes at a time behind a first piece, with a table of room for `room` lines more each time it is full (0: without one). Returns the
 * status of the fault, 0 for DONE (then *used is where), -1 for MORE. */
static int verdict(enum headcheck_kind kind, const char *p, size_t n, size_t first, size_t step, uint32_t room,
                   size_t *used, const char **text) {
  struct headcheck c;
  struct headcheck_field table[FIELDS_MAX];
  size_t at = 0, piece = first < n ? first : n;
  headcheck_init(&c, kind, &roomy);
  if (room > 0) headcheck_table(&c, table, room);
  *text = NULL;
  while (at < n) {
    uint8_t *copy = malloc(piece);
    size_t took;
    CHECK(copy != NULL);
    memcpy(copy, p + at, piece);
    enum headcheck_result r = headcheck_feed(&c, copy, piece, &took);
    free(copy);
    at += took;
    *used = at;
    CHECK(c.total == at);
    *text = c.fault;
    if (r == HEADCHECK_DONE && room > 0) check_notes(p, &c);
    if (r == HEADCHECK_DONE) return 0;
    if (r == HEADCHECK_REFUSED) return c.fault_status;
    if (r == HEADCHECK_FULL) {
      CHECK(c.fields == c.table_cap && c.table_cap + room <= FIELDS_MAX);
      headcheck_table(&c, table, c.table_cap + room);
    } else {
      CHECK(took == piece);
    }
    piece = n - at < step ? n - at : step;
  }
  return -1;
}

static void check_head(enum headcheck_kind kind, const char *p, size_t n, int expected, size_t end) {
  size_t used = 0, used2 = 0;
  const char *text, *text2;
  int v = verdict(kind, p, n, n, n, 0, &used, &text);
  if (v != expected) fprintf(stderr, "%.*s: %d, expected %d\n", (int)n, p, v, expected);
  CHECK(v == expected && (v != 0 || used == end));
  CHECK((v > 0) == (text != NULL));
  for (uint32_t room = 0; room < 4; room++) {
    CHECK(verdict(kind, p, n, 1, 1, room, &used2, &text2) == v && used == used2 && text == text2);
    for (size_t cut = 1; cut <= n; cut++)
      CHECK(verdict(kind, p, n, cut, n, room, &used2, &text2) == v && used == used2 && text == text2);
  }
}
#define HEAD(kind, text, expected) check_head(kind, text, sizeof(text) - 1, expected, sizeof(text) - 1)

static void accepts_heads(void) {
  HEAD(HEADCHECK_REQUEST, "GET / HTTP/1.1\r\n\r\n", 0);
  HEAD(HEADCHECK_REQUEST, "GET / HTTP/1.1\r\na:\r\nb: c\r\nd:\te \xff\r\n\r\n", 0);
  HEAD(HEADCHECK_REQUEST,
       "GET /a/rather/long/target?with=a&query HTTP/1.0\r\nX_y.z: 1\r\nAccept-Language-And-More: en\r\n\r\n", 0);
  HEAD(HEADCHECK_RESPONSE, "HTTP/1.1 200\r\n\r\n", 0);
  HEAD(HEADCHECK_RESPONSE, "HTTP/1.1 200 \r\n\r\n", 0);
  HEAD(HEADCHECK_RESPONSE, "HTTP/1.1 200 All is well\r\nA: b\r\n\r\n", 0);
  HEAD(HEADCHECK_TRAILERS, "\r\n", 0);
  HEAD(HEADCHECK_TRAILERS, "A: b\r\n\r\n", 0);
  check_head(HEADCHECK_REQUEST, "GET / HTTP/1.1\r\n\r\nmore", 22, 0, 18);
  HEAD(HEADCHECK_REQUEST, "GET / HTTP/1.1\r\nA: b\r\n", -1);
}

static void refuses_heads(void) {
  HEAD(HEADCHECK_REQUEST, "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400);
  HEAD(HEADCHECK_REQUEST, "GET / HTTP/1.1\nA: b\r\n\r\n", 400);
  HEAD(HEADCHECK_REQUEST, "GET / HTTP/1.1\r\n\rX", 400);
  HEAD(HEADCHECK_REQUEST, "GET / HTTP/1.1\r\nA\r\n\r\n", 400);
  HEAD(HEADCHECK_REQUEST, "GET  / HTTP/1.1\r\n\r\n", 400);
  HEAD(HEADCHECK_REQUEST, "GET /  HTTP/1.1\r\n\r\n", 400);
  HEAD(HEADCHECK_REQUEST, "\r\n", 400);
  HEAD(HEADCHECK_REQUEST, "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM", 501);
  HEAD(HEADCHECK_RESPONSE, "HTTP/1.1 20\r\n\r\n", 400);
  HEAD(HEADCHECK_RESPONSE, "HTTP/1.1 2000\r\n\r\n", 400);
  HEAD(HEADCHECK_RESPONSE, "HTTP/1.1 200 a\x02\r\n\r\n", 400);
  HEAD(HEADCHECK_TRAILERS, " A: b\r\n\r\n", 400);
  HEAD(HEADCHECK_TRAILERS, "\n", 400);
}

static void limits_do_not_depend_on_the_cut(void) {
  static const struct {
    struct headcheck_limits l;
    int status;
  } cases[] = {{{14, 2, 28}, 0}, {{13, 2, 28}, 414}, {{14, 1, 28}, 431}, {{14, 2, 27}, 431}, {{14, 2, 10}, 431}};
  static const char head[] = "GET / HTTP/1.1\r\nA:b\r\nC:\r\n\r\n"; /* a start line of 14, 27 bytes and one */
  size_t n = sizeof head - 1, took;
  CHECK(n == 27);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct headcheck_limits l = cases[i].l;
    if (l.total >= 27) l.total--; /* 27 holds it, 26 does not */
    for (size_t cut = 0; cut < n; cut++) {
      struct headcheck c;
      headcheck_init(&c, HEADCHECK_REQUEST, &l);
      enum headcheck_result r = headcheck_feed(&c, (const uint8_t *)head, cut, &took);
      if (r == HEADCHECK_MORE) r = headcheck_feed(&c, (const uint8_t *)head + cut, n - cut, &took);
      CHECK(cases[i].status == 0 ? r == HEADCHECK_DONE : r == HEADCHECK_REFUSED && c.fault_status == cases[i].status);
    }
  }
}

int main(void) {
  RUN(accepts_heads);
  RUN(refuses_heads);
  RUN(limits_do_not_depend_on_the_cut);
  return 0;
}
