/* parent_test.c: parent proxies: their URLs and credentials, and which of them the environment names for which server. */
#include "http/parent.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "net/no_proxy.h"
#include "token/secret.h"

static struct parent *parse(const char *text) {
  const char *why;
  struct parent *p = parent_parse(str_of(text), NULL, &why);
  CHECK((p == NULL) == (why != NULL));
  return p;
}

static void check_authorization(struct parent *p, const char *expected) {
  struct buf b;
  buf_init(&b);
  b.sensitive = true;
  CHECK(parent_add_authorization(p, &b) == 0);
  CHECK(str_eq(buf_str(&b), str_of(expected)));
  buf_fini(&b);
}

static void reads_urls(void) {
  struct parent *p = parse("HTTP://Proxy.example:3128/");
  CHECK(strcmp(parent_host(p), "Proxy.example") == 0 && parent_port(p) == 3128 && !parent_has_credentials(p));
  CHECK(strcmp(parent_where(p), "http://Proxy.example:3128") == 0);
  check_authorization(p, "");
  parent_unref(p);
  p = parse("http://us%65r:p%3Aw%20d@[::1]:80");
  CHECK(strcmp(parent_host(p), "::1") == 0 && parent_port(p) == 80);
  CHECK(strcmp(parent_where(p), "http://[::1]") == 0);
  check_authorization(p, "Proxy-Authorization: Basic dXNlcjpwOncgZA==\r\n"); /* user:p:w d */
  parent_unref(p);
  p = parse("http://u:a@b/c?@h:1"); /* who writes a password as it is has not heard of % */
  check_authorization(p, "Proxy-Authorization: Basic dTphQGIvYz8=\r\n");
  parent_unref(p);
  p = parse("http://u@h:1");
  check_authorization(p, "Proxy-Authorization: Basic dTo=\r\n");
  parent_unref(p);
}

static void refuses_what_is_no_proxy(void) {
  static const char *const bad[] = {"",
                                    "proxy:3128",
                                    "http://",
                                    "http://proxy",
                                    "http://proxy:0",
                                    "http://proxy:70000",
                                    "http://proxy:3128/x",
                                    "http://proxy:3128?x",
                                    "http://pro xy:3128",
                                    "http://u%3Av:p@proxy:3128",
                                    "http://u:p%4@proxy:3128",
                                    "https://proxy:3128",
                                    "socks5://proxy:1080",
                                    "ftp://proxy:21"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(parse(bad[i]) == NULL);
}

static void takes_credentials_apart_from_the_url(void) {
  const char *why;
  struct secret *password = secret_bytes(STR("p"), "password", NULL), *basic = parent_basic(STR("u"), password);
  CHECK(parent_parse(STR("http://x@h:1"), basic, &why) == NULL);
  struct parent *p = parent_parse(STR("http://h:1"), basic, &why), *same = parse("http://u:p@H:1");
  struct parent *other = parse("http://u:q@h:1"), *none = parse("http://h:1"), *port = parse("http://u:p@h:2");
  CHECK(parent_same(p, same) && parent_same(p, p) && parent_same(NULL, NULL));
  CHECK(!parent_same(p, other) && !parent_same(p, none) && !parent_same(p, port) && !parent_same(p, NULL));
  CHECK(parent_fix(p) == 0 && parent_same(p, same));
  secret_unref(password);
  secret_unref(basic);
  check_authorization(p, "Proxy-Authorization: Basic dTpw\r\n");
  struct parent *all[] = {p, same, other, none, port};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) parent_unref(all[i]);
}

static int unread(void *data, struct str *bytes) {
  (void)data, (void)bytes;
  return ERR_SECRET_SOURCE;
}
static void nothing(void *data) { (void)data; }

static void says_that_its_password_cannot_be_read(void) {
  static const struct secret_source_ops ops = {.read = unread, .free = nothing};
  const char *why;
  struct secret *password = secret_source(&ops, NULL, "file x"), *basic = parent_basic(STR("u"), password);
  struct parent *p = parent_parse(STR("http://h:1"), basic, &why);
  struct buf b;
  buf_init(&b);
  b.sensitive = true;
  CHECK(parent_error(p) == ERR_SECRET_SOURCE && parent_fix(p) == ERR_SECRET_SOURCE);
  CHECK(parent_add_authorization(p, &b) == ERR_SECRET_SOURCE && b.n == 0);
  buf_fini(&b);
  parent_unref(p);
  secret_unref(password);
  secret_unref(basic);
}

static void knows_whom_no_proxy_names(void) {
  static const struct {
    const char *list, *host;
    unsigned port;
    bool named;
  } cases[] = {
      {"", "a.example", 80, false},
      {"*", "a.example", 80, true},
      {"x, *", "a.example", 80, true},
      {"example.com", "example.com", 80, true},
      {"example.com", "EXAMPLE.com.", 80, true},
      {"example.com", "a.b.example.com", 80, true},
      {"example.com", "anexample.com", 80, false},
      {".example.com", "example.com", 80, true},
      {".example.com", "a.example.com", 80, true},
      {"*.example.com", "a.example.com", 80, true},
      {"*.example.com", "example.com", 80, false},
      {"example.com.", "a.example.com", 80, true},
      {" a , b\tc,,d ", "c", 80, true},
      {" a , b\tc,,d ", "d", 80, true},
      {"example.com:8080", "a.example.com", 8080, true},
      {"example.com:8080", "a.example.com", 80, false},
      {"*.example.com:80", "a.example.com", 80, true},
      {"10.0.0.7", "10.0.0.7", 80, true},
      {"10.0.0.7", "10.0.0.70", 80, false},
      {"10.0.0.7:443", "10.0.0.7", 443, true},
      {"10.0.0.7:443", "10.0.0.7", 80, false},
      {"10.0.0.0/8", "10.200.3.4", 80, true},
      {"10.0.0.1/8", "10.200.3.4", 80, true},
      {"10.0.0.0/8", "11.0.0.1", 80, false},
      {"7", "10.0.0.7", 80, false},
      {"fd00::/8", "fd12::1", 80, true},
      {"fd00::/8", "fe80::1", 80, false},
      {"::1", "::1", 80, true},
      {"[::1]", "::1", 80, true},
      {"[::1]:443", "::1", 443, true},
      {"[::1]:443", "::1", 80, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    bool named = no_proxy_names(str_of(cases[i].list), str_of(cases[i].host), (uint16_t)cases[i].port);
    if (named != cases[i].named) fprintf(stderr, "%s: %s:%u\n", cases[i].list, cases[i].host, cases[i].port);
    CHECK(named == cases[i].named);
  }
  CHECK(no_proxy_is_here(STR("localhost")) && no_proxy_is_here(STR("LOCALHOST.")) && no_proxy_is_here(STR("::1")));
  CHECK(no_proxy_is_here(STR("127.3.0.1")) && !no_proxy_is_here(STR("128.0.0.1")) && !no_proxy_is_here(STR("here")));
}

static const char *const NAMES[] = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy",   "ALL_PROXY",
                                    "all_proxy",  "NO_PROXY",   "no_proxy",    "REQUEST_METHOD"};

/* variables: "NAME=value", NULL behind the last. */
static struct parents *with(const char *const *variables) {
  char why[300];
  for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) CHECK(unsetenv(NAMES[i]) == 0);
  for (; *variables != NULL; variables++) {
    char name[32];
    size_t n = strcspn(*variables, "=");
    CHECK(n < sizeof name);
    memcpy(name, *variables, n);
    name[n] = '\0';
    CHECK(setenv(name, *variables + n + 1, 1) == 0);
  }
  return parents_of_environment(why, sizeof why);
}
#define WITH(...) with((const char *const[]){__VA_ARGS__, NULL})

static bool is(const struct parents *p, bool tls, const char *host, const char *where) {
  struct parent *one = parents_for(p, tls, str_of(host), tls ? 443 : 80);
  return where == NULL ? one == NULL : one != NULL && strcmp(parent_where(one), where) == 0;
}

static void reads_the_environment(void) {
  struct parents *p = WITH("HTTPS_PROXY=http://s:1", "HTTP_PROXY=p:2");
  CHECK(is(p, true, "x", "http://s:1") && is(p, false, "x", "http://p:2"));
  CHECK(is(p, true, "localhost", NULL) && is(p, false, "127.0.0.1", NULL) && is(NULL, true, "x", NULL));
  CHECK(parents_from_environment(p) && strcmp(parents_where(p), "environment") == 0);
  parents_unref(p);
  p = WITH("HTTPS_PROXY=http://s:1", "https_proxy=http://low:1", "ALL_PROXY=http://all:3", "no_proxy=.in");
  CHECK(is(p, true, "x", "http://low:1") && is(p, false, "x", "http://all:3") && is(p, true, "x.in", NULL));
  parents_unref(p);
  p = WITH("http_proxy=", "HTTP_PROXY=http://p:2", "NO_PROXY=*");
  CHECK(is(p, false, "x", NULL) && is(p, true, "x", NULL));
  parents_unref(p);
  p = WITH("HTTP_PROXY=http://client:2", "REQUEST_METHOD=GET"); /* of a CGI program it is what a client said */
  CHECK(is(p, false, "x", NULL));
  parents_unref(p);
  CHECK(WITH("HTTPS_PROXY=socks5://s:1") == NULL && WITH("all_proxy=http://a") == NULL);
  p = WITH("X=y");
  CHECK(is(p, true, "x", NULL));
  parents_unref(p);
}

static void holds_for_all_servers_when_it_is_named(void) {
  struct parent *one = parse("http://p:1");
  struct parents *p = parents_one(one);
  parent_unref(one);
  CHECK(is(p, true, "localhost", "http://p:1") && is(p, false, "x", "http://p:1") && parents_fix(p) == 0);
  CHECK(!parents_from_environment(p) && strcmp(parents_where(p), "http://p:1") == 0);
  parents_unref(parents_ref(p));
  parents_unref(p);
}

int main(void) {
  RUN(reads_urls);
  RUN(refuses_what_is_no_proxy);
  RUN(takes_credentials_apart_from_the_url);
  RUN(says_that_its_password_cannot_be_read);
  RUN(knows_whom_no_proxy_names);
  RUN(reads_the_environment);
  RUN(holds_for_all_servers_when_it_is_named);
  return 0;
}
