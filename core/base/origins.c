/* origins.c: see origins.h. */
#include "base/origins.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/must.h"

struct origin_mark {
  atomic_uint refs;
  _Atomic uint64_t moves;
};

struct origin {
  char *path; /* NULL: a mark */
  struct file_stamp seen;
  struct origin_mark *mark;
  uint64_t moves;
};

struct origins {
  atomic_uint refs;
  unsigned n;
  struct origin v[ORIGINS_MAX];
};

struct origin_mark *origin_mark_new(void) {
  struct origin_mark *m = must_calloc(1, sizeof *m);
  atomic_init(&m->refs, 1);
  return m;
}

struct origin_mark *origin_mark_ref(struct origin_mark *m) {
  atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
  return m;
}

void origin_mark_unref(struct origin_mark *m) {
  if (m != NULL && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1) free(m);
}

/* Relaxed, as is the load: it says that something has changed, not what. */
void origin_mark_move(struct origin_mark *m) { atomic_fetch_add_explicit(&m->moves, 1, memory_order_relaxed); }

static uint64_t moves_of(const struct origin_mark *m) { return atomic_load_explicit(&m->moves, memory_order_relaxed); }

/* A place for another one, or NULL. */
static struct origin *place(struct origins **o) {
  if (*o == NULL) {
    *o = must_calloc(1, sizeof **o);
    atomic_init(&(*o)->refs, 1);
  }
  assert(atomic_load(&(*o)->refs) == 1);
  return (*o)->n < ORIGINS_MAX ? &(*o)->v[(*o)->n++] : NULL;
}

void origins_add_file(struct origins **o, const char *path, const struct file_stamp *seen) {
  for (unsigned i = 0; *o != NULL && i < (*o)->n; i++)
    if ((*o)->v[i].path != NULL && strcmp((*o)->v[i].path, path) == 0) return;
  struct origin *one = place(o);
  if (one == NULL) return;
  one->path = must_strdup(path);
  one->seen = *seen;
}

static struct file_stamp stamp_of(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 ? file_stamp_of(&st) : (struct file_stamp){0};
}

void origins_add_path(struct origins **o, const char *path) {
  struct file_stamp seen = stamp_of(path);
  origins_add_file(o, path, &seen);
}

void origins_add_mark(struct origins **o, struct origin_mark *m) {
  for (unsigned i = 0; *o != NULL && i < (*o)->n; i++)
    if ((*o)->v[i].mark == m) return;
  struct origin *one = place(o);
  if (one == NULL) return;
  one->mark = origin_mark_ref(m);
  one->moves = moves_of(m);
}

struct origins *origins_ref(struct origins *o) {
  atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
  return o;
}

void origins_unref(struct origins *o) {
  if (o == NULL || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) > 1) return;
  for (unsigned i = 0; i < o->n; i++) {
    free(o->v[i].path);
    origin_mark_unref(o->v[i].mark);
  }
  free(o);
}

static bool has_changed(const struct origin *one) {
  if (one->path == NULL) return moves_of(one->mark) != one->moves;
  struct file_stamp now = stamp_of(one->path);
  return !file_stamp_same(&now, &one->seen);
}

bool origins_changed(const struct origins *o) {
  for (unsigned i = 0; o != NULL && i < o->n; i++)
    if (has_changed(&o->v[i])) return true;
  return false;
}
