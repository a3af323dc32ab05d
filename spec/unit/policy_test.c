/* policy_test.c: policies, good and bad, from their text to the snapshot or to the exact words of the report. Each runs in a VM of its own, in a directory
 * that is removed at the end. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/named.h"
#include "check.h"
#include "http/services.h"
#include "lua/vm.h"
#include "policy/binding.h"
#include "policy/load.h"
#include "policy/modules.h"
#include "token/family.h"

static char dir[] = "/tmp/policy_test_XXXXXX";

/* --- files --- */

static const char *in_dir(const char *name) {
  static char path[256];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return path;
}

static void write_bytes(const char *name, const char *bytes, size_t n) {
  FILE *f = fopen(in_dir(name), "wb");
  CHECK(f != NULL);
  CHECK(fwrite(bytes, 1, n, f) == n);
  CHECK(fclose(f) == 0);
}
static void write_text(const char *name, const char *text) { write_bytes(name, text, strlen(text)); }

static struct vm *new_vm(enum vm_role role) {
  static struct services services; /* nothing is awaited here */
  if (services.names == NULL) services.names = registry_new();
  struct vm_settings s = {.role = role, .memory_max = 64 << 20, .budget_us = 5000000, .services = &services};
  struct vm *vm = vm_new(&s);
  CHECK(vm != NULL);
  return vm;
}

/* A certificate that is nobody's: its key was thrown away. Good for a CA file that can be read, whatever the system has. */
static const char some_certificate[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBgjCCASmgAwIBAgIUKmNMHMbqRPkPF3f1yuinsV5cn0owCgYIKoZIzj0EAwIw\n"
    "FjEUMBIGA1UEAwwLcG9saWN5IHRlc3QwIBcNMjYxMTIzMjAzNjQ4WhgPMjEyNjEw\n"
    "MzAyMDM2NDhaMBYxFDASBgNVBAMMC3BvbGljeSB0ZXN0MFkwEwYHKoZIzj0CAQYI\n"
    "KoZIzj0DAQcDQgAElMPi4ydeozxJsBBmNktVWs7yeiH5P8BcyD5f8EpVL+livJ7Q\n"
    "Tc3Liq6I5NCPcbfiCipMYzqkUhlwPE6dk7J1RaNTMFEwHQYDVR0OBBYEFDT9nxiR\n"
    "NnIg8qgKMneTp9tMY03RMB8GA1UdIwQYMBaAFDT9nxiRNnIg8qgKMneTp9tMY03R\n"
    "MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgSUAg8X8zm42XnXMO\n"
    "Qnr6iDswRzZQ5X9nTt5wfjTJ71UCIEy4tIBHdDRCi/QVVhzWtsCFLExRax04arA/\n"
    "m78lxJrR\n"
    "-----END CERTIFICATE-----\n";

/* --- what is checked --- */

struct loaded {
  struct policy *p;
  struct report report;
};

static struct loaded load_with(const char *text, const struct policy_overrides *o) {
  struct loaded l;
  if (text != NULL) write_text("policy.lua", text);
  struct vm *vm = new_vm(VM_CONTROL);
  report_init(&l.report);
  l.p = policy_load(vm, in_dir("policy.lua"), o, &l.report);
  vm_unref(vm);
  return l;
}
static struct loaded load(const char *text) { return load_with(text, NULL); }

static void unload(struct loaded *l) {
  policy_unref(l->p);
  report_fini(&l->report);
}

static void expect_report(struct loaded *l, const char *expected) {
  const char *got = buf_z(&l->report.text);
  if (strcmp(got, expected) != 0) fprintf(stderr, "expected:\n%sgot:\n%s", expected, got);
  CHECK(strcmp(got, expected) == 0);
}

static void expect_bad(const char *text, const char *expected) {
  struct loaded l = load(text);
  expect_report(&l, expected);
  CHECK(l.p == NULL);
  CHECK(l.report.problems > 0);
  unload(&l);
}

static struct loaded expect_good(const char *text) {
  struct loaded l = load(text);
  expect_report(&l, "");
  CHECK(l.p != NULL);
  return l;
}

/* One line of a policy that is otherwise in order; the line has the number 3. */
#define PLAIN(line) "return {\n listen = '127.0.0.1:8080', upstream = 'http://127.0.0.1:9000',\n" line "\n}\n"

struct bad {
  const char *text, *report;
};
static void expect_all_bad(const struct bad *cases, size_t n) {
  for (size_t i = 0; i < n; i++) expect_bad(cases[i].text, cases[i].report);
}
#define EXPECT_ALL_BAD(cases) expect_all_bad(cases, sizeof(cases) / sizeof *(cases))

/* --- good ones --- */

static void a_plain_proxy_has_the_defaults(void) {
  struct loaded l = expect_good("return { listen = '127.0.0.1:8080', upstream = 'http://api.example.com/base' }");
  const struct policy *p = l.p;
  CHECK(p->nlistens == 1 && strcmp(p->listens[0].text, "127.0.0.1:8080") == 0 && p->listens[0].tls == NULL);
  CHECK(p->has_default && p->nupstreams == 1 && p->upstreams[0].nurls == 1);
  CHECK(str_eq(p->upstreams[0].urls[0].host, STR("api.example.com")) &&
        str_eq(p->upstreams[0].urls[0].path, STR("/base")));
  CHECK(p->upstreams[0].pool_age_ms == 3600000 && p->upstreams[0].pool_idle == 256 && !p->upstreams[0].preserve_host &&
        !p->upstreams[0].rewrite_location && p->upstreams[0].tls == NULL);
  CHECK(p->workers == 0 && p->access_log && p->access_path == NULL && !p->via && p->forwarded == FORWARDED_DROP);
  CHECK(p->log.level == LOG_INFO && p->log.format == LOG_TEXT);
  CHECK(p->limits.connections_per_address == 0 && p->limits.body_rate == 240 && p->timeouts.body == 30 * 1000);
  CHECK(p->timeouts.handshake == 10000 && p->timeouts.idle == 75000 && p->timeouts.exchange == 0 &&
        p->timeouts.tunnel == 3600000);
  CHECK(p->limits.script_body == 1 << 20 && p->limits.replay_buffer == 64 << 10 && p->limits.memory == 64 << 20);
  CHECK(p->limits.script_time_us == 50000 && p->limits.waiters == 10000 &&
        p->limits.http.head == http_limits_default.head);
  CHECK(p->ntokens == 0 && p->ntasks == 0 && !p->hooks[HOOK_REQUEST] && !p->hooks[HOOK_LOG]);
  CHECK(p->nsources == 1 && strcmp(p->sources[0].name, "policy.lua") == 0);
  unload(&l);
}

static void every_key_is_taken(void) {
  struct loaded l = expect_good(
      "return { listen = { '127.0.0.1:8080', 'unix:/tmp/x.sock', { '[::1]:8081', half_close = true, tcp_keepalive = "
      "false, http2 = false }, ':0', ':0' },\n"
      " half_close = false, tcp_keepalive = { idle = '5m' },\n"
      " upstream = { 'http://a:1', 'http://b:2/x', timeouts = { connect = '1s' }, pool = { idle = 3, keep = 5 }, "
      "preserve_host = true, rewrite_location = true, http2 = true },\n"
      " upstreams = { z = 'unix:/run/z.sock', ['a.b-c'] = { 'http://10.0.0.7:9000' } },\n"
      " workers = 2, timeouts = { head = 0.25, idle = '2m', first_byte = '1.5s' }, forwarded = 'append', via = true,\n"
      " limits = { head = '32k', headers = 50, body = '2g', script_time = '10ms', memory = '8m', connections = 100, "
      "connections_per_address = 7, body_rate = '1k', streams = 65536 },\n"
      " log = { level = 'debug', format = 'json', access = 'access.log' },\n"
      " tasks = { b = function() end, a = print }, on_start = print, on_request = print, on_response = print, on_error "
      "= print, on_log = print }");
  const struct policy *p = l.p;
  CHECK(p->nlistens == 5 && p->listens[1].address.sa.sa_family == AF_UNIX &&
        strcmp(p->listens[2].text, "[::1]:8081") == 0);
  CHECK(!p->half_close && !p->listens[1].half_close && p->listens[2].half_close);
  CHECK(p->listens[1].tcp_keepalive.idle_ms == 300000 && p->listens[1].tcp_keepalive.probes == 4 &&
        p->listens[2].tcp_keepalive.idle_ms == 0 && p->upstreams[0].tcp_keepalive.idle_ms == 300000);
  CHECK(p->listens[0].http2 && p->listens[1].http2 && !p->listens[2].http2 && p->limits.streams == 65536);
  CHECK(p->nupstreams == 3 && p->upstreams[0].nurls == 2 && p->upstreams[0].timeouts.connect == 1000);
  CHECK(p->upstreams[0].timeouts.first_byte == 1500 && p->upstreams[0].timeouts.pool == 5000 &&
        p->upstreams[0].pool_idle == 3);
  CHECK(p->upstreams[0].preserve_host && p->upstreams[0].rewrite_location &&
        strcmp(p->upstreams[1].name, "a.b-c") == 0 && p->upstreams[2].urls[0].unix_path.n > 0);
  CHECK(policy_upstream(p, STR("z")) == &p->upstreams[2] && policy_upstream(p, STR("default")) == &p->upstreams[0]);
  CHECK(policy_upstream(p, STR("y")) == NULL && policy_upstream(p, STR("")) == NULL);
  CHECK(p->workers == 2 && p->timeouts.head == 250 && p->timeouts.idle == 120000 && p->via &&
        p->forwarded == FORWARDED_APPEND);
  CHECK(p->limits.http.head == 32 << 10 && p->limits.http.headers == 50 && p->limits.body == 2ull << 30);
  CHECK(p->limits.script_time_us == 10000 && p->limits.memory == 8 << 20 && p->limits.connections == 100);
  CHECK(p->limits.connections_per_address == 7 && p->limits.body_rate == 1024);
  CHECK(p->log.level == LOG_DEBUG && p->log.format == LOG_JSON && p->access_log &&
        strcmp(p->access_path, in_dir("access.log")) == 0);
  CHECK(p->ntasks == 2 && strcmp(p->tasks[0], "a") == 0 && p->hooks[HOOK_START] && p->hooks[HOOK_REQUEST] &&
        p->hooks[HOOK_RESPONSE] && p->hooks[HOOK_ERROR] && p->hooks[HOOK_LOG]);
  unload(&l);
}

static void a_unix_socket_is_no_host(void) {
  struct loaded l = expect_good(
      "return { listen = '127.0.0.1:1', upstream = 'unix:/run/a.sock:/base',\n"
      " tokens = { api = {}, named = { hosts = { 'unix:/run/b.sock', 'c.example.com' } } } }");
  const struct audience *api = l.p->tokens[0].audience, *named = l.p->tokens[1].audience;
  CHECK(audience_allows_unix(api, STR("/run/a.sock")) && !audience_allows_unix(api, STR("/run/b.sock")));
  CHECK(!audience_allows(api, false, STR("localhost"), 80) && !audience_allows(api, false, STR("/run/a.sock"), 80));
  CHECK(audience_allows_unix(named, STR("/run/b.sock")) && audience_allows(named, true, STR("c.example.com"), 443));
  CHECK(!audience_allows_unix(named, STR("/run/a.sock")) && !audience_allows_unix(named, STR("c.example.com")));
  unload(&l);
}

static void tokens_have_their_settings(void) {
  write_text("ca.pem", some_certificate);
  struct loaded l = expect_good(
      "return { listen = '127.0.0.1:1', upstream = { 'https://api.example.com', 'http://b:99', tls = { ca = 'ca.pem' } "
      "},\n"
      " tokens = { plain = { fetch = print }, filled = {},\n"
      "  api = { fetch = print, refresh_at = '60s', jitter = 0, leeway = 0.5, wait = '1s', missing = 'pass', reject_on "
      "= { 401, 403 },\n"
      "   hosts = { 'A.example.com', 'b.example.com:8443', 'http://10.0.0.7:9000' }, reveal = true, timeout = 7, "
      "backoff = { min = 1, max = '2s' } },\n"
      "  tenant = { fetch = print, family = true, max = 5, idle = '1m', refresh_at = 0.5 } } }");
  const struct policy *p = l.p;
  CHECK(p->ntokens == 4 && strcmp(p->tokens[0].name, "api") == 0 && strcmp(p->tokens[1].name, "filled") == 0);
  const struct token_conf *api = &p->tokens[0], *plain = &p->tokens[2], *tenant = &p->tokens[3];
  CHECK(api->schedule.refresh_before_ms == 60000 && api->schedule.jitter == 0 && api->schedule.leeway_ms == 500);
  CHECK(api->wait_ms == 1000 && api->missing == MISSING_PASS && api->nreject_on == 2 && api->reject_on[1] == 403);
  CHECK(api->reveal && api->fetch_timeout_ms == 7000 && api->schedule.backoff_min_ms == 1000 &&
        api->schedule.backoff_max_ms == 2000);
  CHECK(audience_allows(api->audience, true, STR("a.example.com"), 443) &&
        audience_allows(api->audience, true, STR("b.example.com"), 8443));
  CHECK(!audience_allows(api->audience, true, STR("b.example.com"), 443) &&
        audience_allows(api->audience, false, STR("10.0.0.7"), 9000));
  CHECK(!audience_allows(api->audience, true, STR("api.example.com"), 443));
  CHECK(plain->has_fetch && !p->tokens[1].has_fetch &&
        plain->schedule.refresh_fraction == schedule_default.refresh_fraction);
  CHECK(plain->wait_ms == 2000 && plain->missing == MISSING_WAIT && plain->nreject_on == 1 &&
        plain->reject_on[0] == 401 && !plain->reveal);
  CHECK(plain->fetch_timeout_ms == 30000 && plain->schedule.backoff_min_ms == 200 && plain->schedule.leeway_ms == 1000);
  CHECK(audience_allows(plain->audience, true, STR("api.example.com"), 443) &&
        audience_allows(plain->audience, false, STR("b"), 99));
  CHECK(!audience_allows(plain->audience, false, STR("api.example.com"), 443) &&
        !audience_allows(plain->audience, true, STR("b"), 99));
  CHECK(tenant->family && tenant->family_max == 5 && tenant->family_idle_ms == 60000 &&
        tenant->schedule.refresh_fraction == 0.5);
  CHECK(p->upstreams[0].tls != NULL && p->upstreams[0].insecure == NULL);
  unload(&l);
}

static void a_policy_may_answer_by_itself(void) {
  struct loaded l = expect_good("return { listen = '127.0.0.1:1', on_request = function(req) req:respond(200) end }");
  CHECK(!l.p->has_default && l.p->nupstreams == 0 && l.p->hooks[HOOK_REQUEST]);
  unload(&l);
}

static void a_token_that_nobody_may_receive_warns(void) {
  struct loaded l =
      load("return { listen = ':1', on_request = print, tokens = {\n a = {}, b = { hosts = { 'x' } } } }");
  expect_report(
      &l,
      "warning: policy.lua:2: tokens.a: nobody may receive it: the policy has no upstream, and the token no hosts\n");
  CHECK(l.p != NULL && !audience_allows(l.p->tokens[0].audience, true, STR("x"), 443));
  unload(&l);
}

static void references_are_counted_and_loads_numbered(void) {
  struct loaded a = expect_good(PLAIN("")), b = expect_good(PLAIN(""));
  CHECK(b.p->number == a.p->number + 1);
  CHECK(policy_ref(a.p) == a.p);
  policy_unref(a.p);
  CHECK(a.p->nlistens == 1);
  unload(&a);
  unload(&b);
}

static void the_command_line_takes_the_place_of_keys(void) {
  const char *listen[] = {"127.0.0.1:7", "unix:/tmp/o.sock"};
  struct policy_overrides o = {.listen = listen, .nlisten = 2, .workers = 3};
  struct loaded l = load_with("return { upstream = 'http://a', workers = 1, listen = 'nonsense' }", &o);
  expect_report(&l, "");
  CHECK(l.p->nlistens == 2 && strcmp(l.p->listens[0].text, "127.0.0.1:7") == 0 && l.p->workers == 3);
  unload(&l);
  const char *wrong[] = {"8080", "127.0.0.1:1", "127.0.0.1:1"};
  o = (struct policy_overrides){.listen = wrong, .nlisten = 3};
  l = load_with("return { upstream = 'http://a' }", &o);
  expect_report(&l,
                "policy.lua: --listen: expected an address such as \"127.0.0.1:8080\", \"[::1]:8080\", \":8080\" or "
                "\"unix:/run/jeton.sock\", got "
                "\"8080\" (did you mean \"127.0.0.1:8080\"?)\n"
                "policy.lua: --listen: listens on the same address as \"127.0.0.1:1\"\n");
  CHECK(l.p == NULL);
  unload(&l);
}

/* --- bad ones --- */

#define ADDRESS "an address such as \"127.0.0.1:8080\", \"[::1]:8080\", \":8080\" or \"unix:/run/jeton.sock\""
#define DURATION "a duration such as 5 (seconds), \"250ms\", \"2s\" or \"5m\""
#define SIZE "a size such as 4096 (bytes), \"64k\" or \"1m\""

static void what_is_missing_is_told(void) {
  static const struct bad cases[] = {
      {"return { upstream = 'http://a' }",
       "policy.lua: listen: expected an address such as \"127.0.0.1:8080\", got nothing\n"},
      {"return { listen = ':1' }",
       "policy.lua: upstream: expected a URL such as \"https://api.example.com\", a forward table, or an on_request "
       "that responds "
       "itself, got nothing\n"},
      {"return { listen = ':1', upstreams = { a = 'http://a' } }",
       "policy.lua: upstream: expected a URL such as \"https://api.example.com\", a forward table, or an on_request "
       "that responds "
       "itself, got nothing\n"},
      {"local x = 1",
       "policy.lua: expected the file to return a table, got nothing (does it end with return { ... }?)\n"},
      {"return 'x'",
       "policy.lua: expected the file to return a table, got a string (does it end with return { ... }?)\n"},
      {"return print",
       "policy.lua: expected the file to return a table, got a function (does it end with return { ... }?)\n"},
  };
  EXPECT_ALL_BAD(cases);
}

static void unknown_keys_are_told_with_the_nearest(void) {
  static const struct bad cases[] = {
      {PLAIN("upstraem = 1"), "policy.lua:3: upstraem: unknown key (did you mean \"upstream\"?)\n"},
      {PLAIN("Via = 1"), "policy.lua:3: Via: unknown key (did you mean \"via\"?)\n"},
      {PLAIN("timeouts = {\nconect = 1 }"), "policy.lua:4: timeouts.conect: unknown key (did you mean \"connect\"?)\n"},
      {PLAIN("tcp_keepalive = { idel = '5m' }"),
       "policy.lua:3: tcp_keepalive.idel: unknown key (did you mean \"idle\"?)\n"},
      {PLAIN("log = { colour = 1 }"), "policy.lua:3: log.colour: unknown key (known here: level, format, access)\n"},
      {PLAIN("['a b'] = 1, log = { ['x y\"'] = 1 }"),
       "policy.lua:3: [\"a b\"]: unknown key (known here: half_close, tcp_keepalive, listen, timeouts, limits, "
       "upstream, upstreams, "
       "forward, "
       "workers, log, "
       "access_log, forwarded, via, tokens, "
       "tasks, on_start, on_request, on_send, on_response, on_error, on_log)\n"
       "policy.lua:3: log[\"x y\\\"\"]: unknown key (known here: level, format, access)\n"},
      {PLAIN("'stray', true"),
       "policy.lua:3: [1]: expected a key, as in key = value\npolicy.lua:3: [2]: expected a key, as in key = value\n"},
      {PLAIN("[1.5] = 1"), "policy.lua: expected names as keys, got a number\n"},
      {PLAIN("tokens = { api = { fetch = print, refresh = 1, host = {} } }"),
       "policy.lua:3: tokens.api.host: unknown key (did you mean \"hosts\"?)\n"
       "policy.lua:3: tokens.api.refresh: unknown key (known here: fetch, release, secret, version, refresh_at, "
       "jitter, leeway, "
       "wait, "
       "missing, "
       "reject_on, hosts, reveal, rotates, ready, timeout, "
       "backoff, family, max, idle)\n"},
  };
  EXPECT_ALL_BAD(cases);
}

static void wrong_values_are_told(void) {
  static const struct bad cases[] = {
      {PLAIN("via = 'true'"), "policy.lua:3: via: expected true or false, got \"true\" (did you mean true?)\n"},
      {PLAIN("via = 1"), "policy.lua:3: via: expected true or false, got 1\n"},
      {PLAIN("half_close = 'yes'"), "policy.lua:3: half_close: expected true or false, got \"yes\"\n"},
      {PLAIN("tcp_keepalive = 60"),
       "policy.lua:3: tcp_keepalive: expected true, false or a table such as { idle = \"60s\" }, got 60\n"},
      {PLAIN("tcp_keepalive = { idle = 0 }"),
       "policy.lua:3: tcp_keepalive.idle: expected a duration from 1s to 32767s, got 0\n"},
      {PLAIN("workers = 0"), "policy.lua:3: workers: expected a whole number from 1 to 256, got 0\n"},
      {PLAIN("workers = 1.5"), "policy.lua:3: workers: expected a whole number from 1 to 256, got 1.5\n"},
      {PLAIN("workers = '4'"), "policy.lua:3: workers: expected a whole number, got \"4\" (did you mean 4?)\n"},
      {PLAIN("limits = { connections_per_address = -1 }"),
       "policy.lua:3: limits.connections_per_address: expected a whole number of at least 0, got -1\n"},
      {PLAIN("limits = { waiters = 0 }"),
       "policy.lua:3: limits.waiters: expected a whole number of at least 1, got 0\n"},
      {PLAIN("timeouts = 5"), "policy.lua:3: timeouts: expected a table, got 5\n"},
      {PLAIN("on_request = 'x'"), "policy.lua:3: on_request: expected a function, got \"x\"\n"},
      {PLAIN("log = { level = 'warning' }"),
       "policy.lua:3: log.level: expected \"debug\", \"info\", \"warn\", \"error\" or \"off\", got \"warning\"\n"},
      {PLAIN("log = { level = 'inof' }"),
       "policy.lua:3: log.level: expected \"debug\", \"info\", \"warn\", \"error\" or \"off\", got \"inof\" (did you "
       "mean \"info\"?)\n"},
      {PLAIN("forwarded = true"),
       "policy.lua:3: forwarded: expected \"drop\", \"set\", \"append\" or \"off\", got true\n"},
      {PLAIN("log = { access = true }, access_log = false"),
       "policy.lua:3: access_log: is the same as log.access: give one of them\n"},
      {PLAIN("access_log = ''"), "policy.lua:3: access_log: expected true, false or the name of a file, got \"\"\n"},
      {PLAIN("tasks = { print }"), "policy.lua:3: tasks[1]: expected a key, as in key = value\n"},
      {PLAIN("tasks = { a = 1 }"), "policy.lua:3: tasks.a: expected a function, got 1\n"},
      {PLAIN("tasks = { ['a b'] = print }"),
       "policy.lua:3: tasks[\"a b\"]: expected a name made of letters, digits and '_'\n"},
      {PLAIN("limits = { request_line = '40k', head = '32k' }"),
       "policy.lua:3: limits.request_line: expected at most limits.head (32k), got 40k\n"},
  };
  EXPECT_ALL_BAD(cases);
}

static void wrong_units_are_explained(void) {
  static const struct bad cases[] = {
      {PLAIN("timeouts = { head = '5 sec' }"),
       "policy.lua:3: timeouts.head: expected " DURATION ", got \"5 sec\" (did you mean \"5s\"?)\n"},
      {PLAIN("timeouts = { head = '10 Minutes' }"),
       "policy.lua:3: timeouts.head: expected " DURATION ", got \"10 Minutes\" (did you mean \"10m\"?)\n"},
      {PLAIN("timeouts = { head = ' 5 s' }"),
       "policy.lua:3: timeouts.head: expected " DURATION ", got \" 5 s\" (did you mean \"5s\"?)\n"},
      {PLAIN("timeouts = { head = 'soon' }"), "policy.lua:3: timeouts.head: expected " DURATION ", got \"soon\"\n"},
      {PLAIN("timeouts = { head = -1 }"), "policy.lua:3: timeouts.head: expected " DURATION ", got -1\n"},
      {PLAIN("timeouts = { head = 0/0 }"), NULL},
      {PLAIN("timeouts = { head = math.huge }"), "policy.lua:3: timeouts.head: expected " DURATION ", got inf\n"},
      {PLAIN("timeouts = { head = '2000d' }"),
       "policy.lua:3: timeouts.head: expected a duration from 0 to 365d, got \"2000d\"\n"},
      {PLAIN("timeouts = { head = {} }"), "policy.lua:3: timeouts.head: expected " DURATION ", got a table\n"},
      {PLAIN("limits = { script_time = '2m' }"),
       "policy.lua:3: limits.script_time: expected a duration from 1ms to 1m, got \"2m\"\n"},
      {PLAIN("limits = { memory = '64 MiB' }"),
       "policy.lua:3: limits.memory: expected " SIZE ", got \"64 MiB\" (did you mean \"64m\"?)\n"},
      {PLAIN("limits = { memory = 100 }"), "policy.lua:3: limits.memory: expected a size from 1m to 64g, got 100\n"},
      {PLAIN("limits = { body = 1.5 }"), "policy.lua:3: limits.body: expected " SIZE ", got 1.5\n"},
      {PLAIN("limits = { body = '1x' }"), "policy.lua:3: limits.body: expected " SIZE ", got \"1x\"\n"},
      {PLAIN("limits = { head = '100' }"), "policy.lua:3: limits.head: expected a size from 1k to 1m, got \"100\"\n"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    if (cases[i].report != NULL) {
      expect_bad(cases[i].text, cases[i].report);
      continue;
    }
    struct loaded l = load(cases[i].text); /* nan has a sign of its own on each machine */
    CHECK(l.p == NULL && l.report.problems == 1);
    unload(&l);
  }
}

static void wrong_addresses_are_told(void) {
  static const struct bad cases[] = {
      {"return { upstream = 'http://a', listen = 'localhost:8080' }",
       "policy.lua:1: listen: expected " ADDRESS ", got \"localhost:8080\" (did you mean \"127.0.0.1:8080\"?)\n"},
      {"return { upstream = 'http://a', listen = '*:8080' }",
       "policy.lua:1: listen: expected " ADDRESS ", got \"*:8080\" (did you mean \":8080\"?)\n"},
      {"return { upstream = 'http://a', listen = 8080 }",
       "policy.lua:1: listen: expected " ADDRESS ", got 8080 (did you mean \"127.0.0.1:8080\"?)\n"},
      {"return { upstream = 'http://a', listen = 'http://127.0.0.1:80/' }",
       "policy.lua:1: listen: expected " ADDRESS ", got \"http://127.0.0.1:80/\" (did you mean \"127.0.0.1:80\"?)\n"},
      {"return { upstream = 'http://a', listen = { ':1',\n'/run/x.sock' } }",
       "policy.lua:2: listen[2]: expected " ADDRESS ", got \"/run/x.sock\" (did you mean \"unix:/run/x.sock\"?)\n"},
      {"return { upstream = 'http://a', listen = { '127.0.0.1:1',\n'127.0.0.1:1' } }",
       "policy.lua:2: listen[2]: listens on the same address as \"127.0.0.1:1\"\n"},
      {"return { upstream = 'http://a', listen = {} }",
       "policy.lua:1: listen: expected at least one address, got an empty list\n"},
      {"return { upstream = 'http://a', listen = true }", "policy.lua:1: listen: expected " ADDRESS ", got true\n"},
      {"return { upstream = 'http://a', listen = { { ':1', ':2', tls = {} } } }",
       "policy.lua:1: listen[1]: expected one address in it, got 2\n"},
      {"return { upstream = 'http://a', listen = { ':1', tsl = {} } }",
       "policy.lua:1: listen.tsl: expected a list, got a value with a key\n"},
      {"return { upstream = 'http://a', listen = { { ':1', tsl = {} } } }",
       "policy.lua:1: listen[1].tsl: unknown key (did you mean \"tls\"?)\n"},
      {"return { upstream = 'http://a', listen = { ':1\\0' } }",
       "policy.lua:1: listen[1]: expected " ADDRESS ", got a string with a NUL byte in it\n"},
  };
  EXPECT_ALL_BAD(cases);
}

static enum http2_mode http2_of(const char *url, const char *key) {
  char text[256];
  snprintf(text, sizeof text, "return { listen = ':1', upstream = { %s%s } }", url, key);
  struct loaded l = expect_good(text);
  const struct upstream_conf *u = &l.p->upstreams[0];
  enum http2_mode mode = http2_for(u->http2, u->urls[0].tls);
  unload(&l);
  return mode;
}

static void http2_is_said_of_what_it_fits(void) {
  static const char tls[] = "'https://a', 'http://b'", plain[] = "'http://a', 'http://b'", local[] = "'unix:/a'";
  static const char mixed[] = "'http://a', 'https://b'";
  CHECK(http2_of(tls, "") == HTTP2_USUAL && http2_of(plain, "") == HTTP2_OFF && http2_of(local, "") == HTTP2_OFF);
  CHECK(http2_of(tls, ", http2 = 'auto'") == HTTP2_AUTO && http2_of(mixed, ", http2 = 'auto'") == HTTP2_OFF);
  CHECK(http2_of(tls, ", http2 = true") == HTTP2_ONLY && http2_of(plain, ", http2 = true") == HTTP2_ONLY);
  CHECK(http2_of(local, ", http2 = true") == HTTP2_ONLY);
  CHECK(http2_of(tls, ", http2 = false") == HTTP2_OFF && http2_of(plain, ", http2 = false") == HTTP2_OFF);
}

#define NOT_AUTO                                                                                                  \
  "\"auto\" has no use over http://, since nothing tells there what a server speaks: write true for HTTP/2 with " \
  "prior "                                                                                                        \
  "knowledge, or false\n"
static void http2_of_the_wrong_kind_is_told(void) {
  static const struct bad cases[] = {
      {PLAIN("upstreams = { a = { 'http://a', http2 = 'auto' } }"), "policy.lua:3: upstreams.a.http2: " NOT_AUTO},
      {PLAIN("upstreams = { a = { 'unix:/a', http2 = 'auto' } }"), "policy.lua:3: upstreams.a.http2: " NOT_AUTO},
      {PLAIN("upstreams = { a = { 'https://a', http2 = 'h2' } }"),
       "policy.lua:3: upstreams.a.http2: expected true, false or \"auto\", got \"h2\" (did you mean true?)\n"},
      {PLAIN("upstreams = { a = { 'https://a', http2 = 'Auto' } }"),
       "policy.lua:3: upstreams.a.http2: expected true, false or \"auto\", got \"Auto\" (did you mean \"auto\"?)\n"},
      {PLAIN("upstreams = { a = { 'https://a', http2 = 2 } }"),
       "policy.lua:3: upstreams.a.http2: expected true, false or \"auto\", got 2\n"},
      {PLAIN("http2 = true"), "policy.lua:3: http2: unknown key here (it is a key of listen or upstream or forward)\n"},
      {PLAIN("forward = { hosts = { 'http://a' }, http2 = 'auto' }"), "policy.lua:3: forward.http2: " NOT_AUTO},
      {PLAIN("forward = { connect = { 'a' }, http2 = true }"),
       "policy.lua:3: forward.http2: has no use here: there is no hosts, and what goes through CONNECT is the client's "
       "own\n"},
      {"return { upstream = 'http://a', listen = { ':1', http2 = 'auto' } }",
       "policy.lua:1: listen.http2: expected true or false, got \"auto\"\n"},
      {PLAIN("limits = { streams = 0 }"),
       "policy.lua:3: limits.streams: expected a whole number from 1 to 65536, got 0\n"},
      {PLAIN("limits = { streams = 65537 }"),
       "policy.lua:3: limits.streams: expected a whole number from 1 to 65536, got 65537\n"},
  };
  EXPECT_ALL_BAD(cases);
}

static void wrong_urls_are_told(void) {
  static const struct bad cases[] = {
      {"return { listen = ':1',\n upstream = 'api.example.com' }",
       "policy.lua:2: upstream: expected a URL, got \"api.example.com\" (did you mean \"https://api.example.com\"?)\n"},
      {"return { listen = ':1',\n upstream = 'localhost:9000' }",
       "policy.lua:2: upstream: expected a URL, got \"localhost:9000\" (did you mean \"http://localhost:9000\"?)\n"},
      {"return { listen = ':1',\n upstream = {\n 'http://a',\n 'b.example.com:8443' } }",
       "policy.lua:4: upstream[2]: expected a URL, got \"b.example.com:8443\" (did you mean "
       "\"https://b.example.com:8443\"?)\n"},
      {"return { listen = ':1', upstream = 'http://user:hunter2@a' }",
       "policy.lua:1: upstream: expected a URL, got a string: userinfo is not allowed in a URL\n"},
      {"return { listen = ':1', upstream = 'http://a/?api=hunter2' }",
       "policy.lua:1: upstream: expected a URL, got a string: the URL of an upstream has no query\n"},
      {"return { listen = ':1', upstream = 'ftp://a' }",
       "policy.lua:1: upstream: expected a URL, got \"ftp://a\": the URL must begin with http://, https:// or "
       "unix:/\n"},
      {"return { listen = ':1', upstream = {} }",
       "policy.lua:1: upstream: expected at least one URL in it, as in { \"https://api.example.com\" }\n"},
      {"return { listen = ':1', upstream = 5 }", "policy.lua:1: upstream: expected a URL, got 5\n"},
      {"return { listen = ':1', upstream = { url = 'http://a' } }",
       "policy.lua:1: upstream: expected at least one URL in it, as in { \"https://api.example.com\" }\n"
       "policy.lua:1: upstream.url: unknown key here (it is a key of upstream.proxy)\n"},
      {PLAIN("upstreams = { default = 'http://a' }"),
       "policy.lua:3: upstreams.default: the default upstream is the key upstream\n"},
      {PLAIN("upstreams = { ['a/b'] = 'http://a' }"),
       "policy.lua:3: upstreams[\"a/b\"]: expected a name made of letters, digits, '_', '-' and '.'\n"},
      {PLAIN("upstreams = { a = { 'http://a', timeouts = { idle = 1 } } }"),
       "policy.lua:3: upstreams.a.timeouts.idle: unknown key here (it is a key of timeouts or tcp_keepalive or "
       "upstream.pool or "
       "tokens.NAME)\n"},
      {PLAIN("upstreams = { a = { 'http://a', timeouts = { grace = 1 } } }"),
       "policy.lua:3: upstreams.a.timeouts.grace: unknown key (known here: connect, first_byte, response, send, "
       "pool)\n"},
  };
  EXPECT_ALL_BAD(cases);
}

static void a_key_in_the_wrong_table_is_told_with_the_right_one(void) {
  static const struct bad cases[] = {
      {PLAIN("memory = '64m'"), "policy.lua:3: memory: unknown key here (it is a key of limits)\n"},
      {PLAIN("limits = { workers = 2 }"),
       "policy.lua:3: limits.workers: unknown key here (it is a key of the top level)\n"},
      {PLAIN("tls = {}"), "policy.lua:3: tls: unknown key here (it is a key of listen or upstream or forward)\n"},
      {PLAIN("upstreams = { a = { 'https://a', ca = 'ca.pem' } }"),
       "policy.lua:3: upstreams.a.ca: unknown key here (it is a key of upstream.tls)\n"},
      {PLAIN("reject_on = { 401 }"), "policy.lua:3: reject_on: unknown key here (it is a key of tokens.NAME)\n"},
      {PLAIN("timeout = 5"),
       "policy.lua:3: timeout: unknown key (did you mean \"timeouts\"?)\n"}, /* a slip before another table's key */
  };
  EXPECT_ALL_BAD(cases);
}

static void wrong_tokens_are_told(void) {
  static const struct bad cases[] = {
      {PLAIN("tokens = { ['my-token'] = {} }"),
       "policy.lua:3: tokens[\"my-token\"]: expected a name made of letters, digits and '_'\n"},
      {PLAIN("tokens = { api = 'eyJhbGciOi' }"),
       "policy.lua:3: tokens.api: expected a table with a fetch function, or a secret such as "
       "jeton.secret.file \"PATH\", got a string\n"},
      {PLAIN("tokens = { api = { fetch = 'x' } }"), "policy.lua:3: tokens.api.fetch: expected a function, got \"x\"\n"},
      {PLAIN("tokens = { api = {\nrefresh_at = 60 } }"),
       "policy.lua:4: tokens.api.refresh_at: expected a fraction of the life between 0 and 1, or a duration before its "
       "end such as \"60s\", got 60 (did you "
       "mean \"60s\"?)\n"},
      {PLAIN("tokens = { api = { refresh_at = '60 seconds' } }"),
       "policy.lua:3: tokens.api.refresh_at: expected a fraction of the life between 0 and 1, or a duration before its "
       "end such as \"60s\", got \"60 "
       "seconds\" (did you mean \"60s\"?)\n"},
      {PLAIN("tokens = { api = { jitter = 2 } }"),
       "policy.lua:3: tokens.api.jitter: expected a number from 0 to 1, got 2\n"},
      {PLAIN("tokens = { api = { missing = 'wiat' } }"),
       "policy.lua:3: tokens.api.missing: expected \"wait\", \"fail\" or \"pass\", got \"wiat\" (did you mean "
       "\"wait\"?)\n"},
      {PLAIN("tokens = { api = { reject_on = 401 } }"),
       "policy.lua:3: tokens.api.reject_on: expected a list of statuses such as { 401 }, or a function of the reply, "
       "got 401\n"},
      {PLAIN("tokens = { api = { reject_on = { 200, '401' } } }"),
       "policy.lua:3: tokens.api.reject_on[1]: expected a status from 400 to 599, got 200\n"
       "policy.lua:3: tokens.api.reject_on[2]: expected a status from 400 to 599, got \"401\"\n"},
      {PLAIN("tokens = { api = { reject_on = { 401, 402, 403, 404, 405, 406, 407, 408, 409 } } }"),
       "policy.lua:3: tokens.api.reject_on: expected at most 8 statuses, got 9\n"},
      {PLAIN("tokens = { api = { hosts = { 'https://a.example.com/x', '*.b' } } }"),
       "policy.lua:3: tokens.api.hosts[1]: expected a host such as \"api.example.com\", \"api.example.com:8443\", "
       "\"http://10.0.0.7:9000\" or \"unix:/run/api.sock\", a command such as \"exec:/usr/bin/login\" or a file such "
       "as \"file:/run/tokens/api\", got "
       "\"https://a.example.com/x\" (did you mean \"a.example.com\"?)\n"
       "policy.lua:3: tokens.api.hosts[2]: expected a host such as \"api.example.com\", \"api.example.com:8443\", "
       "\"http://10.0.0.7:9000\" or \"unix:/run/api.sock\", a command such as \"exec:/usr/bin/login\" or a file such "
       "as \"file:/run/tokens/api\", got \"*.b\"\n"},
      {PLAIN("tokens = { api = { hosts = {} } }"),
       "policy.lua:3: tokens.api.hosts: expected at least one host, got an empty list\n"},
      {PLAIN("tokens = { api = { max = 5 } }"),
       "policy.lua:3: tokens.api.max: only has a meaning beside family = true\n"},
      {PLAIN("tokens = { api = { backoff = { min = '2s', max = '1s' } } }"),
       "policy.lua:3: tokens.api.backoff: expected min not above max, got 2s and 1s\n"},
      {PLAIN("tokens = { 'a' }"), "policy.lua:3: tokens[1]: expected a key, as in key = value\n"},
  };
  EXPECT_ALL_BAD(cases);
}

static void wrong_tls_is_told(void) {
  static const struct bad cases[] = {
      {PLAIN("upstreams = { a = { 'http://a', tls = {} } }"),
       "policy.lua:3: upstreams.a.tls: has no use here: no URL of this upstream begins with https://\n"},
      {PLAIN("upstreams = { a = { 'https://a', tls = { ca = 'none.pem', verify = 'no', min_version = 1.3,\npins = { "
             "'sha256/x' }, cert = 5 } } }"),
       NULL},
  };
  expect_bad(cases[0].text, cases[0].report);
  struct loaded l = load(cases[1].text);
  const char *text = buf_z(&l.report.text);
  CHECK(strstr(text, "policy.lua:3: upstreams.a.tls.verify: expected true or false, got \"no\"\n") != NULL);
  CHECK(strstr(text,
               "policy.lua:3: upstreams.a.tls.min_version: expected \"1.2\" or \"1.3\", got 1.3 (did you mean "
               "\"1.3\"?)\n") != NULL);
  CHECK(strstr(text,
               "policy.lua:4: upstreams.a.tls.pins[1]: expected \"sha256/\" and 44 characters of base64, got "
               "\"sha256/x\"\n") != NULL);
  CHECK(strstr(text, "policy.lua:4: upstreams.a.tls.cert: expected the name of a file, got 5\n") != NULL);
  CHECK(strstr(text, "policy.lua:3: upstreams.a.tls: ") != NULL && strstr(text, "none.pem") != NULL);
  CHECK(l.p == NULL && l.report.problems == 5);
  unload(&l);
}

static void turning_verification_off_needs_a_name_and_warns(void) {
  struct loaded l = load(PLAIN("upstreams = { a = { 'https://a', tls = {\nverify = false, insecure = 'lab' } } }"));
  expect_report(&l,
                "warning: policy.lua:4: upstreams.a.tls.insecure: certificates are not verified (\"lab\"): tokens may "
                "go to anyone\n");
  CHECK(l.p != NULL && l.report.warnings == 1 && l.p->upstreams[1].insecure != NULL);
  CHECK(strcmp(l.p->upstreams[1].insecure, "lab") == 0);
  unload(&l);
  expect_bad(
      PLAIN("upstreams = { a = { 'https://a', tls = { verify = false, insecure = 'lab',\nca = '/a.pem' } } }"),
      "warning: policy.lua:3: upstreams.a.tls.insecure: certificates are not verified (\"lab\"): tokens may go to "
      "anyone\npolicy.lua:4: upstreams.a.tls.ca: has no use beside verify = false: nobody is asked who signed\n");
  expect_bad(PLAIN("upstreams = { a = { 'https://a', tls = { verify = false } } }"),
             "policy.lua:3: upstreams.a.tls.verify: expected an insecure = \"NAME\" beside verify = false, to say on "
             "purpose what is not verified\n");
  expect_bad(PLAIN("upstreams = { a = { 'https://a', tls = { ca = 'ca.pem', insecure = 'x' } } }"),
             "policy.lua:3: upstreams.a.tls.insecure: only has a meaning beside verify = false\n");
}

static void listeners_need_whole_certificates(void) {
  struct loaded l = load(
      "return { upstream = 'http://a', listen = { ':1', { ':2', tls = { client_required = true } },\n{ ':3', tls = "
      "{\ncertificates = { { cert = 'x' }, {} } } } } }");
  const char *text = buf_z(&l.report.text);
  CHECK(strstr(text, "policy.lua:1: listen[2].tls.client_required: expected a client_ca beside it, got nothing\n") !=
        NULL);
  CHECK(strstr(text, "policy.lua:3: listen[3].tls.certificates[1]: expected a key beside cert, got nothing\n") != NULL);
  CHECK(strstr(text, "policy.lua:3: listen[3].tls.certificates[2]: expected { cert = FILE, key = FILE }\n") != NULL);
  CHECK(l.p == NULL);
  unload(&l);
}

static void all_problems_come_together_by_line(void) {
  expect_bad("return {\n workers = 'x',\n tokens = {\n  api = {\n   wait = '5 sec',\n  },\n },\n lisetn = 1,\n}",
             "policy.lua:2: workers: expected a whole number from 1 to 256, got \"x\"\n"
             "policy.lua:5: tokens.api.wait: expected " DURATION
             ", got \"5 sec\" (did you mean \"5s\"?)\n"
             "policy.lua:8: lisetn: unknown key (did you mean \"listen\"?)\n"
             "policy.lua: listen: expected an address such as \"127.0.0.1:8080\", got nothing\n"
             "policy.lua: upstream: expected a URL such as \"https://api.example.com\", a forward table, or an "
             "on_request that responds "
             "itself, got nothing\n");
}

static void many_problems_are_counted(void) {
  struct loaded l =
      load("local t = { listen = ':1', upstream = 'http://a' }\nfor i = 1, 300 do t['k' .. i] = i end\nreturn t");
  CHECK(l.report.problems == 101 && strstr(buf_z(&l.report.text), "policy.lua: and 200 more\n") != NULL);
  unload(&l);
}

static void a_helper_table_with_an_unknown_key_is_told_at_its_call(void) {
  expect_bad(
      "local function helper(t) t.fetch = print; return t end\nreturn { listen = ':1', upstream = 'http://a', tokens = "
      "{\n api = helper {\n  wait = '5 sec',\n"
      "  id = 'x',\n },\n} }",
      "policy.lua:4: tokens.api.wait: expected " DURATION
      ", got \"5 sec\" (did you mean \"5s\"?)\n"
      "policy.lua:5: tokens.api.id: unknown key (known here: fetch, release, secret, version, refresh_at, jitter, "
      "leeway, wait, "
      "missing, "
      "reject_on, hosts, reveal, rotates, ready, timeout, "
      "backoff, family, max, idle)\n");
}

static void no_secret_is_shown(void) {
  static const char *const texts[] = {
      PLAIN("client_secret = 'hunter2'"),
      PLAIN("tokens = { api = 'hunter2' }"),
      PLAIN("tokens = { api = { value = 'hunter2', hosts = 'hunter2@x', fetch = print } }"),
      PLAIN("upstreams = { a = { 'https://a', tls = { key = { 'hunter2' }, cert = 1 } } }"),
      PLAIN("upstreams = { a = 'https://hunter2@a', b = 'b:hunter2@c', c = 'x?hunter2' }"),
      PLAIN("upstreams = { token = 'hunter2 5' }"),
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    struct loaded l = load(texts[i]);
    CHECK(l.p == NULL && l.report.problems > 0);
    CHECK(strstr(buf_z(&l.report.text), "hunter2") == NULL);
    unload(&l);
  }
}

/* --- files, syntax, modules --- */

static void expect_report_with(const char *text, const char *part) {
  struct loaded l = load(text);
  if (strstr(buf_z(&l.report.text), part) == NULL) fprintf(stderr, "no \"%s\" in:\n%s", part, buf_z(&l.report.text));
  CHECK(strstr(buf_z(&l.report.text), part) != NULL);
  CHECK(l.p == NULL && l.report.problems == 1);
  unload(&l);
}

static void lua_errors_keep_their_place(void) {
  expect_report_with("return {\n listen = \n}", "policy.lua:3: unexpected symbol near '}'");
  expect_report_with("local x\nx.y = 1", "policy.lua:2: attempt to index a nil value (local 'x')");
  expect_report_with("error('boom')", "policy.lua:1: boom");
  expect_report_with("error('boom\\nforged.lua:1: x', 0)", "boom\\nforged.lua:1: x\n");
}

static void files_that_cannot_be_read_are_told(void) {
  unlink(in_dir("policy.lua"));
  struct loaded l = load(NULL);
  CHECK(l.p == NULL && strstr(buf_z(&l.report.text), "policy.lua: cannot be read: ") != NULL);
  CHECK(strncmp(buf_z(&l.report.text), dir, strlen(dir)) == 0);
  unload(&l);
  write_bytes("policy.lua", "\x1bLua\x54\x00", 6);
  l = load(NULL);
  expect_report(&l, "policy.lua: this is compiled Lua; jeton loads source text only\n");
  unload(&l);
}

static void a_first_line_with_a_hash_is_skipped(void) {
  struct loaded l = expect_good("#!/usr/bin/jeton run\nreturn { listen = ':1', upstream = 'http://a' }");
  unload(&l);
}

static void modules_are_found_and_kept(void) {
  CHECK(mkdir(in_dir("lib"), 0700) == 0);
  CHECK(mkdir(in_dir("lib/deep"), 0700) == 0);
  CHECK(mkdir(in_dir("scripts"), 0700) == 0);
  CHECK(mkdir(in_dir("scripts/jeton"), 0700) == 0);
  char scripts[256];
  snprintf(scripts, sizeof scripts, "%s", in_dir("scripts"));
  setenv("JETON_SCRIPTS", scripts, 1);
  CHECK(strcmp(scripts_dir(), scripts) == 0);
  write_text("site.lua", "local M = {} M.port = 1 M.name = ... return M");
  write_text("lib/deep/init.lua", "return require('site').port + 1");
  write_text("scripts/jeton/helper.lua", "return { token = { fetch = print } }");
  write_text("scripts/site.lua", "return { port = 99 }");
  struct loaded l = expect_good(
      "local s = require 'site' assert(s == require 'site' and s.name == 'site') assert(require 'jeton' == jeton and "
      "require 'string' == string)\n"
      "return { listen = ':' .. require 'lib.deep', upstream = 'http://a', tokens = { a = "
      "require('jeton.helper').token } }");
  CHECK(strcmp(l.p->listens[0].text, ":2") == 0 && l.p->nsources == 4);
  CHECK(strcmp(l.p->sources[2].name, "lib.deep") == 0 &&
        strcmp(l.p->sources[2].path, in_dir("lib/deep/init.lua")) == 0);
  CHECK(strcmp(l.p->sources[3].chunk, "jeton/helper.lua") == 0);
  unload(&l);
}

static void bad_modules_are_told(void) {
  expect_report_with("require 'cjson'",
                     "policy.lua:1: module 'cjson' not found (jeton.json takes its place): no file ");
  expect_report_with("\nrequire 'nowhere.x'", "policy.lua:2: module 'nowhere.x' not found: no file ");
  expect_report_with("require '../x'",
                     "policy.lua:1: a module's name is made of letters, digits, '_' and '-', joined by dots");
  expect_report_with("require 'a..b'", "policy.lua:1: a module's name is made of");
  write_text("a.lua", "return require 'b'");
  write_text("b.lua", "return require 'a'");
  expect_report_with("return require 'a'", "b.lua:1: modules require each other: a -> b -> a");
  write_text("broken.lua", "local x =\n= 1");
  expect_report_with("return require 'broken'", "broken.lua:2: unexpected symbol near '='");
  write_bytes("code.lua", "\x1bLua\x54\x00", 6);
  expect_report_with("return require 'code'", "code.lua: this is compiled Lua; jeton loads source text only");
}

/* --- bindings --- */

static void expect_binding(struct loaded *l, const char *message) {
  struct vm *vm = new_vm(VM_WORKER);
  struct binding b;
  const char *got = "";
  int status = binding_init(&b, vm, l->p, &got);
  if (message == NULL) {
    CHECK(status == 0);
    binding_fini(&b);
  } else {
    CHECK(status != 0 && strstr(got, message) != NULL);
  }
  vm_unref(vm);
}

static void a_binding_takes_the_functions(void) {
  struct loaded l = expect_good(
      "return { listen = ':1', upstream = 'http://a', on_request = print, on_log = print,\n"
      " tokens = { a = { fetch = print }, b = {} }, tasks = { t = print } }");
  struct vm *vm = new_vm(VM_WORKER);
  struct binding b;
  const char *message = "";
  CHECK(binding_init(&b, vm, l.p, &message) == 0);
  CHECK(b.hooks[HOOK_REQUEST] != LUA_NOREF && b.hooks[HOOK_LOG] != LUA_NOREF && b.hooks[HOOK_START] == LUA_NOREF &&
        b.hooks[HOOK_ERROR] == LUA_NOREF);
  CHECK(b.fetch[0] != LUA_NOREF && b.fetch[1] == LUA_NOREF && b.tasks[0] != LUA_NOREF && b.tokens == LUA_NOREF);
  CHECK(!vm_loading(vm));
  binding_fini(&b);
  unload(&l); /* the VM keeps the policy for a late require */
  vm_unref(vm);
}

static void every_vm_runs_the_bytes_that_were_checked(void) {
  write_text("site.lua", "return { f = print }");
  struct loaded l = expect_good("return { listen = ':1', upstream = 'http://a', on_request = require('site').f }");
  write_text("site.lua", "this is no Lua any more");
  write_text("policy.lua", "nor this");
  expect_binding(&l, NULL);
  unload(&l);
}

static void a_policy_that_differs_from_vm_to_vm_is_told(void) {
  struct loaded l = expect_good("return { listen = ':1', upstream = 'http://a', on_request = print }");
  struct source *own = &l.p->sources[0];
  struct str text = own->text;
  own->text = STR("return { on_request = 5 }"); /* as if the text had drawn lots */
  expect_binding(&l, "on_request was a function when the policy was checked, and is none in this thread");
  own->text = STR("return 5");
  expect_binding(&l, "policy.lua: returned no table in this thread");
  own->text = STR("require 'site'");
  expect_binding(
      &l,
      "policy.lua:1: module 'site' was not required while the policy was loaded: require it at the top of the file");
  own->text = text;
  unload(&l);
}

static int l_probe_tokens(lua_State *L) {
  const struct binding *b = lua_touserdata(L, 1);
  static const char probe[] =
      "local tokens = ...\nassert(tokens.api ~= nil and tokens.tenant ~= nil)\nassert(jeton.tokens == tokens)\n"
      "local ok, e = pcall(function() return tokens.apo end)\nassert(not ok and e:find(\"the policy has no token named "
      "'apo' (did you mean 'api'?)\", 1, true), e)\n"
      "ok, e = pcall(function() return tokens.zzzzzz end)\nassert(not ok and e:find(\"no token named 'zzzzzz'\", 1, "
      "true), e)\n"
      "ok, e = pcall(function() tokens.x = 1 end)\nassert(not ok and e:find('tokens cannot be assigned', 1, true), e)\n"
      "local api = tokens.api\nok, e = pcall(function() tokens.api = 'text' end)\n"
      "assert(not ok and e:find('tokens cannot be assigned', 1, true) and tokens.api == api, e)\n"
      "local names = {}\nfor name, token in pairs(tokens) do names[name] = token end\n"
      "assert(names.api == api and names.tenant == tokens.tenant)\n"
      "local _, copy = pairs(tokens)\ncopy.api = 'text'\nassert(tokens.api == api)\n"
      "assert(getmetatable(tokens) == false)";
  CHECK(luaL_loadstring(L, probe) == LUA_OK);
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->tokens);
  lua_call(L, 1, 0);
  return 0;
}

static void hooks_get_the_tokens_table(void) {
  struct loaded l = expect_good(
      "return { listen = ':1', upstream = 'http://a', tokens = { api = { fetch = print }, tenant = { fetch = print, "
      "family = true } } }");
  struct vm *vm = new_vm(VM_WORKER);
  struct binding b;
  const char *message = "";
  struct slot *slot = slot_new(STR("api"), (struct str){NULL, 0});
  struct token_family *family = family_new(STR("tenant"));
  struct token_set tokens = {
      .slots = (struct slot *[]){slot, NULL}, .families = (struct token_family *[]){NULL, family}, .n = 2};
  CHECK(binding_init(&b, vm, l.p, &message) == 0);
  CHECK(binding_tokens(&b, vm, l.p, &tokens) == 0);
  int status = vm_call(vm, l_probe_tokens, &b, &message);
  if (status != 0) fprintf(stderr, "%s\n", message);
  CHECK(status == 0);
  binding_fini(&b);
  vm_unref(vm);
  slot_unref(slot);
  family_unref(family);
  unload(&l);
}

static void remove_dir(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", dir);
  CHECK(system(command) == 0);
}

int main(void) {
  CHECK(mkdtemp(dir) != NULL);
  RUN(a_plain_proxy_has_the_defaults);
  RUN(every_key_is_taken);
  RUN(a_unix_socket_is_no_host);
  RUN(tokens_have_their_settings);
  RUN(a_policy_may_answer_by_itself);
  RUN(a_token_that_nobody_may_receive_warns);
  RUN(references_are_counted_and_loads_numbered);
  RUN(the_command_line_takes_the_place_of_keys);
  RUN(what_is_missing_is_told);
  RUN(unknown_keys_are_told_with_the_nearest);
  RUN(wrong_values_are_told);
  RUN(wrong_units_are_explained);
  RUN(wrong_addresses_are_told);
  RUN(http2_is_said_of_what_it_fits);
  RUN(http2_of_the_wrong_kind_is_told);
  RUN(wrong_urls_are_told);
  RUN(a_key_in_the_wrong_table_is_told_with_the_right_one);
  RUN(wrong_tokens_are_told);
  RUN(wrong_tls_is_told);
  RUN(turning_verification_off_needs_a_name_and_warns);
  RUN(listeners_need_whole_certificates);
  RUN(all_problems_come_together_by_line);
  RUN(many_problems_are_counted);
  RUN(a_helper_table_with_an_unknown_key_is_told_at_its_call);
  RUN(no_secret_is_shown);
  RUN(lua_errors_keep_their_place);
  RUN(files_that_cannot_be_read_are_told);
  RUN(a_first_line_with_a_hash_is_skipped);
  RUN(modules_are_found_and_kept);
  RUN(bad_modules_are_told);
  RUN(a_binding_takes_the_functions);
  RUN(every_vm_runs_the_bytes_that_were_checked);
  RUN(a_policy_that_differs_from_vm_to_vm_is_told);
  RUN(hooks_get_the_tokens_table);
  remove_dir();
  return 0;
}
