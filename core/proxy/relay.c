/* relay.c: what the upstream's call tells (http/call.h), and how its reply gets to the client.
 *
 * A span of the body goes on in the turn that brought it: on_body collects, on_flush writes once for all that one read brought. While the client has too much
 * waiting the call is paused, and exchange_drained resumes it. The rest of a body that nobody here needs to see goes from socket to socket.
 *
 * on_error decides what a broken call means by the step that it breaks in: another try, another address, the client's 502, or a reply that is cut. */
#include "proxy/relay.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "proxy/exchange.h"
#include "proxy/failover.h"
#include "proxy/forward.h"
#include "proxy/placed.h"
#include "proxy/steps.h"
#include "proxy/try.h"
#include "proxy/worker_state.h"
#include "token/secret.h"
#include "token/slot.h"

enum { TOKEN_RACES_MAX = 4 };

bool reply_is_here(const struct exchange *ex) {
  return ex->reply.source != REPLY_UPSTREAM || (ex->reply.flow == REPLY_ENDED && !call_running(&ex->call));
}

static void pause_if_overfull(struct exchange *ex) {
  if (worker_overfull(ex->worker, ex->down->ops->queued(ex->down))) call_pause(&ex->call);
}

void relay_flush(struct exchange *ex) {
  ex->down->ops->flush(ex->down);
  pause_if_overfull(ex);
}

/* --- the head --- */

/* 103 goes on to whoever can understand it (RFC 9110 section 15.2). */
static void on_interim(struct call *call) {
  struct exchange *ex = call->owner;
  struct response *r = &call->response;
  if (r->status == 100) {
    if (ex->body.expect == EXPECT_UPSTREAM) request_body_continue(ex);
    return;
  }
  headers_strip_hop_by_hop(&r->headers);
  placed_hide(ex, &r->headers);
  if (ex->forward != NULL) forward_sign(ex, r);
  ex->down->ops->interim(ex->down, r->status, &r->headers);
}

static void on_head(struct call *call) {
  struct exchange *ex = call->owner;
  request_body_answered(ex);
  request_body_forget(&ex->body);
  ex->response = call->response;
  bool names_upgrade = ex->response.status == 101 || ex->response.status == 426;
  ex->upgrade = names_upgrade ? headers_join(&ex->response.headers, STR("Upgrade")) : (struct str){0};
  headers_strip_hop_by_hop(&ex->response.headers);
  if (ex->forward != NULL) forward_sign(ex, &ex->response);
  exchange_resume(ex, STEP_JUDGE);
}

/* --- the body --- */

static void on_body(struct call *call, struct str span) {
  struct exchange *ex = call->owner;
  struct reply_body *b = &ex->reply;
  if (ex->step == STEP_DISCARD) return;
  if (b->flow != REPLY_IS_GATHERED) {
    ex->down->ops->body(ex->down, span);
    return;
  }
  buf_adds(&b->bytes, span);
  if (b->bytes.n > ex->runtime->policy->limits.script_body) {
    call_pause(call);
    b->flow = REPLY_PASSES;
    body_wait_done(&b->wait, ERR_LIMIT);
  }
}

static void on_passed(struct call *call, size_t n) {
  struct exchange *ex = call->owner;
  ex->down->ops->passed(ex->down, n);
  pause_if_overfull(ex);
}

static void on_flush(struct call *call) {
  struct exchange *ex = call->owner;
  if (ex->step != STEP_RELAY) return;
  relay_flush(ex);
  struct stream *raw = ex->down->ops->raw(ex->down);
  if (raw != NULL) call_pass_on(call, raw);
}

/* A reply that was paused is fed on from within step_relay: its spans end with the event, before the dispatcher goes on. */
static void flush_spans(struct exchange *ex) {
  if (ex->running && ex->step == STEP_RELAY) relay_flush(ex);
}

static void on_end(struct call *call) {
  struct exchange *ex = call->owner;
  struct reply_body *b = &ex->reply;
  if (ex->step == STEP_DISCARD) {
    exchange_resume(ex, ex->discard_to);
    return;
  }
  flush_spans(ex);
  failover_served(ex);
  ex->response.trailers = call->response.trailers;
  bool gathered = b->flow == REPLY_IS_GATHERED;
  b->flow = REPLY_ENDED;
  if (gathered)
    body_wait_done(&b->wait, 0);
  else
    exchange_resume(ex, STEP_RELAY);
}

/* What has gone was kept, if it was kept to here; what comes now waits for the next try. */
static bool on_again(struct call *call) {
  struct exchange *ex = call->owner;
  if (!request_body_repeatable(&ex->body)) return false;
  request_body_hold(&ex->body);
  return true;
}

static void on_retry(struct call *call) {
  struct exchange *ex = call->owner;
  request_body_answered(ex);
  request_body_hold(&ex->body);
  try_next(ex, TRY_STALE);
  ex->try->again = true;
  exchange_resume(ex, STEP_TOKEN);
}

static void on_drain(struct call *call) {
  struct exchange *ex = call->owner;
  if (!ex->body.complete) ex->down->ops->want(ex->down);
}

/* --- failures --- */

struct fieldless { /* a field that a header is made of, and its token, which has none of that name */
  struct slot *slot;
  struct token *token;
  struct str field;
};

static int find_fieldless(void *arg, const struct secret_token_view *t) {
  struct fieldless *f = arg;
  struct token *token = slot_read(t->reader, clock_boot_ms());
  if (token == NULL || t->field.p == NULL || token_bytes(token, t->field).p != NULL) return 0;
  *f = (struct fieldless){t->reader->slot, token, t->field};
  return 1;
}

static int find_fieldless_in(void *arg, struct secret *s) { return secret_each_token(s, find_fieldless, arg); }

static int find_over(void *arg, struct secret *s) {
  const int64_t *now = arg;
  return secret_is_over(s, *now) ? 1 : 0;
}

/* What a hook computed does not follow its token. */
static bool has_outlived_token(struct exchange *ex) {
  int64_t now = clock_boot_ms();
  return placed_each_secret(ex, find_over, &now) != 0;
}

/* Which field of which token, and what that has. */
static void say_fieldless(struct exchange *ex, char *out, size_t size) {
  struct fieldless f = {0};
  (void)placed_each_secret(ex, find_fieldless_in, &f);
  if (f.slot == NULL) {
    (void)snprintf(out, size, "the token has no such field");
    return;
  }
  size_t n = (size_t)snprintf(out, size, "the token %.60s has no such field, \"%.*s\": its fetch returned %s",
                              slot_name(f.slot), STR_FMT(f.field), f.token->nfields == 0 ? "no fields" : "");
  for (unsigned i = 0; i < f.token->nfields && n < size; i++)
    n += (size_t)snprintf(out + n, size - n, "%s%.*s", i > 0 ? ", " : "", STR_FMT(f.token->fields[i].name));
}

/* It expired while the connection was made; or it is valid, and yet without bytes: a field that the fetch did not return. */
static void token_gone(struct exchange *ex, int status) {
  char reason[sizeof ex->failure.reason] = "each token ended before the upstream was connected";
  if (++ex->token_races < TOKEN_RACES_MAX) {
    exchange_resume(ex, STEP_TOKEN);
    return;
  }
  if (status == ERR_TOKEN_MISSING) say_fieldless(ex, reason, sizeof reason);
  if (status == ERR_TOKEN_EXPIRED && has_outlived_token(ex))
    (void)snprintf(
        reason, sizeof reason,
        "what was computed is of a token that has ended, was refused or was replaced: compute it in on_send, "
        "which runs for each try, and do not keep it");
  exchange_fail_now(ex, 503, status, reason);
}

static int status_of(int error) {
  switch (error) {
    case UV_ETIMEDOUT: return 504;
    case ERR_FORBIDDEN: return 403;
    case ERR_TOKEN_AUDIENCE:
    case ERR_SECRET_BYTES: return 500;
    default: return 502;
  }
}

static int is_one(void *arg, struct secret *s) {
  (void)arg, (void)s;
  return 1;
}

/* What a head with secrets has run into, where the bound's own words say nothing to the policy's author. */
static const char *bound_of_head(struct exchange *ex, int status, const char *reason) {
  if (status != ERR_LIMIT || ex->call.phase != CALL_SEND || placed_each_secret(ex, is_one, NULL) == 0) return reason;
  return "it cannot be written: one request carries 8 tokens at the most, those that its secrets are computed of "
         "included, and 1 MiB in a secret";
}

static void log_upstream(const struct exchange *ex, const char *reason) {
  char where[URL_WHERE_SIZE];
  url_where(ex->url, where, sizeof where);
  bool shown = repeats_shown(&ex->worker->repeats, uv_now(&ex->worker->services.loop), where, reason);
  log_line(shown ? LOG_WARN : LOG_DEBUG, "upstream %s (%s): %s", ex->upstream->conf->name, where, reason);
}

static void on_error(struct call *call, int status, const char *reason) {
  struct exchange *ex = call->owner;
  request_body_answered(ex);
  request_body_forget(&ex->body);
  flush_spans(ex);
  if (status == ERR_TOKEN_MISSING || status == ERR_TOKEN_EXPIRED) {
    token_gone(ex, status);
    return;
  }
  reason = bound_of_head(ex, status, reason);
  COUNT(ex->worker, upstream_errors, 1);
  if (ex->step == STEP_DISCARD) { /* the reply was of no interest */
    exchange_resume(ex, ex->discard_to);
    return;
  }
  log_upstream(ex, reason);
  if (failover_after_error(ex, status)) return;
  if (ex->task != NULL) { /* res:body() waits: it gets the failure, and then the exchange does */
    ex->reply.flow = REPLY_PASSES;
    ex->reply.broke = status;
    body_wait_done(&ex->reply.wait, status);
    return;
  }
  if (status == ERR_FORBIDDEN) forward_tell_forbidden(ex);
  if (status == ERR_UPGRADE) ex->failure.told = err_text(status);
  exchange_fail_now(ex, status_of(status), status, reason);
}

const struct call_events upstream_events = {
    .make_head = request_make_head,
    .again = on_again,
    .on_retry = on_retry,
    .on_sent = request_sent,
    .on_interim = on_interim,
    .on_head = on_head,
    .on_passed = on_passed,
    .on_body = on_body,
    .on_flush = on_flush,
    .on_drain = on_drain,
    .on_end = on_end,
    .on_error = on_error,
};
