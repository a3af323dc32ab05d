/* saves.c: see saves.h. Owned by the keeper's thread; the files are touched on libuv's pool.
 *
 * A try takes the lock of the path, reads what is there, and writes only over what was there before: somebody may have logged in anew meanwhile, or another
 * process have rotated. Nothing is ever taken from the file; it is read anew by the next fetch.
 * Invariant: a save WAITS (its timer is set), TRIES (its work is under way) or ENDS; its memory goes when the timer is closed, which is after the work. */
#include "token/saves.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file_lock.h"
#include "base/file_save.h"
#include "base/list.h"
#include "base/log.h"
#include "base/must.h"
#include "base/secmem.h"

enum { PAUSE_MIN_MS = 1000, PAUSE_MAX_MS = 10 * 1000, FILE_MAX = 64 * 1024 };

enum outcome { SAVED, OUTDATED, FAILED };
struct save {
  struct link link;
  struct saves *all;
  enum { WAITS, TRIES, ENDS } state;
  struct slot *slot; /* a reference */
  uv_timer_t timer;
  uv_work_t work;
  uint64_t pause_ms; /* before the next try */
  /* immutable */
  char *path;
  struct buf value, before[SAVES_BEFORE_MAX];
  /* the pool's while it TRIES */
  enum outcome outcome;
};
struct saves {
  uv_loop_t *loop;
  struct link list;
  void (*ended)(void *arg);
  void *arg;
  bool hurry;
};

/* --- on the pool --- */

/* The beginning of the file, as a login is read from it: without what editors leave at its edges. */
static void read_there(const char *path, struct buf *out) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return;
  while (out->n < FILE_MAX) {
    ssize_t n = read(fd, buf_reserve(out, FILE_MAX - out->n), FILE_MAX - out->n);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    out->n += (size_t)n;
  }
  (void)close(fd);
}

static struct str login_in(const struct buf *b) {
  struct str s = buf_str(b);
  if (s.n >= 3 && memcmp(s.p, "\xef\xbb\xbf", 3) == 0) s = (struct str){s.p + 3, s.n - 3};
  while (s.n > 0 && strchr(" \t\r\n\v\f", s.p[0]) != NULL && s.p[0] != '\0') s.p++, s.n--;
  while (s.n > 0 && strchr(" \t\r\n\v\f", s.p[s.n - 1]) != NULL && s.p[s.n - 1] != '\0') s.n--;
  return s;
}

static enum outcome try(const struct save *s) {
  struct buf there;
  buf_init(&there);
  there.sensitive = true;
  read_there(s->path, &there);
  struct str login = login_in(&there);
  bool known = login.n == 0, same = str_eq(login, buf_str(&s->value));
  for (int i = 0; i < SAVES_BEFORE_MAX; i++)
    known = known || (s->before[i].n > 0 && str_eq(login, login_in(&s->before[i])));
  buf_fini(&there);
  if (same) return SAVED;
  if (!known) return OUTDATED;
  return file_save(s->path, s->value.p, s->value.n, 0600) == 0 ? SAVED : FAILED;
}

static void on_try(uv_work_t *work) {
  struct save *s = work->data;
  struct file_lock lock;
  s->outcome = FAILED;
  if (file_lock_try(s->path, &lock) == -EWOULDBLOCK)
    return; /* for want of a lock it is tried all the same, as a fetch does */
  s->outcome = try(s);
  file_lock_release(&lock);
  secmem_wipe_stack();
}

/* --- in the loop --- */

static void on_closed(uv_handle_t *h) {
  struct save *s = h->data;
  struct saves *all = s->all;
  slot_unref(s->slot);
  free(s->path);
  buf_fini(&s->value);
  for (int i = 0; i < SAVES_BEFORE_MAX; i++) buf_fini(&s->before[i]);
  free(s);
  all->ended(all->arg);
}

static void close_timer(struct save *s) { uv_close((uv_handle_t *)&s->timer, on_closed); }

static void end(struct save *s) {
  bool tries = s->state == TRIES;
  s->state = ENDS;
  list_remove(&s->link);
  slot_note_saving(s->slot, false);
  if (!tries) close_timer(s);
}

static void on_due(uv_timer_t *t);

static void wait_on(struct save *s) {
  s->state = WAITS;
  (void)uv_timer_start(&s->timer, on_due, s->pause_ms, 0);
  s->pause_ms = s->pause_ms * 2 < PAUSE_MAX_MS ? s->pause_ms * 2 : PAUSE_MAX_MS;
}

static void report(const struct save *s) {
  if (s->outcome == SAVED)
    log_info("token %s: the new refresh token is saved now", slot_name(s->slot));
  else
    log_warn("token %s: another refresh token has come to %s, where one could not be saved", slot_name(s->slot),
             s->path);
}

static void on_tried(uv_work_t *work, int status) {
  struct save *s = work->data;
  (void)status; /* nobody cancels it */
  if (s->state == ENDS) {
    close_timer(s);
    return;
  }
  s->state = WAITS;
  if (s->outcome != FAILED) {
    slot_note_unsaved(s->slot, NULL);
    report(s);
    end(s);
  } else if (s->all->hurry) {
    end(s);
  } else {
    wait_on(s);
  }
}

static void start_try(struct save *s) {
  (void)uv_timer_stop(&s->timer);
  s->state = TRIES;
  (void)uv_queue_work(s->all->loop, &s->work, on_try, on_tried); /* it fails for a missing callback only */
}

static void on_due(uv_timer_t *t) { start_try(t->data); }

static void add_before(struct save *s, struct str bytes) {
  for (int i = 0; bytes.n > 0 && i < SAVES_BEFORE_MAX; i++) {
    if (s->before[i].n == 0) buf_adds(&s->before[i], bytes);
    if (str_eq(buf_str(&s->before[i]), bytes)) return;
  }
}

static struct save *find(const struct saves *all, const struct slot *slot) {
  for (struct link *l = all->list.next; l != &all->list; l = l->next) {
    struct save *s = CONTAINER_OF(l, struct save, link);
    if (s->slot == slot) return s;
  }
  return NULL;
}

/* What an earlier one could not take the place of is still there, and whoever brought this one may not have been able to read it. */
static void fill_before(struct save *s, const struct saves_of *of, const struct save *old) {
  for (int i = 0; i < SAVES_BEFORE_MAX; i++) {
    buf_init(&s->before[i]);
    s->before[i].sensitive = true;
  }
  bool same = old != NULL && str_eq(str_of(old->path), of->path);
  for (int i = 0; same && i < SAVES_BEFORE_MAX; i++) add_before(s, buf_str(&old->before[i]));
  for (unsigned i = 0; i < of->nbefore; i++) add_before(s, of->before[i]);
}

void saves_add(struct saves *all, const struct saves_of *of) {
  struct save *s = must_calloc(1, sizeof *s), *old = find(all, of->slot);
  s->all = all;
  s->slot = slot_ref(of->slot);
  s->path = must_dup(of->path);
  buf_init(&s->value);
  s->value.sensitive = true;
  buf_adds(&s->value, of->value);
  fill_before(s, of, old);
  if (old != NULL) end(old);
  s->timer.data = s->work.data = s;
  s->pause_ms = all->hurry ? 1 : PAUSE_MIN_MS; /* a fetch has its lock until it ends */
  (void)uv_timer_init(all->loop, &s->timer);
  list_push(&all->list, &s->link);
  slot_note_saving(s->slot, true);
  wait_on(s);
}

void saves_drop(struct saves *all, const struct slot *slot) {
  struct save *s = find(all, slot);
  if (s != NULL) end(s);
}

bool saves_any(const struct saves *all) { return !list_empty(&all->list); }

void saves_hurry(struct saves *all) {
  all->hurry = true;
  for (struct link *l = all->list.next; l != &all->list; l = l->next) {
    struct save *s = CONTAINER_OF(l, struct save, link);
    if (s->state == WAITS) start_try(s);
  }
}

void saves_drop_all(struct saves *all) {
  while (!list_empty(&all->list)) end(CONTAINER_OF(all->list.next, struct save, link));
}

struct saves *saves_new(uv_loop_t *loop, void (*ended)(void *arg), void *arg) {
  struct saves *all = must_calloc(1, sizeof *all);
  *all = (struct saves){.loop = loop, .ended = ended, .arg = arg};
  list_init(&all->list);
  return all;
}

void saves_free(struct saves *all) { free(all); }
