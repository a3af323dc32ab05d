/* no_proxy.h: which servers NO_PROXY names, the environment's list of those that no parent proxy is asked for. Pure; any thread. */
#ifndef JETON_NET_NO_PROXY_H
#define JETON_NET_NO_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* list: entries between commas or blanks. "example.com" and ".example.com": that host and all below it; "*.example.com": those below it; "10.0.0.7", "10.0.0.0/8":
 * addresses that are written as such; with ":8080" behind it: on that port; "*": every server. There is no standard: this is what curl and Go have in common, and
 * where one of them knows more it is what that one takes. host: as it stands in a URL, without brackets. */
bool no_proxy_names(struct str list, struct str host, uint16_t port);
/* localhost, or a loopback address: the parent's own machine would be meant. */
bool no_proxy_is_here(struct str host);

#endif
