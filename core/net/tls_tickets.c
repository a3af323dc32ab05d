/* tls_tickets.c: what lets a client come back without a full handshake: the keys of tickets, and a cache of sessions for clients without tickets.
 *
 * Shared by all threads, and by every reading of the same server's files (tls_shared.c), so that tickets outlive reloads and renewed
 * certificates. mbedTLS makes a new key when the newest has been in use for TICKET_SECONDS and takes tickets of the one before it until
 * they are that old, too; keys never leave the memory of the process, so a stolen one opens eight hours of traffic at the most. Both have locks of their own. */
#include <stdlib.h>

#include "base/must.h"
#include "net/tls_internal.h"

enum { TICKET_SECONDS = 4 * 3600, CACHE_ENTRIES = 512 };

struct tls_tickets {
  struct tls_shared shared;
  mbedtls_ssl_ticket_context tickets;
  mbedtls_ssl_cache_context cache;
};

static void tickets_free(struct tls_shared *s) {
  struct tls_tickets *t = CONTAINER_OF(s, struct tls_tickets, shared);
  mbedtls_ssl_ticket_free(&t->tickets);
  mbedtls_ssl_cache_free(&t->cache);
  free(t);
}

static struct tls_shared *tickets_new(void) {
  struct tls_tickets *t = must_calloc(1, sizeof *t);
  mbedtls_ssl_ticket_init(&t->tickets);
  mbedtls_ssl_cache_init(&t->cache);
  mbedtls_ssl_cache_set_max_entries(&t->cache, CACHE_ENTRIES);
  mbedtls_ssl_cache_set_timeout(&t->cache, TICKET_SECONDS);
  if (mbedtls_ssl_ticket_setup(&t->tickets, compat_rng, NULL, MBEDTLS_CIPHER_AES_256_GCM, TICKET_SECONDS) == 0)
    return &t->shared;
  tickets_free(&t->shared);
  return NULL;
}

struct tls_tickets *tls_tickets_get(const uint8_t digest[TLS_DIGEST]) {
  struct tls_shared *s = tls_shared_get(digest, tickets_new);
  return s != NULL ? CONTAINER_OF(s, struct tls_tickets, shared) : NULL;
}

void tls_tickets_unref(struct tls_tickets *t) { tls_shared_unref(t != NULL ? &t->shared : NULL, tickets_free); }

void tls_tickets_use(struct tls_tickets *t, mbedtls_ssl_config *conf, bool tickets) {
  mbedtls_ssl_conf_session_cache(conf, &t->cache, mbedtls_ssl_cache_get, mbedtls_ssl_cache_set);
  if (tickets)
    mbedtls_ssl_conf_session_tickets_cb(conf, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse, &t->tickets);
}
