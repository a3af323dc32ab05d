/* keeper_runtime.h: one policy in the keeper's thread: its VM and functions, its running fetches, on_start and tasks. Keeper's thread only. */
#ifndef JETON_OPS_KEEPER_RUNTIME_H
#define JETON_OPS_KEEPER_RUNTIME_H

#include <stdbool.h>
#include <uv.h>

#include "base/list.h"
#include "base/rand.h"
#include "http/services.h"
#include "ops/under_way.h"
#include "policy/binding.h"
#include "policy/policy.h"
#include "token/keeper.h"

struct background; /* a task of the policy */
struct keeper_runtime {
  struct link link; /* the keeper's list of retired ones */
  uv_loop_t *loop;
  struct policy *policy; /* a reference */
  struct vm *vm;         /* NULL once released */
  struct binding binding;
  struct link runs;            /* fetches under way */
  struct link releases;        /* struct release, under way or waiting for their turn: release.c */
  unsigned releasing;          /* of them, those under way */
  struct under_way *under_way; /* the thread's: of all runtimes */
  struct background *tasks;    /* policy->ntasks of them, once started */
  struct task *on_start;
  struct rng rng;
  unsigned holders; /* the creator, runs and tasks whose timers are not closed yet */
  bool retired;
  bool lingers; /* retired, but exchanges of its policy may still ask for a fetch */
};

/* A VM with the policy loaded. NULL: *status and message say why. under_way outlives it. */
struct keeper_runtime *keeper_runtime_new(struct services *services, struct under_way *under_way, struct policy *p,
                                          int *status, char *message, size_t size);
/* The policy's settings of the slot's token, or NULL: a family and a single token of one name are two. */
const struct token_conf *keeper_runtime_token(const struct keeper_runtime *r, const struct slot *s);
/* on_start, and when that has ended the tasks. */
void keeper_runtime_activate(struct keeper_runtime *r);
/* Ends its tasks at once; the VM goes when the last running fetch has ended, unless it lingers. The caller's hold on it is over. */
void keeper_runtime_retire(struct keeper_runtime *r);
/* A retired one lingers no more. The VM goes now, or with its last fetch. */
void keeper_runtime_leave(struct keeper_runtime *r);
/* For release.c: the VM goes if nothing needs it any more; and one holder less. */
void keeper_runtime_check(struct keeper_runtime *r);
void keeper_runtime_let_go(struct keeper_runtime *r);
/* Ends that fetch, which nobody hears of: f is the caller's again. False, and it goes on, when what it carries may be spent by now: the token's `rotates` says so,
 * or extra fields of the token before it, among which a refresh token would be. */
bool keeper_runtime_give_up(struct keeper_runtime *r, struct fetch *f);
/* Ends its fetches as well, each with a failure. For a stop that has waited long enough, before keeper_runtime_retire. */
void keeper_runtime_end_fetches(struct keeper_runtime *r);

/* A fetch of this policy, with the time limit of its token. ended is called exactly once, from the loop, not from inside fetch_run. */
typedef void (*fetch_ended_fn)(void *arg, struct fetch *f, const struct fetch_result *result);
void keeper_runtime_fetch(struct keeper_runtime *r, struct fetch *f, fetch_ended_fn ended, void *arg);

#endif
