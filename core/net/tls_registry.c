/* tls_registry.c: the state that all TLS configurations of the process share, in one struct (tls_internal.h).
 *
 * Configurations are made by control for a policy, and by jeton.http on the threads of libuv's pool. Three lists serve both: authorities that were read
 * already; ticket keys and saved sessions; and the living configurations, whose files control watches. The lists hold no references: nothing lives longer for
 * being in one, and each is empty when the last configuration and connection have gone.
 *
 * There is one for the process, made by the first call and never freed, since the connection that closes last still gives its share back. The alternative was a
 * pointer that every maker of a configuration is given; it would have been the same one everywhere, down to each call of jeton.http. Before, nine variables in
 * three files held this state.
 *
 * Locks. Four, and no thread ever holds two of them, nor one of them and the lock of a single configuration (tls_living.c) or of a client's
 * sessions (tls_resume.c): there is no order to keep. One lock would do if that of authorities were not held for the 20 ms that reading a bundle takes: a
 * caller that asks for the files or the notes of all living configurations would wait for it. */
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
