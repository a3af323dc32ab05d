/* forwarded.c: the fields that name the client to the upstream.
 *
 * The last member of X-Forwarded-For and of Forwarded is always ours, since it is the one that an upstream may trust; hence
 * they are appended to even when the client sent only one of them. Pure but for the list and its arena. */
#include "http/forwarded.h"

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

static const struct {
  struct str name;
  enum header_id id;
} fields[] = {{{"X-Forwarded-For", 15}, H_X_FORWARDED_FOR},
              {{"X-Forwarded-Proto", 17}, H_X_FORWARDED_PROTO},
              {{"X-Forwarded-Host", 16}, H_X_FORWARDED_HOST},
              {{"Forwarded", 9}, H_FORWARDED}};
enum { FOR, PROTO, HOST, FORWARDED };

/* One field holding the list so far and `last`. */
static void append(struct headers *h, struct arena *a, struct str name, struct str last) {
  struct str before = headers_join(h, name);
  if (before.n > 0) last = arena_printf(a, "%.*s, %.*s", STR_FMT(before), STR_FMT(last));
  headers_set(h, name, last);
}

static void append_all(struct headers *h, struct arena *a, struct str ip, struct str proto, struct str host) {
  if (ip.n > 0) append(h, a, fields[FOR].name, ip);
  if (headers_find_id(h, H_X_FORWARDED_PROTO) == NULL) headers_add(h, fields[PROTO].name, proto);
  if (host.n > 0 && headers_find_id(h, H_X_FORWARDED_HOST) == NULL) headers_add(h, fields[HOST].name, host);
  append(h, a, fields[FORWARDED].name, element(a, ip, proto, host));
}

static void set_all(struct headers *h, struct arena *a, struct str ip, struct str proto, struct str host) {
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) headers_remove_id(h, fields[i].id);
  if (ip.n > 0) headers_add(h, fields[FOR].name, ip);
  headers_add(h, fields[PROTO].name, proto);
  if (host.n > 0) headers_add(h, fields[HOST].name, host);
  headers_add(h, fields[FORWARDED].name, element(a, ip, proto, host));
}

void forwarded_apply(struct headers *h, struct arena *a, enum forwarded_mode how, struct str client_ip, bool client_tls,
                     struct str host) {
  struct str proto = client_tls ? STR("https") : STR("http");
  if (how == FORWARDED_OFF) return;
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) headers_remove_twins(h, fields[i].name, true);
  if (how == FORWARDED_SET)
    set_all(h, a, client_ip, proto, host);
  else
    append_all(h, a, client_ip, proto, host);
}

/* A field line of its own is the same list (RFC 9110 section 5.3), and needs no memory. */
void via_add(struct headers *h, struct arena *a, unsigned minor) {
  (void)a;
  headers_add(h, STR("Via"), minor == 0 ? STR("1.0 jeton") : STR("1.1 jeton"));
}
