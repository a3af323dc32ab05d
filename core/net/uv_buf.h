/* uv_buf.h: bytes that are to be written, as libuv takes them. uv_buf_t serves reads as well, so its pointer is not const: this is the one place that takes
 * the const away. libuv and the streams of this program read from what they are given to write, and no more. */
#ifndef JETON_NET_UV_BUF_H
#define JETON_NET_UV_BUF_H

#include <stdint.h>
#include <uv.h>

#include "base/str.h"

static inline uv_buf_t uv_buf_of(struct str s) { return (uv_buf_t){.base = (char *)(uintptr_t)s.p, .len = s.n}; }

#endif
