/* stall.c: see stall.h. */
#include "net/stall.h"

void stall_begin(struct stall *st, const struct stream *s) { *st = (struct stall){.taken = stream_taken(s)}; }

bool stall_check(struct stall *st, const struct stream *s) {
  uint64_t taken = stream_taken(s);
  if (taken != st->taken) {
    *st = (struct stall){.taken = taken};
    return false;
  }
  return ++st->quiet >= STALL_CHECKS;
}
