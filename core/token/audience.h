/* audience.h: the servers that may receive a secret: scheme, host and port, or a Unix socket's path. Refcounted; immutable once it is shared; an empty one
 * allows none. */
#ifndef JETON_TOKEN_AUDIENCE_H
#define JETON_TOKEN_AUDIENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct audience;
struct audience *audience_new(void);
/* Exactly this scheme, host (a name or literal without brackets, any case) and port: an upstream of the policy. Only before it is shared. */
void audience_add(struct audience *a, bool tls, struct str host, uint16_t port);
/* As audience_add; with `subdomains` host is what follows the star of "*.example.com", and stands for exactly one label before it. Only before it is shared. */
void audience_add_pattern(struct audience *a, bool tls, bool subdomains, struct str host, uint16_t port);
/* Exactly this path; a socket is no host, whatever name stands in the requests to it. Only before it is shared. */
void audience_add_unix(struct audience *a, struct str path);
/* As a user writes it: "h": https on any port of h; "h:p": https on that port; "http://h[:p]": plain, any port or that one; "https://" may be said.
 * "*.example.com" stands for exactly one label in place of the star. False, and nothing added, when it is none of these. */
bool audience_add_host(struct audience *a, struct str host_and_port);
bool audience_allows(const struct audience *a, bool tls, struct str host, uint16_t port);
bool audience_allows_unix(const struct audience *a, struct str path);
struct audience *audience_ref(struct audience *a);
void audience_unref(struct audience *a); /* NULL is fine */

#endif
