/* tls_resume.c: the sessions that a client saved, to spare the next connection half of the handshake.
 *
 * Kept per configuration, hence only offered where the same authorities, pins and client certificate hold, and per name that
 * was verified. A resumed handshake shows no certificate, so a session has an end: an hour after its certificate was verified,
 * or when that certificate expires; what is saved from a resumed connection keeps the end of the first. The table is
 * bounded; the least recently saved goes. A session whose handshake failed is forgotten: 3.6 insists on the version of the
 * session it offers, so a server that has gone back from TLS 1.3 to 1.2 fails once, not for an hour. Sessions hold master
 * secrets, which mbedTLS wipes when they are freed. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "net/tls_internal.h"

enum { RESUME_MAX = 128, RESUME_MS = 60 * 60 * 1000 };

struct entry {
  struct link link;
  char *name;
  int64_t until;
  mbedtls_ssl_session session;
};

void tls_resume_init(struct tls_resume *r) {
  pthread_mutex_init(&r->lock, NULL);
  list_init(&r->entries);
  r->n = 0;
}

static void entry_free(struct entry *e) {
  mbedtls_ssl_session_free(&e->session);
  free(e->name);
  free(e);
}

void tls_resume_fini(struct tls_resume *r) {
  struct link *l;
  while ((l = list_pop(&r->entries)) != NULL) entry_free(CONTAINER_OF(l, struct entry, link));
  pthread_mutex_destroy(&r->lock);
}

static struct entry *find(struct tls_resume *r, const char *name) {
  for (struct link *l = r->entries.prev; l != &r->entries; l = l->prev) {
    struct entry *e = CONTAINER_OF(l, struct entry, link);
    if (strcmp(e->name, name) == 0) return e;
  }
  return NULL;
}

static struct entry *take_out(struct tls_resume *r, struct entry *e) {
  list_remove(&e->link);
  r->n--;
  return e;
}

bool tls_resume_offer(struct tls_resume *r, const char *name, mbedtls_ssl_context *ssl, int64_t *until) {
  struct entry *stale = NULL;
  pthread_mutex_lock(&r->lock);
  struct entry *e = find(r, name);
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

void tls_resume_save(struct tls_resume *r, const char *name, const mbedtls_ssl_context *ssl, int64_t until) {
  struct entry *e = calloc(1, sizeof *e), *old;
  if (e == NULL || (e->name = strdup(name)) == NULL) abort();
  mbedtls_ssl_session_init(&e->session);
  e->until = until;
  if (mbedtls_ssl_get_session(ssl, &e->session) != 0) {
    entry_free(e);
    return;
  }
  pthread_mutex_lock(&r->lock);
  old = find(r, name);
  if (old == NULL && r->n >= RESUME_MAX) old = CONTAINER_OF(r->entries.next, struct entry, link);
  if (old != NULL) take_out(r, old);
  list_push(&r->entries, &e->link);
  r->n++;
  pthread_mutex_unlock(&r->lock);
  if (old != NULL) entry_free(old);
}

void tls_resume_forget(struct tls_resume *r, const char *name) {
  pthread_mutex_lock(&r->lock);
  struct entry *e = find(r, name);
  if (e != NULL) take_out(r, e);
  pthread_mutex_unlock(&r->lock);
  if (e != NULL) entry_free(e);
}

int64_t tls_resume_until(const mbedtls_x509_crt *peer) {
  const mbedtls_x509_time *t = &peer->valid_to;
  struct tm end = {.tm_year = t->year - 1900,
                   .tm_mon = t->mon - 1,
                   .tm_mday = t->day,
                   .tm_hour = t->hour,
                   .tm_min = t->min,
                   .tm_sec = t->sec};
  int64_t left = (int64_t)timegm(&end) * 1000 - clock_wall_ms();
  return clock_boot_ms() + (left < RESUME_MS ? left : RESUME_MS);
}
