/* tls_shared.c: state that configurations share, in a list, found by digest.
 *
 * Ticket keys and saved sessions must outlive one reading of the files, so they belong to none. A new reading is made before the old one is given up, and finds
 * the state that the old one holds. The state goes with its last holder. The list is the registry's; its lock also guards the references, so that the last
 * unref and a new get cannot meet. Any thread. */
#include <stdlib.h>

#include "net/tls_internal.h"

/* With the lock held. */
static struct tls_shared *find(const struct tls_registry *r, const uint8_t digest[TLS_DIGEST]) {
  for (struct link *l = r->shared.next; l != &r->shared; l = l->next) {
    struct tls_shared *s = CONTAINER_OF(l, struct tls_shared, link);
    if (memcmp(s->digest, digest, TLS_DIGEST) == 0) return s;
  }
  return NULL;
}

struct tls_shared *tls_shared_get(const uint8_t digest[TLS_DIGEST], struct tls_shared *(*make)(void)) {
  struct tls_registry *r = tls_registry();
  pthread_mutex_lock(&r->shared_lock);
  struct tls_shared *s = find(r, digest);
  if (s == NULL && (s = make()) != NULL) {
    memcpy(s->digest, digest, TLS_DIGEST);
    list_push(&r->shared, &s->link);
  }
  if (s != NULL) s->refs++;
  pthread_mutex_unlock(&r->shared_lock);
  return s;
}

void tls_shared_unref(struct tls_shared *s, void (*free_it)(struct tls_shared *s)) {
  if (s == NULL) return;
  struct tls_registry *r = tls_registry();
  pthread_mutex_lock(&r->shared_lock);
  bool last = --s->refs == 0;
  if (last) list_remove(&s->link);
  pthread_mutex_unlock(&r->shared_lock);
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
