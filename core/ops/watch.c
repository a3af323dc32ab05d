/* watch.c: a uv_fs_event a directory, a debounce timer, and a fingerprint a file.
 *
 * An event says only that something in a directory moved. When the events have been quiet for WATCH_DEBOUNCE_MS every file is checked (following links) against
 * its last state: inode, size and both times. So names in events, which libuv may leave out, do not matter, reading a file is not a change, and a link two
 * levels up being swapped is one. A file that is missing at that moment (an editor between unlink and rename) is not a change either: its return is. In a
 * folder that never rests (a log is written there) the check comes after WATCH_PATIENCE_MS.
 *
 * A file is read before it is watched, so it may change in between: its reader gives the stamp of then, and a first check follows each new set. A folder that
 * is not there yet is tried anew at each check: the folder that it is made in is mostly watched too. Owned by the loop's thread. */
#include "ops/watch.h"
#include "base/must.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct watched_dir {
  uv_fs_event_t event;
  struct watch *watch;
  struct watched_dir *next;
  char *path;
  bool missing;
};
struct watched_file {
  char *path;
  struct file_stamp seen;
};
struct watch {
  uv_timer_t quiet;
  uv_loop_t *loop;
  void (*changed)(void *arg);
  void *arg;
  uint64_t restless_since; /* uv_now of the first event since the last check */
  struct watched_dir *dirs;
  struct watched_file *files;
  size_t nfiles;
  unsigned handles; /* not closed yet, the timer included */
  bool closing;
};

static char *dir_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL) return strdup(".");
  return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

/* Notes what the file is now; true when that is another file or content than before. */
static bool look_at(struct watched_file *f) {
  struct stat st;
  if (stat(f->path, &st) != 0) return false;
  struct file_stamp now = file_stamp_of(&st);
  bool same = file_stamp_same(&now, &f->seen);
  f->seen = now;
  return !same;
}

static void free_files(struct watch *w) {
  for (size_t i = 0; i < w->nfiles; i++) free(w->files[i].path);
  free(w->files);
  w->files = NULL;
  w->nfiles = 0;
}

static void one_handle_less(struct watch *w) {
  if (--w->handles > 0 || !w->closing) return;
  free_files(w);
  free(w);
}

static void on_dir_closed(uv_handle_t *h) {
  struct watched_dir *d = h->data;
  struct watch *w = d->watch;
  free(d->path);
  free(d);
  one_handle_less(w);
}

static void on_timer_closed(uv_handle_t *h) { one_handle_less(h->data); }

static void on_event(uv_fs_event_t *e, const char *name, int events, int status);

static int start_dir(struct watched_dir *d) {
  int status = uv_fs_event_start(&d->event, on_event, d->path, 0);
  d->missing = status != 0;
  return status;
}

static void on_quiet(uv_timer_t *t) {
  struct watch *w = t->data;
  bool any = false;
  for (struct watched_dir *d = w->dirs; d != NULL; d = d->next) { /* before the files: what comes later is an event */
    if (d->missing) (void)start_dir(d);
  }
  for (size_t i = 0; i < w->nfiles; i++) any |= look_at(&w->files[i]);
  if (any) w->changed(w->arg);
}

static void on_event(uv_fs_event_t *e, const char *name, int events, int status) {
  (void)name, (void)events, (void)status;
  struct watch *w = ((struct watched_dir *)e->data)->watch;
  uint64_t now = uv_now(w->loop);
  if (!uv_is_active((uv_handle_t *)&w->quiet)) w->restless_since = now;
  if (now - w->restless_since < WATCH_PATIENCE_MS) (void)uv_timer_start(&w->quiet, on_quiet, WATCH_DEBOUNCE_MS, 0);
}

static bool watches_dir(const struct watch *w, const char *path) {
  for (const struct watched_dir *d = w->dirs; d != NULL; d = d->next) {
    if (strcmp(d->path, path) == 0) return true;
  }
  return false;
}

/* Takes over `path`. */
static int add_dir(struct watch *w, char *path) {
  if (watches_dir(w, path)) {
    free(path);
    return 0;
  }
  struct watched_dir *d = must_calloc(1, sizeof *d);
  d->watch = w;
  d->path = path;
  d->event.data = d;
  (void)uv_fs_event_init(w->loop, &d->event);
  w->handles++;
  d->next = w->dirs;
  w->dirs = d;
  return start_dir(d);
}

static void close_dirs(struct watch *w) {
  for (struct watched_dir *d = w->dirs, *next; d != NULL; d = next) {
    next = d->next;
    uv_close((uv_handle_t *)&d->event, on_dir_closed);
  }
  w->dirs = NULL;
}

struct watch *watch_new(uv_loop_t *loop, void (*changed)(void *arg), void *arg) {
  struct watch *w = must_calloc(1, sizeof *w);
  w->loop = loop;
  w->changed = changed;
  w->arg = arg;
  w->quiet.data = w;
  w->handles = 1;
  (void)uv_timer_init(loop, &w->quiet);
  return w;
}

/* The former state of this path, so that a change that has not been checked yet is not lost. */
static const struct watched_file *known_file(const struct watched_file *v, size_t n, const char *path) {
  for (size_t i = 0; i < n; i++) {
    if (strcmp(v[i].path, path) == 0) return &v[i];
  }
  return NULL;
}

static void note_file(struct watched_file *f, const struct watched_path *p, const struct watched_file *known) {
  f->path = must_strdup(p->path);
  if (known != NULL)
    f->seen = known->seen;
  else if (p->seen != NULL)
    f->seen = *p->seen;
  else
    (void)look_at(f);
}

int watch_set(struct watch *w, const struct watched_path *paths, size_t n) {
  struct watched_file *v = must_calloc(n > 0 ? n : 1, sizeof *v);
  close_dirs(w);
  int first = 0;
  for (size_t i = 0; i < n; i++) {
    int status = add_dir(w, dir_of(paths[i].path));
    if (status != 0 && first == 0) first = status;
    note_file(&v[i], &paths[i], known_file(w->files, w->nfiles, paths[i].path));
  }
  free_files(w);
  w->files = v;
  w->nfiles = n;
  /* For what came between the reading and now, and for events that were missed while the handles were made anew. */
  (void)uv_timer_start(&w->quiet, on_quiet, WATCH_DEBOUNCE_MS, 0);
  return first;
}

void watch_close(struct watch *w) {
  w->closing = true;
  close_dirs(w);
  uv_close((uv_handle_t *)&w->quiet, on_timer_closed);
}
