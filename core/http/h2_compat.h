/* h2_compat.h: nghttp2, as Debian 12 (1.52) and 13 (1.64) both have it. No other file includes its header.
 *
 * The calls whose lengths are ssize_t: later versions have twins of them (mem_recv2 and so on) and call these deprecated, which is silenced here and nowhere else. */
#ifndef JETON_HTTP_H2_COMPAT_H
#define JETON_HTTP_H2_COMPAT_H

#include <nghttp2/nghttp2.h>

_Static_assert(NGHTTP2_VERSION_NUM >= 0x013400, "nghttp2 1.52 or later");

#endif
