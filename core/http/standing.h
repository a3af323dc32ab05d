/* standing.h: whether a server serves what it is asked, as its requests tell: for choosing among several that could. Pure; times are on uv_now's clock.
 *
 * STANDING_MOST failures in a row, and it is out: for STANDING_OUT_MS, then one request tries it, and with each try that finds it no better the time
 * doubles, up to STANDING_OUT_MOST_MS. Who has no other server asks it all the same. A failure is what the server did to a request: no reply in time, a connection that ended or broke off the
 * reply, a reply that is none, 502, 503 or 504. What it says otherwise (500 as well) is for whoever asked. A connection that was never there is the origin's to know (origin_down). */
#ifndef JETON_HTTP_STANDING_H
#define JETON_HTTP_STANDING_H

#include <stdbool.h>
#include <stdint.h>

enum { STANDING_MOST = 3, STANDING_OUT_MS = 10 * 1000, STANDING_OUT_MOST_MS = 60 * 1000 };

enum standing_news { STANDING_AS_BEFORE, STANDING_WENT_OUT, STANDING_CAME_BACK };
struct standing {
  unsigned failures; /* in a row */
  uint64_t until;    /* out until then; 0: it is not out */
  uint64_t pause;    /* how long that is */
  bool breaks_off;   /* its last failure came behind a good head */
};

enum standing_news standing_failed(struct standing *s, bool behind_head, uint64_t now);
/* A good head is there (`whole`: and its reply's end), which shows that it serves unless it is known to break off. */
enum standing_news standing_served(struct standing *s, bool whole);
static inline bool standing_out(const struct standing *s) { return s->until != 0; }
/* It is out, and its time is up: may this request try it? True is said to one request each time. `can_move`: it can be sent to another one if this fails; one that cannot
 * tries it only if none came that could for a while. */
bool standing_try(struct standing *s, bool can_move, uint64_t now);

#endif
