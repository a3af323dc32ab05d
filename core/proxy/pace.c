/* pace.c: see pace.h. */
#include "proxy/pace.h"

static void drain(struct pace *p, uint64_t now) {
  uint64_t passed = p->running ? now - p->since : 0;
  p->left_ms = passed < p->left_ms ? p->left_ms - passed : 0;
  p->since = now;
}

/* What earns less than a millisecond stays uncounted, for the next time. */
static void earn(struct pace *p, uint64_t seen, uint64_t full_ms, uint64_t rate) {
  uint64_t bytes = seen - p->counted;
  if (bytes == 0) return;
  if (rate == 0 || bytes / rate >= full_ms / 1000 + 1) {
    p->left_ms = full_ms;
    p->counted = seen;
    return;
  }
  uint64_t ms = bytes * 1000 / rate;
  p->left_ms += ms;
  p->counted += ms * rate / 1000;
  if (p->left_ms > full_ms) p->left_ms = full_ms;
}

uint64_t pace_run(struct pace *p, uint64_t now, uint64_t seen, uint64_t full_ms, uint64_t rate) {
  if (full_ms == 0) return 0;
  if (!p->begun) *p = (struct pace){.left_ms = full_ms, .since = now, .counted = seen, .begun = true};
  drain(p, now);
  earn(p, seen, full_ms, rate);
  p->running = true;
  return p->left_ms > 0 ? p->left_ms : 1;
}

void pace_hold(struct pace *p, uint64_t now) {
  if (!p->running) return;
  drain(p, now);
  p->running = false;
}
