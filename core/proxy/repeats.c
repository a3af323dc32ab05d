/* repeats.c: see repeats.h.
 *
 * A kind has BURST lines in WINDOW_MS, so that a single failure is told in full and an outage in a few lines; what was left out comes as one line when the window ends.
 * A fixed table: kinds beyond it push out the oldest, whose count is written then, so nothing is ever lost without a word. */
#include "proxy/repeats.h"

#include <stdio.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/str.h"

enum { BURST = 8, WINDOW_MS = 10 * 1000 };

static uint64_t kind_of(const char *whom, const char *text) {
  char letters[REPEATS_TEXT];
  size_t n = 0;
  for (; *text != '\0' && n < sizeof letters; text++)
    if (*text < '0' || *text > '9') letters[n++] = *text;
  return hash_plain(hash_plain(HASH_START, str_of(whom)), (struct str){letters, n}) | 1;
}

static void end(struct repeat *k, uint64_t now_ms) {
  if (k->kind != 0 && k->seen > BURST)
    log_warn("%u more like it in %llu s: %s", k->seen - BURST, (unsigned long long)((now_ms - k->began + 999) / 1000),
             k->text);
  k->kind = 0;
}

bool repeats_shown(struct repeats *r, uint64_t now_ms, const char *whom, const char *text) {
  uint64_t kind = kind_of(whom, text);
  struct repeat *oldest = &r->v[0];
  for (struct repeat *k = r->v; k < r->v + REPEATS_KINDS; k++) {
    if (k->kind == kind && now_ms - k->began < WINDOW_MS) return ++k->seen <= BURST;
    if (k->kind == kind) end(k, now_ms);
    if (k->kind == 0 || (oldest->kind != 0 && k->began < oldest->began)) oldest = k;
  }
  end(oldest, now_ms);
  *oldest = (struct repeat){.kind = kind, .began = now_ms, .seen = 1};
  (void)snprintf(oldest->text, sizeof oldest->text, "%s%s%s", whom, whom[0] != '\0' ? ": " : "", text);
  return true;
}

void repeats_report(struct repeats *r, uint64_t now_ms, bool all) {
  for (struct repeat *k = r->v; k < r->v + REPEATS_KINDS; k++) {
    if (k->kind != 0 && (all || now_ms - k->began >= WINDOW_MS)) end(k, now_ms);
  }
}
