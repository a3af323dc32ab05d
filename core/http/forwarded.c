/* forwarded.c: the fields that name the client to the upstream.
 *
 * What a client may say of itself is a family of names and not a list of four: frameworks look at X-Real-IP or X-Forwarded-Port as well, and who replaces some of
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

static bool in_family(struct str name) {
  static const struct str addresses[] = {{"x-real-ip", 9},       {"x-client-ip", 11},      {"x-cluster-client-ip", 19},
                                         {"true-client-ip", 14}, {"cf-connecting-ip", 16}, {"fastly-client-ip", 16}};
  char low[SQUASHED_MAX];
  struct str s = squash(name, low);
  if (str_starts(s, STR("x-forwarded"))) return s.n == 11 || s.p[11] == '-';
  if (str_eq(s, STR("forwarded"))) return true;
  for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
    if (str_eq(s, addresses[i])) return true;
  return false;
}

/* Most names differ in their first two letters already. */
static bool speaks_of_client(struct str name) {
  if (name.n < 9) return false;
  char second = name.p[1] | 0x20;
  switch (name.p[0] | 0x20) {
    case 'x': return (name.p[1] == '-' || name.p[1] == '_') && in_family(name);
    case 'f': return (second == 'o' || second == 'a') && in_family(name);
    case 't': return second == 'r' && in_family(name);
    case 'c': return second == 'f' && in_family(name);
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
void via_add(struct headers *h, struct arena *a, unsigned minor) {
  (void)a;
  headers_add(h, STR("Via"), minor == 0 ? STR("1.0 jeton") : STR("1.1 jeton"));
}
