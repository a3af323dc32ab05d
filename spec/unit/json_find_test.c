/* One string out of a JSON text. */
#include "base/json_find.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* "": it was found, and is `want`; else what is wrong. */
static const char *find(const char *text, const char *want, unsigned n, ...) {
  struct str names[4];
  va_list args;
  struct buf out;
  va_start(args, n);
  for (unsigned i = 0; i < n; i++) names[i] = str_of(va_arg(args, const char *));
  va_end(args);
  buf_init(&out);
  out.sensitive = true;
  buf_addz(&out, "before ");
  const char *wrong = json_find_string(str_of(text), names, n, &out);
  if (wrong == NULL) {
    CHECK(out.n == 7 + strlen(want) && memcmp(out.p, "before ", 7) == 0);
    wrong = memcmp(out.p + 7, want, strlen(want)) == 0 ? "" : "another string";
  } else {
    CHECK(out.n == 7);
  }
  buf_fini(&out);
  return wrong;
}
#define FINDS(...) CHECK(strcmp(find(__VA_ARGS__), "") == 0)
#define REFUSES(why, ...) CHECK(strcmp(find(__VA_ARGS__), why) == 0)

static void names_lead_inside(void) {
  FINDS("{\"a\":{\"b\":{\"c\":\"deep\"}},\"c\":\"flat\"}", "deep", 3, "a", "b", "c");
  FINDS("\"alone\"", "alone", 0);
  FINDS("\xef\xbb\xbf{ \"k\" :\t\"v\" }\r\n", "v", 1, "k");
  FINDS("{\"k\":\"old\",\"k\":\"new\"}", "new", 1, "k");
  FINDS("{\"\\u006b\":\"v\"}", "v", 1, "k");
  FINDS("{\"\":\"empty\"}", "empty", 1, "");
  FINDS("{\"key\":\"-----BEGIN\\nA\\/B\\n\",\"x\":[1,-2.5e+3,true,null,{},[\"]\",\"}\"]]}", "-----BEGIN\nA/B\n", 1,
        "key");
  FINDS("{\"s\":\"\\\"\\\\\\b\\f\\r\\t\\u00e9\\u20ac\\ud83d\\ude00\xc3\xa9\"}",
        "\"\\\b\f\r\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9", 1, "s");
}

static void what_is_not_there_is_told(void) {
  REFUSES("it has no such field", "{\"ab\":\"x\",\"a\":{}}", "", 1, "b");
  REFUSES("it has no such field", "{\"ab\":\"x\"}", "", 1, "a");
  REFUSES("it has no such field", "{\"a\":\"x\"}", "", 1, "ab");
  REFUSES("it has no such field", "{\"a\":\"x\"}", "", 2, "a", "b");
  REFUSES("it has no such field", "[\"a\"]", "", 1, "a");
  REFUSES("that field is not a string", "{\"a\":1}", "", 1, "a");
  REFUSES("that field is not a string", "{\"a\":{\"b\":\"x\"}}", "", 1, "a");
}

static void what_is_not_json_is_refused(void) {
  static const char *const bad[] = {"",
                                    " ",
                                    "{",
                                    "{\"a\"}",
                                    "{\"a\":}",
                                    "{\"a\":\"x\",}",
                                    "{\"a\":\"x\"} x",
                                    "{'a':'x'}",
                                    "{a:1}",
                                    "{\"a\":\"x",
                                    "{\"a\":\"\n\"}",
                                    "{\"a\":\"\\x\"}",
                                    "{\"a\":\"\\u12\"}",
                                    "{\"a\":\"\\ud800\"}",
                                    "{\"a\":\"\\udc00\"}",
                                    "{\"a\":\"\\ud800\\u0041\"}",
                                    "{\"a\":01}",
                                    "{\"a\":1.}",
                                    "{\"a\":.5}",
                                    "{\"a\":+1}",
                                    "{\"a\":tru}",
                                    "[1,]",
                                    "[1 2]",
                                    "{\"a\":\"\xff\"}",
                                    "{\"a\":1e}",
                                    "nul",
                                    "\"\\"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (json_valid(str_of(bad[i]))) fprintf(stderr, "taken: %s\n", bad[i]);
    CHECK(!json_valid(str_of(bad[i])));
    REFUSES("it is not JSON", bad[i], "", 1, "a");
  }
  CHECK(!json_valid((struct str){"\"a\0b\"", 5}));
}

static void depth_is_bounded(void) {
  enum { DEEP = 100000 };
  char *text = malloc(2 * DEEP + 1);
  memset(text, '[', DEEP);
  memset(text + DEEP, ']', DEEP);
  CHECK(!json_valid((struct str){text, 2 * DEEP}) && json_valid((struct str){text + DEEP - 90, 180}));
  free(text);
}

int main(void) {
  RUN(names_lead_inside);
  RUN(what_is_not_there_is_told);
  RUN(what_is_not_json_is_refused);
  RUN(depth_is_bounded);
  return 0;
}
