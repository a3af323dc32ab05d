/* headcheck_fuzz.c: the raw check must not care how a head is cut, and what it lets through must look as it promises to a naive reader.
 * Input: a byte for the kind, a byte for the cut, the head. Build with -fsanitize=fuzzer,address; seeds in seeds/headcheck. */
#include <string.h>

#include "../unit/check.h"
#include "http/headcheck.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { FIELDS_MAX = 20 };

static enum headcheck_result feed(enum headcheck_kind kind, const uint8_t *p, size_t n, size_t first, size_t step,
                                  uint32_t room, struct headcheck *c, size_t *end) {
  static const struct headcheck_limits limits = {200, FIELDS_MAX, 2000};
  static struct headcheck_field table[FIELDS_MAX + 8];
  enum headcheck_result r = HEADCHECK_MORE;
  size_t at = 0, piece = first < n ? first : n;
  headcheck_init(c, kind, &limits);
  if (room > 0) headcheck_table(c, table, room);
  while (at < n && r == HEADCHECK_MORE) {
    uint8_t *copy = malloc(piece > 0 ? piece : 1);
    size_t used;
    CHECK(copy != NULL);
    memcpy(copy, p + at, piece);
    r = headcheck_feed(c, copy, piece, &used);
    free(copy);
    CHECK(used <= piece && (r != HEADCHECK_MORE || used == piece));
    at += used;
    if (r == HEADCHECK_FULL) {
      CHECK(c->fields == c->table_cap && c->table_cap < FIELDS_MAX);
      headcheck_table(c, table, c->table_cap + room);
      r = HEADCHECK_MORE;
      piece = n - at < step ? n - at : step;
      continue;
    }
    piece = n - at < step ? n - at : step;
  }
  *end = at;
  return r;
}

/* Every line in CRLF, no other CR, LF or NUL, no line but the start line without a colon or beginning with white space, one empty line at the end. */
static void check_shape(enum headcheck_kind kind, const uint8_t *p, size_t n, const struct headcheck *c) {
  size_t line = 0, fields = 0;
  for (size_t i = 0; i < n; i++) {
    CHECK(p[i] != 0 && (p[i] != '\n' || (i > 0 && p[i - 1] == '\r')) &&
          (p[i] != '\r' || (i + 1 < n && p[i + 1] == '\n')));
    if (p[i] != '\n') continue;
    size_t length = i - 1 - line;
    bool start = line == 0 && kind != HEADCHECK_TRAILERS;
    if (start) CHECK(length == c->line);
    if (!start && length > 0) {
      const uint8_t *colon = memchr(p + line, ':', length);
      CHECK(colon != NULL && colon > p + line);
      for (const uint8_t *name = p + line; name < colon; name++) CHECK(*name > ' ' && *name < 0x7f);
      const struct headcheck_field *f = &c->table[fields];
      CHECK(f->name == line && f->value == (size_t)(colon - p) + 1 && f->end == i - 1);
      fields++;
    }
    CHECK((length == 0) == (i + 1 == n));
    line = i + 1;
  }
  CHECK(line == n && fields == c->fields && n == c->total);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct headcheck whole, other;
  size_t end, end2;
  if (n < 3) return 0;
  enum headcheck_kind kind = (enum headcheck_kind)(data[0] % 3);
  size_t cut = 1 + data[1] % (n - 2);
  data += 2, n -= 2;
  enum headcheck_result r = feed(kind, data, n, n, n, 0, &whole, &end);
  CHECK(feed(kind, data, n, cut, n, 1 + cut % 5, &other, &end2) == r && end == end2 && whole.fault == other.fault &&
        whole.line == other.line);
  if (r == HEADCHECK_DONE) check_shape(kind, data, end, &other);
  CHECK(feed(kind, data, n, 1, 1, 2, &other, &end2) == r && end == end2 && whole.fault == other.fault &&
        whole.fields == other.fields);
  if (r == HEADCHECK_DONE) check_shape(kind, data, end, &other);
  return 0;
}
