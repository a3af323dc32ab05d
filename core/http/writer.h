/* writer.h: writes heads anew from the parsed message; nothing of the peer's head is ever copied as a whole.
 * One Host, one framing field, no hop-by-hop fields but our own. Also chunked framing of a relayed body. */
#ifndef JETON_HTTP_WRITER_H
#define JETON_HTTP_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "http/message.h"

/* Appends the head to out (which must be `sensitive`). Secret values are expanded here, and here only, through h->secrets, with header_safe set.
 * Returns 0; the secret's error; or ERR_PROTOCOL when method, path, query or host hold a byte that would break the start line: out is rolled back then,
 * and wiped. */
int write_request_head(struct buf *out, const struct request_head *h);
/* The query with secrets, for a target of either protocol. The secret's error; ERR_SECRET_BYTES: it holds what may not stand in a target. What was written behind
 * out's end is for secret_head_again to take back. */
int write_secret_query(struct buf *out, const struct request_head *h);
/* A script may have changed method, path, query, host and upgrade: the last look before they become a start line, or what stands for it elsewhere. */
bool request_start_safe(const struct request_head *h);

struct response_head {
  int status;
  struct str reason; /* .p NULL, or not fit for a status line: the standard phrase */
  const struct headers *
      headers; /* framing, Connection, Upgrade, Keep-Alive, Proxy-Connection and Proxy-Authorization fields and secrets in it are ignored; Proxy-Authenticate is
                   ours to send (RFC 9110 section 11.7.1), the upstream's has been stripped */
  struct framing framing;
  /* HEAD, 1xx, 204, 304, tunnels: a Content-Length goes out where RFC 9110 section 8.6 allows it and framing.kind is FRAMING_LENGTH */
  bool no_body;
  bool keep_alive;          /* taken as false where only the connection's end can end the body */
  enum http_version client; /* HTTP_1_0: chunked is impossible and keep-alive must be said */
  struct str upgrade;       /* 101 and 426 */
};
void write_response_head(struct buf *out, const struct response_head *h);

/* Chunked framing of n > 0 bytes: the size line goes into a small array, the data stays where it is, and CHUNK_CRLF follows it. All three leave in one
 * write: many a reader takes a chunk only when its CRLF is there. Returns the bytes written to `line`. */
enum { CHUNK_LINE_MAX = 18 };
unsigned write_chunk_line(char line[CHUNK_LINE_MAX], size_t n);
#define CHUNK_CRLF STR("\r\n")
/* The last chunk, with those of the trailers that may pass; NULL: none. */
void write_chunk_end(struct buf *out, const struct headers *trailers);

#endif
