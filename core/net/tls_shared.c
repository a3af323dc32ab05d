/* tls_shared.c: a list of what configurations share, found by digest.
 *
 * What must outlive one reading of the files (ticket keys, saved sessions) belongs to none of them. A new reading is made before the old one
 * is given up, finds what the old one holds, and so it goes on; when the last holder has gone it goes, too. The list only remembers; its
 * mutex also guards the references, so that the last unref and a new get cannot meet. Any thread. */
#include <pthread.h>
#include <stdlib.h>

#include "net/tls_internal.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct link living = {&living, &living}; /* guarded by lock */

static struct tls_shared *find(const uint8_t digest[TLS_DIGEST]) {
  for (struct link *l = living.next; l != &living; l = l->next) {
    struct tls_shared *s = CONTAINER_OF(l, struct tls_shared, link);
    if (memcmp(s->digest, digest, TLS_DIGEST) == 0) return s;
  }
  return NULL;
}

struct tls_shared *tls_shared_get(const uint8_t digest[TLS_DIGEST], struct tls_shared *(*make)(void)) {
  pthread_mutex_lock(&lock);
  struct tls_shared *s = find(digest);
  if (s == NULL && (s = make()) != NULL) {
    memcpy(s->digest, digest, TLS_DIGEST);
    list_push(&living, &s->link);
  }
  if (s != NULL) s->refs++;
  pthread_mutex_unlock(&lock);
  return s;
}

void tls_shared_unref(struct tls_shared *s, void (*free_it)(struct tls_shared *s)) {
  if (s == NULL) return;
  pthread_mutex_lock(&lock);
  bool last = --s->refs == 0;
  if (last) list_remove(&s->link);
  pthread_mutex_unlock(&lock);
  if (last) free_it(s);
}

void tls_digest_add(uint8_t so_far[TLS_DIGEST], const void *p, size_t n) {
  uint8_t both[2 * TLS_DIGEST];
  memcpy(both, so_far, TLS_DIGEST);
  if (compat_sha256(p, n, both + TLS_DIGEST) != 0 || compat_sha256(both, sizeof both, so_far) != 0) abort();
}

void tls_digest_chain(uint8_t so_far[TLS_DIGEST], const mbedtls_x509_crt *chain) {
  for (; chain != NULL && chain->version != 0; chain = chain->next)
    tls_digest_add(so_far, chain->raw.p, chain->raw.len);
}
