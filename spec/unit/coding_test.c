/* coding_test.c: what a Content-Encoding names, and undoing it: whole, in members, cut short, damaged, and too large. */
#include "http/coding.h"

#include <string.h>
#include <zlib.h>

#include "base/err.h"
#include "check.h"

static char text[200000];

/* bits: 31 gzip, 15 zlib, -15 bare deflate. */
static void pack(struct buf *out, int bits, const char *p, size_t n) {
  z_stream z = {0};
  CHECK(deflateInit2(&z, 6, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  z.next_in = (unsigned char *)(uintptr_t)p;
  z.avail_in = (unsigned)n;
  size_t room = deflateBound(&z, n) + 64;
  z.next_out = buf_reserve(out, room);
  z.avail_out = (unsigned)room;
  CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out->n += room - z.avail_out;
  (void)deflateEnd(&z);
}

static int undo(enum coding coding, struct str in, size_t max, struct str expected) {
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  int rc = coding_undo(coding, in, max, &out);
  CHECK(rc != 0 || str_eq(buf_str(&out), expected));
  CHECK(rc != ERR_LIMIT || out.n <= max + 1);
  buf_fini(&out);
  return rc;
}

static enum coding named(const char *a, const char *b) {
  struct arena arena;
  struct headers h;
  arena_init(&arena, NULL, 0);
  headers_init(&h, &arena);
  headers_add(&h, STR("content-type"), STR("text/plain"));
  headers_add(&h, STR("Content-Encoding"), str_of(a));
  if (b != NULL) headers_add(&h, STR("content-encoding"), str_of(b));
  enum coding c = coding_of(&h);
  arena_reset(&arena);
  return c;
}

static void a_coding_is_named_by_its_field(void) {
  CHECK(named("gzip", NULL) == CODING_GZIP && named("X-GZip", NULL) == CODING_GZIP);
  CHECK(named(" Deflate ", NULL) == CODING_DEFLATE && named("identity", NULL) == CODING_NONE);
  CHECK(named("", NULL) == CODING_NONE && named(" , identity,", NULL) == CODING_NONE);
  CHECK(named("identity, gzip", NULL) == CODING_GZIP && named("gzip", "identity") == CODING_GZIP);
  CHECK(named("br", NULL) == CODING_UNKNOWN && named("gzip, br", NULL) == CODING_UNKNOWN);
  CHECK(named("gzip", "gzip") == CODING_UNKNOWN && named("gzip;q=1", NULL) == CODING_UNKNOWN);
}

static void each_format_is_read(void) {
  static const struct {
    int bits;
    enum coding coding;
  } cases[] = {{31, CODING_GZIP}, {15, CODING_DEFLATE}, {-15, CODING_DEFLATE}};
  static const size_t sizes[] = {0, 1, 100, 16384, 16385, sizeof text};
  for (size_t i = 0; i < 3; i++) {
    for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
      struct buf in;
      buf_init(&in);
      struct str plain = {text, sizes[j]};
      pack(&in, cases[i].bits, text, sizes[j]);
      CHECK(undo(cases[i].coding, buf_str(&in), sizes[j], plain) == 0);
      CHECK(undo(cases[i].coding, buf_str(&in), 2 * sizeof text, plain) == 0);
      if (sizes[j] > 0) CHECK(undo(cases[i].coding, buf_str(&in), sizes[j] - 1, plain) == ERR_LIMIT);
      buf_fini(&in);
    }
  }
  CHECK(undo(CODING_GZIP, (struct str){"", 0}, 0, (struct str){"", 0}) == 0);
}

static void members_are_one_text_and_padding_is_passed_over(void) {
  struct buf in;
  buf_init(&in);
  pack(&in, 31, "ab", 2);
  pack(&in, 31, "cd", 2);
  CHECK(undo(CODING_GZIP, buf_str(&in), 4, STR("abcd")) == 0);
  CHECK(undo(CODING_GZIP, buf_str(&in), 3, STR("abc")) == ERR_LIMIT);
  buf_add(&in, "\0\0\0\0", 4);
  CHECK(undo(CODING_GZIP, buf_str(&in), 4, STR("abcd")) == 0);
  buf_fini(&in);
}

static void what_is_cut_short_or_damaged_is_told(void) {
  struct buf in;
  buf_init(&in);
  pack(&in, 31, text, 5000);
  struct str whole = buf_str(&in);
  for (size_t n = 1; n < whole.n; n++) CHECK(undo(CODING_GZIP, (struct str){whole.p, n}, 5000, whole) == ERR_TRUNCATED);
  in.p[in.n - 8] ^= 1; /* the checksum */
  CHECK(undo(CODING_GZIP, buf_str(&in), 5000, whole) == ERR_PROTOCOL);
  CHECK(undo(CODING_GZIP, STR("{\"access_token\":1}"), 5000, whole) == ERR_PROTOCOL);
  CHECK(undo(CODING_DEFLATE, STR("{\"access_token\":1}"), 5000, whole) != 0);
  buf_fini(&in);
}

static void a_bomb_costs_its_bound_only(void) {
  struct buf in;
  static char zeros[8 << 20];
  buf_init(&in);
  pack(&in, 31, zeros, sizeof zeros);
  CHECK(in.n < 16384);
  CHECK(undo(CODING_GZIP, buf_str(&in), 65536, STR("")) == ERR_LIMIT);
  buf_fini(&in);
}

int main(void) {
  unsigned x = 1;
  for (size_t i = 0; i < sizeof text; i++) text[i] = (char)((x = x * 1103515245 + 12345) >> 28);
  RUN(a_coding_is_named_by_its_field);
  RUN(each_format_is_read);
  RUN(members_are_one_text_and_padding_is_passed_over);
  RUN(what_is_cut_short_or_damaged_is_told);
  RUN(a_bomb_costs_its_bound_only);
  return 0;
}
