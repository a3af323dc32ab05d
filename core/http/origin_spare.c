/* origin_spare.c: a connection that is dialled for nobody, before those that are there are full.
 *
 * A dial takes round trips, two or three of them with TLS, and a stream none. So when the places of all connections have been taken, the next caller would wait where the one before did
 * not, and so would a hundred of them at the beginning of each burst. The caller whose place makes it three quarters of all therefore has one more connection dialled, waits for nothing
 * itself, and whoever comes when the rest is taken finds it, or waits for the rest of its dial alone.
 *
 * There is one at a time for an origin, and none while a connection has not said yet how many places it has: that one may be enough. Where places are few
 * (SPARE_PLACES), as with HTTP/1.1, each caller dials and nothing is spared. A connection that nobody has used in ORIGIN_SPARE_KEEP_MS closes.
 *
 * It may be led to any address, so only callers who judge none begin it (place.allowed). It fails in silence: callers find out by dials of their own whether the server is down,
 * and no other spare one begins for SPARE_AGAIN_MS.
 *
 * It counts as a dial (ndials), so callers wait for it as for any other. When its time is up, which is that of the caller who began it, the first of those who wait takes it over, with what
 * is left of its own limit; with nobody there it ends. Until then it holds a reference of its origin, since no caller does. Owned by the loop's thread of its origin. */
#include <assert.h>

#include "http/origin_internal.h"

enum {
  SPARE_PLACES = 4, /* fewer in all are not worth one */
  SPARE_AGAIN_MS = 10 * 1000
};

void origin_spare_pass(struct origin *o, struct place *by) {
  struct dialing *d = o->spare.dialing;
  assert(d != NULL && d->by == NULL);
  o->spare.dialing = NULL;
  timeout_fini(&o->spare.limit);
  d->by = by;
  if (by != NULL) by->dial = d;
  origin_unref(o);
}

void origin_spare_failed(struct origin *o) {
  o->spare.after = origin_now(o) + SPARE_AGAIN_MS;
  origin_spare_pass(o, NULL);
}

void origin_spare_end(struct origin *o) {
  struct dialing *d = o->spare.dialing;
  if (d == NULL) return;
  struct place *next = origin_pop_waiting(o);
  if (next != NULL) {
    origin_spare_pass(o, next);
    return;
  }
  (void)dial_time_out(&d->dial);
  origin_ref(o);
  origin_spare_failed(o);
  dialing_free(d);
  origin_unref(o);
}

static void on_due(struct timeout *t) { origin_spare_end(CONTAINER_OF(t, struct origin, spare.limit)); }

static void begin(struct origin *o, uint64_t connect_ms) {
  struct origin_spare *s = &o->spare;
  s->dialing = dialing_new(origin_ref(o), NULL, false);
  timeout_init(&s->limit, o->origins->wheel, on_due);
  timeout_set(&s->limit, connect_ms);
  dialing_start(s->dialing);
}

static bool nearly_full(unsigned taken, unsigned places) { return taken * 4 >= places * 3; }

static bool all_are_nearly_full(const struct origin *o) {
  unsigned taken = 0, places = 0;
  for (const struct link *l = o->open.next; l != &o->open; l = l->next) {
    const struct origin_conn *c = CONTAINER_OF(l, struct origin_conn, all);
    if (c->session == NULL || c->state == ORIGIN_RETIRING) continue;
    taken += c->taken;
    places += c->places;
  }
  return places >= SPARE_PLACES && nearly_full(taken, places);
}

/* This one's places alone tell most callers that there is nothing to do. */
void origin_spare_consider(struct origin_conn *c, uint64_t connect_ms) {
  struct origin *o = c->origin;
  if (c->session == NULL || !nearly_full(c->taken, c->places)) return;
  if (o->spare.dialing != NULL || o->nunsettled > 0 || origin_now(o) < o->spare.after) return;
  if (all_are_nearly_full(o)) begin(o, connect_ms);
}
