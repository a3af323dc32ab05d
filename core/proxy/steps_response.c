/* steps_response.c: the steps from the upstream's head to the client's last byte.
 *
 * judge, discard, on_response, reply, relay. From the first two, and on_response, a request may go back for another try. Up to the reply step the upstream's body waits (its call is paused while a hook runs), so a script may
 * still replace it; from then on it is relayed as it comes (relay.c). */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "http/base_path.h"
#include "proxy/failover.h"
#include "proxy/l_exchange.h"
#include "proxy/placed.h"
#include "proxy/rejection.h"
#include "proxy/relay.h"
#include "proxy/stamp.h"
#include "proxy/steps.h"
#include "proxy/try.h"
#include "proxy/tunnel.h"
#include "proxy/worker_state.h"

/* --- judge: did the upstream refuse a token? --- */

enum { DISCARD_MAX = 128 * 1024 };

/* The body need not be there to its end: what has come of it is, and the rest follows as it did the first time. */
static bool can_replay(const struct exchange *ex) { return !ex->replayed && request_body_repeatable(&ex->body); }

/* Where to go for another try, which begins at `to`. The reply that is not wanted is read to its end, so that its connection can be kept, unless it is long, or has come
 * before the request was sent. */
static enum step drop_reply(struct exchange *ex, enum step to) {
  const struct response *r = &ex->call.response;
  bool shortish = r->framing == FRAMING_NONE || (r->framing == FRAMING_LENGTH && r->content_length <= DISCARD_MAX);
  ex->discard_to = to;
  request_body_hold(&ex->body);
  bool ends = ex->call.phase != CALL_TUNNEL; /* nothing is read behind a 101 */
  if (call_running(&ex->call) && shortish && ends && ex->call.body_done) return STEP_DISCARD;
  call_cancel(&ex->call);
  return to;
}

static enum verdict replay(struct exchange *ex) {
  ex->replayed = true;
  ex->replays++;
  COUNT(ex->worker, replays, 1);
  try_next(ex, TRY_REJECTED);
  ex->step = drop_reply(ex, STEP_TOKEN);
  return NEXT;
}

/* The call's on_end, or on_error, goes on. */
enum verdict step_discard(struct exchange *ex) {
  call_resume(&ex->call); /* on_response had it paused */
  return WAIT;
}

/* It asks jeton, not the client, who could do nothing about it. */
static enum verdict refuse_407(struct exchange *ex) {
  const struct parent *p = ex->call.open ? origin_parent(ex->origin) : NULL; /* in a tunnel it is the server's */
  char reason[sizeof ex->failure.reason];
  if (p == NULL)
    return exchange_fail(ex, 502, ERR_PROTOCOL,
                         "the upstream asks jeton for proxy credentials: 407 (RFC 9110 section 11.7.1)");
  (void)snprintf(reason, sizeof reason, "proxy %.100s: 407, %s", parent_where(p),
                 parent_has_credentials(p) ? PARENT_REFUSES : PARENT_WANTS);
  return exchange_fail(ex, 502, ERR_PROXY, reason);
}

enum verdict step_judge(struct exchange *ex) {
  if (ex->used.nused > 0 && rejection_judge(ex) && can_replay(ex)) return replay(ex);
  if (failover_instead(ex)) {
    call_cancel(&ex->call);
    ex->step = STEP_TOKEN;
    return NEXT;
  }
  return ex->response.status == 407 ? refuse_407(ex) : NEXT;
}

/* --- Location --- */

/* The server that answered, by the name that it was given, or another one of its upstream. */
static struct str relocated(const struct exchange *ex, struct str location) {
  const struct upstream *u = ex->upstream;
  struct base_path_server server = {ex->url->tls, request_host(ex), ex->url->path};
  struct str said = base_path_location(ex->response.headers.arena, location, &server);
  for (size_t i = 0; i < u->conf->nurls && said.p == NULL; i++) {
    const struct url *url = &u->conf->urls[i];
    server = (struct base_path_server){url->tls, str_of(u->hosts[i]), url->path};
    said = base_path_location(ex->response.headers.arena, location, &server);
  }
  return said;
}

static void rewrite_locations(struct exchange *ex) {
  static const struct str names[] = {{"Location", 8}, {"Content-Location", 16}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    struct header *h = headers_find(&ex->response.headers, names[i]);
    struct str said = h != NULL ? relocated(ex, h->value) : (struct str){NULL, 0};
    if (said.p != NULL) headers_set(&ex->response.headers, names[i], said);
  }
}

/* --- on_response --- */

/* The upstream is chosen anew: on_response may have named another, and of several URLs it is the next one's turn. */
static void send_again(struct exchange *ex) {
  struct reply_body *b = &ex->reply;
  bool same_target = ex->forward != NULL && ex->upstream_name.p == NULL;
  ex->again = AGAIN_NOT;
  ex->retries++;
  COUNT(ex->worker, retries, 1);
  ex->replayed = false; /* its tokens may be others */
  ex->token_races = ex->failed_dials = ex->moves = 0;
  body_wait_done(&b->wait, ERR_CLOSED); /* of a task that the hook has left behind */
  b->source = REPLY_UPSTREAM;
  b->flow = REPLY_PASSES;
  b->broke = 0;
  buf_reset(&b->bytes);
  try_next(ex, TRY_RETRY);
  exchange_resume(ex, drop_reply(ex, same_target ? STEP_TOKEN : STEP_ROUTE));
}

static const char *changed_in_vain(const struct exchange *ex) {
  if (ex->again != AGAIN_CHANGED || ex->reply.source == REPLY_LOCAL) return NULL;
  return "on_response changed the request, which has been sent: call req:retry() behind that to send it again, or "
         "change res instead";
}

static void on_response_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct exchange *ex = arg;
  ex->task = NULL;
  if (ex->reply.flow == REPLY_IS_GATHERED) ex->reply.flow = REPLY_PASSES;
  if (status == 0) message = l_exchange_wrong_result(L, nresults, ex, HOOK_RESPONSE);
  if (status == 0 && message == NULL) message = changed_in_vain(ex);
  if (message != NULL) {
    COUNT(ex->worker, script_errors, 1);
    exchange_fail_now(ex, 500, status != 0 ? status : ERR_SCRIPT, message);
    return;
  }
  if (ex->again == AGAIN_ASKED)
    send_again(ex);
  else if (ex->reply.broke != 0 && ex->reply.source == REPLY_UPSTREAM)
    exchange_fail_now(ex, 502, ex->reply.broke, "the upstream's reply broke off");
  else
    exchange_resume(ex, STEP_REPLY);
}

enum verdict step_response_hook(struct exchange *ex) {
  if (ex->reply.source == REPLY_LOCAL) return NEXT;
  placed_hide(ex, &ex->response.headers);
  if (ex->upstream->conf->rewrite_location) rewrite_locations(ex);
  if (!ex->runtime->policy->hooks[HOOK_RESPONSE]) return NEXT;
  if (ex->call.phase != CALL_TUNNEL)
    call_pause(&ex->call); /* behind a 101 nothing is read before the tunnel is there */
  exchange_hook(ex, ex->runtime->binding.hooks[HOOK_RESPONSE], l_exchange_push_response, on_response_done);
  return WAIT;
}

/* --- the head --- */

static bool bodiless(const struct exchange *ex) { /* RFC 9110 sections 6.4.1, 9.3.2, 15.3.5, 15.4.5 */
  int s = ex->response.status;
  return ex->request.is_head || s == 204 || s == 304 || s < 200;
}

/* What is known of the body's length; how a body without one is framed is for the client's protocol. */
static struct framing reply_framing(const struct exchange *ex) {
  const struct response *r = &ex->response;
  bool made_here = ex->reply.source != REPLY_UPSTREAM;
  if (!made_here && r->framing == FRAMING_NONE && !bodiless(ex)) /* a script turned a 204 or 304 into what has a body */
    return (struct framing){FRAMING_LENGTH, 0};
  if (reply_is_here(ex) && (made_here || r->framing != FRAMING_NONE))
    return (struct framing){FRAMING_LENGTH, ex->reply.bytes.n};
  if (r->framing == FRAMING_LENGTH) return (struct framing){FRAMING_LENGTH, r->content_length};
  if (r->framing == FRAMING_NONE) /* what HEAD and 304 say of a body that they do not have (RFC 9110 section 8.6) */
    return (struct framing){r->has_length ? FRAMING_LENGTH : FRAMING_NONE, r->content_length};
  return (struct framing){FRAMING_CHUNKED, 0};
}

/* The upstream's 101 is the client's, too. What a script put in place of the client's body may have been sent before that has come. */
static enum verdict switch_protocols(struct exchange *ex) {
  if (!ex->body.complete)
    return exchange_fail(ex, 502, ERR_PROTOCOL, "the upstream switched protocols before the request was there");
  return tunnel_begin(ex) ? TUNNELLED
                          : exchange_fail(ex, 502, UV_ECONNRESET, "the client left before its tunnel was there");
}

/* A reply that is made here waits for a body that the client is sending, so that the connection can be used again: most come in the same read as their head, or
 * right behind it. What is long, or late, is not waited for. */
static bool waits_for_body(struct exchange *ex) {
  if (ex->reply.source == REPLY_UPSTREAM || !ex->request.keep_alive || !request_body_drop(ex)) return false;
  call_cancel(&ex->call);
  later_cancel(&ex->nudge); /* behind the reading, which `drop` has asked for */
  later_post(&ex->worker->later, &ex->nudge);
  return true;
}

enum verdict step_reply(struct exchange *ex) {
  struct response *r = &ex->response;
  assert(!ex->replied);
  if (ex->call.phase == CALL_TUNNEL) return switch_protocols(ex);
  if (waits_for_body(ex)) return WAIT;
  if (headers_find_id(&r->headers, H_DATE) == NULL) /* RFC 9110 section 6.6.1: who forwards adds it */
    headers_add(&r->headers, STR("Date"), arena_dup(&ex->arena, stamp_imf(&ex->worker->stamp)));
  struct reply reply = {
      .status = r->status,
      .reason = r->reason,
      .headers = &r->headers,
      .framing = reply_framing(ex),
      .no_body = bodiless(ex),
      .trailers = ex->reply.source == REPLY_UPSTREAM && r->trailers.n > 0,
      .upgrade = ex->reply.source != REPLY_LOCAL && r->status == 426 ? ex->upgrade
                                                                     : (struct str){0}, /* RFC 9110 section 15.5.22 */
  };
  ex->down->ops->head(ex->down, &reply);
  ex->replied = true;
  return NEXT;
}

/* --- the body --- */

/* Runs when the head is made, and again when the upstream's reply has ended. */
enum verdict step_relay(struct exchange *ex) {
  struct downstream *d = ex->down;
  struct buf *gathered = &ex->reply.bytes; /* all of the body, or what res:body() had when it gave up at its limit */
  bool here = reply_is_here(ex);
  if (gathered->n > 0) d->ops->body(d, buf_str(gathered));
  if (here || ex->reply.flow == REPLY_ENDED) {
    call_cancel(&ex->call);
    d->ops->end(d, &ex->response.trailers);
    return DONE;
  }
  if (gathered->n > 0) {
    relay_flush(ex);
    buf_fini(gathered);
  }
  call_resume(&ex->call);
  if (!ex->resumed && !ex->call.feeding)
    relay_flush(ex); /* else on_flush does, with the body that came in the same read */
  return WAIT;
}
