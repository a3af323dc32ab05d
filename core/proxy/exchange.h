/* exchange.h: one request and its response, from the first byte of the head to the log line.
 *
 * An exchange is a table of steps (exchange.c): each is one function that returns NEXT, WAIT, DONE or FAIL, and the dispatcher asserts the
 * invariants between them. Every further try (a replay after a rejected token, once; another connection, another server; what on_response asks for) goes back to the token step, or to the route. It stands between two streams of messages and knows the
 * protocol of neither: the client is behind proxy/downstream.h, the upstream behind http/call.h.
 *
 * Invariants:
 *  - an exchange belongs to exactly one downstream, which has at most one exchange;
 *  - it pins its runtime (policy and VM) from first byte to log line, and every limit that is its own is that policy's;
 *  - it waits for at most one thing at a time (hook, token, upstream), which can be cancelled in one place: exchange_abort;
 *  - no function of its downstream calls it from inside, so it ends in its own dispatcher or from the loop, never below one of its steps;
 *  - once a byte of the reply has left, a failure can only reset the client's message; a head that waits for the flush at the end of the read is taken
 *    back for the error reply;
 *  - a token's bytes are never kept: they are made when a head is written, each time anew;
 *  - `request` is the client's, as on_request left it, from that hook to the log line. What on_send sets is one try's, and stands in `try` (try.h);
 *  - no head goes out but behind a run of on_send for that very try, which ended well, and for which every token that it used still serves.
 * Memory: exchanges come from the worker's pool (pool.h), so a script's handle may check its serial number at any time: it is another one, or zero, when the
 * exchange has ended. Owned by the worker's thread. */
#ifndef JETON_PROXY_EXCHANGE_H
#define JETON_PROXY_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/later.h"
#include "base/wheel.h"
#include "http/call.h"
#include "http/message.h"
#include "lua/vm.h"
#include "proxy/downstream.h"
#include "proxy/pool.h"
#include "proxy/relay.h"
#include "proxy/request_body.h"
#include "proxy/runtime.h"
#include "token/secret.h"
#include "token/slot.h"

struct forward_target;
struct placed;
struct try;
struct tunnel_record;
struct worker;

/* In their order up to the relay step; the others are gone to by name. */
enum step {
  STEP_ADMIT, /* limits, forward targets, hop-by-hop, forwarded fields: before any hook */
  STEP_REQUEST_HOOK,
  STEP_ROUTE,     /* which upstream */
  STEP_TOKEN,     /* every token that the head needs is valid, or waits for it */
  STEP_SEND_HOOK, /* on_send, where there is one: once for each try, and anew where a token that it used has gone */
  STEP_SEND,      /* connection, head, body: until the upstream's head is there */
  STEP_JUDGE,     /* rejected token: refresh and replay */
  STEP_RESPONSE_HOOK,
  STEP_REPLY,   /* the head to the client */
  STEP_RELAY,   /* the body to the client, to its end */
  STEP_TUNNEL,  /* CONNECT: from the route step, when the connection to its target is there */
  STEP_DISCARD, /* from the judge step and on_response: a reply that is not wanted is read to its end and dropped, and then there is another try */
  STEP_ERROR,   /* after a failure: on_error, then the error reply; or a reset when a reply has begun */
  STEP_COUNT
};
/* on_response may have the request sent again. */
enum again {
  AGAIN_NOT,
  AGAIN_CHANGED, /* it has changed the request, for which there is no other reason */
  AGAIN_ASKED    /* by req:retry */
};
struct exchange {
  struct exchange_place place; /* the pool's */
  struct downstream *down;     /* the way to the client */
  struct worker *worker;
  struct runtime *runtime;
  enum step step;
  bool running; /* the dispatcher is on the stack: which step it is in says nothing of that */
  bool resumed; /* what the step waits for came while it ran: the dispatcher goes on instead of returning */
  int64_t started_us;
  uint64_t id;
  struct arena arena;

  /* the request */
  struct request request;
  struct request_body body;
  struct str upstream_name; /* .p NULL: the default one */
  struct str host;          /* Host as a script set it; .p NULL: not set */
  struct placed *placed;    /* secrets in its query and cookies (placed.h); NULL: none. In the arena */
  /* the first line of a head that was not read to its end, or could not be: for the log. .p NULL: it was read */
  struct str unread;
  struct later nudge; /* starts the reading that a script awaits; ends the reply step's wait for the client's body */

  /* the hook that runs */
  struct task *task;

  /* the upstream */
  struct upstream *upstream;
  struct upstream *asked;         /* the one that a request, or a connection, was made to last; NULL: none was */
  struct forward_target *forward; /* where a request to a forward proxy goes; NULL: to an upstream */
  const struct url *url;
  struct str host_field; /* Host for that URL */
  struct origin *origin;
  struct slot_waiter waiter;
  struct timeout token_wait; /* how long a token may be waited for */
  /* how long the upstream may take to say 100 (Continue), or the client to end a body that nobody wants */
  struct timeout body_wait_limit;
  struct timeout deadline; /* the whole exchange */
  uint64_t wait_until;     /* uv_now's clock; 0: has not waited yet */
  bool
      replayed; /* the one replay was made, of this request or of its last retry: outlives the steps that it goes through again */
  unsigned replays;      /* of all */
  unsigned retries;      /* that on_response asked for, and got */
  enum again again;      /* what on_response has done to the request so far */
  enum step discard_to;  /* where the discard step leads */
  struct try *try;       /* what this one sends; NULL: the policy has no on_send, or it has not run yet */
  unsigned token_races;  /* times that a token was gone when the head was written */
  unsigned failed_dials; /* URLs of the upstream that gave no connection */
  unsigned moves;        /* to another URL behind a failure of one that did: one at the most */

  /* the response: the upstream's, or one made here */
  struct response response;
  struct str upgrade; /* what the upstream's 101 or 426 names; hop by hop, so not among the fields any more */
  struct reply_body reply;
  bool replied;        /* the client has been told a head: an error may take it back, and the step with it */
  bool error_hook_ran; /* on_error runs once, however its own reply fails */
  bool has_ctx;        /* req.ctx has a table in the registry: asked for in any step, given back at the end */
  bool has_detail;     /* so does req:retry's detail */
  struct failure {
    int status;           /* what the client gets; 0: nothing failed */
    int code;             /* enum err or libuv's, for on_error and the log */
    const char *told;     /* a static sentence for the client, too; NULL: it gets the status alone */
    unsigned retry_after; /* seconds; 0: none */
    int grpc;             /* enum grpc_status that the client got with a status of 200; 0: it got `status` */
    char reason[200];     /* for the log; when the status says that something failed */
  } failure;

  /* exchange_begin clears what is in front of failure.reason. These see to themselves: */
  struct call call; /* call_init */
  /* tokens sent with this request, or used by its on_send: try_begin, request_make_head; none until then */
  struct secret_context used;
};
_Static_assert(sizeof(struct exchange) % 16 == 0 && sizeof(struct exchange) < EXCHANGE_SIZE / 2,
               "the arena begins behind it");

/* --- for whoever makes a downstream --- */

/* A request's first byte is there. The downstream gets its exchange, whose `request` is to be filled, with what it needs in `arena`. */
struct exchange *exchange_begin(struct worker *w, struct downstream *d);
/* The head is in exchange->request: runs the steps. */
void exchange_start(struct exchange *ex);
/* The request could not be read: answers. in_head: there is none that a policy could look at. */
void exchange_refuse(struct exchange *ex, const struct http_fault *fault, bool in_head);
/* Body of the request as it comes; whether more is wanted, exchange_wants_body tells. */
void exchange_body(struct exchange *ex, struct str span);
void exchange_body_end(struct exchange *ex);
bool exchange_wants_body(const struct exchange *ex);
/* Whether its end is welcome behind the last byte, when no more would be wanted. */
bool exchange_wants_end(const struct exchange *ex);
/* From a read that is used up: where the `left` bytes of a body that nobody here needs to see may be spliced to; NULL: nowhere. exchange_body_passed tells
 * of them. */
struct stream *exchange_pass_to(struct exchange *ex, uint64_t left);
void exchange_body_passed(struct exchange *ex, size_t n);
/* The client is gone, or has to be left (down->ended says which): cancels whatever the exchange waits for, and ends it. From the loop; downstream->exchange is NULL by then. */
void exchange_abort(struct exchange *ex);
/* The client took what was queued. */
void exchange_drained(struct exchange *ex);

/* --- exchange_log.c --- */

/* What the client got, or 499; 503 when it got nothing, and that was not its doing; of a gRPC call that failed here the status of the failure. */
int exchange_status(const struct exchange *ex);
const char *exchange_asked(const struct exchange *ex); /* the upstream's name; NULL: none was asked */
/* The exchange has ended: counts it, writes its line, and runs on_log. */
void exchange_log(struct exchange *ex);
/* Instead: it has become a tunnel, which is counted and logged when that has ended. */
struct tunnel_record *exchange_log_keep(struct exchange *ex);
/* Bytes that came from the client through the tunnel, and that went to it. Frees the record. */
void tunnel_record_end(struct tunnel_record *t, uint64_t received, uint64_t sent);

#endif
