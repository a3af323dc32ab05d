/* h2_upstream.h: the session of HTTP/2 on one connection to a server: between its origin, which gives out places on it, and the calls whose streams stand on it.
 *
 * The origin makes it when a dial has brought a connection that speaks HTTP/2 (struct origin_protocol), and it ends with that connection. The thread of the origin. */
#ifndef JETON_HTTP_H2_UPSTREAM_H
#define JETON_HTTP_H2_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/later.h"
#include "base/list.h"
#include "base/wheel.h"
#include "http/h2_session.h"
#include "http/origin_conn.h"

/* A connection that has been silent for so long is asked for a sign of life, and given up when none comes. */
enum { H2_SILENCE_MS = 10 * 1000, H2_ANSWER_MS = 5 * 1000 };

struct h2_upstream {
  struct h2_session session;
  struct origin_conn *conn;
  struct laters *laters;
  struct link put_off;    /* calls (h2_call.put_off) that were given a place within a feed */
  struct timeout silence; /* the next look at session.heard_at, or the end of the wait for an answer */
  struct timeout secrets; /* the end of the first token in what the socket has not taken */
  struct later early;     /* brings what the server said while a parent proxy made the tunnel (origin_conn.early) */
  unsigned pings;         /* of this silence */
  const char *reason;     /* why it is of no use, where more is known than that it has ended; NULL. Static */
  bool doubted;           /* nothing has come since the last one */
  bool
      feeding; /* the feed is on the stack, its callbacks and its writes included: what is told is told from the loop */
  bool lost;   /* the connection has ended, and its calls have been told */
  bool closing; /* its origin has closed it from within the feed */
};
extern const struct origin_protocol h2_upstream_protocol;

/* A call is about to send on it. */
void h2_upstream_wanted(struct h2_upstream *u);

/* It has sent a head with tokens, whose first ends then (clock_boot_ms). */
void h2_upstream_secrets(struct h2_upstream *u, int64_t end);

/* Of h2_call_events. */
void h2_upstream_settings(struct h2_session *s);
void h2_upstream_goaway(struct h2_session *s, enum h2_error code);
void h2_upstream_stuck(struct h2_session *s);
void h2_upstream_over(struct h2_session *s);

#endif
