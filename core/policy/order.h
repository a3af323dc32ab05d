/* order.h: an order of control to another thread, about a policy or about the thread. A worker and the keeper take the same orders, so a reload asks all of
 * them in the same way.
 *
 * An order is two mails in one: to the thread, and back when it is done. Control owns the memory and leaves it alone between order_post and `done`; in between
 * it is the receiver's, which answers exactly once. A thread has one order at a time, but for DRAIN, STOP and END_PROOF. */
#ifndef JETON_POLICY_ORDER_H
#define JETON_POLICY_ORDER_H

#include "base/mailbox.h"
#include "policy/policy.h"
#include "token/token_set.h"

enum order_kind {
  /* To all. Makes a VM for `policy`, and what else it needs, beside the active one; nothing of it serves yet. The keeper is first: it finds or makes the slots
   * and fills *tokens, which is then the sender's, to token_set_fini. A worker copies the set. */
  ORDER_PREPARE,
  /* To all. The prepared policy becomes the active one; in the keeper its schedules, first fetches, on_start and tasks begin. Only the system can make it fail: a
   * worker's socket. */
  ORDER_SWITCH,
  /* To all. The prepared policy goes, and in the keeper the slots that only it named. Fine when there is none. */
  ORDER_DISCARD,
  /* To all. Closes everything, ends every task and fetch, then the thread: it may be joined once the answer is there. A worker takes it while it drains, too,
   * and answers both. The keeper begins no fetch any more and waits for those under way, until `until`. */
  ORDER_STOP,
  /* To the keeper. Runs each token's fetch once in the prepared VM, if anything has changed; status and message say which failed. What they bring is used,
   * whatever becomes of the policy. */
  ORDER_PROVE,
  ORDER_END_PROOF, /* To the keeper, while PROVE is under way: that one then fails at once; its fetches run on */
  /* To all. A worker accepts no more, and answers when its last connection is gone. The keeper fetches only what a request waits for from now on. */
  ORDER_DRAIN,
  ORDER_REOPEN /* To a worker. Opens its access log anew */
};

struct order {
  struct mail mail;
  struct mailbox *reply_to;
  void (*done)(struct order *o); /* on reply_to's thread */
  enum order_kind kind;
  struct policy *policy;    /* PREPARE: borrowed until done */
  struct token_set *tokens; /* PREPARE: the same */
  /* SWITCH, to a worker: by index in policy->listens, a descriptor that becomes the worker's, or -1: keep the one you have for that address
   * (listen_conf.text). The array is borrowed until done. */
  const int *listen_fds;
  int64_t until; /* STOP, to the keeper: CLOCK_BOOTTIME ms; in the past: it waits for no fetch */
  /* the answer */
  int status;        /* 0, or an error */
  char message[512]; /* what is wrong, or "" */
  /* the receiver's, while it is under way */
  void *receiver;
  void (*carry_out)(void *receiver, struct order *o);
};

/* Any thread. carry_out is called on inbox's thread. */
void order_post(struct order *o, struct mailbox *inbox, void (*carry_out)(void *receiver, struct order *o),
                void *receiver);
/* The receiver's thread. Nothing of c may be touched behind it. A status of 0 clears the message. */
void order_answer(struct order *o, int status);

#endif
