/* listeners.h: which sockets are open, by the text that a policy gives for them, and what a new policy changes about that. Control's thread.
 *
 * Each worker has a descriptor of its own for each address: for TCP a socket of its own (SO_REUSEPORT), for a Unix socket a duplicate. */
#ifndef JETON_OPS_LISTENERS_H
#define JETON_OPS_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>

#include "net/address.h"
#include "policy/policy.h"

struct listener_entry {
  char *key;             /* listen_conf.text */
  union address address; /* with the port that the kernel chose */
  bool tls;
};
struct listeners { /* zeroed: none */
  struct listener_entry *v;
  size_t n;
};
struct listen_plan {
  struct listeners next;
  int *fds; /* [worker * n + index]; -1: the worker keeps the one it has */
  unsigned workers;
};

/* Opens what `p` needs and `now` has not. 0; or an error with a sentence in err, and nothing is open. */
int listen_plan_make(struct listen_plan *plan, const struct listeners *now, const struct policy *p, unsigned workers,
                     char *err, size_t errsize);
const int *listen_plan_fds(const struct listen_plan *plan, unsigned worker);
void listen_plan_discard(struct listen_plan *plan); /* closes what was opened */
/* Called when the workers have taken the descriptors: the plan becomes *now. Files of Unix sockets that are gone are removed. Logs each new address. */
void listen_plan_commit(struct listen_plan *plan, struct listeners *now);
void listeners_fini(struct listeners *l); /* removes the files of Unix sockets; the descriptors were the workers' */
/* "http://127.0.0.1:8080", "https://…", "unix:/path": as the log shows it. */
void listener_url(const struct listener_entry *e, char *out, size_t n);
/* Does somebody listen there already? A socket with SO_REUSEPORT alone would share the port with another process of this user. */
bool address_taken(const union address *a);

#endif
