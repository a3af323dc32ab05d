/* answers.h: what a name's answers say, one after another: its addresses now, and whether it has settled on them.
 *
 * A server that moves and a name that answers with another part of its addresses each time look alike in one answer. They differ in what comes next: a name is
 * settled when every answer for ANSWERS_SETTLED_MS, two of them at least, gave the same addresses. An address that comes back after it was left out doubles that time, up to
 * ANSWERS_DOUBLED_MOST times, for the hour that follows: a name server's cache repeats each part until its TTL is over. Pure; times are clock_boot_ms. */
#ifndef JETON_NET_ANSWERS_H
#define JETON_NET_ANSWERS_H

#include <stdbool.h>
#include <stdint.h>

#include "net/address.h"

struct addrinfo;

enum {
  RESOLVE_MAX = 32, /* addresses of a name that are used */
  ANSWERS_SETTLED_MS = 60 * 1000,
  ANSWERS_DOUBLED_MOST = 4,
  ANSWERS_BACK_MS = 60 * 60 * 1000,
  ANSWERS_LEFT = 64 /* addresses that were left out and are remembered */
};

struct answer {
  uint64_t number; /* 0: there is none */
  int64_t at;
  unsigned n;
  bool cut;                     /* there were more */
  union address v[RESOLVE_MAX]; /* port 0, each once, in the system's order */
};
struct answers {
  struct answer last;
  unsigned alike;       /* in a row that gave its addresses */
  int64_t differed_at;  /* when the last one came that gave others; at first, when the first one came */
  unsigned came_back;   /* times that an address did */
  int64_t came_back_at; /* the last of them */
  uint64_t left[ANSWERS_LEFT];
  unsigned nleft;
};

void answer_read(struct answer *a, const struct addrinfo *list, int64_t now);
void answers_add(struct answers *s, const struct answer *a);
bool answers_settled(const struct answers *s, int64_t now);

#endif
