/* coding.h: a reply's Content-Encoding (RFC 9110 section 8.4) and how it is undone, for replies that are gathered: those of jeton.http. What the proxy relays
 * stays as it came. Any thread. */
#ifndef JETON_HTTP_CODING_H
#define JETON_HTTP_CODING_H

#include <stddef.h>

#include "base/buf.h"
#include "http/headers.h"

enum coding {
  CODING_NONE,    /* no field, or "identity" */
  CODING_GZIP,    /* also "x-gzip" */
  CODING_DEFLATE, /* the zlib format; bare deflate, which some servers send under this name, is read too */
  CODING_UNKNOWN  /* another one, or several on top of each other */
};
enum coding coding_of(const struct headers *h);

/* Appends what `in` decodes to, at most `max` bytes. 0; ERR_LIMIT: it is more than that; ERR_TRUNCATED: the end is missing; ERR_PROTOCOL: the bytes are not in that
 * coding. No bytes at all decode to none: servers state a coding beside an empty body. For CODING_GZIP and CODING_DEFLATE. */
int coding_undo(enum coding coding, struct str in, size_t max, struct buf *out);

#endif
