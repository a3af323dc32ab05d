/* headcheck.h: one pass over the raw bytes of a head, before anything is read from them.
 *
 * Refuses what two parsers could read differently: bare CR or LF, folded lines, NUL and control bytes, white space
 * before the first field or around a name, names that are not tokens, double spaces in the start line (RFC 9112 sections 2.2, 3,
 * 5.1, 5.2; RFC 9110 section 5.5), and what is longer than its limit. Incremental: a head may come in any pieces, and the
 * verdict does not depend on where it was cut. No allocation. */
#ifndef JETON_HTTP_HEADCHECK_H
#define JETON_HTTP_HEADCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/chars.h"

enum headcheck_kind { HEADCHECK_REQUEST, HEADCHECK_RESPONSE, HEADCHECK_TRAILERS };
struct headcheck_limits {
  uint32_t line, fields, total; /* start line without CRLF, field lines, all bytes */
};
/* Where a field line lies, counted from the section's first byte: name, ":" at value - 1, value with the white space around it, CR at end. */
struct headcheck_field {
  uint32_t name, value, end;
};
struct headcheck {
  uint8_t kind, state;
  bool full;
  bool odd;        /* a name may hold "_" or "--" (chars_odd): a hint, true for some names that do not */
  uint8_t at;      /* bytes seen of the present part of the start line, where its form counts */
  uint32_t line;   /* bytes of the start line so far, without CRLF */
  uint32_t fields; /* field lines so far */
  uint32_t total;  /* bytes so far */
  struct headcheck_limits limits;
  struct headcheck_field *table; /* the caller's: filled as lines go by; NULL: none wanted */
  uint32_t table_cap;
  const uint8_t *fed; /* during headcheck_feed: its input */
  const char *fault;  /* static text with the rule, when the state is refused */
  int fault_status;
};
enum headcheck_result {
  HEADCHECK_MORE,
  HEADCHECK_DONE,
  HEADCHECK_REFUSED,
  HEADCHECK_FULL /* the table has no room for the line that comes next: headcheck_table, then go on */
};

void headcheck_init(struct headcheck *c, enum headcheck_kind kind, const struct headcheck_limits *limits);
/* The table may be had, or changed for a larger one with the same beginning, at any time between two calls. */
void headcheck_table(struct headcheck *c, struct headcheck_field *table, uint32_t cap);
/* Consumes up to n bytes and says how many; on DONE the last byte consumed is the LF of the empty line. */
enum headcheck_result headcheck_feed(struct headcheck *c, const uint8_t *p, size_t n, size_t *consumed);

#endif
