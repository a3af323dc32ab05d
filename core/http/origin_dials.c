/* origin_dials.c: callers that no connection has a place for, and the dials that bring one.
 *
 * A dial is a thing of its own and not a part of the caller, since with many places it serves more than the one it was begun for (`by`), and outlives that one while
 * others wait: then the first of them takes it over. Who judges addresses decides where its dial may go, so it never waits for another's. A dial that has failed
 * on every address has failed for all who wait for it; one that brought fewer places than expected leaves some without, for whom
 * connections are dialled. A connection of HTTP/2 brings its places in two parts: one at once, so that the first request leaves with the preface, and the others when the peer
 * has said how many there are (`unsettled` until then).
 *
 * Invariant: nwaiting <= (ndials + nunsettled) * (expected - 1) whenever the origin is left, but for the callbacks in between. So nobody waits for what will not come:
 * each who waits has their own timer as well. Owned by the loop's thread of the origin. */
#include <assert.h>
#include <limits.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "http/origin_internal.h"

static void refuse(struct place *p, int status, const char *reason) {
  timeout_fini(&p->timeout);
  if (status != ERR_FORBIDDEN) /* says nothing of the server */
    p->origin->down_until = origin_now(p->origin) + ORIGIN_DOWN_MS;
  p->done(p, status, reason);
}

/* --- who waits --- */

static unsigned hopes(const struct origin *o) { return (o->ndials + o->nunsettled) * (o->expected - 1); }
static bool too_many_wait(const struct origin *o) { return o->nwaiting > hopes(o); }

struct place *origin_pop_waiting(struct origin *o) {
  struct link *l = list_pop(&o->waiting);
  if (l == NULL) return NULL;
  o->nwaiting--;
  return CONTAINER_OF(l, struct place, link);
}

static void dial_for(struct place *p) {
  p->dial = dialing_new(p->origin, p, p->h1_only);
  dialing_start(p->dial);
}

void origin_dial_for_waiting(struct origin *o) {
  while (too_many_wait(o)) dial_for(origin_pop_waiting(o));
}

void origin_serve_waiting(struct origin_conn *c) {
  struct origin *o = c->origin;
  if (c->h1_asked) return;
  while (o->nwaiting > 0 && (c->state == ORIGIN_IDLE || c->state == ORIGIN_SHARED)) {
    struct place *p = origin_pop_waiting(o);
    timeout_fini(&p->timeout);
    origin_occupy(c, p);
    origin_got(p);
  }
}

/* --- dials --- */

/* It has one place, until its peer has said more. */
static void dial_brought(struct dialing *d, struct origin_conn *c) {
  struct origin *o = origin_ref(d->origin);
  bool usual = !d->dial.h1_only;
  c->h1_asked = !usual && o->target.http2 == HTTP2_AUTO;
  if (o->spare.dialing == d) origin_spare_pass(o, origin_pop_waiting(o));
  struct place *p = d->by;
  dialing_free(d);
  origin_conn_opened(c);
  if (p != NULL) {
    timeout_fini(&p->timeout);
    origin_occupy(c, p);
    origin_got(p);
  } else {
    origin_conn_idle(c, ORIGIN_SPARE_KEEP_MS, UINT_MAX);
  }
  if (usual && c->state != ORIGIN_CLOSED && !c->h2) o->expected = c->places;
  origin_serve_waiting(c);
  origin_dial_for_waiting(o);
  origin_unref(o);
}

/* For good. Nobody's judge but the first one's forbids anything, so the others try by themselves then. */
static void dial_refused(struct dialing *d, int status, const char *reason) {
  struct origin *o = origin_ref(d->origin); /* the callbacks may drop the last other reference */
  if (o->spare.dialing == d) origin_spare_failed(o);
  struct place *p = d->by;
  dialing_free(d);
  if (p != NULL) refuse(p, status, reason);
  while (too_many_wait(o)) {
    p = origin_pop_waiting(o);
    if (status == ERR_FORBIDDEN)
      dial_for(p);
    else
      refuse(p, status, reason);
  }
  origin_unref(o);
}

static void on_dial_done(struct dial *dial, struct origin_conn *c, int status, const char *reason) {
  struct dialing *d = CONTAINER_OF(dial, struct dialing, dial);
  if (status == 0)
    dial_brought(d, c);
  else
    dial_refused(d, status, reason);
}

static struct origin_conn *on_dial_make(struct dial *dial) {
  struct origin *o = CONTAINER_OF(dial, struct dialing, dial)->origin;
  o->origins->counts.dialed++;
  return origin_conn_new(o);
}

static bool on_dial_allowed(struct dial *dial, const union address *a) {
  struct place *p = CONTAINER_OF(dial, struct dialing, dial)->by;
  if (dial->target->parent != NULL) return true; /* the parent's: the policy named it */
  return p == NULL || p->allowed == NULL || p->allowed(p, a);
}

struct dialing *dialing_new(struct origin *o, struct place *by, bool h1_only) {
  struct dialing *d = must_calloc(1, sizeof *d);
  d->origin = o;
  d->by = by;
  d->dial.h1_only = h1_only;
  d->dial.use = by != NULL ? by->use : PLACE_SECRET;
  if (!h1_only) o->ndials++;
  return d;
}

void dialing_start(struct dialing *d) {
  static const struct dial_events events = {.make = on_dial_make,
                                            .unmake = origin_conn_unmake,
                                            .close = origin_conn_close,
                                            .allowed = on_dial_allowed,
                                            .done = on_dial_done};
  dial_start(&d->dial, &d->origin->target, d->dial.h1_only, d->dial.use, &events);
}

void dialing_free(struct dialing *d) {
  if (d->by != NULL) d->by->dial = NULL;
  if (!d->dial.h1_only) d->origin->ndials--;
  free(d);
}

/* --- callers --- */

/* Who it was begun for has gone: it is the first one's who waits, or ends. */
static void leave_dial(struct dialing *d) {
  struct place *next = d->dial.h1_only ? NULL : origin_pop_waiting(d->origin);
  d->by->dial = NULL;
  d->by = next;
  if (next != NULL) {
    next->dial = d;
    return;
  }
  dial_cancel(&d->dial);
  dialing_free(d);
}

void place_cancel(struct place *p) {
  timeout_fini(&p->timeout);
  if (p->dial != NULL) {
    leave_dial(p->dial);
  } else {
    list_remove(&p->link);
    p->origin->nwaiting--;
  }
}

/* A dial that others wait for as well goes on for them. */
static void on_due(struct timeout *t) {
  struct place *p = CONTAINER_OF(t, struct place, timeout);
  const char *reason = "no connection in time";
  if (p->dial != NULL && p->origin->nwaiting == 0) reason = dial_time_out(&p->dial->dial);
  place_cancel(p);
  refuse(p, UV_ETIMEDOUT, reason);
}

void origin_wait(struct place *p, uint64_t connect_ms) {
  struct origin *o = p->origin;
  list_init(&p->link);
  timeout_init(&p->timeout, o->origins->wheel, on_due);
  timeout_set(&p->timeout, connect_ms);
  if (p->allowed == NULL && !p->h1_only && o->nwaiting < hopes(o)) {
    list_push(&o->waiting, &p->link);
    o->nwaiting++;
  } else {
    dial_for(p);
  }
}
