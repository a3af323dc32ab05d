/* tls_registry.c: what the process knows of all its TLS configurations, in one struct (tls_internal.h).
 *
 * Configurations are made by control for a policy, and by jeton.http on the threads of libuv's pool. What they have in common is found here,
 * whoever made them: authorities that were read already, ticket keys and saved sessions, and all that live, whose files control watches. The
 * lists only remember: nothing lives longer for being in one, and each is empty when the last configuration and connection have gone.
 *
 * It is the process's: made by the first call, and never freed, since the connection that closes last still gives its share back. A pointer that
 * every maker of a configuration is given was the other way; all of them would have been given the same one, down to each call of jeton.http.
 * Nine variables in three files were all this before.
 *
 * Locks. Four, and no thread ever holds two of them, nor one of them and the lock of a single configuration (tls_living.c) or of a client's
 * sessions (tls_resume.c): there is no order to keep. One for all would do but for that of authorities, which is held for the 20 ms that
 * reading a bundle takes: whoever asks for the files or the notes of all that live would wait for it. */
#include "net/tls_internal.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct tls_registry registry; /* made under `once` */

static void make(void) {
  pthread_mutex_init(&registry.trusts_lock, NULL);
  pthread_mutex_init(&registry.shared_lock, NULL);
  pthread_mutex_init(&registry.living_lock, NULL);
  pthread_mutex_init(&registry.changed_lock, NULL);
  list_init(&registry.trusts);
  list_init(&registry.shared);
  list_init(&registry.living);
}

struct tls_registry *tls_registry(void) {
  pthread_once(&once, make);
  return &registry;
}
