/* under_way.c: see under_way.h. */
#include "ops/under_way.h"

#include "base/clock.h"
#include "base/log.h"

void under_way_init(struct under_way *u) {
  (void)pthread_mutex_init(&u->mutex, NULL);
  list_init(&u->fetches);
}

void under_way_fini(struct under_way *u) { (void)pthread_mutex_destroy(&u->mutex); }

void under_way_begin(struct under_way *u, struct under_way_fetch *f, const char *name) {
  f->name = name;
  f->since = clock_boot_ms();
  pthread_mutex_lock(&u->mutex);
  list_push(&u->fetches, &f->link);
  pthread_mutex_unlock(&u->mutex);
}

void under_way_end(struct under_way *u, struct under_way_fetch *f) {
  pthread_mutex_lock(&u->mutex);
  list_remove(&f->link);
  pthread_mutex_unlock(&u->mutex);
}

bool under_way_any(struct under_way *u) {
  pthread_mutex_lock(&u->mutex);
  bool any = !list_empty(&u->fetches);
  pthread_mutex_unlock(&u->mutex);
  return any;
}

static void log_wait(const struct under_way_fetch *f, int64_t until) {
  int64_t now = clock_boot_ms();
  if (f->release) return; /* it has only just begun */
  if (until == INT64_MAX) {
    log_info("waiting for the fetch of token %s, which began %.1f s ago", f->name, (double)(now - f->since) / 1000);
  } else if (until > now) {
    log_info("waiting for the fetch of token %s, which began %.1f s ago, for %.1f s at the most", f->name,
             (double)(now - f->since) / 1000, (double)(until - now) / 1000);
  }
}

static void log_cut(const struct under_way_fetch *f) {
  if (f->release) {
    log_warn("the release of token %s was cut off after %.1f s: what it has at its issuer lasts until that ends it",
             f->name, (double)(clock_boot_ms() - f->since) / 1000);
    return;
  }
  log_error(
      "the fetch of token %s was cut off after %.1f s: whatever its issuer answers is lost. If it has given out a "
      "new refresh token, the one that was saved is spent, and somebody has to log in anew",
      f->name, (double)(clock_boot_ms() - f->since) / 1000);
}

void under_way_log_wait(struct under_way *u, int64_t until) {
  pthread_mutex_lock(&u->mutex);
  for (const struct link *l = u->fetches.next; l != &u->fetches; l = l->next)
    log_wait(CONTAINER_OF(l, struct under_way_fetch, link), until);
  pthread_mutex_unlock(&u->mutex);
}

void under_way_log_cut(struct under_way *u) {
  pthread_mutex_lock(&u->mutex);
  for (const struct link *l = u->fetches.next; l != &u->fetches; l = l->next)
    log_cut(CONTAINER_OF(l, struct under_way_fetch, link));
  pthread_mutex_unlock(&u->mutex);
}
