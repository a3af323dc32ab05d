/* url.c: splits absolute URLs (RFC 3986) and Host values, strictly, into slices of the input.
 *
 * A URL is accepted only if every other parser would read it the same way: no userinfo, no fragment, no percent-encoded or empty host. Nothing is decoded or
 * normalised. Pure functions; any thread. */
#include "net/url.h"

#include <stdio.h>

#include <arpa/inet.h>
#include <sys/un.h>

#include "base/chars.h"

enum { HOST_MAX = 255 };

static struct str slice(struct str s, size_t from, size_t to) { return (struct str){s.p + from, to - from}; }

static bool port_parse(struct str s, uint16_t *port) {
  unsigned value = 0;
  if (s.n == 0 || s.n > 5) return false;
  for (size_t i = 0; i < s.n; i++) {
    if (s.p[i] < '0' || s.p[i] > '9') return false;
    value = value * 10 + (unsigned)(s.p[i] - '0');
  }
  *port = (uint16_t)value;
  return value >= 1 && value <= UINT16_MAX;
}

static bool ipv6_valid(struct str s) {
  char text[INET6_ADDRSTRLEN];
  struct in6_addr address;
  if (s.n == 0 || s.n >= sizeof text || memchr(s.p, '\0', s.n) != NULL) return false;
  memcpy(text, s.p, s.n);
  text[s.n] = '\0';
  return inet_pton(AF_INET6, text, &address) == 1;
}

/* The length of the host, its brackets included; 0 when there is no valid host. */
static size_t host_end(struct str s, struct str *host) {
  if (s.n > 0 && s.p[0] == '[') {
    const char *close = memchr(s.p, ']', s.n);
    if (close == NULL) return 0;
    *host = slice(s, 1, (size_t)(close - s.p));
    return ipv6_valid(*host) ? host->n + 2 : 0;
  }
  size_t n = s.n > 0 ? chars_span((const uint8_t *)s.p, s.n, 0, CHAR_HOST) : 0;
  *host = slice(s, 0, n);
  return n <= HOST_MAX ? n : 0;
}

bool host_split(struct str s, struct str *host, uint16_t *port) {
  size_t end = host_end(s, host);
  *port = 0;
  if (end == 0) return false;
  if (end == s.n) return true;
  return s.p[end] == ':' && port_parse(slice(s, end + 1, s.n), port);
}

bool host_valid(struct str s) {
  struct str host;
  uint16_t port;
  return host_split(s, &host, &port);
}

/* path [ "?" query ], s beginning with "/" or "?" or empty. */
static void path_split(struct str s, struct url *out) {
  const char *mark = s.n > 0 ? memchr(s.p, '?', s.n) : NULL;
  size_t n = mark != NULL ? (size_t)(mark - s.p) : s.n;
  out->path = slice(s, 0, n);
  out->query = mark != NULL ? slice(s, n + 1, s.n) : (struct str){NULL, 0};
}

/* "unix:/run/x.sock" or "unix:/run/x.sock:/base"; s is what follows "unix:". */
static const char *unix_parse(struct str s, struct url *out) {
  size_t end = 0;
  while (end < s.n && !(s.p[end] == ':' && end + 1 < s.n && s.p[end + 1] == '/')) end++;
  if (s.n == 0 || s.p[0] != '/') return "the path of a Unix socket must be absolute: unix:/run/name.sock";
  if (end >= sizeof((struct sockaddr_un *)NULL)->sun_path) return "the path of a Unix socket is longer than 107 bytes";
  out->unix_path = slice(s, 0, end);
  out->host = STR("localhost");
  out->port = 80;
  path_split(slice(s, end < s.n ? end + 1 : end, s.n), out);
  return NULL;
}

static const char *authority_parse(struct str s, struct url *out) {
  if (s.n == 0) return "the URL has no host";
  if (memchr(s.p, '@', s.n) != NULL) return "userinfo is not allowed in a URL";
  size_t end = host_end(s, &out->host);
  if (end == 0) return s.p[0] == '[' ? "the URL's brackets hold no IPv6 address" : "the URL has no valid host";
  if (end < s.n && s.p[end] != ':') return "the URL's host has a character that may not stand there";
  if (!host_split(s, &out->host, &out->port)) return "the URL's port is not a number from 1 to 65535";
  out->port_given = out->port != 0;
  out->ipv6 = s.p[0] == '[';
  if (!out->port_given) out->port = out->tls ? 443 : 80;
  return NULL;
}

static bool starts_scheme(struct str s, struct str scheme) {
  return s.n >= scheme.n && str_ieq(slice(s, 0, scheme.n), scheme);
}

const char *url_parse(struct str s, struct url *out) {
  *out = (struct url){.path = {"", 0}};
  if (s.n == 0) return "the URL is empty";
  if (!chars_all(s, CHAR_TARGET))
    return "a URL may hold visible ASCII only: a host in other letters is written xn--…, the rest with %";
  if (memchr(s.p, '#', s.n) != NULL) return "a fragment (#) is not allowed in this URL";
  if (starts_scheme(s, STR("unix:"))) return unix_parse(slice(s, 5, s.n), out);
  out->tls = starts_scheme(s, STR("https://"));
  if (!out->tls && !starts_scheme(s, STR("http://"))) return "the URL must begin with http://, https:// or unix:/";
  struct str rest = slice(s, out->tls ? 8 : 7, s.n);
  size_t end = 0;
  while (end < rest.n && rest.p[end] != '/' && rest.p[end] != '?') end++;
  const char *wrong = authority_parse(slice(rest, 0, end), out);
  if (wrong == NULL) path_split(slice(rest, end, rest.n), out);
  return wrong;
}

void url_host_field(const struct url *u, char out[URL_HOST_SIZE]) {
  const char *open = u->ipv6 ? "[" : "", *close = u->ipv6 ? "]" : "";
  char port[8] = "";
  if (u->port != (u->tls ? 443 : 80)) (void)snprintf(port, sizeof port, ":%u", u->port);
  (void)snprintf(out, URL_HOST_SIZE, "%s%.*s%s%s", open, STR_FMT(u->host), close, port);
}

void url_where(const struct url *u, char *out, size_t n) {
  if (u->unix_path.p != NULL) {
    (void)snprintf(out, n, "unix:%.*s", STR_FMT(u->unix_path));
    return;
  }
  char host[URL_HOST_SIZE];
  url_host_field(u, host);
  (void)snprintf(out, n, "%s://%s", u->tls ? "https" : "http", host);
}
