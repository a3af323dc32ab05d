/* standing.c: see standing.h. Requests that were under way at once fail at once: they count as failures, and the time out begins with the first that is one too many. */
#include "http/standing.h"

#include <stddef.h>

enum standing_news standing_failed(struct standing *s, bool behind_head, uint64_t now) {
  s->breaks_off = behind_head;
  if (++s->failures < STANDING_MOST || standing_out(s)) return STANDING_AS_BEFORE;
  s->pause = STANDING_OUT_MS;
  s->until = now + s->pause;
  return STANDING_WENT_OUT;
}

enum standing_news standing_served(struct standing *s, bool whole) {
  if (s->failures == 0 || (s->breaks_off && !whole)) return STANDING_AS_BEFORE;
  bool out = standing_out(s);
  *s = (struct standing){0};
  return out ? STANDING_CAME_BACK : STANDING_AS_BEFORE;
}

bool standing_try(struct standing *s, bool can_move, uint64_t now) {
  if (now < s->until || (!can_move && now < s->until + STANDING_OUT_MOST_MS)) return false;
  s->pause = s->pause * 2 < STANDING_OUT_MOST_MS ? s->pause * 2 : STANDING_OUT_MOST_MS;
  s->until = now + s->pause;
  return true;
}
