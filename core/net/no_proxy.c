/* no_proxy.c: see no_proxy.h. */
#include "net/no_proxy.h"

#include "net/address.h"
#include "net/range.h"
#include "net/url.h"

static bool is_separator(char c) { return c == ',' || c == ' ' || c == '\t'; }

/* The next entry of *list, which goes on behind it. */
static bool next_entry(struct str *list, struct str *entry) {
  size_t at = 0, end;
  while (at < list->n && is_separator(list->p[at])) at++;
  for (end = at; end < list->n && !is_separator(list->p[end]);) end++;
  *entry = (struct str){list->p + at, end - at};
  *list = (struct str){list->p + end, list->n - end};
  return entry->n > 0;
}

static struct str without_final_dot(struct str s) {
  if (s.n > 1 && s.p[s.n - 1] == '.') s.n--;
  return s;
}

static bool parse_literal(struct str host, union address *out) {
  char text[64];
  if (host.n == 0 || host.n >= sizeof text - 4) return false;
  bool ipv6 = memchr(host.p, ':', host.n) != NULL;
  size_t n = 0;
  if (ipv6) text[n++] = '[';
  memcpy(text + n, host.p, host.n);
  n += host.n;
  if (ipv6) text[n++] = ']';
  memcpy(text + n, ":1", 2);
  return address_parse((struct str){text, n + 2}, out) == 0;
}

static bool is_below(struct str host, struct str domain) {
  return host.n > domain.n + 1 && host.p[host.n - domain.n - 1] == '.' &&
         str_ieq((struct str){host.p + host.n - domain.n, domain.n}, domain);
}

static bool names_host(struct str entry, struct str host) {
  bool below_only = str_starts(entry, STR("*."));
  if (below_only)
    entry = (struct str){entry.p + 2, entry.n - 2};
  else if (entry.n > 1 && entry.p[0] == '.')
    entry = (struct str){entry.p + 1, entry.n - 1};
  entry = without_final_dot(entry);
  return is_below(host, entry) || (!below_only && str_ieq(host, entry));
}

/* "10.0.0.7", "[::1]", "10.0.0.0/8", "::1". */
static bool names_address(struct str entry, const union address *a) {
  struct address_range range;
  if (entry.n > 2 && entry.p[0] == '[' && entry.p[entry.n - 1] == ']') entry = (struct str){entry.p + 1, entry.n - 2};
  enum range_fault fault = range_parse(entry, &range); /* host bits are passed over, as Go does */
  return fault != RANGE_WRONG && range_holds(&range, a);
}

/* Splits what Go knows and curl does not: a port behind the host. An IPv6 address with a port has brackets. */
static struct str split_port(struct str entry, uint16_t *port) {
  struct str host;
  *port = 0;
  struct str name = str_starts(entry, STR("*.")) ? (struct str){entry.p + 2, entry.n - 2} : entry;
  if (!host_split(name, &host, port) || *port == 0) return entry;
  const char *colon = entry.p + entry.n - 1;
  while (*colon != ':') colon--;
  return (struct str){entry.p, (size_t)(colon - entry.p)};
}

bool no_proxy_names(struct str list, struct str host, uint16_t port) {
  union address literal;
  struct str entry;
  bool is_literal = parse_literal(host, &literal);
  host = without_final_dot(host);
  while (next_entry(&list, &entry)) {
    uint16_t only;
    if (str_eq(entry, STR("*"))) return true;
    entry = split_port(entry, &only);
    if (only != 0 && only != port) continue;
    if (is_literal ? names_address(entry, &literal) : names_host(entry, host)) return true;
  }
  return false;
}

bool no_proxy_is_here(struct str host) {
  static const char *const loopback[] = {"127.0.0.0/8", "::1"};
  union address a;
  struct address_range range;
  if (str_ieq(without_final_dot(host), STR("localhost"))) return true;
  if (!parse_literal(host, &a)) return false;
  for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
    if (range_parse(str_of(loopback[i]), &range) == RANGE_FINE && range_holds(&range, &a)) return true;
  return false;
}
