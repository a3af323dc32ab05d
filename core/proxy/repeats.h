/* repeats.h: in an outage every request fails alike. Of each kind of line a few are written, the others are counted. One worker's, its thread only. */
#ifndef JETON_PROXY_REPEATS_H
#define JETON_PROXY_REPEATS_H

#include <stdbool.h>
#include <stdint.h>

enum { REPEATS_KINDS = 16, REPEATS_TEXT = 160 };
struct repeats { /* zeroed: none */
  struct repeat {
    uint64_t kind;  /* a hash of the text without its digits; 0: free */
    uint64_t began; /* ms */
    unsigned seen;
    char text[REPEATS_TEXT]; /* of the first one, cut */
  } v[REPEATS_KINDS];
};
/* Whether a line about `whom` that says this is to be written; else it is one that repeats, and only wanted at debug. Texts that differ in numbers alone are of one
 * kind. */
bool repeats_shown(struct repeats *r, uint64_t now_ms, const char *whom, const char *text);
/* Writes how many were left out of those kinds whose time is over. To be called now and then; `all`: at the end. */
void repeats_report(struct repeats *r, uint64_t now_ms, bool all);

#endif
