/* forwarded.c: the fields that name the client to the upstream.
 *
 * What a client may say of itself is a family of names and not a list of four: frameworks look at X-Real-IP, X-Forwarded-Port or X-Original-URL as well, and who replaces some of
 * them lets the others be forged.
 *
 * The last member of X-Forwarded-For and of Forwarded is always ours, since it is the one that an upstream may trust; hence
 * they are appended to even when the client sent only one of them. Pure but for the list and its arena. */
#include "http/forwarded.h"

#include "base/chars.h"

/* --- what a client says of itself --- */

enum { SQUASHED_MAX = 32 };

/* In small letters, "_" as "-", and several of them as one: as the most lenient server reads it. Cut where it is longer than any name that matters. */
static struct str squash(struct str name, char out[SQUASHED_MAX]) {
  size_t n = 0;
  for (size_t i = 0; i < name.n && n < SQUASHED_MAX; i++) {
    char c = name.p[i] == '_' ? '-' : char_lower(name.p[i]);
    if (c != '-' || n == 0 || out[n - 1] != '-') out[n++] = c;
  }
  return (struct str){out, n};
}

/* Beside X-Forwarded-… and Forwarded: the client's address, its scheme, host and URL, as front ends, clouds and frameworks call them. The last are no less than the path for
 * servers that believe them. */
#define NAME(text) \
  { text, sizeof(text) - 1 }
static const struct str family[] = {
    NAME("client-ip"),
    NAME("cf-connecting-ip"),
    NAME("cf-connecting-ipv6"),
    NAME("cf-visitor"),
    NAME("cloudfront-forwarded-proto"),
    NAME("cloudfront-viewer-address"),
    NAME("fastly-client-ip"),
    NAME("fastly-ssl"),
    NAME("fly-client-ip"),
    NAME("front-end-https"),
    NAME("proxy-client-ip"),
    NAME("true-client-ip"),
    NAME("wl-proxy-client-ip"),
    NAME("x-appengine-user-ip"),
    NAME("x-azure-clientip"),
    NAME("x-azure-socketip"),
    NAME("x-client-ip"),
    NAME("x-cluster-client-ip"),
    NAME("x-envoy-external-address"),
    NAME("x-original-for"),
    NAME("x-original-forwarded-for"),
    NAME("x-original-host"),
    NAME("x-original-proto"),
    NAME("x-original-uri"),
    NAME("x-original-url"),
    NAME("x-originating-ip"),
    NAME("x-proxyuser-ip"),
    NAME("x-real-ip"),
    NAME("x-real-port"),
    NAME("x-remote-addr"),
    NAME("x-remote-ip"),
    NAME("x-rewrite-url"),
    NAME("x-scheme"),
    NAME("x-url-scheme"),
    NAME("x-vercel-forwarded-for"),
};
#undef NAME

static bool in_family(struct str name) {
  char low[SQUASHED_MAX];
  struct str s = squash(name, low);
  if (str_starts(s, STR("x-forwarded"))) return s.n == 11 || s.p[11] == '-';
  if (str_eq(s, STR("forwarded"))) return true;
  for (size_t i = 0; i < sizeof family / sizeof *family; i++)
    if (str_eq(s, family[i])) return true;
  return false;
}

/* Most names differ in their first letters already. */
static bool speaks_of_client(struct str name) {
  enum { SHORTEST = sizeof "x-scheme" - 1, SHORTEST_OF_PROXY = sizeof "proxy-client-ip" - 1 };
  if (name.n < SHORTEST) return false;
  char second = name.p[1] | 0x20;
  switch (name.p[0] | 0x20) {
    case 'x': return (name.p[1] == '-' || name.p[1] == '_') && in_family(name);
    case 'f': return (second == 'o' || second == 'a' || second == 'l' || second == 'r') && in_family(name);
    case 't': return second == 'r' && in_family(name);
    case 'c': return (second == 'f' || second == 'l') && in_family(name);
    case 'p': return second == 'r' && name.n >= SHORTEST_OF_PROXY && in_family(name);
    case 'w': return second == 'l' && in_family(name);
    default: return false;
  }
}

static bool is_twin(struct str name) { return speaks_of_client(name) && chars_odd(name); }

/* --- what is said of it --- */

static char *put(char *to, struct str s) {
  memcpy(to, s.p, s.n);
  return to + s.n;
}

/* for="[2001:db8::1]": what is no token is quoted (RFC 7239 section 4), and IPv6 stands in brackets (section 6). */
static char *put_node(char *to, struct str ip) {
  if (ip.n == 0) return put(to, STR("unknown"));
  if (memchr(ip.p, ':', ip.n) == NULL) return put(to, ip);
  return put(put(put(to, STR("\"[")), ip), STR("]\""));
}

/* host=example.com, or in quotes, since a port's colon is no token character; a quote or backslash is escaped. */
static char *put_host(char *to, struct str host) {
  if (header_name_valid(host)) return put(to, host);
  *to++ = '"';
  for (size_t i = 0; i < host.n; i++) {
    if (host.p[i] == '"' || host.p[i] == '\\') *to++ = '\\';
    *to++ = host.p[i];
  }
  *to++ = '"';
  return to;
}

static struct str element(struct arena *a, struct str ip, struct str proto, struct str host) {
  char *out = arena_alloc(a, sizeof "for=unknown;host=\"\";proto=https" + ip.n + 4 + 2 * host.n);
  char *to = put_node(put(out, STR("for=")), ip);
  if (host.n > 0) to = put_host(put(to, STR(";host=")), host);
  to = put(put(to, STR(";proto=")), proto);
  return (struct str){out, (size_t)(to - out)};
}

static const struct str fields[] = {
    {"X-Forwarded-For", 15}, {"X-Forwarded-Proto", 17}, {"X-Forwarded-Host", 16}, {"Forwarded", 9}};
enum { FOR, PROTO, HOST, FORWARDED };

/* One field holding the list so far and `last`. */
static void append(struct headers *h, struct arena *a, struct str name, struct str last) {
  struct str before = headers_join(h, name);
  if (before.n > 0) last = arena_printf(a, "%.*s, %.*s", STR_FMT(before), STR_FMT(last));
  headers_set(h, name, last);
}

static void append_all(struct headers *h, struct arena *a, struct str ip, struct str proto, struct str host) {
  if (ip.n > 0) append(h, a, fields[FOR], ip);
  if (headers_find_id(h, H_X_FORWARDED_PROTO) == NULL) headers_add(h, fields[PROTO], proto);
  if (host.n > 0 && headers_find_id(h, H_X_FORWARDED_HOST) == NULL) headers_add(h, fields[HOST], host);
  append(h, a, fields[FORWARDED], element(a, ip, proto, host));
}

static void set_all(struct headers *h, struct arena *a, struct str ip, struct str proto, struct str host) {
  if (ip.n > 0) headers_add(h, fields[FOR], ip);
  headers_add(h, fields[PROTO], proto);
  if (host.n > 0) headers_add(h, fields[HOST], host);
  headers_add(h, fields[FORWARDED], element(a, ip, proto, host));
}

void forwarded_apply(struct headers *h, struct arena *a, enum forwarded_mode how, struct str client_ip, bool client_tls,
                     struct str host) {
  struct str proto = client_tls ? STR("https") : STR("http");
  if (how == FORWARDED_OFF) return;
  if (how == FORWARDED_APPEND) {
    if (h->odd) headers_remove_where(h, is_twin);
    append_all(h, a, client_ip, proto, host);
    return;
  }
  headers_remove_where(h, speaks_of_client);
  if (how == FORWARDED_SET) set_all(h, a, client_ip, proto, host);
}

/* A field line of its own is the same list (RFC 9110 section 5.3), and needs no memory. */
void via_add(struct headers *h, struct arena *a, enum http_version version) {
  static const struct str signatures[] = {
      [HTTP_1_0] = {"1.0 jeton", 9}, [HTTP_1_1] = {"1.1 jeton", 9}, [HTTP_2] = {"2 jeton", 7}};
  (void)a;
  headers_add(h, STR("Via"), signatures[version]);
}
