/* moment_test.c: dates as servers write them, and percent-encoding. */
#include <string.h>

#include "base/moment.h"
#include "base/percent.h"
#include "check.h"

static const double NOW = 1796000000; /* 2026-11-30 */

static void reads_every_form(void) {
  static const struct {
    const char *text;
    double seconds;
  } cases[] = {
      {"2026-01-31T08:00:00Z", 1769846400},
      {" 2026-01-31T08:00:00z\t", 1769846400},
      {"2026-01-31t09:30:00+01:30", 1769846400},
      {"2026-01-31 03:00:00 -0500", 1769846400},
      {"2026-01-31T10:00:00+02", 1769846400},
      {"2026-01-31T08:00:00.25Z", 1769846400.25},
      {"2026-01-31T08:00:00,5UTC", 1769846400.5},
      {"2026-01-31T08:00Z", 1769846400},
      {"20260131T080000Z", 1769846400},
      {"20260131T0800Z", 1769846400},
      {"20260131T080000.5+0000", 1769846400.5},
      {"2024-02-29T00:00:00Z", 1709164800},
      {"2000-02-29T24:00:00Z", 951868800},
      {"2016-12-31T23:59:60Z", 1483228800},
      {"1970-01-01T00:00:00Z", 0},
      {"1969-12-31T23:59:59Z", -1},
      {"0000-03-01T00:00:00Z", -62162035200.0},
      {"9999-12-31T23:59:59Z", 253402300799.0},
      {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
      {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
      {"Sun Nov  6 08:49:37 1994", 784111777},
      {"Sun, 6 nov 1994 08:49:37 UTC", 784111777},
      {"Sun, 06-Nov-1994 08:49:37 +0000", 784111777},
      {"Wed, 06-Nov-76 08:49:37 GMT", 3371878177.0}, /* 50 years ahead, and no more */
      {"Sun, 06-Nov-77 08:49:37 GMT", 247654177},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    double seconds = -2;
    const char *wrong = moment_parse(str_of(cases[i].text), NOW, &seconds);
    if (wrong != NULL || seconds != cases[i].seconds) fprintf(stderr, "%s: %s %f\n", cases[i].text, wrong, seconds);
    CHECK(wrong == NULL && seconds == cases[i].seconds);
  }
}

static void says_what_is_wrong(void) {
  static const char *const cases[][2] = {
      {"", "expected a date"},
      {"soon", "expected a date"},
      {"1769846400", "expected a date"},
      {"2026-01-31", "without a time of day"},
      {"20260131", "expected a date"},
      {"2026-01-31T08:00:00", "without a zone"},
      {"2026-01-31T08:00:00.5", "without a zone"},
      {"2026-01-31T08:00:00 CET", "expected a date"},
      {"2026-01-31T08:00:00+24:00", "expected a date"},
      {"2026-01-31T08:00:00Zx", "expected a date"},
      {"2026-01-31T8:00:00Z", "expected a date"},
      {"2026-02-29T08:00:00Z", "no such date"},
      {"2100-02-29T08:00:00Z", "no such date"},
      {"2026-13-01T08:00:00Z", "no such date"},
      {"2026-00-01T08:00:00Z", "no such date"},
      {"2026-04-31T08:00:00Z", "no such date"},
      {"2026-01-31T24:00:01Z", "no such date"},
      {"2026-01-31T08:60:00Z", "no such date"},
      {"2026-01-31T08:00:61Z", "no such date"},
      {"Sun, 31 Feb 2026 08:49:37 GMT", "no such date"},
      {"Sun, 06 Nov 1994 08:49:37", "expected a date"},
      {"Sun, 06 Nov 1994 08:49:37 CET", "expected a date"},
      {"Sun, 06 Nov 1994 08:49:37 GMT, x", "expected a date"},
      {"Sun, 06 Abc 1994 08:49:37 GMT", "expected a date"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    double seconds;
    const char *wrong = moment_parse(str_of(cases[i][0]), NOW, &seconds);
    if (wrong == NULL || strstr(wrong, cases[i][1]) == NULL) fprintf(stderr, "%s: %s\n", cases[i][0], wrong);
    CHECK(wrong != NULL && strstr(wrong, cases[i][1]) != NULL);
  }
}

static void reads_no_byte_behind_the_text(void) {
  static const char whole[] = "2026-01-31T08:00:00.5+01:00";
  double seconds;
  for (size_t n = 0; n < sizeof whole - 1; n++) {
    char *text = malloc(n + 1); /* its end is where the sanitizer sees */
    CHECK(text != NULL);
    memcpy(text, whole, n);
    const char *wrong = moment_parse((struct str){text, n}, NOW, &seconds);
    CHECK((wrong == NULL) == (n == sizeof whole - 4)); /* "+01" is an offset */
    free(text);
  }
}

static void escapes_every_byte_and_back(void) {
  char escaped[PERCENT_MAX], back[PERCENT_MAX];
  size_t n;
  for (unsigned c = 0; c < 256; c++) {
    struct str s = {escaped, percent_escape_byte((unsigned char)c, escaped)};
    CHECK(percent_unescape(s, false, back, &n) && n == 1 && (unsigned char)back[0] == c);
    CHECK(s.n == 1 || (s.n == 3 && escaped[0] == '%'));
    s.n = percent_escape_form_byte((unsigned char)c, escaped);
    CHECK(percent_unescape(s, true, back, &n) && n == 1 && (unsigned char)back[0] == c);
  }
  CHECK(percent_escape_byte('~', escaped) == 1 && percent_escape_byte('*', escaped) == 3);
  CHECK(percent_escape_form_byte(' ', escaped) == 1 && escaped[0] == '+');
  CHECK(percent_escape_byte(0xe9, escaped) == 3 && memcmp(escaped, "%E9", 3) == 0);
}

static void unescapes_strictly(void) {
  static const char *const bad[] = {"%", "%4", "a%", "%4g", "%g4", "%%41"};
  char out[8];
  size_t n;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(!percent_unescape(str_of(bad[i]), false, out, &n));
  CHECK(percent_unescape(STR("a+%2f%2F"), false, out, &n) && n == 4 && memcmp(out, "a+//", 4) == 0);
  CHECK(percent_unescape(STR("a+b"), true, out, &n) && n == 3 && memcmp(out, "a b", 3) == 0);
}

int main(void) {
  RUN(reads_every_form);
  RUN(says_what_is_wrong);
  RUN(reads_no_byte_behind_the_text);
  RUN(escapes_every_byte_and_back);
  RUN(unescapes_strictly);
  return 0;
}
