/* worker.h: one worker thread: its loop, its listeners, connections, upstream connections and VM.
 *
 * Control talks to it by mail: prepare a policy, switch to it, discard it, drain, stop, open the access log anew. An exchange pins the runtime it began with. */
#ifndef JETON_PROXY_WORKER_H
#define JETON_PROXY_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "lua/vm.h"
#include "policy/binding.h"
#include "policy/policy.h"
#include "proxy/worker_counts.h"
#include "token/family.h"
#include "token/slot.h"

struct addresses;
struct registry;
struct worker;

/* The index-th of `count` workers: each takes its share of the process's descriptors. `addresses` is shared by all, and outlives them; NULL when no policy
 * limits connections by address. */
struct worker *worker_new(unsigned index, unsigned count, struct registry *names, struct addresses *addresses);
int worker_start(struct worker *w);

/* The slots of a policy, made by the keeper before the workers prepare: [i] for policy->tokens[i]. */
struct token_set {
  struct slot **slots;
  struct token_family **families;
  size_t n;
};
/* Asynchronous; done is called on the *caller's* mailbox thread with 0 or an error and message. One at a time a worker. */
struct worker_request {
  struct mail mail;
  struct mailbox *reply_to;
  void (*done)(struct worker_request *r);
  enum { WORKER_PREPARE, WORKER_SWITCH, WORKER_DISCARD, WORKER_DRAIN, WORKER_STOP, WORKER_REOPEN } kind;
  struct policy *policy;          /* PREPARE */
  const struct token_set *tokens; /* PREPARE */
  const int *
      listen_fds; /* SWITCH: by index in policy->listens; a descriptor for this worker (its own), or -1: keep the one you have for that address (listen_conf.text) */
  int status;
  char message[512];
  struct worker *worker; /* the worker's own, while it is under way */
  void (*deliver_answer)(struct mail *m);
};
void worker_post(struct worker *w, struct worker_request *r);
/* Adds the worker's to *out. Any thread: each is read by itself (relaxed), so two of them may be of different moments. */
void worker_counts(const struct worker *w, struct worker_counts *out);
void worker_join(struct worker *w); /* after STOP was done; frees it */

#endif
