/* headcheck.h: one pass over the raw bytes of a head, before any parser sees them.
 *
 * Refuses what two parsers could read differently: bare CR or LF, folded lines, NUL and control bytes, white space
 * before the first field or around a name, names that are not tokens, double spaces in the start line (RFC 9112 sections 2.2, 3,
 * 5.1, 5.2; RFC 9110 section 5.5). Incremental: a head may come in any pieces. No allocation. */
#ifndef JETON_HTTP_HEADCHECK_H
#define JETON_HTTP_HEADCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum headcheck_kind { HEADCHECK_REQUEST, HEADCHECK_RESPONSE, HEADCHECK_TRAILERS };
struct headcheck {
  uint8_t kind, state;
  uint32_t line;    /* bytes of the start line so far, without CRLF */
  uint32_t fields;  /* field lines so far */
  uint32_t total;   /* bytes so far */
  const char *fault; /* static text with the rule, when the state is refused */
  int fault_status;
};
enum headcheck_result { HEADCHECK_MORE, HEADCHECK_DONE, HEADCHECK_REFUSED };

void headcheck_init(struct headcheck *c, enum headcheck_kind kind);
/* Consumes up to n bytes and says how many; on DONE the last byte consumed is the LF of the empty line. */
enum headcheck_result headcheck_feed(struct headcheck *c, const uint8_t *p, size_t n, size_t *consumed);

#endif
