/* certificates.c: the files of all living TLS configurations, watched.
 *
 * Which files these are changes with every policy, and with every call of jeton.http that has settings of its own, on any thread: net/tls.h then
 * calls on_files, which wakes this loop, and the set is made anew. Changes without an event of libuv (a network file system, a watch that failed) are found by
 * a slow timer, whose check costs a stat a file. When new files are wrong, the old ones go on, and the log and `jeton status` say so. Once a day the log says
 * which certificates end soon. Owned by control's thread, but for the async handle. */
#include "ops/certificates.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "net/tls.h"
#include "ops/watch.h"

enum { LOOK_MS = 60 * 1000 };

/* --- texts that come more than once --- */

struct texts { /* paths, or sentences */
  struct watched_path *v;
  size_t n, room;
};

static bool add_new(struct texts *p, const char *text) {
  for (size_t i = 0; i < p->n; i++)
    if (strcmp(p->v[i].path, text) == 0) return false;
  if (p->n == p->room) {
    p->room = p->room > 0 ? 2 * p->room : 16;
    p->v = must_realloc(p->v, p->room * sizeof *p->v);
  }
  p->v[p->n++] = (struct watched_path){.path = must_strdup(text)};
  return true;
}

static void texts_fini(struct texts *p) {
  for (size_t i = 0; i < p->n; i++) must_free(p->v[i].path);
  free(p->v);
  *p = (struct texts){0};
}

struct certificates {
  uv_async_t files; /* sent by any thread: the set of files has changed */
  uv_timer_t look, remind;
  struct watch *watch;
  struct certificates_facts facts;
  struct buf last_error;
  struct texts said; /* in this check: many configurations may have one file */
  bool watch_failed;
  unsigned closing;
};

/* --- watching --- */

static void add_path(void *arg, const char *path) { (void)add_new(arg, path); }

static void watch_files(struct certificates *c) {
  struct texts p = {0};
  tls_files(add_path, &p);
  int status = watch_set(c->watch, p.v, p.n);
  if (status != 0 && !c->watch_failed)
    log_warn("certificates are looked at once a minute only, since their folders cannot be watched: %s",
             err_text(status));
  c->watch_failed = status != 0;
  texts_fini(&p);
}

/* --- reading again --- */

static void on_done(void *arg, const char *file) {
  struct certificates *c = arg;
  c->facts.renewed++;
  if (add_new(&c->said, file)) log_info("%s: the certificates were read again; new connections use them", file);
}

static void on_failed(void *arg, const char *text) {
  struct certificates *c = arg;
  c->facts.failed++;
  if (add_new(&c->said, text)) log_error("%s; the certificates read before go on", text);
}

static void on_note(void *arg, const char *text) {
  struct certificates *c = arg;
  if (add_new(&c->said, text)) log_warn("%s", text);
}

static void look(struct certificates *c) {
  struct tls_reread_sink sink = {.done = on_done, .failed = on_failed, .note = on_note, .arg = c};
  tls_reread(&sink);
  texts_fini(&c->said);
}

static void on_changed(void *arg) {
  look(arg);
  watch_files(arg); /* a folder of authorities may have other files now */
}
static void on_look(uv_timer_t *t) { look(t->data); }
static void on_files(uv_async_t *a) {
  watch_files(a->data);
  look(a->data); /* they were read before they were watched */
}
static void wake(void *arg) { (void)uv_async_send(&((struct certificates *)arg)->files); }

/* --- what ends --- */

struct once {
  struct texts seen;
  void (*text)(void *arg, const char *text);
  void (*file)(void *arg, const char *file, int64_t until);
  void *arg;
};
static void once_text(void *arg, const char *text) {
  struct once *o = arg;
  if (add_new(&o->seen, text)) o->text(o->arg, text);
}
static void once_file(void *arg, const char *file, int64_t until) {
  struct once *o = arg;
  if (add_new(&o->seen, file)) o->file(o->arg, file, until / 1000);
}

void certificates_own(void (*tell)(void *arg, const char *file, int64_t until), void *arg) {
  struct once o = {.file = tell, .arg = arg};
  tls_own_certificates(once_file, &o);
  texts_fini(&o.seen);
}

void certificates_ending(void (*tell)(void *arg, const char *text), void *arg) {
  struct once o = {.text = tell, .arg = arg};
  tls_all_notes(TLS_NOTES_DATES, once_text, &o);
  texts_fini(&o.seen);
}

static void on_reminded(void *arg, const char *text) {
  (void)arg;
  log_warn("%s", text);
}

/* A load says it, too; but a process may run for longer than a certificate lives, and nobody renew that. */
static void on_remind(uv_timer_t *t) {
  (void)t;
  certificates_ending(on_reminded, NULL);
}

/* --- life --- */

struct certificates *certificates_new(uv_loop_t *loop, uint64_t remind_ms) {
  struct certificates *c = must_calloc(1, sizeof *c);
  buf_init(&c->last_error);
  c->watch = watch_new(loop, on_changed, c);
  c->files.data = c->look.data = c->remind.data = c;
  if (uv_async_init(loop, &c->files, on_files) != 0) abort(); /* the loop has made its descriptors by now */
  (void)uv_timer_init(loop, &c->look);
  (void)uv_timer_start(&c->look, on_look, LOOK_MS, LOOK_MS);
  (void)uv_timer_init(loop, &c->remind);
  (void)uv_timer_start(&c->remind, on_remind, remind_ms, remind_ms);
  tls_on_files(wake, c);
  wake(c);
  return c;
}

static void on_closed(uv_handle_t *h) {
  struct certificates *c = h->data;
  if (--c->closing > 0) return;
  buf_fini(&c->last_error);
  free(c);
}

void certificates_close(struct certificates *c) {
  tls_on_files(NULL, NULL);
  watch_close(c->watch);
  c->closing = 3;
  uv_close((uv_handle_t *)&c->files, on_closed);
  uv_close((uv_handle_t *)&c->look, on_closed);
  uv_close((uv_handle_t *)&c->remind, on_closed);
}

static void keep_first(void *arg, const char *text) {
  struct buf *b = arg;
  if (b->n == 0) buf_addz(b, text);
}

struct certificates_facts certificates_facts(struct certificates *c) {
  struct certificates_facts f = c->facts;
  buf_reset(&c->last_error);
  tls_errors(keep_first, &c->last_error);
  f.last_error = buf_z(&c->last_error);
  return f;
}
