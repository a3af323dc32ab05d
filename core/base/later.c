/* later.c: see later.h. libuv runs idle handles once an iteration, before it polls for events, and does not sleep while there are any: the one handle of the
 * thread is active exactly while something is posted. */
#include "base/later.h"

static void on_idle(uv_idle_t *idle) {
  struct laters *all = CONTAINER_OF(idle, struct laters, idle);
  struct link due, *l;
  list_init(&due);
  list_splice(&due, &all->posted);
  while ((l = list_pop(&due)) != NULL) {
    struct later *later = CONTAINER_OF(l, struct later, link);
    later->run(later);
  }
  if (list_empty(&all->posted)) (void)uv_idle_stop(idle);
}

void laters_init(struct laters *all, uv_loop_t *loop) {
  (void)uv_idle_init(loop, &all->idle); /* cannot fail */
  list_init(&all->posted);
}

void laters_close(struct laters *all) { uv_close((uv_handle_t *)&all->idle, NULL); }

void later_init(struct later *l, void (*run)(struct later *)) {
  list_init(&l->link);
  l->run = run;
}

void later_post(struct laters *all, struct later *l) {
  if (!list_empty(&l->link)) return;
  if (list_empty(&all->posted)) (void)uv_idle_start(&all->idle, on_idle);
  list_push(&all->posted, &l->link);
}

void later_cancel(struct later *l) { list_remove(&l->link); }
