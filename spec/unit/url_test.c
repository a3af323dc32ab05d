/* url_test.c: absolute URLs and Host values. */
#include "net/url.h"

#include <string.h>

#include "check.h"
#include "net/reference.h"

static void splits_urls(void) {
  static const struct {
    const char *in, *host;
    unsigned port;
    bool tls, given, ipv6;
    const char *path, *query;
  } cases[] = {
      {"http://a", "a", 80, false, false, false, "", NULL},
      {"https://a", "a", 443, true, false, false, "", NULL},
      {"HTTPS://A.Example:8443/b/c?d=e&f", "A.Example", 8443, true, true, false, "/b/c", "d=e&f"},
      {"http://127.0.0.1:1/", "127.0.0.1", 1, false, true, false, "/", NULL},
      {"http://[::1]", "::1", 80, false, false, true, "", NULL},
      {"http://[2001:db8::1]:65535/x?", "2001:db8::1", 65535, false, true, true, "/x", ""},
      {"http://a?q", "a", 80, false, false, false, "", "q"},
      {"http://a/b?c?d/e", "a", 80, false, false, false, "/b", "c?d/e"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct url u;
    CHECK(url_parse(str_of(cases[i].in), &u) == NULL);
    CHECK(str_eq(u.host, str_of(cases[i].host)) && u.port == cases[i].port && u.tls == cases[i].tls);
    CHECK(u.port_given == cases[i].given && u.ipv6 == cases[i].ipv6 && u.unix_path.p == NULL);
    CHECK(u.path.p != NULL && str_eq(u.path, str_of(cases[i].path)));
    CHECK((u.query.p == NULL) == (cases[i].query == NULL));
    CHECK(u.query.p == NULL || str_eq(u.query, str_of(cases[i].query)));
  }
}

static void names_where_a_url_leads(void) {
  static const char *const cases[][2] = {
      {"http://a/b?c", "http://a"},        {"https://a:443", "https://a"},
      {"https://a:80/x", "https://a:80"},  {"http://[::1]:8080", "http://[::1]:8080"},
      {"https://[::1]/", "https://[::1]"}, {"unix:/run/x.sock:/base", "unix:/run/x.sock"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct url u;
    char out[URL_WHERE_SIZE];
    CHECK(url_parse(str_of(cases[i][0]), &u) == NULL);
    url_where(&u, out, sizeof out);
    CHECK(strcmp(out, cases[i][1]) == 0);
    url_where(&u, out, 9);
    CHECK(strncmp(out, cases[i][1], 8) == 0 && strlen(out) <= 8);
  }
}

static void splits_unix_urls(void) {
  struct url u;
  CHECK(url_parse(STR("unix:/run/x.sock"), &u) == NULL);
  CHECK(str_eq(u.unix_path, STR("/run/x.sock")) && str_eq(u.host, STR("localhost")) && u.port == 80 && u.path.n == 0 &&
        !u.tls);
  CHECK(url_parse(STR("unix:/run/a:b.sock:/base/x?y"), &u) == NULL);
  CHECK(str_eq(u.unix_path, STR("/run/a:b.sock")) && str_eq(u.path, STR("/base/x")) && str_eq(u.query, STR("y")));
  CHECK(url_parse(STR("unix:run/x.sock"), &u) != NULL);
  CHECK(url_parse(STR("unix:"), &u) != NULL);
  char text[128] = "unix:/";
  memset(text + 6, 'x', 106);
  CHECK(url_parse(str_of(text), &u) == NULL);
  text[6 + 106] = 'x';
  CHECK(url_parse(str_of(text), &u) != NULL);
}

static void refuses_urls(void) {
  static const char *const bad[] = {"",
                                    "a",
                                    "a.example.com",
                                    "a:80",
                                    "//a",
                                    "ftp://a",
                                    "http:/a",
                                    "http:a",
                                    "http://",
                                    "https://:80",
                                    "http:///a",
                                    "http://?a",
                                    "http://u@a",
                                    "http://u:p@a/",
                                    "http://a:",
                                    "http://a:0",
                                    "http://a:65536",
                                    "http://a:123456",
                                    "http://a:8o",
                                    "http://a:80:80",
                                    "http://a b",
                                    "http://a\t",
                                    "http://a/\x7f",
                                    "http://a/\xc3\xa9",
                                    "http://a/#f",
                                    "http://a#",
                                    "http://[::1",
                                    "http://[]",
                                    "http://[::1]x",
                                    "http://[a]",
                                    "http://[fe80::1%25eth0]",
                                    "http://a,b",
                                    "http://%41",
                                    "http://a\\b",
                                    "http://a]"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct url u;
    const char *why = url_parse(str_of(bad[i]), &u);
    if (why == NULL) fprintf(stderr, "accepted: %s\n", bad[i]);
    CHECK(why != NULL && why[0] != '\0');
  }
}

static void splits_hosts(void) {
  struct str host;
  uint16_t port;
  CHECK(host_split(STR("a"), &host, &port) && str_eq(host, STR("a")) && port == 0);
  CHECK(host_split(STR("a_b-c.d:80"), &host, &port) && str_eq(host, STR("a_b-c.d")) && port == 80);
  CHECK(host_split(STR("[::1]:443"), &host, &port) && str_eq(host, STR("::1")) && port == 443);
  CHECK(host_split(STR("[::ffff:192.0.2.1]"), &host, &port) && str_eq(host, STR("::ffff:192.0.2.1")) && port == 0);
  static const char *const bad[] = {"",       ":",          ":80",       "a:",  "a:0",  "a:65536",   "a:-1",
                                    "a:+1",   "a: 1",       "a:080808",  "a b", " a",   "a ",        "a,b",
                                    "a/b",    "u@a",        "a?b",       "a#b", "[::1", "::1",       "[::1]80",
                                    "[::1]:", "[::1%eth0]", "[1.2.3.4]", "[",   "[]",   "a\xc3\xa9", "a%20b",
                                    "a:1:2",  "a\\b",       "a\"b"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(!host_valid(str_of(bad[i])));
  CHECK(!host_valid((struct str){"[::1\0]", 6}) && !host_valid((struct str){"a\0b", 3}));
  char name[257];
  memset(name, 'a', sizeof name);
  CHECK(host_valid((struct str){name, 255}) && !host_valid((struct str){name, 256}));
}

/* RFC 3986 section 5.4, and what it leaves open. */
static void joins_references(void) {
  static const char base[] = "http://a/b/c/d;p?q";
  static const char *const cases[][2] = {
      {"g:h", "g:h"},
      {"g", "http://a/b/c/g"},
      {"./g", "http://a/b/c/g"},
      {"g/", "http://a/b/c/g/"},
      {"/g", "http://a/g"},
      {"//g", "http://g"},
      {"?y", "http://a/b/c/d;p?y"},
      {"g?y", "http://a/b/c/g?y"},
      {"#s", "http://a/b/c/d;p?q#s"},
      {"g#s", "http://a/b/c/g#s"},
      {"g?y#s", "http://a/b/c/g?y#s"},
      {";x", "http://a/b/c/;x"},
      {"g;x?y#s", "http://a/b/c/g;x?y#s"},
      {"", "http://a/b/c/d;p?q"},
      {".", "http://a/b/c/"},
      {"./", "http://a/b/c/"},
      {"..", "http://a/b/"},
      {"../g", "http://a/b/g"},
      {"../..", "http://a/"},
      {"../../g", "http://a/g"},
      {"../../../g", "http://a/g"},
      {"../../../../g", "http://a/g"},
      {"/./g", "http://a/g"},
      {"/../g", "http://a/g"},
      {"g.", "http://a/b/c/g."},
      {"..g", "http://a/b/c/..g"},
      {"./../g", "http://a/b/g"},
      {"./g/.", "http://a/b/c/g/"},
      {"g/../h", "http://a/b/c/h"},
      {"g;x=1/../y", "http://a/b/c/y"},
      {"g?y/../x", "http://a/b/c/g?y/../x"},
      {"g#s/../x", "http://a/b/c/g#s/../x"},
      {"http:g", "http:g"},
      {"1a:b", "http://a/b/c/1a:b"},
      {"https://x:8443/a/../b", "https://x:8443/b"},
  };
  char out[64];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t n = reference_join(STR(base), str_of(cases[i][0]), out);
    if (!str_eq((struct str){out, n}, str_of(cases[i][1]))) fprintf(stderr, "%s: %.*s\n", cases[i][0], (int)n, out);
    CHECK(str_eq((struct str){out, n}, str_of(cases[i][1])));
    CHECK(n <= sizeof base - 1 + strlen(cases[i][0]) + REFERENCE_MORE);
  }
  CHECK(str_eq((struct str){out, reference_join(STR("http://a"), STR("g"), out)}, STR("http://a/g")));
  CHECK(str_eq((struct str){out, reference_join(STR("http://a?x"), STR("?y"), out)}, STR("http://a?y")));
}

int main(void) {
  RUN(joins_references);
  RUN(splits_urls);
  RUN(names_where_a_url_leads);
  RUN(splits_unix_urls);
  RUN(refuses_urls);
  RUN(splits_hosts);
  return 0;
}
