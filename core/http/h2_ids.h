/* h2_ids.h: which of a client's stream numbers are over, and how (RFC 9113 sections 5.1 and 5.1.1).
 *
 * The library forgets a stream that has closed, and ignores whatever comes for it. The RFC tells three cases apart: a number that was passed over may never be
 * used (PROTOCOL_ERROR); a frame behind what the client itself ended is an error (STREAM_CLOSED); one behind our RST_STREAM was on its way, and is ignored. Only the
 * exceptions are kept: the last gaps, and the last streams that we reset before the client had ended them. What is older than these is let pass. One thread. */
#ifndef JETON_HTTP_H2_IDS_H
#define JETON_HTTP_H2_IDS_H

#include <stdbool.h>
#include <stdint.h>

enum { H2_IDS_GAPS = 8, H2_IDS_RESETS = 64 };
enum h2_id_verdict { H2_ID_NEW, H2_ID_SKIPPED, H2_ID_ENDED, H2_ID_MAY_BE_LATE };

struct h2_ids { /* all zero: none was used */
  int32_t last; /* opened last */
  struct {
    int32_t from, to;
  } gaps[H2_IDS_GAPS]; /* a ring, as is the next; ngaps and nresets count all that ever were */
  int32_t resets[H2_IDS_RESETS];
  uint32_t ngaps, nresets;
  int32_t reset_forgotten; /* the highest that fell out of the ring */
};

void h2_ids_open(struct h2_ids *ids, int32_t id);  /* a new one, above `last` */
void h2_ids_reset(struct h2_ids *ids, int32_t id); /* by us, and the client had not ended it */
void h2_ids_ended(struct h2_ids *ids,
                  int32_t id); /* the client has ended it behind that, by END_STREAM or RST_STREAM */
/* Of a number that no open stream has. */
enum h2_id_verdict h2_ids_judge(const struct h2_ids *ids, int32_t id);

#endif
