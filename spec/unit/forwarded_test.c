/* forwarded_test.c: what the upstream is told of the client. */
#include "http/forwarded.h"

#include "check.h"

static struct arena arena;
static struct headers list;

static void begin(void) {
  arena_init(&arena, NULL, 0);
  headers_init(&list, &arena);
}
static void add(const char *name, const char *value) { headers_add(&list, str_of(name), str_of(value)); }

static bool is(const char *name, const char *value) {
  struct header *f = headers_find(&list, str_of(name));
  if (value == NULL) return f == NULL;
  unsigned n = 0;
  for (unsigned i = 0; i < list.n; i++) n += list.v[i].name.p != NULL && str_ieq(list.v[i].name, str_of(name));
  if (n == 1 && !str_eq(f->value, str_of(value))) fprintf(stderr, "%s: %.*s\n", name, STR_FMT(f->value));
  return n == 1 && str_eq(f->value, str_of(value));
}

static void client_says(void) {
  add("X-Forwarded-For", "10.0.0.1"), add("x-forwarded-for", "10.0.0.2"), add("X-Forwarded-Proto", "https"),
      add("X-Forwarded-Host", "evil");
  add("Forwarded", "for=10.0.0.1"), add("X_Forwarded_For", "twin"), add("X-Forwarded_Proto", "twin");
}

/* What frameworks and front ends look at beside the four. */
static const char *const others[] = {"X-Real-IP",
                                     "x-real_ip",
                                     "X__Real-Ip",
                                     "X-Forwarded-Port",
                                     "X-Forwarded-Prefix",
                                     "X-Forwarded-Server",
                                     "X-Forwarded",
                                     "X-Forwarded-Ssl",
                                     "X_Forwarded_Port",
                                     "X-Forwarded-User",
                                     "X-Client-IP",
                                     "X-Cluster-Client-IP",
                                     "True-Client-IP",
                                     "CF-Connecting-IP",
                                     "Fastly-Client-IP",
                                     "X-Forwarded--For",
                                     "X-Forwarded-Client-Cert-And-What-Is-Longer",
                                     "Client-IP",
                                     "CF-Connecting-IPv6",
                                     "CF-Visitor",
                                     "CloudFront-Forwarded-Proto",
                                     "CloudFront-Viewer-Address",
                                     "Fastly-SSL",
                                     "Fly-Client-IP",
                                     "Front-End-Https",
                                     "Front_End__Https",
                                     "Proxy-Client-IP",
                                     "WL-Proxy-Client-IP",
                                     "X-AppEngine-User-IP",
                                     "X-Azure-ClientIP",
                                     "X-Azure-SocketIP",
                                     "X-Envoy-External-Address",
                                     "X-Original-For",
                                     "X-Original-Forwarded-For",
                                     "X-Original-Host",
                                     "X-Original-Proto",
                                     "X-Original-URI",
                                     "X-Original-URL",
                                     "X_Original_URL",
                                     "X-Originating-IP",
                                     "X-ProxyUser-Ip",
                                     "X-Real-Port",
                                     "X-Remote-Addr",
                                     "X-Remote-IP",
                                     "X-Rewrite-URL",
                                     "X-Scheme",
                                     "X-Url-Scheme",
                                     "X-Vercel-Forwarded-For"};
enum { OTHERS = sizeof others / sizeof *others };
/* Names that are near, and none of them. */
static const char *const strangers[] = {"X-Forwardedly",
                                        "X-Real-IPs",
                                        "Forwarded-Fields",
                                        "X-Request-Id",
                                        "From",
                                        "CF-Ray",
                                        "Traceparent",
                                        "X",
                                        "X-Api-Key",
                                        "X-Original-Filename",
                                        "Client-Id",
                                        "Client-IPs",
                                        "Priority",
                                        "Proxy-Client",
                                        "X-Schema",
                                        "X-Url",
                                        "From-End-Https",
                                        "CF-IPCountry",
                                        "CloudFront-Is-Mobile-Viewer"};
enum { STRANGERS = sizeof strangers / sizeof *strangers };

static void client_forges(void) {
  client_says();
  for (size_t i = 0; i < OTHERS; i++) add(others[i], "forged");
  for (size_t i = 0; i < STRANGERS; i++) add(strangers[i], "kept");
}

static unsigned alive(void) {
  unsigned n = 0;
  for (unsigned i = 0; i < list.n; i++) n += list.v[i].name.p != NULL;
  return n;
}

static void what_a_client_says_of_itself_goes_whatever_its_name(void) {
  begin();
  client_forges();
  forwarded_apply(&list, &arena, FORWARDED_DROP, STR(""), false, STR("a.example"));
  CHECK(alive() == STRANGERS);
  for (size_t i = 0; i < STRANGERS; i++) CHECK(is(strangers[i], "kept"));
  arena_reset(&arena);
  begin();
  client_forges();
  forwarded_apply(&list, &arena, FORWARDED_SET, STR("192.0.2.1"), false, STR("a.example"));
  CHECK(alive() == STRANGERS + 4 && is("X-Forwarded-For", "192.0.2.1") && is("X-Real-IP", NULL));
  arena_reset(&arena);
}

static void append_keeps_what_the_proxy_before_us_says_but_for_twins(void) {
  begin();
  add("X-Real-IP", "10.0.0.1"), add("X-Forwarded-Port", "443"), add("X_Real_IP", "twin"),
      add("X-Forwarded--Port", "twin");
  forwarded_apply(&list, &arena, FORWARDED_APPEND, STR("192.0.2.1"), false, STR("a"));
  CHECK(is("X-Real-IP", "10.0.0.1") && is("X-Forwarded-Port", "443") && is("X_Real_IP", NULL) && alive() == 6);
  arena_reset(&arena);
}

static void set_replaces_what_the_client_said(void) {
  begin();
  client_says();
  forwarded_apply(&list, &arena, FORWARDED_SET, STR("192.0.2.1"), false, STR("a.example"));
  CHECK(is("X-Forwarded-For", "192.0.2.1") && is("X-Forwarded-Proto", "http") && is("X-Forwarded-Host", "a.example"));
  CHECK(is("Forwarded", "for=192.0.2.1;host=a.example;proto=http"));
  CHECK(is("X_Forwarded_For", NULL) && is("X-Forwarded_Proto", NULL));
  arena_reset(&arena);
}

static void append_adds_ours_last(void) {
  begin();
  client_says();
  forwarded_apply(&list, &arena, FORWARDED_APPEND, STR("192.0.2.1"), false, STR("a"));
  CHECK(is("X-Forwarded-For", "10.0.0.1, 10.0.0.2, 192.0.2.1") && is("X-Forwarded-Proto", "https") &&
        is("X-Forwarded-Host", "evil"));
  CHECK(is("Forwarded", "for=10.0.0.1, for=192.0.2.1;host=a;proto=http") && is("X_Forwarded_For", NULL));
  arena_reset(&arena);
  begin();
  forwarded_apply(&list, &arena, FORWARDED_APPEND, STR("192.0.2.1"), true, STR("a"));
  CHECK(is("X-Forwarded-For", "192.0.2.1") && is("X-Forwarded-Proto", "https") && is("X-Forwarded-Host", "a"));
  arena_reset(&arena);
}

static void off_leaves_all_alone(void) {
  begin();
  client_says();
  forwarded_apply(&list, &arena, FORWARDED_OFF, STR("192.0.2.1"), false, STR("a"));
  CHECK(list.n == 7 && is("X_Forwarded_For", "twin") && is("Forwarded", "for=10.0.0.1"));
  arena_reset(&arena);
}

static void ipv6_and_ports_are_quoted_in_forwarded(void) {
  begin();
  forwarded_apply(&list, &arena, FORWARDED_SET, STR("2001:db8::1"), true, STR("[::1]:8080"));
  CHECK(is("X-Forwarded-For", "2001:db8::1") && is("X-Forwarded-Host", "[::1]:8080"));
  CHECK(is("Forwarded", "for=\"[2001:db8::1]\";host=\"[::1]:8080\";proto=https"));
  forwarded_apply(&list, &arena, FORWARDED_SET, STR("1.2.3.4"), true, STR("a\"\\"));
  CHECK(is("Forwarded", "for=1.2.3.4;host=\"a\\\"\\\\\";proto=https"));
  arena_reset(&arena);
}

static void a_unix_client_is_unknown(void) {
  begin();
  add("X-Forwarded-For", "10.0.0.1");
  forwarded_apply(&list, &arena, FORWARDED_APPEND, STR(""), false, STR(""));
  CHECK(is("X-Forwarded-For", "10.0.0.1") && is("X-Forwarded-Host", NULL) && is("Forwarded", "for=unknown;proto=http"));
  arena_reset(&arena);
}

static void via_goes_behind_the_others(void) {
  begin();
  add("Via", "1.0 front");
  via_add(&list, &arena, HTTP_1_1);
  CHECK(str_eq(headers_join(&list, STR("via")), STR("1.0 front, 1.1 jeton")));
  via_add(&list, &arena, HTTP_1_0);
  CHECK(str_eq(headers_join(&list, STR("via")), STR("1.0 front, 1.1 jeton, 1.0 jeton")));
  via_add(&list, &arena, HTTP_2);
  CHECK(str_eq(headers_join(&list, STR("via")), STR("1.0 front, 1.1 jeton, 1.0 jeton, 2 jeton")));
  arena_reset(&arena);
}

int main(void) {
  RUN(what_a_client_says_of_itself_goes_whatever_its_name);
  RUN(append_keeps_what_the_proxy_before_us_says_but_for_twins);
  RUN(set_replaces_what_the_client_said);
  RUN(append_adds_ours_last);
  RUN(off_leaves_all_alone);
  RUN(ipv6_and_ports_are_quoted_in_forwarded);
  RUN(a_unix_client_is_unknown);
  RUN(via_goes_behind_the_others);
  return 0;
}
