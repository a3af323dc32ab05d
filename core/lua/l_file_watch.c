/* l_file_watch.c: see lib.h. Owned by the VM's thread.
 *
 * The directory is watched, not the file, so that a file renamed over it, or a link swapped in front of it (as container volumes do), counts like a write in
 * place. Any event in the directory leads, after a short quiet, to one stat on the thread pool; a changed signature starts the function. A file that is
 * not there is no change until it is back.
 *
 * Whatever changes once jeton.file.watch has returned is a change. So the first stat, with which all later ones are compared, is made in the call and
 * behind the begin of the events: made on the thread pool it could see a write that followed the call, and that write would be lost. The call blocks on
 * the file system either way, to add the directory to inotify.
 *
 * Invariant: `open` counts the handles and the stat under way; the memory goes when it is zero. */
#include "base/must.h"
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/err.h"
#include "base/list.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/charge.h"
#include "lua/guard.h"
#include "lua/job.h"
#include "lua/vm.h"

enum { QUIET_MS = 50 };

struct signature {
  uint64_t ino, dev, size;
  uv_timespec_t mtime;
};
struct file_watch {
  struct job_source source;
  uv_fs_event_t event;
  uv_timer_t quiet;
  uv_fs_t stat;
  char *path;
  struct charge charge;
  struct signature seen; /* all zero: the file was never there */
  unsigned open;
  bool looking, again, owed;
};

static void let_go(struct file_watch *w) {
  if (--w->open > 0) return;
  charge_end(&w->charge);
  free(w->path);
  free(w);
}

static void on_closed(uv_handle_t *h) { let_go(h->data); }

static bool same(const struct signature *a, const struct signature *b) {
  return a->ino == b->ino && a->dev == b->dev && a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec &&
         a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static void on_quiet(uv_timer_t *t);

static void check_soon(struct file_watch *w) { (void)uv_timer_start(&w->quiet, on_quiet, QUIET_MS, 0); }

/* A change during a run of the function is reported when the run has ended: the timer tries again until then. */
static void tell(struct file_watch *w) {
  w->owed = !job_fire(w->source.job);
  if (w->owed) check_soon(w);
}

/* Notes what a finished stat says; true when that is another file or content than before. */
static bool note(struct file_watch *w, uv_fs_t *request) {
  const uv_stat_t *s = &request->statbuf;
  struct signature now = {.ino = s->st_ino, .dev = s->st_dev, .size = s->st_size, .mtime = s->st_mtim};
  bool changed = request->result == 0 && !same(&now, &w->seen);
  uv_fs_req_cleanup(request);
  if (changed) w->seen = now;
  return changed;
}

static void on_stat(uv_fs_t *request) {
  struct file_watch *w = request->data;
  bool changed = note(w, request);
  w->looking = false;
  if (w->source.job != NULL) {
    if (changed || w->owed) tell(w);
    if (w->source.job != NULL && w->again) check_soon(w); /* the function may have cancelled the watch */
    w->again = false;
  }
  let_go(w);
}

static void on_quiet(uv_timer_t *t) {
  struct file_watch *w = t->data;
  if (w->looking) {
    w->again = true;
    return;
  }
  w->stat.data = w;
  if (uv_fs_stat(t->loop, &w->stat, w->path, on_stat) != 0) return;
  w->looking = true;
  w->open++;
}

static void on_event(uv_fs_event_t *e, const char *name, int events, int status) {
  (void)name, (void)events;
  if (status == 0) check_soon(e->data);
}

static void watch_end(struct job_source *s) {
  struct file_watch *w = CONTAINER_OF(s, struct file_watch, source);
  uv_close((uv_handle_t *)&w->event, on_closed);
  uv_close((uv_handle_t *)&w->quiet, on_closed);
}

static void unmake(void *p) {
  struct file_watch *w = p;
  charge_end(&w->charge);
  free(w->path);
  free(w);
}

/* The directory of path, malloc'd. */
static char *directory(const char *path) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL) return must_strdup(".");
  return must_dup((struct str){path, slash == path ? 1 : (size_t)(slash - path)});
}

/* Handles first, since from the first of them on the memory goes through their closing. */
static int start(struct file_watch *w, uv_loop_t *loop) {
  (void)uv_fs_event_init(loop, &w->event);
  (void)uv_timer_init(loop, &w->quiet);
  w->event.data = w->quiet.data = w;
  w->open = 2;
  char *dir = directory(w->path);
  int rc = uv_fs_event_start(&w->event, on_event, dir, 0);
  free(dir);
  if (rc != 0) return rc;
  (void)uv_fs_stat(loop, &w->stat, w->path, NULL);
  (void)note(w, &w->stat);
  return 0;
}

int l_file_watch(lua_State *L) {
  struct str path = arg_string(L, 1, "jeton.file.watch", "path");
  if (!lua_isfunction(L, 2)) arg_wrong(L, "jeton.file.watch", "fn", "a function", 2);
  job_check_loading(L, "jeton.file.watch");
  lua_settop(L, 2);
  lua_pushvalue(L, 1); /* the function's argument */
  struct file_watch *w = guard_new(L, sizeof *w, unmake);
  if (!charge_begin(L, &w->charge, CHARGE_WATCH + path.n))
    return arg_failure(L, ERR_LIMIT, "watch: the watches have no room for another within limits.memory");
  w->path = must_strdup(path.p);
  w->source.end = watch_end;
  (void)job_push(L, "watch", 2, 1, &w->source);
  guard_release(L, 4);
  int rc = start(w, &vm_services(vm_of(L))->loop);
  if (rc == 0) return 1;
  lua_getfield(L, -1, "cancel");
  lua_pushvalue(L, -2);
  lua_call(L, 1, 0);
  return arg_failure(L, rc, "watch %s: %s", path.p, err_text(rc));
}
