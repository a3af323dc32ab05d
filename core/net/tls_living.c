/* tls_living.c: tls_client and tls_server: settings that never change, and the newest good reading of their files.
 *
 * A renewed certificate must not need a reload of the policy, whose file may be half edited at that moment: so a configuration reads its files
 * again by itself (tls_reread) and swaps one pointer. Connections hold the reading that they began with. All living configurations are in
 * the registry's list, so that control knows which files to watch for all of them: those of a policy, and those that a call of jeton.http made on any thread.
 *
 * A reading is tried when the stamp of its files (from stat) differs from that of the last try, which may have failed. So a bad file is reported once, and a
 * pair that is written one file after the other is good in the end. The stamp is taken before the files are read: a change in between is found by the next
 * check. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/must.h"
#include "net/tls_internal.h"

enum { PATH_SIZE = 4096 };

typedef void (*own_fn)(void *arg, const char *file, int64_t until);

struct living;
struct kind {
  void *(*read)(struct living *l, char *err, size_t errsize);
  void (*drop)(void *reading);
  void (*notes)(struct living *l, enum tls_notes which, tls_tell_fn tell, void *arg);
  void (*own)(struct living *l, own_fn tell, void *arg); /* the certificates that it shows to others */
};
struct living {
  atomic_uint refs;
  /* immutable */
  const struct kind *kind;
  struct arena memory; /* of the settings */
  const char **files;
  size_t nfiles;
  /* set by the maker; owned by the re-reading thread from then on */
  uint64_t stamp;
  char *error;          /* why the last try failed; NULL: it did not */
  struct link link;     /* guarded by the registry's living_lock */
  pthread_mutex_t lock; /* held for one pointer and its count, never while files are read */
  /* guarded by lock: the newest good reading, with a reference; a caller that takes it gets a reference of its own */
  void *now;
};
struct tls_client {
  struct living living;
  struct tls_client_settings settings;
  atomic_uint_fast64_t fingerprint; /* relaxed: a connection more or less that is pooled as before */
};
struct tls_server {
  struct living living;
  struct tls_server_settings settings;
};

/* --- files --- */

static void each_file(struct living *l, tls_tell_fn tell, void *arg) {
  for (size_t i = 0; i < l->nfiles; i++) tls_path_each(l->files[i], tell, arg);
}

static uint64_t stamp_of(const struct living *l) {
  uint64_t sum = 0;
  for (size_t i = 0; i < l->nfiles; i++) sum += tls_path_stamp(l->files[i]);
  return sum;
}

/* --- life --- */

static void report_change(void) {
  struct tls_registry *r = tls_registry();
  pthread_mutex_lock(&r->changed_lock);
  if (r->changed != NULL) r->changed(r->changed_arg);
  pthread_mutex_unlock(&r->changed_lock);
}

void tls_on_files(void (*changed)(void *arg), void *arg) {
  struct tls_registry *r = tls_registry();
  pthread_mutex_lock(&r->changed_lock);
  r->changed = changed;
  r->changed_arg = arg;
  pthread_mutex_unlock(&r->changed_lock);
}

static const char *copy(struct living *l, const char *text) {
  return text != NULL ? arena_dup(&l->memory, str_of(text)).p : NULL;
}

static void add_file(struct living *l, const char *path) {
  if (path != NULL) l->files[l->nfiles++] = path;
}

static void living_init(struct living *l, const struct kind *kind, size_t max_files) {
  atomic_init(&l->refs, 1);
  l->kind = kind;
  arena_init(&l->memory, NULL, 0);
  l->files = arena_alloc(&l->memory, (max_files + 1) * sizeof *l->files);
  list_init(&l->link);
  pthread_mutex_init(&l->lock, NULL);
}

static void living_fini(struct living *l) {
  struct tls_registry *r = tls_registry();
  pthread_mutex_lock(&r->living_lock);
  list_remove(&l->link);
  pthread_mutex_unlock(&r->living_lock);
  if (l->now != NULL) {
    report_change();
    l->kind->drop(l->now);
  }
  free(l->error);
  pthread_mutex_destroy(&l->lock);
  arena_reset(&l->memory);
}

/* The first reading. */
static bool living_begin(struct living *l, char *err, size_t errsize) {
  l->stamp = stamp_of(l);
  l->now = l->kind->read(l, err, errsize);
  if (l->now == NULL) return false;
  struct tls_registry *r = tls_registry();
  pthread_mutex_lock(&r->living_lock);
  list_push(&r->living, &l->link);
  pthread_mutex_unlock(&r->living_lock);
  report_change();
  return true;
}

static void living_ref(struct living *l) { atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed); }
static bool living_unref(struct living *l) { /* true: that was the last */
  return atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1;
}

/* One from the list: its last reference may be gone, and its end wait for living_lock. */
static bool living_try_ref(struct living *l) {
  unsigned n = atomic_load_explicit(&l->refs, memory_order_relaxed);
  while (n > 0)
    if (atomic_compare_exchange_weak_explicit(&l->refs, &n, n + 1, memory_order_acq_rel, memory_order_relaxed))
      return true;
  return false;
}

/* Without one of its certificates a chain is no chain. */
static int64_t first_end(const struct tls_identity *id) {
  int64_t first = INT64_MAX;
  for (const mbedtls_x509_crt *c = &id->chain; c != NULL; c = c->next)
    if (tls_valid_until(c) < first) first = tls_valid_until(c);
  return first;
}

/* --- clients --- */

static void client_notes(struct living *l, enum tls_notes which, tls_tell_fn tell, void *arg) {
  tls_client_notes(CONTAINER_OF(l, struct tls_client, living), which, tell, arg);
}
static void client_own(struct living *l, own_fn tell, void *arg) {
  struct tls_client *c = CONTAINER_OF(l, struct tls_client, living);
  struct tls_client_conf *now = tls_client_now(c);
  if (now->identity != NULL) tell(arg, c->settings.cert, first_end(now->identity));
  tls_client_conf_unref(now);
}
static void *client_read(struct living *l, char *err, size_t errsize) {
  struct tls_client *c = CONTAINER_OF(l, struct tls_client, living);
  return tls_client_conf_new(&c->settings, err, errsize);
}
static void client_drop(void *reading) { tls_client_conf_unref(reading); }
static const struct kind client_kind = {client_read, client_drop, client_notes, client_own};

static void client_settings(struct tls_client *c, const struct tls_client_settings *s) {
  struct living *l = &c->living;
  const char **pins = arena_alloc(&l->memory, (s->npins + 1) * sizeof *pins);
  for (size_t i = 0; i < s->npins; i++) pins[i] = copy(l, s->pins[i]);
  c->settings = *s;
  c->settings.ca = copy(l, s->ca);
  c->settings.cert = copy(l, s->cert);
  c->settings.key = copy(l, s->key);
  c->settings.server_name = copy(l, s->server_name);
  c->settings.insecure = copy(l, s->insecure);
  c->settings.pins = pins;
  add_file(l, c->settings.cert);
  add_file(l, c->settings.key);
  if (s->insecure == NULL) add_file(l, s->ca != NULL ? c->settings.ca : tls_trust_bundle());
}

static void client_free(struct tls_client *c) {
  living_fini(&c->living);
  free(c);
}

static void client_note_fingerprint(struct tls_client *c) {
  struct tls_client_conf *now = tls_client_now(c);
  atomic_store_explicit(&c->fingerprint, now->fingerprint, memory_order_relaxed);
  tls_client_conf_unref(now);
}

struct tls_client *tls_client_new(const struct tls_client_settings *s, char *err, size_t errsize) {
  struct tls_client *c = must_calloc(1, sizeof *c);
  living_init(&c->living, &client_kind, 3);
  client_settings(c, s);
  if (!living_begin(&c->living, err, errsize)) {
    client_free(c);
    return NULL;
  }
  client_note_fingerprint(c);
  return c;
}

struct tls_client *tls_client_ref(struct tls_client *c) {
  living_ref(&c->living);
  return c;
}
void tls_client_unref(struct tls_client *c) {
  if (c != NULL && living_unref(&c->living)) client_free(c);
}

struct tls_client_conf *tls_client_now(struct tls_client *c) {
  pthread_mutex_lock(&c->living.lock);
  struct tls_client_conf *now = c->living.now;
  atomic_fetch_add_explicit(&now->refs, 1, memory_order_relaxed);
  pthread_mutex_unlock(&c->living.lock);
  return now;
}

uint64_t tls_client_fingerprint(const struct tls_client *c) {
  return atomic_load_explicit(&c->fingerprint, memory_order_relaxed);
}

void tls_client_notes(struct tls_client *c, enum tls_notes which, tls_tell_fn tell, void *arg) {
  struct tls_client_conf *now = tls_client_now(c);
  struct tls_certificate_settings files = {c->settings.cert, c->settings.key};
  if (now->identity != NULL) tls_identity_notes(now->identity, &files, false, which, tell, arg);
  if (now->trust != NULL && c->settings.ca != NULL) tls_authority_notes(now->trust, c->settings.ca, which, tell, arg);
  tls_client_conf_unref(now);
}

/* --- servers --- */

static void server_notes(struct living *l, enum tls_notes which, tls_tell_fn tell, void *arg) {
  tls_server_notes(CONTAINER_OF(l, struct tls_server, living), which, tell, arg);
}
static void server_own(struct living *l, own_fn tell, void *arg) {
  struct tls_server *v = CONTAINER_OF(l, struct tls_server, living);
  struct tls_server_conf *now = tls_server_now(v);
  for (size_t i = 0; i < now->nidentities; i++)
    tell(arg, v->settings.certificates[i].cert, first_end(now->identities[i]));
  tls_server_conf_unref(now);
}
static void *server_read(struct living *l, char *err, size_t errsize) {
  struct tls_server *v = CONTAINER_OF(l, struct tls_server, living);
  return tls_server_conf_new(&v->settings, err, errsize);
}
static void server_drop(void *reading) { tls_server_conf_unref(reading); }
static const struct kind server_kind = {server_read, server_drop, server_notes, server_own};

static void server_settings(struct tls_server *v, const struct tls_server_settings *s) {
  struct living *l = &v->living;
  struct tls_certificate_settings *certificates =
      arena_alloc(&l->memory, (s->ncertificates + 1) * sizeof *certificates);
  for (size_t i = 0; i < s->ncertificates; i++) {
    certificates[i] =
        (struct tls_certificate_settings){copy(l, s->certificates[i].cert), copy(l, s->certificates[i].key)};
    add_file(l, certificates[i].cert);
    add_file(l, certificates[i].key);
  }
  v->settings = *s;
  v->settings.certificates = certificates;
  v->settings.client_ca = copy(l, s->client_ca);
  add_file(l, v->settings.client_ca);
}

static void server_free(struct tls_server *v) {
  living_fini(&v->living);
  free(v);
}

struct tls_server *tls_server_new(const struct tls_server_settings *s, char *err, size_t errsize) {
  struct tls_server *v = must_calloc(1, sizeof *v);
  living_init(&v->living, &server_kind, 2 * s->ncertificates + 1);
  server_settings(v, s);
  if (living_begin(&v->living, err, errsize)) return v;
  server_free(v);
  return NULL;
}

struct tls_server *tls_server_ref(struct tls_server *v) {
  living_ref(&v->living);
  return v;
}
void tls_server_unref(struct tls_server *v) {
  if (v != NULL && living_unref(&v->living)) server_free(v);
}

struct tls_server_conf *tls_server_now(struct tls_server *v) {
  pthread_mutex_lock(&v->living.lock);
  struct tls_server_conf *now = v->living.now;
  atomic_fetch_add_explicit(&now->refs, 1, memory_order_relaxed);
  pthread_mutex_unlock(&v->living.lock);
  return now;
}

void tls_server_notes(struct tls_server *v, enum tls_notes which, tls_tell_fn tell, void *arg) {
  struct tls_server_conf *now = tls_server_now(v);
  for (size_t i = 0; i < now->nidentities; i++) {
    const struct tls_certificate_settings *files = &v->settings.certificates[i];
    tls_identity_notes(now->identities[i], files, true, which, tell, arg);
    if (which == TLS_NOTES_THOROUGH) tls_chain_notes(now->identities[i], files->cert, now->client_trust, tell, arg);
  }
  if (now->client_trust != NULL) tls_authority_notes(now->client_trust, v->settings.client_ca, which, tell, arg);
  tls_server_conf_unref(now);
}

/* --- all that live --- */

static void living_release(struct living *l) {
  if (l->kind == &client_kind)
    tls_client_unref(CONTAINER_OF(l, struct tls_client, living));
  else
    tls_server_unref(CONTAINER_OF(l, struct tls_server, living));
}

/* References to all of them; the caller frees the array. */
static struct living **take_all(size_t *n) {
  size_t room = 1;
  struct tls_registry *r = tls_registry();
  *n = 0;
  pthread_mutex_lock(&r->living_lock);
  for (const struct link *i = r->living.next; i != &r->living; i = i->next) room++;
  struct living **all = must_calloc(room, sizeof *all);
  for (struct link *i = r->living.next; i != &r->living; i = i->next) {
    struct living *l = CONTAINER_OF(i, struct living, link);
    if (living_try_ref(l)) all[(*n)++] = l;
  }
  pthread_mutex_unlock(&r->living_lock);
  return all;
}

void tls_files(tls_tell_fn tell, void *arg) {
  size_t n;
  struct living **all = take_all(&n);
  for (size_t i = 0; i < n; i++) {
    each_file(all[i], tell, arg);
    living_release(all[i]);
  }
  free(all);
}

void tls_all_notes(enum tls_notes which, tls_tell_fn tell, void *arg) {
  size_t n;
  struct living **all = take_all(&n);
  for (size_t i = 0; i < n; i++) {
    all[i]->kind->notes(all[i], which, tell, arg);
    living_release(all[i]);
  }
  free(all);
}

void tls_own_certificates(own_fn tell, void *arg) {
  size_t n;
  struct living **all = take_all(&n);
  for (size_t i = 0; i < n; i++) {
    all[i]->kind->own(all[i], tell, arg);
    living_release(all[i]);
  }
  free(all);
}

void tls_errors(tls_tell_fn tell, void *arg) {
  size_t n;
  struct living **all = take_all(&n);
  for (size_t i = 0; i < n; i++) {
    if (all[i]->error != NULL) tell(arg, all[i]->error);
    living_release(all[i]);
  }
  free(all);
}

static const char *insecure_of(const struct living *l) {
  return l->kind == &client_kind ? CONTAINER_OF(l, struct tls_client, living)->settings.insecure : NULL;
}

static bool named_before(struct living *const *all, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++) {
    const char *other = insecure_of(all[i]);
    if (other != NULL && strcmp(other, name) == 0) return true;
  }
  return false;
}

void tls_insecure(tls_tell_fn tell, void *arg) {
  size_t n;
  struct living **all = take_all(&n);
  for (size_t i = 0; i < n; i++) {
    const char *name = insecure_of(all[i]);
    if (name != NULL && !named_before(all, i, name)) tell(arg, name);
  }
  for (size_t i = 0; i < n; i++) living_release(all[i]);
  free(all);
}

static void reread(struct living *l, const struct tls_reread_sink *sink) {
  char err[TLS_REASON_MAX + PATH_SIZE];
  uint64_t stamp = stamp_of(l);
  if (stamp == l->stamp) return;
  l->stamp = stamp;
  void *fresh = l->kind->read(l, err, sizeof err), *old;
  free(l->error);
  l->error = NULL;
  if (fresh == NULL) {
    l->error = must_strdup(err);
    sink->failed(sink->arg, err);
    return;
  }
  pthread_mutex_lock(&l->lock);
  old = l->now;
  l->now = fresh;
  pthread_mutex_unlock(&l->lock);
  l->kind->drop(old);
  if (l->kind == &client_kind) client_note_fingerprint(CONTAINER_OF(l, struct tls_client, living));
  sink->done(sink->arg, l->files[0]);
  l->kind->notes(l, TLS_NOTES_USUAL, sink->note, sink->arg);
}

void tls_reread(const struct tls_reread_sink *sink) {
  size_t n;
  struct living **all = take_all(&n);
  for (size_t i = 0; i < n; i++) {
    reread(all[i], sink);
    living_release(all[i]);
  }
  free(all);
}
