/* forwarded.h: tells the upstream who asked: X-Forwarded-For, -Proto, -Host, Forwarded (RFC 7239) and Via (RFC 9110 section 7.6.3).
 *
 * Call after headers_strip_hop_by_hop, so that a client's `Connection: x-forwarded-for` cannot take ours away (CVE-2022-31813). */
#ifndef JETON_HTTP_FORWARDED_H
#define JETON_HTTP_FORWARDED_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/str.h"
#include "http/message.h"

/* What a client says of itself: Forwarded, X-Forwarded, every X-Forwarded-…, and the fields that carry a client's address (X-Real-IP, X-Client-IP,
 * X-Cluster-Client-IP, True-Client-IP, CF-Connecting-IP, Fastly-Client-IP), also as their twins (headers_remove_twins).
 *
 * DROP: all of that goes, and nothing is said. SET: all of that goes, and For, Proto, Host and Forwarded say what we saw. APPEND: there is a proxy before us that is
 * trusted; ours is added behind its For and Forwarded, its Proto and Host stay when it sent them, and so does the rest, twins aside. OFF: the fields pass as they came. */
enum forwarded_mode { FORWARDED_DROP, FORWARDED_SET, FORWARDED_APPEND, FORWARDED_OFF };

/* client_ip: an address without brackets or port; empty for a Unix socket ("unknown" in Forwarded, nothing added to X-Forwarded-For).
 * host: what the client asked for, host[:port]; .n 0: not said. DROP and OFF look at none of them.
 * Slices given must live as long as the arena. */
void forwarded_apply(struct headers *h, struct arena *a, enum forwarded_mode how, struct str client_ip, bool client_tls,
                     struct str host);
/* version: of the message that was received. */
void via_add(struct headers *h, struct arena *a, enum http_version version);

#endif
