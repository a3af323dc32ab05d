/* tls_resume.c: the sessions that a client saved, to spare the next connection half of the handshake.
 *
 * Kept for all configurations of the same meaning (tls_shared.c), hence only offered where the same authorities, pins and client
 * certificate hold, across threads and reloads, and per name that was verified, at one address. A resumed handshake shows no certificate, so a session has an end: an hour after its certificate was verified,
 * or when that certificate expires; what is saved from a resumed connection keeps the end of the first. The table is
 * bounded; the least recently saved goes. A session whose handshake failed is forgotten: 3.6 insists on the version of the
 * session it offers, so a server that has gone back from TLS 1.3 to 1.2 refuses it (http/origin.c tries once more without). Sessions hold master
 * secrets, which mbedTLS wipes when they are freed. */
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/must.h"
#include "net/tls_internal.h"

enum { RESUME_MAX = 128, RESUME_MS = 60 * 60 * 1000 };

struct tls_resume {
  struct tls_shared shared;
  pthread_mutex_t lock;
  struct link entries; /* guarded by lock; the freshest last */
  unsigned n;          /* guarded by lock */
};
struct entry {
  struct link link;
  char *peer;
  int64_t until;
  mbedtls_ssl_session session;
};

static void entry_free(struct entry *e) {
  mbedtls_ssl_session_free(&e->session);
  free(e->peer);
  free(e);
}

static void resume_free(struct tls_shared *s) {
  struct tls_resume *r = CONTAINER_OF(s, struct tls_resume, shared);
  struct link *l;
  while ((l = list_pop(&r->entries)) != NULL) entry_free(CONTAINER_OF(l, struct entry, link));
  pthread_mutex_destroy(&r->lock);
  free(r);
}

static struct tls_shared *resume_new(void) {
  struct tls_resume *r = must_calloc(1, sizeof *r);
  pthread_mutex_init(&r->lock, NULL);
  list_init(&r->entries);
  return &r->shared;
}

struct tls_resume *tls_resume_get(const uint8_t digest[TLS_DIGEST]) {
  return CONTAINER_OF(tls_shared_get(digest, resume_new), struct tls_resume, shared);
}

void tls_resume_unref(struct tls_resume *r) { tls_shared_unref(r != NULL ? &r->shared : NULL, resume_free); }

static struct entry *find(struct tls_resume *r, const char *peer) {
  for (struct link *l = r->entries.prev; l != &r->entries; l = l->prev) {
    struct entry *e = CONTAINER_OF(l, struct entry, link);
    if (strcmp(e->peer, peer) == 0) return e;
  }
  return NULL;
}

static struct entry *take_out(struct tls_resume *r, struct entry *e) {
  list_remove(&e->link);
  r->n--;
  return e;
}

bool tls_resume_offer(struct tls_resume *r, const char *peer, mbedtls_ssl_context *ssl, int64_t *until) {
  struct entry *stale = NULL;
  pthread_mutex_lock(&r->lock);
  struct entry *e = find(r, peer);
  bool offered = false;
  if (e != NULL && e->until <= clock_boot_ms()) {
    stale = take_out(r, e);
  } else if (e != NULL) {
    offered = mbedtls_ssl_set_session(ssl, &e->session) == 0; /* copies */
    *until = e->until;
  }
  pthread_mutex_unlock(&r->lock);
  if (stale != NULL) entry_free(stale);
  return offered;
}

void tls_resume_save(struct tls_resume *r, const char *peer, const mbedtls_ssl_context *ssl, int64_t until) {
  struct entry *e = must_calloc(1, sizeof *e), *old;
  e->peer = must_strdup(peer);
  mbedtls_ssl_session_init(&e->session);
  e->until = until;
  if (mbedtls_ssl_get_session(ssl, &e->session) != 0) {
    entry_free(e);
    return;
  }
  pthread_mutex_lock(&r->lock);
  old = find(r, peer);
  if (old == NULL && r->n >= RESUME_MAX) old = CONTAINER_OF(r->entries.next, struct entry, link);
  if (old != NULL) take_out(r, old);
  list_push(&r->entries, &e->link);
  r->n++;
  pthread_mutex_unlock(&r->lock);
  if (old != NULL) entry_free(old);
}

void tls_resume_forget(struct tls_resume *r, const char *peer) {
  pthread_mutex_lock(&r->lock);
  struct entry *e = find(r, peer);
  if (e != NULL) take_out(r, e);
  pthread_mutex_unlock(&r->lock);
  if (e != NULL) entry_free(e);
}

int64_t tls_resume_until(const mbedtls_x509_crt *peer) {
  int64_t left = tls_valid_until(peer) - clock_wall_ms();
  return clock_boot_ms() + (left < RESUME_MS ? left : RESUME_MS);
}
