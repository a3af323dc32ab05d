/* keys_net.c: where jeton listens, and its upstreams.
 *
 * Each of these keys may be written short or long: an address or URL, a list, or a table with settings. The short forms are read into the same structs as the long one, so nothing
 * behind this file knows which it was. An upstream begins with the policy's timeouts, which are read before it, and its own go on top. Addresses are parsed here and names resolved
 * later, by the workers: a policy can be checked where its hosts are not. Control's thread. */
#include <ctype.h>

#include "base/hash.h"
#include "policy/hint.h"
#include "policy/keys.h"

#define AT(type, member) offsetof(struct type, member)

/* --- listen --- */

static const char address_expected[] =
    "an address such as \"127.0.0.1:8080\", \"[::1]:8080\", \":8080\" or \"unix:/run/jeton.sock\"";

static bool all_digits(struct str s) {
  for (size_t i = 0; i < s.n; i++)
    if (!isdigit((unsigned char)s.p[i])) return false;
  return s.n > 0;
}

static const char *address_try(struct schema *s, struct str guess) {
  union address a;
  return address_parse(guess, &a) == 0 ? hint_quoted(s, guess) : NULL;
}

/* The address that was probably meant by a text that is none: a URL, a port alone, localhost, a host alone, the path of a socket. */
static const char *address_guess(struct schema *s, struct str text) {
  if (text.n == 0 || text.n > SHOWN_MAX) return NULL;
  if (str_starts(text, STR("http://"))) text = (struct str){text.p + 7, text.n - 7};
  if (text.n > 0 && text.p[text.n - 1] == '/') text.n--;
  if (text.n > 0 && text.p[0] == '/') return address_try(s, arena_printf(s->arena, "unix:%.*s", STR_FMT(text)));
  if (str_starts(text, STR("*:"))) return address_try(s, (struct str){text.p + 1, text.n - 1});
  if (all_digits(text)) return address_try(s, arena_printf(s->arena, "127.0.0.1:%.*s", STR_FMT(text)));
  if (str_starts(text, STR("localhost:")))
    return address_try(s, arena_printf(s->arena, "127.0.0.1%.*s", (int)text.n - 9, text.p + 9));
  const char *guess = address_try(s, text);
  return guess != NULL ? guess : address_try(s, arena_printf(s->arena, "%.*s:8080", STR_FMT(text)));
}

static bool is_any_port(const union address *a) {
  if (a->sa.sa_family == AF_INET) return a->in.sin_port == 0;
  return a->sa.sa_family == AF_INET6 && a->in6.sin6_port == 0;
}

/* The number of an earlier listener on the same address, from 1; 0: none. */
static size_t find_same(const struct policy *p, const union address *a, uint64_t digest) {
  char text[160], other[160];
  if (is_any_port(a) || address_format(a, text, sizeof text) < 0) return 0;
  for (size_t i = 0; i < p->nlistens; i++) {
    if (p->listens[i].digest != digest) continue;
    if (address_format(&p->listens[i].address, other, sizeof other) >= 0 && strcmp(text, other) == 0) return i + 1;
  }
  return 0;
}

static uint64_t digest_of(const union address *a) {
  char text[160];
  return address_format(a, text, sizeof text) < 0 ? 0 : hash_plain(HASH_START, str_of(text));
}

static bool add_listen(struct schema *s, const struct path *at, struct str text, const union address *address) {
  struct policy *p = s->policy;
  const uint64_t digest = digest_of(address);
  size_t same = find_same(p, address, digest);
  if (same > 0) {
    struct str quoted = path_quote(s->arena, str_of(p->listens[same - 1].text));
    schema_problem(s, at, "listens on the same address as %.*s", STR_FMT(quoted));
    return false;
  }
  p->listens[p->nlistens++] = (struct listen_conf){.text = arena_dup(s->arena, text).p,
                                                   .address = *address,
                                                   .digest = digest,
                                                   .half_close = p->half_close,
                                                   .tcp_keepalive = p->tcp_keepalive,
                                                   .http2 = true};
  return true;
}

static bool read_address(struct schema *s, const struct path *at, int value) {
  union address address;
  struct str text;
  if (lua_isinteger(s->L, value)) { /* a port alone */
    struct str port = arena_printf(s->arena, "%lld", (long long)lua_tointeger(s->L, value));
    schema_expected(s, at, value, address_expected, address_guess(s, port));
    return false;
  }
  if (!schema_borrow(s, at, value, address_expected, &text)) return false;
  if (address_parse(text, &address) == 0) return add_listen(s, at, text, &address);
  schema_expected(s, at, value, address_expected, address_guess(s, text));
  return false;
}

/* --- TCP keep-alive, of either side --- */

static const struct field keepalive_fields[] = {
    {"idle", FIELD_DURATION, AT(keepalive, idle_ms), "60s", KEEPALIVE_MIN_MS, KEEPALIVE_MAX_MS, {0}},
    {"interval", FIELD_DURATION, AT(keepalive, interval_ms), "15s", KEEPALIVE_MIN_MS, KEEPALIVE_MAX_MS, {0}},
    {"probes", FIELD_COUNT, AT(keepalive, probes), "4", 1, KEEPALIVE_PROBES_MAX, {0}},
    {0}};

struct keepalive keys_keepalive_default(void) {
  struct keepalive k = {0};
  schema_defaults(keepalive_fields, &k);
  return k;
}

void keys_read_keepalive(struct schema *s, const struct path *at, int value, void *to) {
  struct keepalive *k = to;
  if (lua_isboolean(s->L, value)) {
    *k = lua_toboolean(s->L, value) ? keys_keepalive_default() : (struct keepalive){0};
    return;
  }
  if (!schema_is_table(s, at, value, "true, false or a table such as { idle = \"60s\" }")) return;
  *k = keys_keepalive_default();
  schema_read(s, at, value, keepalive_fields, k, false);
}

/* --- a listener's own settings --- */

static void skip(struct schema *s, const struct path *at, int value, void *unused) {
  (void)s, (void)at, (void)value, (void)unused; /* read by its owner, which knows what else is there */
}

/* Defaults: the policy's, and HTTP/2. */
static const struct field listener_fields[] = {
    {"tls", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = skip}},
    {"half_close", FIELD_BOOLEAN, AT(listen_conf, half_close), NULL, 0, 0, {0}},
    {"tcp_keepalive", FIELD_CUSTOM, AT(listen_conf, tcp_keepalive), NULL, 0, 0, {.read = keys_read_keepalive}},
    {"http2", FIELD_BOOLEAN, AT(listen_conf, http2), NULL, 0, 0, {0}},
    {0}};

/* One listener with settings, where a list of listeners could stand as well. */
static bool has_settings(struct schema *s, int value) {
  for (const struct field *f = listener_fields; f->key != NULL; f++)
    if (!keys_is_type(s, value, f->key, LUA_TNIL)) return true;
  return false;
}

/* { "ADDRESS", tls = {…}, half_close = true } */
static void read_listen_table(struct schema *s, const struct path *at, int value) {
  struct listen_conf settings = {
      .half_close = s->policy->half_close, .tcp_keepalive = s->policy->tcp_keepalive, .http2 = true};
  schema_read(s, at, value, listener_fields, &settings, true);
  size_t n = lua_rawlen(s->L, value);
  if (n != 1) {
    schema_problem(s, at, "expected one address in it, got %zu", n);
    return;
  }
  struct path first = {at, {NULL, 0}, 1}, tls = {at, STR("tls"), 0};
  lua_rawgeti(s->L, value, 1);
  bool added = read_address(s, &first, lua_gettop(s->L));
  if (added) {
    struct listen_conf *l = &s->policy->listens[s->policy->nlistens - 1];
    l->half_close = settings.half_close;
    l->tcp_keepalive = settings.tcp_keepalive;
    l->http2 = settings.http2;
  }
  lua_pushliteral(s->L, "tls");
  lua_rawget(s->L, value);
  if (!lua_isnil(s->L, -1) && added) keys_tls_listen(s, &tls, lua_gettop(s->L), s->policy->nlistens - 1);
  lua_pop(s->L, 2);
}

static void read_listen_entry(struct schema *s, const struct path *at, int value, void *unused) {
  (void)unused;
  if (lua_istable(s->L, value)) {
    read_listen_table(s, at, value);
  } else {
    read_address(s, at, value);
  }
}

static void read_listen_list(struct schema *s, const struct path *at, int value) {
  size_t n = lua_rawlen(s->L, value);
  s->policy->listens = arena_alloc(s->arena, (n + 1) * sizeof *s->policy->listens);
  schema_each_item(s, at, value, read_listen_entry, NULL);
  if (n == 0) schema_problem(s, at, "expected at least one address, got an empty list");
}

void keys_read_listen(struct schema *s, const struct path *at, int value, void *unused) {
  s->has_listen = true;
  if (lua_istable(s->L, value) && !has_settings(s, value)) {
    read_listen_list(s, at, value);
    return;
  }
  s->policy->listens = arena_alloc(s->arena, sizeof *s->policy->listens);
  read_listen_entry(s, at, value, unused);
}

void keys_override_listen(struct schema *s) {
  const struct policy_overrides *o = s->overrides;
  static const struct path at = {NULL, {"--listen", 8}, 0};
  s->has_listen = true;
  s->policy->listens = arena_alloc(s->arena, o->nlisten * sizeof *s->policy->listens);
  for (size_t i = 0; i < o->nlisten; i++) {
    struct str text = str_of(o->listen[i]);
    union address address;
    if (address_parse(text, &address) == 0) {
      add_listen(s, &at, text, &address);
      continue;
    }
    const char *guess = address_guess(s, text);
    schema_problem(s, &at, "expected %s, got %s%s%s%s", address_expected, hint_quoted(s, text),
                   guess != NULL ? " (did you mean " : "", guess != NULL ? guess : "", guess != NULL ? "?)" : "");
  }
}

/* --- upstreams --- */

struct upstream_keys { /* what a table says beside its URLs */
  struct timeouts_conf timeouts;
  unsigned pool_idle;
  uint64_t pool_age_ms;
  struct keepalive tcp_keepalive;
  struct parents *parents;
  enum http2_mode http2;
  bool preserve_host, rewrite_location;
};

/* Only what is asked of an upstream: the others belong to the client's connection. Defaults: the policy's. */
static const struct field timeout_fields[] = {
    {"connect", FIELD_DURATION, AT(timeouts_conf, connect), NULL, 0, 0, {0}},
    {"first_byte", FIELD_DURATION, AT(timeouts_conf, first_byte), NULL, 0, 0, {0}},
    {"response", FIELD_DURATION, AT(timeouts_conf, response), NULL, 0, 0, {0}},
    {"send", FIELD_DURATION, AT(timeouts_conf, send), NULL, 0, 0, {0}},
    {"pool", FIELD_DURATION, AT(timeouts_conf, pool), NULL, 0, 0, {0}},
    {0}};
/* Offsets from the start of upstream_keys. */
static const struct field pool_fields[] = {{"idle", FIELD_COUNT, AT(upstream_keys, pool_idle), "256", 0, 65536, {0}},
                                           {"keep", FIELD_DURATION, AT(upstream_keys, timeouts.pool), NULL, 0, 0, {0}},
                                           {"age", FIELD_DURATION, AT(upstream_keys, pool_age_ms), "1h", 0, 0, {0}},
                                           {0}};

static const struct field upstream_fields[] = {
    {"tls", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = skip}},
    {"timeouts", FIELD_TABLE, AT(upstream_keys, timeouts), NULL, 0, 0, {.fields = timeout_fields}},
    {"pool", FIELD_TABLE, 0, NULL, 0, 0, {.fields = pool_fields}},
    {"tcp_keepalive", FIELD_CUSTOM, AT(upstream_keys, tcp_keepalive), NULL, 0, 0, {.read = keys_read_keepalive}},
    {"http2", FIELD_CUSTOM, AT(upstream_keys, http2), NULL, 0, 0, {.read = keys_read_http2}},
    {"proxy", FIELD_CUSTOM, AT(upstream_keys, parents), NULL, 0, 0, {.read = keys_read_proxy}},
    {"preserve_host", FIELD_BOOLEAN, AT(upstream_keys, preserve_host), "false", 0, 0, {0}},
    {"rewrite_location", FIELD_BOOLEAN, AT(upstream_keys, rewrite_location), "false", 0, 0, {0}},
    {0}};

/* What stands for one of the three in other programs. */
static const char *http2_guess(struct schema *s, int value) {
  static const struct {
    const char *text, *meant;
  } known[] = {{"true", "true"}, {"on", "true"},     {"yes", "true"},  {"h2", "true"},  {"h2c", "true"},
               {"only", "true"}, {"false", "false"}, {"off", "false"}, {"no", "false"}, {"http/1.1", "false"}};
  struct str text = {NULL, 0};
  if (lua_type(s->L, value) == LUA_TSTRING) text.p = lua_tolstring(s->L, value, &text.n);
  for (size_t i = 0; text.p != NULL && i < sizeof known / sizeof *known; i++)
    if (str_ieq(text, str_of(known[i].text))) return known[i].meant;
  return text.p != NULL && str_ieq(text, STR("auto")) ? "\"auto\"" : NULL;
}

void keys_read_http2(struct schema *s, const struct path *at, int value, void *to) {
  enum http2_mode *mode = to;
  size_t n = 0;
  const char *text = lua_type(s->L, value) == LUA_TSTRING ? lua_tolstring(s->L, value, &n) : NULL;
  if (lua_isboolean(s->L, value))
    *mode = lua_toboolean(s->L, value) ? HTTP2_ONLY : HTTP2_OFF;
  else if (text != NULL && str_eq((struct str){text, n}, STR("auto")))
    *mode = HTTP2_AUTO;
  else
    schema_expected(s, at, value, "true, false or \"auto\"", http2_guess(s, value));
}

void keys_upstream_defaults(struct upstream_conf *u) {
  struct upstream_keys keys = {0};
  schema_defaults(upstream_fields, &keys);
  u->http2 = HTTP2_USUAL;
  u->pool_idle = keys.pool_idle;
  u->pool_age_ms = keys.pool_age_ms;
}

static const char url_expected[] = "a URL";

/* A URL without its scheme: with a port it is most often a plain server nearby. */
static const char *url_guess(struct schema *s, struct str text) {
  struct url url;
  if (text.n == 0 || text.n > SHOWN_MAX || strstr(text.p, "://") != NULL) return NULL;
  const char *port = strchr(text.p, ':');
  bool plain = port != NULL && strncmp(port, ":443", 4) != 0 && strncmp(port, ":8443", 5) != 0;
  const char *scheme = text.p[0] == '/' ? "unix:" : plain ? "http://" : "https://";
  struct str guess = arena_printf(s->arena, "%s%.*s", scheme, STR_FMT(text));
  return url_parse(guess, &url) == NULL ? hint_quoted(s, guess) : NULL;
}

static bool read_url(struct schema *s, const struct path *at, int value, struct url *out) {
  struct str text;
  if (!schema_string(s, at, value, url_expected, &text)) return false;
  const char *wrong = url_parse(text, out);
  if (wrong == NULL && out->query.p != NULL) wrong = "the URL of an upstream has no query";
  if (wrong == NULL) return true;
  const char *guess = str_starts(text, STR("unix:")) ? NULL : url_guess(s, text);
  if (guess != NULL) {
    schema_expected(s, at, value, url_expected, guess);
  } else {
    schema_problem(s, at, "expected a URL, got %s: %s", hint_value(s, at, value), wrong);
  }
  return false;
}

static void add_url(struct schema *s, const struct path *at, int value, struct upstream_conf *u) {
  struct url *url = &u->urls[u->nurls];
  if (!read_url(s, at, value, url)) return;
  if (url->path.n > 1) u->has_base = true; /* "/" alone is none */
  u->nurls++;
}

static void read_urls(struct schema *s, const struct path *at, int value, struct upstream_conf *u) {
  size_t n = lua_rawlen(s->L, value);
  u->urls = arena_alloc(s->arena, (n + 1) * sizeof *u->urls);
  if (n == 0) schema_problem(s, at, "expected at least one URL in it, as in { \"https://api.example.com\" }");
  for (size_t i = 1; i <= n; i++) {
    struct path child = {at, {NULL, 0}, i};
    lua_rawgeti(s->L, value, (lua_Integer)i);
    add_url(s, &child, lua_gettop(s->L), u);
    lua_pop(s->L, 1);
  }
}

static bool any_tls(const struct upstream_conf *u) {
  for (size_t i = 0; i < u->nurls; i++)
    if (u->urls[i].tls) return true;
  return false;
}

/* tls: the key's value or nil, on top. */
static void read_upstream_tls(struct schema *s, const struct path *at, size_t index) {
  const struct upstream_conf *u = &s->policy->upstreams[index];
  struct path tls = {at, STR("tls"), 0};
  if (lua_isnil(s->L, -1)) {
    if (any_tls(u)) keys_tls_default(s, at, index);
  } else if (any_tls(u)) {
    keys_tls_upstream(s, &tls, lua_gettop(s->L), index);
  } else if (u->nurls > 0) { /* else its URLs are wrong and that is said already */
    schema_problem(s, &tls, "has no use here: no URL of this upstream begins with https://");
  }
}

/* Appends. The array is made anew: keep an index, not a pointer to a member. */
static size_t add_upstream(struct schema *s, struct str name) {
  struct policy *p = s->policy;
  struct upstream_conf *grown = arena_alloc(s->arena, (p->nupstreams + 1) * sizeof *grown);
  if (p->nupstreams > 0) memcpy(grown, p->upstreams, p->nupstreams * sizeof *grown);
  p->upstreams = grown;
  grown[p->nupstreams] =
      (struct upstream_conf){.name = name.p, .timeouts = p->timeouts, .tcp_keepalive = p->tcp_keepalive};
  return p->nupstreams++;
}

/* Behind the URLs. The default is no mistake of anybody. */
static void check_http2(struct schema *s, const struct path *at, int value, const struct upstream_conf *u) {
  struct path http2 = {at, STR("http2"), 0};
  if (u->http2 == HTTP2_AUTO && u->nurls > 0 && !any_tls(u) && keys_is_type(s, value, "http2", LUA_TSTRING))
    schema_problem(s, &http2, HTTP2_NOT_AUTO);
}

/* The environment may be said of all upstreams. */
static void check_proxy(struct schema *s, const struct path *at, const struct upstream_conf *u) {
  struct path proxy = {at, STR("proxy"), 0};
  bool all_unix = u->nurls > 0;
  for (size_t i = 0; i < u->nurls; i++) all_unix = all_unix && u->urls[i].unix_path.p != NULL;
  if (u->parents != NULL && all_unix && !parents_from_environment(u->parents))
    schema_problem(s, &proxy, "has no use here: a Unix socket is not reached through a proxy");
}

static void read_upstream_table(struct schema *s, const struct path *at, int value, struct upstream_conf *u) {
  struct upstream_keys keys = {.timeouts = u->timeouts,
                               .pool_idle = u->pool_idle,
                               .pool_age_ms = u->pool_age_ms,
                               .tcp_keepalive = u->tcp_keepalive,
                               .http2 = u->http2};
  schema_read(s, at, value, upstream_fields, &keys, true);
  u->timeouts = keys.timeouts;
  u->pool_idle = keys.pool_idle;
  u->pool_age_ms = keys.pool_age_ms;
  u->tcp_keepalive = keys.tcp_keepalive;
  u->http2 = keys.http2;
  u->parents = keys.parents;
  u->preserve_host = keys.preserve_host;
  u->rewrite_location = keys.rewrite_location;
  read_urls(s, at, value, u);
  check_http2(s, at, value, u);
  check_proxy(s, at, u);
}

static void read_one(struct schema *s, const struct path *at, int value, struct str name) {
  size_t index = add_upstream(s, name);
  struct upstream_conf *u = &s->policy->upstreams[index];
  keys_upstream_defaults(u);
  if (lua_istable(s->L, value)) {
    read_upstream_table(s, at, value, u);
    lua_pushliteral(s->L, "tls");
    lua_rawget(s->L, value);
  } else {
    u->urls = arena_alloc(s->arena, sizeof *u->urls);
    add_url(s, at, value, u);
    lua_pushnil(s->L);
  }
  read_upstream_tls(s, at, index);
  lua_pop(s->L, 1);
}

void keys_read_upstream(struct schema *s, const struct path *at, int value, void *unused) {
  (void)unused;
  s->has_upstream = s->policy->has_default = true;
  read_one(s, at, value, STR("default"));
}

static bool name_valid(struct str name) {
  for (size_t i = 0; i < name.n; i++)
    if (!isalnum((unsigned char)name.p[i]) && memchr("_-.", name.p[i], 3) == NULL) return false;
  return name.n > 0;
}

void keys_read_upstreams(struct schema *s, const struct path *at, int value, void *unused) {
  (void)unused;
  struct str *names;
  if (!schema_is_table(s, at, value, "a table of upstreams by name")) return;
  size_t n = schema_names(s, at, value, &names);
  for (size_t i = 0; i < n; i++) {
    struct path child = {at, names[i], 0};
    if (str_eq(names[i], STR("default"))) {
      schema_problem(s, &child, "the default upstream is the key upstream");
      continue;
    }
    if (!name_valid(names[i])) {
      schema_problem(s, &child, "expected a name made of letters, digits, '_', '-' and '.'");
      continue;
    }
    lua_pushlstring(s->L, names[i].p, names[i].n);
    lua_rawget(s->L, value);
    read_one(s, &child, lua_gettop(s->L), names[i]);
    lua_pop(s->L, 1);
  }
}

const struct field_place *keys_net_places(void) {
  static const struct field_place places[] = {{"listen", listener_fields},    {"tcp_keepalive", keepalive_fields},
                                              {"upstream", upstream_fields},  {"upstream.timeouts", timeout_fields},
                                              {"upstream.pool", pool_fields}, {0}};
  return places;
}
