/* url.h: absolute URLs of upstreams and of jeton.http (RFC 3986), and hosts as they stand in Host. */
#ifndef JETON_NET_URL_H
#define JETON_NET_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct url {
  bool tls;        /* https */
  struct str host; /* without brackets */
  uint16_t port;   /* explicit, or 80 / 443 */
  bool port_given;
  bool ipv6;        /* host is an IPv6 literal: brackets in Host */
  struct str path;  /* "" or begins with "/" */
  struct str query; /* .p NULL when there is no "?" */
  /* else .p NULL; "unix:/run/x.sock" or "unix:/run/x.sock:/base" gives host "localhost", port 80 */
  struct str unix_path;
};
/* Slices into s. Returns NULL, or a static sentence that says what is wrong ("userinfo is not allowed in a URL"). */
const char *url_parse(struct str s, struct url *out);
/* For people: "https://api.example.com", "http://[::1]:8080" or "unix:/run/x.sock", cut at n. No path, no query: they may hold secrets. */
enum { URL_WHERE_SIZE = 300 };
void url_where(const struct url *u, char *out, size_t n);
/* Writes the Host field for it: "example.com", "[::1]:8080"; the port only where it is not the scheme's (RFC 9110 section 4.2). out: URL_HOST_SIZE bytes. */
enum { URL_HOST_SIZE = 272 };
void url_host_field(const struct url *u, char out[URL_HOST_SIZE]);
/* Host field value syntax (RFC 9110 section 7.2): uri-host [":" port], nothing else. Stricter than RFC 3986 where parsers differ: the host
 * is not empty and has no sub-delims, percent-encoding or zone; a port has 1 to 5 digits and is from 1 to 65535. */
bool host_valid(struct str s);
/* Splits "example.com:80", "[::1]:80" (host without brackets). port 0 when there is none. False when not valid. */
bool host_split(struct str s, struct str *host, uint16_t *port);

#endif
