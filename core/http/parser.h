/* parser.h: reads HTTP/1 messages: gather, check, parse.
 *
 * A head (or a trailer section, or a chunk's size line) is first gathered whole into the exchange's arena, with its
 * bytes checked as they come (http/headcheck.h), and only then given to llhttp in one call. So llhttp never sees a
 * head that is folded, oversized or split, spans are never cut, and every slice points into the arena.
 * The parser is pulled: each call returns the next event and consumes input up to it. Owned by one loop's thread. */
#ifndef JETON_HTTP_PARSER_H
#define JETON_HTTP_PARSER_H

#include <llhttp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "http/headcheck.h"
#include "http/headers.h"

enum http_framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_UNTIL_CLOSE };

struct request {
  struct str method;      /* upper-case token as sent */
  struct str target;      /* as it was sent; the client's bytes */
  struct str path;        /* origin-form path, "*" for OPTIONS *, "" for CONNECT */
  struct str query;       /* without "?"; .p NULL when there is no "?" */
  struct str authority;   /* host[:port]: from an absolute-form target or CONNECT, else from Host (RFC 9112 section 3.2.2) */
  struct headers headers;
  struct headers trailers;
  uint64_t content_length; /* with FRAMING_LENGTH */
  enum http_framing framing;
  uint8_t minor;          /* HTTP/1.minor: 0 or 1 */
  bool keep_alive, expect_continue, absolute_form, is_connect, is_head;
  bool upgrade;           /* Connection: upgrade with an Upgrade field, on 1.1 */
  struct str upgrade_protocol;
};
struct response {
  int status;
  struct str reason;
  struct headers headers;
  struct headers trailers;
  uint64_t content_length;
  enum http_framing framing;
  uint8_t minor;
  bool keep_alive; /* the connection can serve another request */
};

struct http_limits {
  uint32_t request_line; /* bytes of method, target and version: 414 above */
  uint32_t head;         /* bytes of the whole head: 431 above */
  uint32_t headers;      /* fields: 431 above */
  uint32_t chunk_line;   /* bytes of one chunk-size line with its extensions: 400 above */
  uint32_t chunk_overhead; /* bytes of chunk lines in a row that carry less data than themselves: 400 above */
};
extern const struct http_limits http_limits_default;

/* What was wrong: the status to answer a request with (0 for responses: always 502) and a sentence with the rule. */
struct http_fault {
  int status;
  const char *text; /* static: "bare LF in the head (RFC 9112 section 2.2)" */
};

enum parse_event {
  PARSE_MORE, /* all input is consumed */
  PARSE_HEAD, /* the head is complete: request or response is filled. Call again for the body. */
  PARSE_BODY, /* *span is body, pointing into the input */
  PARSE_END,  /* the message is complete; trailers are filled. Input behind it is not consumed. */
  PARSE_ERROR /* p->fault tells; the parser is done for */
};

struct http_parser {
  llhttp_t llhttp;
  struct arena *arena;
  const struct http_limits *limits;
  union {
    struct request *request;
    struct response *response;
  } to;
  struct http_fault fault;
  struct headcheck check;
  uint8_t *gathered;
  uint32_t ngathered, gather_cap;
  uint64_t body_left;
  uint32_t overhead;
  uint8_t stage;
  bool is_response, head_request, connect_request;
  struct str field; /* llhttp's last header name */
};

/* `into` must outlive the parser's use; its headers are made in `arena`. */
void http_parser_init_request(struct http_parser *p, struct arena *a, const struct http_limits *l, struct request *into);
/* method: the request's, since HEAD and CONNECT change a response's framing (RFC 9112 section 6.3). After a 1xx other than 101,
 * call it again for the final response. */
void http_parser_init_response(struct http_parser *p, struct arena *a, const struct http_limits *l, struct response *into,
                               const struct request *request_for, struct str method);
enum parse_event http_parser_next(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span);
/* The peer closed. PARSE_END when that is how this message ends, PARSE_MORE when no byte of a message had come, else PARSE_ERROR. */
enum parse_event http_parser_eof(struct http_parser *p);
/* True once a byte of the next message has been seen (for head timeouts). */
bool http_parser_started(const struct http_parser *p);

#endif
