/* reload.h: from one policy to the next, in two phases: prepared everywhere before it is switched anywhere. Control's thread.
 *
 * load the candidate in a fresh VM -> keeper prepares -> every worker prepares -> new sockets are open -> (proof) -> the keeper switches -> every
 * worker switches. Any failure before the first switch discards everything, and the old policy goes on as if nothing had been. */
#ifndef JETON_OPS_RELOAD_H
#define JETON_OPS_RELOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "http/services.h"
#include "ops/keeper_thread.h"
#include "ops/listeners.h"
#include "policy/load.h"
#include "proxy/worker.h"

struct reload_result {
  int status;       /* 0, or why it was refused */
  uint64_t number;  /* of the policy that is active now; 0: none */
  const char *text; /* the problems, lines as the user reads them; warnings when status is 0. Valid during the call */
  const struct policy *refused; /* for its files; NULL when status is 0. Valid during the call */
};
struct reload_waiter { /* embedded in the waiter; listed until done is called */
  struct link link;
  void (*done)(struct reload_waiter *w, const struct reload_result *result);
};

struct reload;
struct reload_parts { /* all outlive the reload */
  struct services *services;
  struct keeper_thread *keeper;
  struct worker **workers;
  unsigned nworkers;
  const char *path;
  const struct policy_overrides *overrides;
  /* After each attempt, before the next one starts. */
  void (*ended)(void *ctx, const struct reload_result *result);
  void *ctx;
};
struct reload *reload_new(const struct reload_parts *parts);
void reload_free(struct reload *r); /* must be idle */
/* The process's first policy, loaded already (its number of workers had to be known): takes the reference. */
void reload_first(struct reload *r, struct policy *p);
/* w may be NULL. While one runs, all further requests are one next round. */
void reload_request(struct reload *r, bool prove, struct reload_waiter *w);
void reload_forget(struct reload_waiter *w); /* its done is not called */
/* No further rounds; a proof is cut short. True: nothing runs. Otherwise `ended` is called when the round is over. */
bool reload_stop(struct reload *r);

struct policy *reload_policy(const struct reload *r); /* the active one, borrowed; NULL before the first */
const struct token_set *reload_tokens(const struct reload *r);
const struct listeners *reload_listeners(const struct reload *r);
struct reload_facts {
  uint64_t done, refused; /* the first policy is no reload */
  int64_t last_at;        /* wall clock ms of the last attempt; 0: none */
  const char *last_error; /* "": the last attempt went well */
};
struct reload_facts reload_facts(const struct reload *r);
/* Loads in a fresh control VM, with the problems in `report`: also what `jeton check` does. NULL: refused. */
struct policy *reload_load(struct services *s, const char *path, const struct policy_overrides *o,
                           struct report *report);

#endif
