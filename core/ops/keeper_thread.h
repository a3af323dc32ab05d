/* keeper_thread.h: the thread that runs every fetch: its loop, its VM, and token/keeper.h on real time.
 *
 * Control talks to it by mail, as it does to the workers: prepare a policy, switch to it, discard it, prove it, stop. A slow fetch stalls no
 * request, and tokens never enter a worker's Lua. */
#ifndef JETON_OPS_KEEPER_THREAD_H
#define JETON_OPS_KEEPER_THREAD_H

#include "base/mailbox.h"
#include "policy/policy.h"
#include "proxy/worker.h"

struct keeper_thread;
struct registry;

enum keeper_kind {
  KEEPER_PREPARE, /* a VM for `policy`, its slots found by name or made, nothing fetched; *tokens is filled: the caller's, to token_set_fini */
  KEEPER_PROVE, /* runs each changed token's fetch once in the prepared VM, publishing nothing; status tells the worst */
  KEEPER_END_PROOF, /* the one request that may come while a PROVE is under way: that one then fails soon */
  KEEPER_SWITCH,    /* the prepared policy becomes the active one: its schedules, first fetches, on_start and tasks */
  KEEPER_DISCARD,   /* the prepared policy goes, and the slots that only it named */
  KEEPER_STOP       /* ends every task and fetch; after done only keeper_thread_join may be called */
};
/* One request at a time. done is called once, on reply_to's thread, with 0 or an error and message. */
struct keeper_request {
  struct mail mail;
  struct keeper_thread *to; /* set by keeper_thread_post */
  struct mailbox *reply_to;
  void (*done)(struct keeper_request *r);
  enum keeper_kind kind;
  struct policy *policy;    /* PREPARE: borrowed, a reference is taken */
  struct token_set *tokens; /* PREPARE */
  int status;
  char message[512];
};

struct keeper_thread *keeper_thread_new(struct registry *names); /* NULL when out of descriptors or memory */
int keeper_thread_start(struct keeper_thread *k);
void keeper_thread_post(struct keeper_thread *k, struct keeper_request *r);
void keeper_thread_join(struct keeper_thread *k); /* after STOP was done, or when it was never started; frees it */

void token_set_fini(struct token_set *t);

#endif
