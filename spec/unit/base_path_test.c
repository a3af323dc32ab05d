/* base_path_test.c: paths that leave an upstream's base, and locations below it. */
#include "http/base_path.h"

#include "check.h"

static void dot_segments_that_leave_are_found_however_they_are_written(void) {
  static const char *const out[] = {
      "/..",
      "/../x",
      "/../../x",
      "/a/../../x",
      "/./../x",
      "/a/./../../x",
      "/a/b/../../..",
      "/%2e%2e/x",
      "/%2E%2e/x",
      "/.%2e/x",
      "/%2e./x",
      "/..%2fx",
      "/..%2Fx",
      "/..%5cx",
      "/..\\x",
      "/\\..\\..\\x",
      "/a%2f..%2f..%2fx",
      "/a/..%2f..%2fx",
      "/%2e%2e%2fx",
      "/%2f..",
      "/%5c..",
      "/%5C%2e%2E%5cx",
      "/%252e%252e/x",
      "/%252e%252e%252fx",
      "/%25252e%25252e/x",
      "/..%255cx",
      "/%25%32%65%25%32%65/x", /* encoded twice, each byte of it */
      "/%%32%65%%32e/x",
      "/.%2%65/x",
      "/.%25%25%33%32e/x",
      "/..%25%32%66x",
      "/..%%35%63x",
      "/..%00/x", /* what is cut off or decoded once more leaves two dots */
      "/..%20/x",
      "/..%09%2f../x",
      "/..%3fx",
      "/..%23/x",
      "/%2e%2e%253fx",
      "/..;/x",
      "/..;a=b/x",
      "/.%2e;x/y",
      "/..%3b/x",
      "//../x", /* where slashes are merged */
      "/a//../../x",
      "/a/;p/../../x",
      "/a%2fb/../../x", /* one step down where %2f is no separator */
      "/a%2fb%5cc/../../x",
      "/a\\b/../../x",
      "/a%252fb%2fc/../../../x",
      "/a%2fb%2fc/../..%2f../x", /* for a server behind one that does not know %2f */
      "/a\\b/..%2f../x",
      "/a\\b%2fc%5cd/..",
  };
  for (size_t i = 0; i < sizeof out / sizeof *out; i++) {
    if (!base_path_left(str_of(out[i]))) fprintf(stderr, "stays: %s\n", out[i]);
    CHECK(base_path_left(str_of(out[i])));
  }
}

static void what_stays_is_let_through(void) {
  static const char *const in[] = {
      "",          "*",           "/",          "/a",          "/a/",          "/.",         "/./a",
      "/a/..",     "/a/../b",     "/a/b/../..", "/...",        "/..a",         "/a..",       "/a/..b/c",
      "/.a/.b",    "/a%2fb",      "/a%2f..",    "/a%2f..%2fb", "/a%5c..",      "/a%252f..",  "/%2e/a",
      "/a/%2e%2e", "/a/..;p=1/b", "/100%",      "/%",          "/%2",          "/%zz..",     "/%2e%2",
      "/a;x=../y", "/%25/a",      "/a%25",      "/v1/%252e",   "/a/b%2f../..", "/a\\..\\b",  "/...%2fx",
      "/%25%",     "/%25%3",      "/%25%32%35", "/%%%%..",     "/a%3f/..",     "/a%20/../b", "/%20/../b",
      "/a/..%3fb", "/%3fa/../b",
  };
  for (size_t i = 0; i < sizeof in / sizeof *in; i++) {
    if (base_path_left(str_of(in[i]))) fprintf(stderr, "leaves: %s\n", in[i]);
    CHECK(!base_path_left(str_of(in[i])));
  }
}

static void a_location_below_the_base_is_said_without_it(void) {
  static const struct base_path_server plain = {false, {"api.example:8080", 16}, {"/v1", 3}},
                                       tls = {true, {"API.example", 11}, {"/v1/", 4}},
                                       root = {true, {"api.example", 11}, {"", 0}};
  static const struct {
    const struct base_path_server *server;
    const char *location, *said; /* NULL: left as it is */
  } cases[] = {
      {&plain, "http://api.example:8080/v1/x?a=b#c", "/x?a=b#c"},
      {&plain, "HTTP://Api.Example:8080/v1/x", "/x"},
      {&plain, "//api.example:8080/v1/x", "/x"},
      {&plain, " /v1/x ", "/x"},
      {&plain, "/v1", "/"},
      {&plain, "/v1?q", "/?q"},
      {&plain, "/v1#f", "/#f"},
      {&plain, "/v1/", "/"},
      {&plain, "/v1/a/../b", "/a/../b"},
      {&plain, "/v1//evil.example/", "/.//evil.example/"},
      {&plain, "/v1/\\evil.example/", "/./\\evil.example/"},
      {&plain, "/v1/../x", NULL},
      {&plain, "/v1/%2e%2e/x", NULL},
      {&plain, "/v12/x", NULL},
      {&plain, "/x", NULL},
      {&plain, "x", NULL},
      {&plain, "../x", NULL},
      {&plain, "", NULL},
      {&plain, "?q", NULL},
      {&plain, "http://api.example/v1/x", NULL},
      {&plain, "https://api.example:8080/v1/x", NULL},
      {&plain, "http://api.example:8080", NULL},
      {&plain, "http://api.example:8080/x", NULL},
      {&plain, "http://api.example:8080@evil.example/v1/x", NULL},
      {&plain, "http://evil.example/v1/x", NULL},
      {&plain, "http:/v1/x", NULL},
      {&plain, "/v1/\t/x", NULL},
      {&plain, "mailto:a@b", NULL},
      {&tls, "https://api.example/v1/x", "/x"},
      {&tls, "https://api.example:443/v1/x", "/x"},
      {&tls, "https://api.example:8443/v1/x", NULL},
      {&root, "https://api.example", "/"},
      {&root, "https://api.example?q", "/?q"},
      {&root, "https://api.example/x/y", "/x/y"},
      {&root, "https://api.example//x", "/.//x"},
      {&root, "/x/y", NULL},
  };
  struct arena arena;
  arena_init(&arena, NULL, 0);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct str said = base_path_location(&arena, str_of(cases[i].location), cases[i].server);
    bool right = cases[i].said == NULL ? said.p == NULL : said.p != NULL && str_eq(said, str_of(cases[i].said));
    if (!right)
      fprintf(stderr, "%s: %.*s\n", cases[i].location, said.p != NULL ? (int)said.n : 4,
              said.p != NULL ? said.p : "none");
    CHECK(right);
  }
  arena_reset(&arena);
}

int main(void) {
  RUN(dot_segments_that_leave_are_found_however_they_are_written);
  RUN(what_stays_is_let_through);
  RUN(a_location_below_the_base_is_said_without_it);
  return 0;
}
