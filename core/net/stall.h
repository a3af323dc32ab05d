/* stall.h: has a peer stopped taking what is sent to it?
 *
 * A time limit that counts from the peer's last progress. A peer that reads slowly but steadily is left alone, however long its queue is; one that takes
 * nothing is given up. Progress is checked STALL_CHECKS times within the limit, so bytes cost nothing: a peer is given up between one limit and a quarter more
 * after the last byte that it took. The sender owns the timer. Stream's thread. */
#ifndef JETON_NET_STALL_H
#define JETON_NET_STALL_H

#include "net/stream.h"

enum { STALL_CHECKS = 4 };

struct stall {
  uint64_t taken; /* at the last check that saw progress */
  unsigned quiet; /* checks since then */
};

void stall_begin(struct stall *st, const struct stream *s);
/* One check, to be made every stall_step ms. True: the peer has taken nothing for the whole limit. */
bool stall_check(struct stall *st, const struct stream *s);
/* 0 (no limit) stays 0. */
static inline uint64_t stall_step(uint64_t limit_ms) { return (limit_ms + STALL_CHECKS - 1) / STALL_CHECKS; }

#endif
