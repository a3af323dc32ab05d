/* steps.h: the steps of an exchange and what they share: for exchange.c, steps_request.c, steps_send.c, steps_response.c, relay.c, reply.c, forward.c and tunnel.c.
 *
 * A step looks at facts and answers with a verdict; the dispatcher (exchange.c) does the rest. A step that waits has arranged for exchange_resume to be
 * called, once, by whatever it waits for; that may happen before the step returns. */
#ifndef JETON_PROXY_STEPS_H
#define JETON_PROXY_STEPS_H

#include "proxy/exchange.h"

/* NEXT: the following step, or the one that the step has set. WAIT: exchange_resume goes on. DONE: it has ended, and its downstream knows (end or reset).
 * TUNNELLED: it has ended, and a tunnel has taken its downstream and its log line over. FAIL: exchange_fail was called. */
enum verdict { NEXT, WAIT, DONE, TUNNELLED, FAIL };

void exchange_resume(struct exchange *ex, enum step next); /* what it waited for is there */
/* Notes the failure and goes to STEP_ERROR. Returns FAIL; a callback calls exchange_resume(ex, STEP_ERROR) behind it. */
enum verdict exchange_fail(struct exchange *ex, int status, int code, const char *reason);
void exchange_fail_now(struct exchange *ex, int status, int code, const char *reason); /* both, for callbacks */
/* Ends whatever it waits for: a hook, a token, the upstream. */
void exchange_cancel_waits(struct exchange *ex);
enum verdict step_admit(struct exchange *ex);
enum verdict step_request_hook(struct exchange *ex);
enum verdict step_route(struct exchange *ex);
enum verdict step_token(struct exchange *ex);
enum verdict step_send_hook(struct exchange *ex);
enum verdict step_send(struct exchange *ex);
enum verdict step_judge(struct exchange *ex);
enum verdict step_discard(struct exchange *ex);
enum verdict step_response_hook(struct exchange *ex);
enum verdict step_reply(struct exchange *ex);
enum verdict step_relay(struct exchange *ex);
enum verdict step_tunnel(struct exchange *ex);
enum verdict step_error(struct exchange *ex);
/* Runs a hook as a task with `push` making its arguments; `done` notes the outcome in ex and is called before this returns when nothing awaited. */
void exchange_hook(struct exchange *ex, int fn, task_push_fn push, task_done_fn done);
/* A token that is needed is not there, and `missing` says what of it: FAIL; WAIT, for a while, and then the token step; NEXT: it has just come. */
enum verdict exchange_await_token(struct exchange *ex, struct slot *s, uint64_t beyond, enum token_missing missing);
/* How the request's body goes out, as far as is known now. */
struct framing request_framing(const struct exchange *ex);
/* A response made here, from a script (req:respond) or an error: copies body into the exchange; headers are ex->response.headers. */
void reply_local(struct exchange *ex, int status, struct str body);
/* For Retry-After of a 503, in seconds. */
static inline unsigned failure_retry_after(const struct failure *f) { return f->retry_after > 0 ? f->retry_after : 1; }
/* For Allow (RFC 9110 section 10.2.1): what is forwarded, the rarer ones aside. */
#define ALLOWED_METHODS STR("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")

struct str request_host(const struct exchange *ex); /* what stands in Host */
struct str request_path(struct exchange *ex);       /* what stands in the start line, behind the upstream's base path */
/* steps_request.c, as two of the upstream's events (http/call.h). */
int request_make_head(struct call *call, struct request_head *h, struct str *body);
void request_sent(struct call *call);

#endif
