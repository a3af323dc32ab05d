/* parser.h: reads HTTP/1 messages: gather, check, judge.
 *
 * A head (or a trailer section, or a chunk's size line) is first gathered whole into the exchange's arena, with its
 * bytes checked as they come (http/headcheck.h), and only then taken apart, so every slice points into the arena. llhttp reads all of it as well, and must
 * agree (http/reading.h).
 * The parser is pulled: each call returns the next event and consumes input up to it. Owned by one loop's thread. */
#ifndef JETON_HTTP_PARSER_H
#define JETON_HTTP_PARSER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "http/headcheck.h"
#include "http/message.h"
#include "http/reading.h"

enum parse_event {
  PARSE_MORE, /* all input is consumed */
  PARSE_HEAD, /* the head is complete: request or response is filled. Call again for the body. */
  PARSE_BODY, /* *span is body, pointing into the input */
  PARSE_END,  /* the message is complete; trailers are filled. Input behind it is not consumed. */
  PARSE_ERROR /* p->fault tells; the parser is done for */
};

enum { HTTP_PARSER_LINES = 24 };
struct http_parser {
  struct reading reading;                          /* first; llhttp's, made when a head is whole */
  struct headcheck_field lines[HTTP_PARSER_LINES]; /* second; where the lines of a usual head are noted */
  struct arena *arena;
  const struct http_limits *limits;
  union {
    struct request *request;
    struct response *response;
  } to;
  struct http_fault fault;
  struct headcheck check;
  uint8_t *gathered; /* arena; slices of the message point into a head's and a trailer section's */
  uint32_t ngathered, gather_cap;
  uint64_t body_left; /* of a body with a length, or of a chunk */
  uint64_t overhead;  /* see http_limits.chunk_overhead */
  uint8_t stage;
  bool is_response, head_request, connect_request;
};

/* `into` must outlive the parser's use; its headers are made in `arena`. Takes no memory before the first byte comes. */
void http_parser_init_request(struct http_parser *p, struct arena *a, const struct http_limits *l,
                              struct request *into);
/* method: the request's, since HEAD and CONNECT change a response's framing (RFC 9112 section 6.3). After a 1xx other than 101, call it
 * again for the final response. A 101 is reported like any status: whether it was asked for is for the caller to judge. */
void http_parser_init_response(struct http_parser *p, struct arena *a, const struct http_limits *l,
                               struct response *into, struct str method);
enum parse_event http_parser_next(struct http_parser *p, const uint8_t **data, size_t *n, struct str *span);
/* The peer closed. PARSE_END when that is how this message ends (or its end has been seen), PARSE_MORE when no byte of a message had come (one
 * empty line before a request is none), else PARSE_ERROR. */
enum parse_event http_parser_eof(struct http_parser *p);
/* The last byte of the body has been told, and PARSE_END, which needs no further byte, has not. */
bool http_parser_at_end(const struct http_parser *p);
/* How many further bytes are body whatever they are: of a body with a length. Who lets them pass by tells how many. */
uint64_t http_parser_passable(const struct http_parser *p);
void http_parser_passed(struct http_parser *p, size_t n);
/* What has come of a request's first line, without its CRLF, when the head is not there or was refused: for a log, as it is. .n 0: nothing. */
struct str http_parser_first_line(const struct http_parser *p);
/* True once a byte of the next message has been seen (for head timeouts). */
bool http_parser_started(const struct http_parser *p);

#endif
