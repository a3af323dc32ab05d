/* origin_internal.h: what origin.c, origin_dials.c and origin_spare.c share; nobody else includes it. */
#ifndef JETON_HTTP_ORIGIN_INTERNAL_H
#define JETON_HTTP_ORIGIN_INTERNAL_H

#include "base/buf.h"
#include "base/rand.h"
#include "http/dial.h"
#include "http/origin.h"

struct dialing {
  /* One that is h1_only brings a single place, so nobody waits for it, and it is not counted in ndials. */
  struct dial dial;
  struct origin *origin;
  struct place *by; /* gets the first place; says which addresses are allowed. NULL: the origin's spare one */
};

enum { ORIGIN_SPARE_KEEP_MS = 10 * 1000 /* of a connection that nobody has used yet */ };
struct origin_spare {      /* origin_spare.c's */
  struct dialing *dialing; /* for nobody yet; NULL: none is under way. It holds a reference of the origin */
  struct timeout limit;    /* of it */
  uint64_t after;          /* none begins before, on uv_now's clock */
};

struct origin {
  struct link link;
  struct origins *origins;
  unsigned refs, connections;
  struct dial_target target;
  struct link open; /* origin_conn, whatever their state, from the dial's end to their own */
  struct link idle; /* of these, used last first */
  unsigned nidle;
  struct link shared;  /* of these, those with free places and taken ones */
  unsigned nunsettled; /* of these, those that have not said how many places they have */
  /* Callers without a place: see origin_dials.c, whose invariant ties the four. */
  struct link waiting; /* places that wait for another's dial, first come first */
  unsigned nwaiting, ndials;
  unsigned expected; /* places that a dial is likely to bring, at least 1 */
  struct origin_spare spare;
  uint64_t down_until, h1_until; /* on uv_now's clock */
  struct standing standing;
};

struct origins {
  struct net *net;
  struct wheel *wheel;
  struct resolver *resolver;
  struct laters *laters;
  const struct origin_protocol *h2;
  struct health health;
  struct rng rng;
  struct link all;
  struct timeout sweep;
  struct origins_counts counts;
  struct buf head;
  void (*closed)(void *);
  void *closed_arg;
};

static inline uint64_t origin_now(const struct origin *o) { return uv_now(o->origins->net->loop); }

/* --- origin.c: connections, and the places on them --- */

/* For a dial: memory for one more attempt; away with one whose stream was never opened; and one that has one. */
struct origin_conn *origin_conn_new(struct origin *o);
void origin_conn_unmake(struct origin_conn *c);
void origin_conn_close(struct origin_conn *c);
/* A dial has brought it. What comes next gives a place on it, or lets it idle. */
void origin_conn_opened(struct origin_conn *c);
/* No place of it is taken. It closes in keep_ms, or at once when max_idle others are idle. */
void origin_conn_idle(struct origin_conn *c, uint64_t keep_ms, unsigned max_idle);
/* p has one of its free places from now on; and is told so, behind which p may be gone. */
void origin_occupy(struct origin_conn *c, struct place *p);
void origin_got(struct place *p);

/* --- origin_dials.c: callers who wait --- */

/* There is no place for p: it waits for a dial that is under way, or has one begun for it. `done` may come before this returns. */
void origin_wait(struct place *p, uint64_t connect_ms);
/* Who has waited longest, and waits no more; NULL: nobody waits. What is done with it keeps its timeout or ends that. */
struct place *origin_pop_waiting(struct origin *o);
/* The free places of c, to those who wait. */
void origin_serve_waiting(struct origin_conn *c);
/* For those who wait without a dial or a connection that will bring them a place. Whatever takes such a hope away is followed by this. May end in the last reference's going. */
void origin_dial_for_waiting(struct origin *o);

/* A dial for `by`, or NULL: the spare one. It is counted, and begins by dialing_start, which may end it before it returns; so whoever is to find it is told of it in between.
 * dialing_free is its end: dial.h's `done` has come, or dial_cancel or dial_time_out has been called. */
struct dialing *dialing_new(struct origin *o, struct place *by, bool h1_only);
void dialing_start(struct dialing *d);
void dialing_free(struct dialing *d);

/* --- origin_spare.c --- */

/* A caller without a judge of addresses has just got a place on c. */
void origin_spare_consider(struct origin_conn *c, uint64_t connect_ms);
/* The spare one is over, or (by) it is this caller's from now on, who waits for nothing else. */
void origin_spare_pass(struct origin *o, struct place *by);
/* It failed: the next one is tried after a while. */
void origin_spare_failed(struct origin *o);
/* Ends it, if there is one: who waits for it has it from now on. */
void origin_spare_end(struct origin *o);

#endif
