/* keys_forward.c: the key `forward`: the targets that jeton forwards to. Runs on control's thread.
 *
 * A host of the list becomes entries of an audience (token/audience.h), each with its scheme and port: the list is matched by the same rules, and as
 * strictly, as the list of hosts that may receive a token. */
#include <arpa/inet.h>

#include "policy/hint.h"
#include "policy/keys.h"
#include "token/audience.h"

#define AT(member) offsetof(struct forward_conf, member)

/* --- hosts --- */

struct entry { /* one host as it is written */
  bool http, https;
  bool wildcard;
  struct str host; /* without brackets, "*." and port */
  uint16_t port;   /* 0: the scheme's */
};

static struct str skip(struct str s, size_t n) { return (struct str){s.p + n, s.n - n}; }

static bool is_address(struct str host) {
  struct address_range one;
  return range_parse(host, &one) == RANGE_FINE;
}

/* "10.1", "0x7f.1", "2130706433": resolvers take them for addresses, by rules of their own. RFC 3986 section 7.4. */
static bool odd_address(struct str host, struct in_addr *meant) {
  char text[SHOWN_MAX + 1];
  if (host.n >= sizeof text) return false;
  memcpy(text, host.p, host.n);
  text[host.n] = '\0';
  return inet_aton(text, meant) == 1 && !is_address(host);
}

static bool parse_entry(struct str s, struct entry *e) {
  struct in_addr meant;
  *e = (struct entry){.http = true, .https = true};
  if (str_starts(s, STR("http://"))) {
    e->https = false;
    s = skip(s, 7);
  } else if (str_starts(s, STR("https://"))) {
    e->http = false;
    s = skip(s, 8);
  }
  e->wildcard = str_starts(s, STR("*."));
  struct str name = e->wildcard ? skip(s, 2) : s;
  if (!host_split(name, &e->host, &e->port)) return false;
  struct str host = e->host;
  if (host.p[host.n - 1] == '.' || odd_address(host, &meant)) return false;
  return !e->wildcard || (name.p[0] != '[' && memchr(host.p, '.', host.n) != NULL && !is_address(host));
}

static void allow(struct audience *a, const struct entry *e, bool tls) {
  audience_add_pattern(a, tls, e->wildcard, e->host, e->port != 0 ? e->port : tls ? 443 : 80);
}

/* The host that was probably meant by a text that is none: a URL with a path, a name with a final dot, an address in an odd form. */
static const char *entry_guess(struct schema *s, struct str text, bool connect) {
  struct entry e;
  struct in_addr meant;
  if (text.n == 0 || text.n > SHOWN_MAX) return NULL;
  char address[INET_ADDRSTRLEN];
  if (odd_address(text, &meant)) return hint_quoted(s, str_of(inet_ntop(AF_INET, &meant, address, sizeof address)));
  size_t scheme = str_starts(text, STR("http://")) ? 7 : str_starts(text, STR("https://")) ? 8 : 0;
  struct str host = skip(text, scheme);
  const char *slash = host.n > 0 ? memchr(host.p, '/', host.n) : NULL;
  if (slash != NULL) host.n = (size_t)(slash - host.p);
  if (host.n > 0 && host.p[host.n - 1] == '.') host.n--;
  if (!parse_entry(host, &e) || host.n == text.n) return NULL;
  if (!connect) return hint_quoted(s, (struct str){text.p, scheme + host.n});
  if (e.port != 0 || scheme != 7) return hint_quoted(s, host);
  return hint_quoted(s, arena_printf(s->arena, "%.*s:80", STR_FMT(host)));
}

static void read_host(struct schema *s, const struct path *at, int value, struct forward_conf *f, bool connect) {
  const char *expected = connect ? "a host such as \"db.example.com:5432\", \"*.example.com\" or \"10.0.0.7:22\""
                                 : "a host such as \"api.example.com\", \"*.example.com\", \"http://10.0.0.7:9000\"";
  struct entry e;
  struct str text;
  if (!schema_borrow(s, at, value, expected, &text)) return;
  if (str_eq(text, STR("*"))) {
    schema_problem(s, at, "no entry stands for every host: expected %s", expected);
  } else if (!parse_entry(text, &e) || (connect && !(e.http && e.https))) {
    schema_expected(s, at, value, expected, entry_guess(s, text, connect));
  } else if (connect) {
    allow(f->connect, &e, true);
  } else {
    if (e.http) allow(f->hosts, &e, false);
    if (e.https) allow(f->hosts, &e, true);
    f->any_tls |= e.https;
  }
}

static void read_upstream_host(struct schema *s, const struct path *at, int value, void *f) {
  read_host(s, at, value, f, false);
}
static void read_target(struct schema *s, const struct path *at, int value, void *f) {
  read_host(s, at, value, f, true);
}

static void unref_audience(void *a) { audience_unref(a); }

static void read_list(struct schema *s, const struct path *at, int value, struct forward_conf *f, bool connect) {
  if (!schema_is_table(s, at, value, "a list of hosts such as { \"api.example.com\" }")) return;
  struct audience **a = connect ? &f->connect : &f->hosts;
  *a = audience_new();
  arena_defer(s->arena, unref_audience, *a);
  schema_each_item(s, at, value, connect ? read_target : read_upstream_host, f);
  if (lua_rawlen(s->L, value) == 0) schema_problem(s, at, "expected at least one host, got an empty list");
}

static void read_hosts(struct schema *s, const struct path *at, int value, void *to) {
  read_list(s, at, value, to, false);
}
static void read_connect(struct schema *s, const struct path *at, int value, void *to) {
  read_list(s, at, value, to, true);
}

/* --- private addresses --- */

static void read_range(struct schema *s, const struct path *at, int value, void *forward) {
  struct forward_conf *f = forward;
  static const char expected[] = "an address or range such as \"10.0.0.0/8\", \"127.0.0.1\" or \"fd00::/8\"";
  struct str text;
  char meant[RANGE_TEXT];
  if (!schema_borrow(s, at, value, expected, &text)) return;
  enum range_fault fault = range_parse(text, &f->allows[f->nallows]);
  if (fault == RANGE_FINE) {
    f->nallows++;
  } else if (fault == RANGE_WRONG) {
    schema_expected(s, at, value, expected, NULL);
  } else {
    range_format(&f->allows[f->nallows], meant, sizeof meant);
    schema_expected(s, at, value, expected, hint_quoted(s, str_of(meant)));
  }
}

static void read_private(struct schema *s, const struct path *at, int value, void *to) {
  struct forward_conf *f = to;
  if (!schema_is_table(s, at, value, "a list of addresses and ranges such as { \"10.0.0.0/8\" }")) return;
  f->allows = arena_alloc(s->arena, (lua_rawlen(s->L, value) + 1) * sizeof *f->allows);
  schema_each_item(s, at, value, read_range, f);
}

/* --- the key --- */

/* Behind `hosts`: whether anything is reached over https is known then. */
static void read_tls(struct schema *s, const struct path *at, int value, void *to) {
  const struct forward_conf *f = to;
  if (f->any_tls) {
    keys_tls_upstream(s, at, value, KEYS_FORWARD);
  } else if (s->nproblems == 0) { /* else an entry may be missing because it is wrong */
    schema_problem(s, at, "has no use here: no entry of hosts may be reached over https%s",
                   f->connect != NULL ? ", and what goes through CONNECT is the client's own TLS" : "");
  }
}

/* Behind `hosts` as well. */
static void read_http2(struct schema *s, const struct path *at, int value, void *to) {
  struct forward_conf *f = to;
  keys_read_http2(s, at, value, &f->conf.http2);
  if (s->nproblems > 0) return;
  if (f->hosts == NULL)
    schema_problem(s, at, "has no use here: there is no hosts, and what goes through CONNECT is the client's own");
  else if (f->conf.http2 == HTTP2_AUTO && !f->any_tls)
    schema_problem(s, at, HTTP2_NOT_AUTO);
}

static const struct field forward_fields[] = {
    {"hosts", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_hosts}},
    {"connect", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_connect}},
    {"private", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_private}},
    {"tls", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_tls}},
    {"http2", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_http2}},
    {"proxy", FIELD_CUSTOM, AT(conf.parents), NULL, 0, 0, {.read = keys_read_proxy}},
    {0}};

void keys_read_forward(struct schema *s, const struct path *at, int value, void *unused) {
  (void)unused;
  struct forward_conf *f = arena_alloc(s->arena, sizeof *f);
  *f = (struct forward_conf){
      .conf = {
          .name = "forward", .timeouts = s->policy->timeouts, .nurls = 1, .tcp_keepalive = s->policy->tcp_keepalive}};
  keys_upstream_defaults(&f->conf);
  s->policy->forward = f;
  if (!schema_is_table(s, at, value, "a table such as { hosts = { \"api.example.com\" } }")) return;
  schema_read(s, at, value, forward_fields, f, false);
  bool none = keys_is_type(s, value, "hosts", LUA_TNIL) && keys_is_type(s, value, "connect", LUA_TNIL);
  if (none) schema_problem(s, at, "expected hosts or connect in it: a list of who may be reached");
  if (f->any_tls && keys_is_type(s, value, "tls", LUA_TNIL)) keys_tls_default(s, at, KEYS_FORWARD);
}

const struct field_place *keys_forward_places(void) {
  static const struct field_place places[] = {{"forward", forward_fields}, {0}};
  return places;
}
