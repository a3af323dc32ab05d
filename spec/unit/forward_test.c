/* forward_test.c: the key `forward`, from a policy's text to the lists that targets and their addresses are judged by, or to the words of the report. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "http/services.h"
#include "lua/vm.h"
#include "policy/load.h"
#include "token/audience.h"

static char file[] = "/tmp/forward_test_XXXXXX";

#define FORWARD(text) "return { listen = ':1', forward = {" text "} }\n"
#define HOST "a host such as \"api.example.com\", \"*.example.com\", \"http://10.0.0.7:9000\""
#define TARGET "a host such as \"db.example.com:5432\", \"*.example.com\" or \"10.0.0.7:22\""
#define RANGE "an address or range such as \"10.0.0.0/8\", \"127.0.0.1\" or \"fd00::/8\""

static struct policy *load(const char *text, struct report *r) {
  static struct services services; /* nothing is awaited here */
  struct vm_settings s = {.role = VM_CONTROL, .memory_max = 64 << 20, .budget_us = 5000000, .services = &services};
  FILE *f = fopen(file, "w");
  CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
  struct vm *vm = vm_new(&s);
  CHECK(vm != NULL);
  report_init(r);
  struct policy *p = policy_load(vm, file, NULL, r);
  vm_unref(vm);
  return p;
}

static struct policy *good(const char *text) {
  struct report r;
  struct policy *p = load(text, &r);
  if (p == NULL) fprintf(stderr, "%s", buf_z(&r.text));
  CHECK(p != NULL && p->forward != NULL && r.warnings == 0);
  report_fini(&r);
  return p;
}

/* One problem: `expected` follows the file's name and line. */
static void bad(const char *text, const char *expected) {
  struct report r;
  CHECK(load(text, &r) == NULL);
  const char *got = strchr(buf_z(&r.text), ' ');
  size_t n = strlen(expected);
  bool same = r.problems == 1 && got != NULL && strncmp(got + 1, expected, n) == 0 && got[1 + n] == '\n';
  if (!same) fprintf(stderr, "expected:\n%s\ngot:\n%s", expected, buf_z(&r.text));
  CHECK(same);
  report_fini(&r);
}

/* As forward.c asks. */
static bool reaches(const char *text, bool tls, const char *host, uint16_t port) {
  struct policy *p = good(text);
  bool allowed = audience_allows(p->forward->hosts, tls, str_of(host), port);
  policy_unref(p);
  return allowed;
}
static bool connects(const char *text, const char *host, uint16_t port) {
  struct policy *p = good(text);
  bool allowed = audience_allows(p->forward->connect, true, str_of(host), port);
  policy_unref(p);
  return allowed;
}

static void a_bare_host_is_reached_at_the_usual_ports_alone(void) {
  static const char text[] = FORWARD("hosts = { 'api.example.com' }");
  CHECK(reaches(text, true, "api.example.com", 443) && reaches(text, false, "api.example.com", 80));
  CHECK(reaches(text, true, "API.Example.COM", 443));
  CHECK(!reaches(text, true, "api.example.com", 80) && !reaches(text, false, "api.example.com", 443));
  CHECK(!reaches(text, true, "api.example.com", 8443) && !reaches(text, false, "api.example.com", 8080));
  CHECK(!reaches(text, true, "example.com", 443) && !reaches(text, true, "x.api.example.com", 443));
  CHECK(!reaches(text, true, "api.example.com.", 443) && !reaches(text, true, "xapi.example.com", 443));
}

static void a_port_or_a_scheme_narrows_it(void) {
  CHECK(reaches(FORWARD("hosts = { 'a.example:9000' }"), true, "a.example", 9000));
  CHECK(reaches(FORWARD("hosts = { 'a.example:9000' }"), false, "a.example", 9000));
  CHECK(!reaches(FORWARD("hosts = { 'a.example:9000' }"), true, "a.example", 443));
  CHECK(reaches(FORWARD("hosts = { 'http://a.example' }"), false, "a.example", 80));
  CHECK(!reaches(FORWARD("hosts = { 'http://a.example' }"), true, "a.example", 443));
  CHECK(reaches(FORWARD("hosts = { 'https://a.example:8443' }"), true, "a.example", 8443));
  CHECK(!reaches(FORWARD("hosts = { 'https://a.example:8443' }"), false, "a.example", 8443));
}

static void a_star_stands_for_one_label(void) {
  static const char text[] = FORWARD("hosts = { '*.example.com', 'https://*.b.example:8443' }");
  CHECK(reaches(text, true, "x.example.com", 443) && reaches(text, false, "y.EXAMPLE.com", 80));
  CHECK(reaches(text, true, "x.b.example", 8443) && !reaches(text, true, "x.b.example", 443));
  CHECK(!reaches(text, true, "example.com", 443) && !reaches(text, true, "x.y.example.com", 443));
  CHECK(!reaches(text, true, ".example.com", 443) && !reaches(text, true, "*.com", 443));
  CHECK(!reaches(text, true, "x.example.com.evil.example", 443));
}

static void addresses_are_listed_as_they_are_written(void) {
  static const char text[] = FORWARD("hosts = { '10.0.0.7:9000', '[::1]:8080', '[2001:db8::7]' }");
  CHECK(reaches(text, false, "10.0.0.7", 9000) && !reaches(text, false, "10.0.0.7", 80));
  CHECK(reaches(text, false, "::1", 8080) && reaches(text, true, "2001:db8::7", 443));
  CHECK(!reaches(text, false, "0x0a000007", 9000) && !reaches(text, false, "167772167", 9000));
  CHECK(!reaches(text, false, "012.0.0.7", 9000) && !reaches(text, false, "10.7", 9000));
  CHECK(!reaches(text, false, "::ffff:10.0.0.7", 9000) && !reaches(text, false, "0:0:0:0:0:0:0:1", 8080));
}

static void connect_means_443_unless_a_port_is_named(void) {
  static const char text[] = FORWARD("connect = { 'db.example.com:5432', '*.example.com', '[::1]:22' }");
  CHECK(connects(text, "db.example.com", 5432) && connects(text, "db.example.com", 443));
  CHECK(connects(text, "::1", 22) && !connects(text, "::1", 443) && !connects(text, "x.example.com", 80));
  struct policy *p = good(text);
  CHECK(p->forward->hosts == NULL && p->forward->conf.tls == NULL && !p->forward->any_tls);
  policy_unref(p);
}

static void private_addresses_are_listed_by_range(void) {
  struct policy *p = good(FORWARD("hosts = { 'http://a.example' }, private = { '10.0.0.0/8', '::1' }"));
  union address a;
  CHECK(p->forward->nallows == 2 && address_parse(STR("10.1.2.3:1"), &a) == 0);
  CHECK(range_holds(&p->forward->allows[0], &a) && !range_holds(&p->forward->allows[1], &a));
  CHECK(strcmp(p->forward->conf.name, "forward") == 0 && p->forward->conf.nurls == 1 &&
        p->forward->conf.pool_idle == 256);
  CHECK(p->forward->conf.timeouts.connect == 5000);
  policy_unref(p);
}

static void wrong_hosts_are_told(void) {
  static const struct {
    const char *text, *report;
  } cases[] = {
      {FORWARD("hosts = 'a.example'"),
       "forward.hosts: expected a list of hosts such as { \"api.example.com\" }, got \"a.example\""},
      {FORWARD("hosts = {}"), "forward.hosts: expected at least one host, got an empty list"},
      {FORWARD("hosts = { '*' }"), "forward.hosts[1]: no entry stands for every host: expected " HOST},
      {FORWARD("hosts = { '*.com' }"), "forward.hosts[1]: expected " HOST ", got \"*.com\""},
      {FORWARD("hosts = { 'a.*.com' }"), "forward.hosts[1]: expected " HOST ", got \"a.*.com\""},
      {FORWARD("hosts = { '*.10.0.0.7' }"), "forward.hosts[1]: expected " HOST ", got \"*.10.0.0.7\""},
      {FORWARD("hosts = { 'a.example:0' }"), "forward.hosts[1]: expected " HOST ", got \"a.example:0\""},
      {FORWARD("hosts = { 'ftp://a.example' }"), "forward.hosts[1]: expected " HOST ", got \"ftp://a.example\""},
      {FORWARD("hosts = { '127.1' }"),
       "forward.hosts[1]: expected " HOST ", got \"127.1\" (did you mean \"127.0.0.1\"?)"},
      {FORWARD("hosts = { '2130706433' }"),
       "forward.hosts[1]: expected " HOST ", got \"2130706433\" (did you mean \"127.0.0.1\"?)"},
      {FORWARD("hosts = { 'a.example.' }"),
       "forward.hosts[1]: expected " HOST ", got \"a.example.\" (did you mean \"a.example\"?)"},
      {FORWARD("hosts = { 'https://a.example/v1' }"),
       "forward.hosts[1]: expected " HOST ", got \"https://a.example/v1\" (did you mean \"https://a.example\"?)"},
      {FORWARD("hosts = { 7 }"), "forward.hosts[1]: expected " HOST ", got 7"},
      {FORWARD("hosts = { 'u:p@a.example' }"), "forward.hosts[1]: expected " HOST ", got a string"},
      {FORWARD("connect = { 'https://a.example' }"),
       "forward.connect[1]: expected " TARGET ", got \"https://a.example\" (did you mean \"a.example\"?)"},
      {FORWARD("connect = { 'http://a.example/' }"),
       "forward.connect[1]: expected " TARGET ", got \"http://a.example/\" (did you mean \"a.example:80\"?)"},
      {FORWARD("connect = { '*' }"), "forward.connect[1]: no entry stands for every host: expected " TARGET},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) bad(cases[i].text, cases[i].report);
}

static void other_mistakes_are_told(void) {
  bad("return { listen = ':1', forward = true }",
      "forward: expected a table such as { hosts = { \"api.example.com\" } }, got true");
  bad(FORWARD(""), "forward: expected hosts or connect in it: a list of who may be reached");
  bad(FORWARD("host = { 'a.b' }, connect = { 'a.b' }"), "forward.host: unknown key (did you mean \"hosts\"?)");
  bad(FORWARD("connect = { 'a.b' }, private = { '10.1.2.3/8' }"),
      "forward.private[1]: expected " RANGE ", got \"10.1.2.3/8\" (did you mean \"10.0.0.0/8\"?)");
  bad(FORWARD("connect = { 'a.b' }, private = { 'intranet' }"),
      "forward.private[1]: expected " RANGE ", got \"intranet\"");
  bad(FORWARD("connect = { 'a.b' }, private = '::1'"),
      "forward.private: expected a list of addresses and ranges such as { \"10.0.0.0/8\" }, got \"::1\"");
  bad(FORWARD("connect = { 'a.b' }, tls = { ca = 'x' }"),
      "forward.tls: has no use here: no entry of hosts may be reached over https, and what goes through CONNECT is the "
      "client's own TLS");
  bad(FORWARD("hosts = { 'a.b' }, tls = { server_name = 'x' }"),
      "forward.tls.server_name: has no use here: the name that is asked for and verified is the target's");
}

static void a_token_beside_forward_alone_must_name_its_hosts(void) {
  bad("return { listen = ':1', forward = { hosts = { 'http://a.b' } }, tokens = { api = {} } }",
      "tokens.api.hosts: expected a list of hosts such as { \"api.example.com\" }, got nothing: without an upstream, "
      "who may "
      "receive the token must be said");
  struct policy *p = good(
      "return { listen = ':1', forward = { hosts = { 'http://a.b' } }, tokens = { api = { hosts = { 'c.d' } } } }");
  CHECK(audience_allows(p->tokens[0].audience, true, STR("c.d"), 443));
  CHECK(!audience_allows(p->tokens[0].audience, false, STR("a.b"), 80));
  policy_unref(p);
  p = good(
      "return { listen = ':1', upstream = 'http://u:1', forward = { hosts = { 'http://a.b' } }, tokens = { api = {} } "
      "}");
  CHECK(audience_allows(p->tokens[0].audience, false, STR("u"),
                        1)); /* and no target: a list of who may be reached is none of whom to trust */
  CHECK(!audience_allows(p->tokens[0].audience, false, STR("a.b"), 80));
  policy_unref(p);
}

int main(void) {
  int fd = mkstemp(file);
  CHECK(fd >= 0 && close(fd) == 0);
  RUN(a_bare_host_is_reached_at_the_usual_ports_alone);
  RUN(a_port_or_a_scheme_narrows_it);
  RUN(a_star_stands_for_one_label);
  RUN(addresses_are_listed_as_they_are_written);
  RUN(connect_means_443_unless_a_port_is_named);
  RUN(private_addresses_are_listed_by_range);
  RUN(wrong_hosts_are_told);
  RUN(other_mistakes_are_told);
  RUN(a_token_beside_forward_alone_must_name_its_hosts);
  CHECK(unlink(file) == 0);
  return 0;
}
