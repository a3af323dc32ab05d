/* reading.h: llhttp's reading of a message, compared with ours.
 *
 * The parser judges every part of a message first and gives it to llhttp then. Each function here answers one question: do both say the same? False:
 * they differ, or llhttp refuses what we let through; the message must be refused, and the struct is done for. Owned by the parser that embeds it. */
#ifndef JETON_HTTP_READING_H
#define JETON_HTTP_READING_H

#include <llhttp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "http/message.h"

struct reading {
  llhttp_t llhttp; /* first: llhttp's callbacks get it, and with it the whole */
  /* Our fields of the section that is being read, from the next one on that llhttp must name. */
  const struct header *field;
  unsigned fields_left;
  /* What it must give as the target or the reason, and whether it has. */
  struct str expected;
  bool expected_seen;
  bool in_field; /* between a name and its value */
  /* What it said: of the section's end, of the message's end, of the size of the last chunk, of bytes of body in one call. */
  bool head_complete, complete;
  bool bodiless;  /* what we tell it: a reply that has no body, whatever its fields say */
  uint16_t flags; /* F_…, and the length, when the head was complete */
  uint64_t length, chunk_size;
  size_t body;
};

/* Whole heads, from the start line to the empty line; `ours` is what we made of them, framing included, its slices pointing into these bytes. White
 * space around a value may become SP there. */
bool reading_of_request(struct reading *r, char *head, size_t n, const struct request *ours);
bool reading_of_response(struct reading *r, char *head, size_t n, const struct response *ours);

/* The parts of a chunked body behind such a head, in their order. line: with its CRLF; digits: how many of its bytes make the size. */
bool reading_of_chunk_line(struct reading *r, struct str line, size_t digits, uint64_t size);
bool reading_of_chunk_data(struct reading *r, struct str span);
bool reading_of_chunk_end(struct reading *r, char byte); /* CR, then LF */
/* The whole section behind the last chunk, with the empty line: the message ends here, and llhttp must say so. */
bool reading_of_trailers(struct reading *r, struct str section, const struct headers *ours);

#endif
