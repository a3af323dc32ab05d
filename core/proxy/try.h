/* try.h: what one try of a request sends, where the policy has an on_send, and the runs of that hook.
 *
 * Every try (the first, a replay, another connection's, another server's, req:retry's) begins from the request as on_request left it: the hook gets a copy of the
 * head, changes that, and the copy goes out. So what a try set is gone with it, and everybody else (log, on_response, the next try) sees the request itself.
 *
 * All tokens that a run uses are pinned (lua/pins.h), in the very context that the head is written with: what the hook computed and what the head carries is of one
 * generation of each, and still serves when the head is written. Where that cannot be, nothing is sent, and the exchange goes back to the token step for another
 * run. It belongs to the same try: only one of which something was sent counts.
 * In the exchange's arena, from its first run to its end; without an on_send there is none. The worker's thread. */
#ifndef JETON_PROXY_TRY_H
#define JETON_PROXY_TRY_H

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"
#include "lua/pins.h"

struct exchange;
struct placed;

enum try_reason {
  TRY_FIRST,
  TRY_REJECTED, /* the one before was refused a token */
  TRY_STALE,    /* its connection ended, or its server gave it back, before anybody looked at it */
  TRY_RETRY     /* on_response asked for it, or another server of the upstream is to serve it */
};
const char *try_reason_name(enum try_reason r); /* "first" "rejected" "stale" "retry" */

struct try {
  unsigned number; /* from 1 */
  enum try_reason reason;
  bool again;     /* it goes on with its call (call_start_again) */
  bool suspended; /* the run has waited for the body */
  unsigned runs;  /* of the hook, for this try */
  /* what goes out. Its trailers are the exchange's own request's */
  struct request request;
  struct str host; /* of the Host field */
  struct placed *placed;
  struct pins pins;
  /* of the exchange's `used`, as the hook left it: what the head adds to it is the head's */
  unsigned nused;
  int64_t ends_at;
};

/* Another try is about to be made, and why. Nothing happens without an on_send. */
void try_next(struct exchange *ex, enum try_reason reason);
/* Makes the copy anew, for a run of the hook. ex->try is there from then on. */
void try_begin(struct exchange *ex);
/* The fields that jeton writes itself, as far as they are the message's and not the connection's: Host and Content-Length as they will be. */
void try_show_own(struct exchange *ex);
/* The run has ended well. */
void try_keep(struct exchange *ex);
/* A head is about to be written: makes `used` what the hook left. 0, or ERR_TOKEN_EXPIRED: a token that it used serves no more. */
int try_resume(struct exchange *ex);
void try_fini(struct exchange *ex);

/* The request whose head goes out: the copy, while there is a try. */
struct request *try_request(struct exchange *ex);

#endif
