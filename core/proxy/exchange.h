/* exchange.h: one request and its response, from the first byte of the head to the log line.
 *
 * An exchange is a table of steps (exchange.c): each is one function that returns NEXT, WAIT, DONE or FAIL, and the dispatcher asserts the
 * invariants between them. A replay after a rejected token goes back to the token step, once.
 *
 * Invariants:
 *  - an exchange belongs to exactly one connection, a connection has at most one exchange;
 *  - it pins its runtime (policy and VM) from first byte to log line;
 *  - it waits for at most one thing at a time (hook, token, upstream), which can be cancelled in one place: exchange_abort;
 *  - once a byte of the reply has gone out (`bytes_out`), a failure can only reset the client's connection; one that has begun (`replied`) and waits for the
 *    flush at the end of the read is taken back for the error reply;
 *  - a token's bytes are never kept: they are made in the call, behind make_head, each time anew.
 * Memory: exchanges come from the worker's pool (pool.h), so a script's handle may check `serial` at any time: it is another one, or zero, when the
 * exchange has ended. Owned by the worker's thread. */
#ifndef JETON_PROXY_EXCHANGE_H
#define JETON_PROXY_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/mailbox.h"
#include "base/wheel.h"
#include "http/call.h"
#include "http/parser.h"
#include "http/writer.h"
#include "lua/vm.h"
#include "proxy/pace.h"
#include "proxy/runtime.h"
#include "token/secret.h"
#include "token/slot.h"

struct conn;
struct forward_target;
struct worker;

enum step {
  STEP_ADMIT, /* limits, forward targets, hop-by-hop, forwarded fields: before any hook */
  STEP_REQUEST_HOOK,
  STEP_ROUTE, /* which upstream */
  STEP_TOKEN, /* every token that the head needs is valid, or waits for it */
  STEP_SEND,  /* connection, head, body: until the upstream's head is there */
  STEP_JUDGE, /* rejected token: refresh and replay */
  STEP_RESPONSE_HOOK,
  STEP_REPLY,  /* the head to the client */
  STEP_RELAY,  /* the body to the client, to its end */
  STEP_TUNNEL, /* CONNECT: from the route step, when the connection to its target is there */
  STEP_ERROR,  /* after a failure: on_error, then the error reply; or a reset when a reply has begun */
  STEP_COUNT
};
/* NEXT: the following step, or the one that the step has set. WAIT: exchange_resume goes on. DONE: it has ended. FAIL: exchange_fail was called. */
enum verdict { NEXT, WAIT, DONE, FAIL };

enum { EXCHANGE_SIZE = 8 * 1024 /* with the first block of its arena */, OUT_MAX = 24 };

/* A script's await on a body; at most one a body. */
struct body_wait {
  struct exchange *ex;
  int error;
  struct await await;
  bool waiting;
};

struct exchange {
  _Alignas(16) struct link link; /* the pool's */
  uint64_t serial;               /* scripts' handles hold the value they were made with; 0: it has ended */
  struct conn *conn;
  struct worker *worker;
  struct runtime *runtime;
  enum step step;
  bool running; /* the dispatcher is on the stack */
  bool resumed; /* exchange_resume was called below it */
  int64_t started_us;
  uint64_t id;
  struct arena arena;

  /* the request */
  struct request request;
  struct http_parser parser;
  struct buf body;    /* gathered: for replay, for req:body(), until the upstream takes it */
  uint64_t body_seen; /* bytes of body read from the client */
  struct pace pace;   /* its time for them */
  bool body_complete, body_kept /* all of it is in `body` */, body_replaced, body_wanted_all, continue_sent;
  struct body_wait request_wait;
  struct str upstream_name; /* .p NULL: the default one */
  struct str host;          /* Host as a script set it; .p NULL: not set */
  struct mail nudge;        /* starts the reading that a script awaits */

  /* the hook that runs */
  struct task *task;

  /* the upstream */
  struct upstream *upstream;
  struct forward_target *forward; /* where a request to a forward proxy goes; NULL: to an upstream */
  const struct url *url;
  struct str host_field; /* Host for that URL */
  struct origin *origin;
  struct call call;
  bool streaming;             /* body bytes go to the upstream as they come */
  struct secret_context used; /* tokens sent with this request */
  struct slot_waiter waiter;
  struct timeout timeout;  /* token wait */
  struct timeout deadline; /* the whole exchange */
  uint64_t wait_until;     /* uv_now's clock; 0: has not waited yet */
  bool asked; /* the upstream has the client's Expect, and nobody has told the client to go on: `timeout` is for that */
  bool replayed;         /* the one replay was made */
  bool replaying;        /* the rejected reply is being read to its end, and dropped */
  unsigned token_races;  /* times that a token was gone when the head was written */
  unsigned failed_dials; /* addresses of the upstream that gave no connection */
  int upstream_broke;    /* the error that ended the reply while a script awaited its body */

  /* the response: the upstream's, or one made here */
  struct response response;
  struct str upgrade; /* what the upstream's 101 or 426 names; hop by hop, so not among the fields any more */
  bool local;         /* made here: body in `reply` */
  bool gather_reply;  /* res:body() wants it all */
  struct body_wait reply_wait;
  struct buf reply;
  bool reply_replaced, reply_complete, replied, relay_chunked, no_reply_body;
  bool client_keep_alive, aborted, tunnel;
  uint64_t bytes_out;
  unsigned nout;
  struct buf head; /* the response head that waits in out[0] */
  struct failure {
    int status;           /* what the client gets; 0: nothing failed */
    int code;             /* enum err or libuv's, for on_error and the log */
    char reason[200];     /* for the log */
    const char *told;     /* a static sentence for the client, too; NULL: it gets the status alone */
    unsigned retry_after; /* seconds; 0: none */
  } failure;
  bool error_hook_done, has_ctx;

  /* not cleared when an exchange begins */
  uv_buf_t out[OUT_MAX];                        /* the first nout wait for the flush at the end of this read */
  char chunk_line[OUT_MAX / 3][CHUNK_LINE_MAX]; /* a chunk is three of out */
};
_Static_assert(sizeof(struct exchange) % 16 == 0 && sizeof(struct exchange) < EXCHANGE_SIZE / 2,
               "the arena begins behind it");

/* --- for conn.c --- */
struct exchange *exchange_begin(struct conn *c);
/* The head is parsed (exchange->request): runs the steps. */
void exchange_start(struct exchange *ex);
/* The head could not be read: answers and closes. */
void exchange_refuse(struct exchange *ex, const struct http_fault *fault);
/* Body of the request as it comes; whether more is wanted, exchange_wants_body tells. */
void exchange_body(struct exchange *ex, struct str span);
void exchange_body_end(struct exchange *ex);
bool exchange_wants_body(const struct exchange *ex);
/* From a read that is used up: more of a body that nobody here needs to see may go to the upstream as it comes; exchange_body_passed tells of it. */
void exchange_pass_body(struct exchange *ex);
void exchange_body_passed(struct exchange *ex, size_t n);
/* The client's connection is gone: cancels whatever the exchange waits for. */
void exchange_abort(struct exchange *ex);
/* The client took what was queued. */
void exchange_drained(struct exchange *ex);

/* --- for the steps (steps_request.c, steps_response.c, reply.c) --- */
void exchange_resume(struct exchange *ex, enum step next); /* what it waited for is there */
/* Notes the failure and goes to STEP_ERROR. Returns FAIL; a callback calls exchange_resume(ex, STEP_ERROR) behind it. */
enum verdict exchange_fail(struct exchange *ex, int status, int code, const char *reason);
void exchange_fail_now(struct exchange *ex, int status, int code, const char *reason); /* both, for callbacks */
enum verdict step_admit(struct exchange *ex);
enum verdict step_request_hook(struct exchange *ex);
enum verdict step_route(struct exchange *ex);
enum verdict step_token(struct exchange *ex);
enum verdict step_send(struct exchange *ex);
enum verdict step_judge(struct exchange *ex);
enum verdict step_response_hook(struct exchange *ex);
enum verdict step_reply(struct exchange *ex);
enum verdict step_relay(struct exchange *ex);
enum verdict step_tunnel(struct exchange *ex);
enum verdict step_error(struct exchange *ex);
extern const struct call_events upstream_events;
/* Runs a hook as a task with `push` making its arguments; `done` notes the outcome in ex and is called before this returns when nothing awaited. */
void exchange_hook(struct exchange *ex, int fn, task_push_fn push, task_done_fn done);
/* A response made here, from a script (req:respond) or an error: copies body into the exchange; headers are ex->response.headers. */
void reply_local(struct exchange *ex, int status, struct str body);
/* For Allow (RFC 9110 section 10.2.1): what is forwarded, the rarer ones aside. */
#define ALLOWED_METHODS STR("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
/* Now, as an IMF-fixdate (RFC 9110 section 5.6.7), in the exchange's arena. */
struct str reply_date(struct exchange *ex);
/* Body of the reply towards the client: collected in ex->out until relay_flush; span must live until then. */
void relay_out(struct exchange *ex, struct str span);
void relay_flush(struct exchange *ex);
void relay_flowed(
    struct exchange *ex); /* something has gone towards the client: stops the reply while too much waits */
/* l_exchange.c: pushes what req:body() or res:body() returns. */
int body_wait_push(lua_State *L, void *arg /* struct body_wait */);
/* Body awaited by a script is complete (0), or will not be. */
void body_wait_done(struct body_wait *w, int error);
/* Sends what was gathered of the request's body and goes on streaming. */
void send_gathered_body(struct exchange *ex);
/* The client waits for this before it sends its body (RFC 9110 section 10.1.1). */
void send_continue(struct exchange *ex);
/* The upstream's answer is of no interest any more. */
void end_asking(struct exchange *ex);
int exchange_status(const struct exchange *ex); /* what the client got, or 499 */
void access_log_exchange(struct exchange *ex);
void run_log_hook(struct exchange *ex);

#endif
