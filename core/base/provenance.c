/* provenance.c: see provenance.h. */
#include "base/provenance.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/must.h"

struct provenance_mark {
  atomic_uint refs;
  _Atomic uint64_t moves;
};

struct provenance_part {
  char *path; /* NULL: a mark */
  struct file_stamp seen;
  struct provenance_mark *mark;
  uint64_t moves;
};

struct provenance {
  atomic_uint refs;
  unsigned n;
  struct provenance_part v[PROVENANCE_MAX];
};

struct provenance_mark *provenance_mark_new(void) {
  struct provenance_mark *m = must_calloc(1, sizeof *m);
  atomic_init(&m->refs, 1);
  return m;
}

struct provenance_mark *provenance_mark_ref(struct provenance_mark *m) {
  atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
  return m;
}

void provenance_mark_unref(struct provenance_mark *m) {
  if (m != NULL && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1) free(m);
}

/* Relaxed, as is the load: it says that something has changed, not what. */
void provenance_mark_move(struct provenance_mark *m) { atomic_fetch_add_explicit(&m->moves, 1, memory_order_relaxed); }

static uint64_t moves_of(const struct provenance_mark *m) {
  return atomic_load_explicit(&m->moves, memory_order_relaxed);
}

/* A place for another one, or NULL. */
static struct provenance_part *place(struct provenance **o) {
  if (*o == NULL) {
    *o = must_calloc(1, sizeof **o);
    atomic_init(&(*o)->refs, 1);
  }
  assert(atomic_load(&(*o)->refs) == 1);
  return (*o)->n < PROVENANCE_MAX ? &(*o)->v[(*o)->n++] : NULL;
}

void provenance_add_file(struct provenance **o, const char *path, const struct file_stamp *seen) {
  for (unsigned i = 0; *o != NULL && i < (*o)->n; i++)
    if ((*o)->v[i].path != NULL && strcmp((*o)->v[i].path, path) == 0) return;
  struct provenance_part *one = place(o);
  if (one == NULL) return;
  one->path = must_strdup(path);
  one->seen = *seen;
}

static struct file_stamp stamp_of(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 ? file_stamp_of(&st) : (struct file_stamp){0};
}

void provenance_add_path(struct provenance **o, const char *path) {
  struct file_stamp seen = stamp_of(path);
  provenance_add_file(o, path, &seen);
}

void provenance_add_mark(struct provenance **o, struct provenance_mark *m) {
  for (unsigned i = 0; *o != NULL && i < (*o)->n; i++)
    if ((*o)->v[i].mark == m) return;
  struct provenance_part *one = place(o);
  if (one == NULL) return;
  one->mark = provenance_mark_ref(m);
  one->moves = moves_of(m);
}

struct provenance *provenance_ref(struct provenance *o) {
  atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
  return o;
}

void provenance_unref(struct provenance *o) {
  if (o == NULL || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) > 1) return;
  for (unsigned i = 0; i < o->n; i++) {
    free(o->v[i].path);
    provenance_mark_unref(o->v[i].mark);
  }
  free(o);
}

static bool has_changed(const struct provenance_part *one) {
  if (one->path == NULL) return moves_of(one->mark) != one->moves;
  struct file_stamp now = stamp_of(one->path);
  return !file_stamp_same(&now, &one->seen);
}

bool provenance_changed(const struct provenance *o) {
  for (unsigned i = 0; o != NULL && i < o->n; i++)
    if (has_changed(&o->v[i])) return true;
  return false;
}
