/* judge.h: what RFC 9110 and 9112 ask of a head beyond its syntax: targets, hosts, framing, persistence. Used by the parser alone.
 *
 * Pure functions of the parsed fields; they fill the rest of the message. Each returns what is wrong, or a fault with .text NULL. */
#ifndef JETON_HTTP_JUDGE_H
#define JETON_HTTP_JUDGE_H

#include <stdbool.h>

#include "base/str.h"
#include "http/message.h"

/* line: one that headcheck let through, without CRLF. Fills method, target, path, query, version, and authority where the target has one. */
struct http_fault request_line(struct str line, struct request *r);
/* The same of method and target, which are in r: for a protocol without such a line. */
struct http_fault request_start(struct request *r);
/* After all fields are in r->headers. Fills authority, framing, content_length, keep_alive, expect_continue, upgrade. */
struct http_fault request_fields(struct request *r);
/* The same for responses. */
struct http_fault response_line(struct str line, struct response *r);
struct http_fault response_fields(struct response *r, bool head_request, bool connect_request);

#endif
