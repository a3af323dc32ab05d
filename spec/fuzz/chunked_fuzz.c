/* chunked_fuzz.c: chunked bodies in any pieces, and against a naive decoder: what the parser accepts it must have decoded likewise.
 * Input: a byte for the cut, the body. Build with -fsanitize=fuzzer,address; seeds in seeds/chunked. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char head_said[] = "1.1 POST path=/ authority=a chunked keep [Host: a|Transfer-Encoding: chunked]";

/* Takes it that the lines are well-formed. Returns where the last chunk's line ends; 0: the input ends before. */
static size_t decode(struct str in, struct buf *body) {
  size_t at = 0;
  for (;;) {
    const char *lf = at < in.n ? memchr(in.p + at, '\n', in.n - at) : NULL;
    if (lf == NULL) return 0;
    char line[32] = "";
    size_t digits = 0;
    for (; digits < 16 && at + digits < in.n && strchr(";\r", in.p[at + digits]) == NULL; digits++)
      line[digits] = in.p[at + digits];
    unsigned long long size = strtoull(line, NULL, 16);
    at = (size_t)(lf - in.p) + 1;
    if (size == 0) return at;
    if (size > in.n - at || in.n - at - size < 2) return 0;
    buf_add(body, in.p + at, size);
    at += size + 2;
  }
}

static void check_body(struct feed *f, struct str in) {
  struct buf expected;
  buf_init(&expected);
  size_t end = decode(in, &expected);
  CHECK(end > 0);
  const char *said = (const char *)f->said.p + sizeof head_said - 1;
  size_t n = f->said.n - (sizeof head_said - 1);
  CHECK(memcmp(f->said.p, head_said, sizeof head_said - 1) == 0);
  if (expected.n == 0) {
    CHECK(n >= 4 && (memcmp(said, " end", 4) == 0 || memcmp(said, " tra", 4) == 0));
  } else {
    CHECK(n > expected.n + 6 && memcmp(said, " body(", 6) == 0);
    CHECK(memcmp(said + 6, expected.p, expected.n) == 0 && said[6 + expected.n] == ')');
  }
  buf_fini(&expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct buf message;
  if (n < 2) return 0;
  struct str body = {(const char *)data + 1, n - 1};
  buf_init(&message);
  buf_addz(&message, head);
  buf_adds(&message, body);
  struct feed f = {.limits = &fuzz_limits};
  fuzz_every_way(&f, buf_str(&message), sizeof head - 1 + data[0] % body.n);
  CHECK(fuzz_head_was_read(&f));
  if (f.parser.fault.text == NULL) check_body(&f, body);
  feed_done(&f);
  buf_fini(&message);
  return 0;
}
