/* wheel.c: see wheel.h. Owned by one loop's thread.
 *
 * An entry is linked in the slot of tick ceil(due / WHEEL_TICK_MS), modulo the wheel. A slot is visited when its tick has come: entries that are due fire,
 * those that have been cleared are unlinked, those that are due later (moved, or more than a round away) are linked anew. So a linked entry is visited by
 * entry->tick at the latest, and moving its deadline further away is one store. */
#include "base/wheel.h"

#include <assert.h>

/* Far enough for any deadline, near enough that no sum overflows. */
static const uint64_t FAR_MS = UINT64_C(1) << 40;

static bool linked(const struct timeout *t) { return !list_empty(&t->link); }
static uint64_t tick_of(uint64_t due) { return (due + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS; }
static uint64_t now_of(const struct wheel *w) { return uv_now(w->timer.loop); }

static void unlink_entry(struct timeout *t) {
  if (!linked(t)) return;
  list_remove(&t->link);
  t->wheel->entries--;
}

static void link_entry(struct timeout *t) {
  struct wheel *w = t->wheel;
  t->tick = tick_of(t->due);
  list_push(&w->slots[t->tick % WHEEL_SLOTS], &t->link);
  w->entries++;
}

/* `now`, not the loop's time, so that one pass judges by one clock even if a callback calls uv_update_time. */
static void look_at(struct timeout *t, uint64_t now) {
  unlink_entry(t);
  if (t->due == 0) return;
  if (t->due > now) {
    link_entry(t);
    return;
  }
  t->due = 0;
  t->on_due(t); /* may free t */
}

static void run_slot(struct wheel *w, uint64_t tick, uint64_t now) {
  struct link *slot = &w->slots[tick % WHEEL_SLOTS], batch;
  list_init(&batch);
  list_splice(&batch, slot); /* entries may come back to this slot, a round later */
  while (!list_empty(&batch)) look_at(CONTAINER_OF(batch.next, struct timeout, link), now);
}

static void on_tick(uv_timer_t *timer) {
  struct wheel *w = CONTAINER_OF(timer, struct wheel, timer);
  uint64_t now = uv_now(timer->loop), last = now / WHEEL_TICK_MS;
  uint64_t first = w->tick + 1;
  if (last >= WHEEL_SLOTS && first < last - WHEEL_SLOTS + 1)
    first = last - WHEEL_SLOTS + 1; /* once round is all there is */
  w->tick = last;
  for (uint64_t tick = first; tick <= last; tick++) run_slot(w, tick, now);
  if (w->entries > 0 || uv_is_closing((uv_handle_t *)timer)) return;
  uv_timer_stop(timer);
  w->ticking = false;
}

static void start_ticking(struct wheel *w) {
  if (w->ticking) return;
  w->ticking = true;
  w->tick = now_of(w) / WHEEL_TICK_MS;
  uv_timer_start(&w->timer, on_tick, WHEEL_TICK_MS, WHEEL_TICK_MS);
}

void wheel_init(struct wheel *w, uv_loop_t *loop) {
  uv_timer_init(loop, &w->timer);
  for (unsigned i = 0; i < WHEEL_SLOTS; i++) list_init(&w->slots[i]);
  w->tick = 0;
  w->entries = 0;
  w->ticking = false;
}

void wheel_close(struct wheel *w) {
  for (unsigned i = 0; i < WHEEL_SLOTS; i++) {
    while (!list_empty(&w->slots[i])) {
      struct timeout *t = CONTAINER_OF(w->slots[i].next, struct timeout, link);
      assert(t->due == 0);
      unlink_entry(t);
    }
  }
  uv_close((uv_handle_t *)&w->timer, NULL);
}

void timeout_init(struct timeout *t, struct wheel *w, void (*on_due)(struct timeout *)) {
  *t = (struct timeout){.wheel = w, .on_due = on_due};
  list_init(&t->link);
}

void timeout_set(struct timeout *t, uint64_t ms_from_now) {
  if (ms_from_now == 0) {
    t->due = 0;
    return;
  }
  t->due = now_of(t->wheel) + (ms_from_now < FAR_MS ? ms_from_now : FAR_MS);
  if (linked(t) && t->tick <= tick_of(t->due)) return;
  unlink_entry(t);
  link_entry(t);
  start_ticking(t->wheel);
}

void timeout_clear(struct timeout *t) { t->due = 0; }

void timeout_fini(struct timeout *t) {
  t->due = 0;
  unlink_entry(t);
}
