/* audience.h: who may receive a secret: servers by scheme, host and port, or by a Unix socket's path; commands and files by their paths. Refcounted; immutable
 * once it is shared; an empty one allows none. */
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
/* A command that may get it on standard input or in its environment, a file that it may be written to: exactly this absolute path. Only before it is shared. */
void audience_add_command(struct audience *a, struct str path);
void audience_add_file(struct audience *a, struct str path);
/* Everything that `from` lists, too. Only before a is shared; `from` is a list, not what audience_both made. */
void audience_add_all(struct audience *a, const struct audience *from);
bool audience_has_servers(const struct audience *a); /* one server, TCP or Unix, is listed */
/* As a user writes it: "h": https on any port of h; "h:p": https on that port; "http://h[:p]": plain, any port or that one; "https://" may be said.
 * "*.example.com" stands for exactly one label in place of the star. False, and nothing added, when it is none of these. */
bool audience_add_host(struct audience *a, struct str host_and_port);
bool audience_allows(const struct audience *a, bool tls, struct str host, uint16_t port);
bool audience_allows_unix(const struct audience *a, struct str path);
bool audience_allows_command(const struct audience *a, struct str path);
bool audience_allows_file(const struct audience *a, struct str path);
/* Do they list the same, in whatever order? NULL, which stands for no bound, is the same as NULL only. */
bool audience_same(const struct audience *a, const struct audience *b);
/* Allows what both allow: a new reference. NULL is no bound. */
struct audience *audience_both(struct audience *a, struct audience *b);
struct audience *audience_ref(struct audience *a);
void audience_unref(struct audience *a); /* NULL is fine */

#endif
