/* steps_response.c: the steps from the upstream's head to the client's last byte. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/l_exchange.h"
#include "proxy/tunnel.h"
#include "proxy/worker_internal.h"

/* --- judge: did the upstream refuse a token? --- */

static bool rejects(const struct token_conf *conf, int status) {
  for (unsigned i = 0; conf != NULL && i < conf->nreject_on; i++)
    if (conf->reject_on[i] == status) return true;
  return false;
}

/* The body need not be there to its end: what has come of it is, and the rest follows as it did the first time. */
static bool can_replay(const struct exchange *ex) { return !ex->replayed && (ex->body_kept || ex->body_replaced); }

/* The rejected reply is read to its end, so that its connection can be kept, unless it is long, or has come before the request was sent. */
static enum verdict replay(struct exchange *ex) {
  ex->replayed = true;
  ex->streaming = false; /* what comes of the body now waits for the next connection */
  COUNT(ex->worker, replays, 1);
  const struct response *r = &ex->response;
  bool shortish = r->framing == FRAMING_NONE || (r->framing == FRAMING_LENGTH && r->content_length <= SCRATCH_SIZE);
  if (shortish && ex->call.body_done) {
    ex->replaying = true;
    return WAIT; /* on_end goes on at the token step */
  }
  call_cancel(&ex->call);
  ex->step = STEP_TOKEN;
  return NEXT;
}

enum verdict step_judge(struct exchange *ex) {
  bool again = false;
  for (unsigned i = 0; i < ex->used.nused; i++) {
    struct slot *s = ex->used.used[i].slot;
    uint64_t generation = ex->used.used[i].generation;
    if (!rejects(runtime_token_conf(ex->runtime, s), ex->response.status)) {
      if (ex->response.status < 400) slot_accepted(s, generation);
      continue;
    }
    if (ex->replayed)
      slot_replay_rejected(s, generation);
    else if (slot_reject(s, generation) != SLOT_DAMPED)
      again = true;
  }
  if (again && can_replay(ex)) return replay(ex);
  if (ex->response.status == 407) /* it asks jeton, not the client, who could do nothing about it */
    return exchange_fail(ex, 502, ERR_PROTOCOL,
                         "the upstream asks jeton for proxy credentials: 407 (RFC 9110 section 11.7.1)");
  if (ex->call.phase == CALL_TUNNEL) return tunnel_begin(ex) ? DONE : exchange_fail(ex, 502, ERR_PROTOCOL, "tunnel");
  return NEXT;
}

/* --- on_response --- */

static void on_response_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct exchange *ex = arg;
  ex->task = NULL;
  ex->gather_reply = false;
  if (status == 0) message = l_exchange_wrong_result(L, nresults, ex, HOOK_RESPONSE);
  if (message != NULL) {
    COUNT(ex->worker, script_errors, 1);
    exchange_fail_now(ex, 500, status != 0 ? status : ERR_SCRIPT, message);
    return;
  }
  if (ex->upstream_broke != 0 && !ex->reply_replaced && !ex->local)
    exchange_fail_now(ex, 502, ex->upstream_broke, "the upstream's reply broke off");
  else
    exchange_resume(ex, STEP_REPLY);
}

enum verdict step_response_hook(struct exchange *ex) {
  if (!ex->runtime->policy->hooks[HOOK_RESPONSE] || ex->local) return NEXT;
  call_pause(&ex->call);
  exchange_hook(ex, ex->runtime->binding.hooks[HOOK_RESPONSE], l_exchange_push_response, on_response_done);
  return WAIT;
}

/* --- the head --- */

static bool body_here(const struct exchange *ex) {
  return ex->local || ex->reply_replaced || (ex->reply_complete && !call_running(&ex->call));
}

static bool bodiless(const struct exchange *ex) { /* RFC 9110 sections 6.4.1, 9.3.2, 15.3.5, 15.4.5 */
  int s = ex->response.status;
  return ex->request.is_head || s == 204 || s == 304 || s < 200;
}

static struct framing reply_framing(struct exchange *ex) {
  const struct response *r = &ex->response;
  bool made_here = ex->local || ex->reply_replaced;
  if (!made_here && r->framing == FRAMING_NONE && !bodiless(ex)) /* a script turned a 204 or 304 into what has a body */
    return (struct framing){FRAMING_LENGTH, 0};
  bool trailed = !made_here && r->trailers.n > 0 && ex->request.minor == 1; /* only chunks can carry them */
  if (body_here(ex) && (made_here || r->framing != FRAMING_NONE) && !trailed)
    return (struct framing){FRAMING_LENGTH, ex->reply.n};
  if (r->framing == FRAMING_LENGTH) return (struct framing){FRAMING_LENGTH, r->content_length};
  if (r->framing == FRAMING_NONE) /* what HEAD and 304 say of a body that they do not have (RFC 9110 section 8.6) */
    return (struct framing){r->has_length ? FRAMING_LENGTH : FRAMING_NONE, r->content_length};
  return (struct framing){ex->request.minor == 0 ? FRAMING_UNTIL_CLOSE : FRAMING_CHUNKED, 0};
}

enum verdict step_reply(struct exchange *ex) {
  assert(!ex->replied);
  struct framing f = reply_framing(ex);
  ex->no_reply_body = bodiless(ex);
  ex->relay_chunked = f.kind == FRAMING_CHUNKED && !ex->no_reply_body;
  if (f.kind == FRAMING_UNTIL_CLOSE || ex->conn->worker->draining || !ex->body_complete) ex->client_keep_alive = false;
  struct response_head h = {
      .status = ex->response.status,
      .reason = ex->response.reason,
      .headers = &ex->response.headers,
      .framing = f,
      .no_body = ex->no_reply_body,
      .keep_alive = ex->client_keep_alive,
      .client_minor = ex->request.minor,
      .upgrade = ex->local || ex->response.status != 426 ? (struct str){0} : ex->upgrade, /* RFC 9110 section 15.5.22 */
  };
  if (headers_find_id(&ex->response.headers, H_DATE) == NULL) /* RFC 9110 section 6.6.1: who forwards adds it */
    headers_add(&ex->response.headers, STR("Date"), reply_date(ex));
  buf_reset(&ex->head);
  write_response_head(&ex->head, &h);
  ex->out[0] = uv_buf_init((char *)ex->head.p, (unsigned)ex->head.n);
  ex->nout = 1;
  ex->replied = true;
  return NEXT;
}

/* --- the body --- */

void relay_flush(struct exchange *ex) {
  if (ex->nout == 0 || ex->aborted) return;
  struct conn *c = ex->conn;
  for (unsigned i = 0; i < ex->nout; i++) ex->bytes_out += ex->out[i].len;
  int rc = stream_write(&c->stream, ex->out, ex->nout, false);
  ex->nout = 0;
  if (rc != 0) {
    conn_close(c); /* the client is gone: aborts this exchange */
    return;
  }
  relay_flowed(ex);
}

void relay_flowed(struct exchange *ex) {
  struct conn *c = ex->conn;
  if (worker_overfull(ex->worker, stream_queued(&c->stream))) call_pause(&ex->call);
  if (stream_queued(&c->stream) > 0) conn_arm(c);
}

void relay_out(struct exchange *ex, struct str span) {
  if (ex->no_reply_body || span.n == 0 || ex->aborted) return;
  if (ex->nout + 3 > OUT_MAX) relay_flush(ex);
  if (ex->aborted) return;
  if (ex->relay_chunked) {
    char *line = ex->chunk_line[ex->nout / 3];
    ex->out[ex->nout++] = uv_buf_init(line, write_chunk_line(line, span.n));
  }
  ex->out[ex->nout++] = uv_buf_init((char *)(uintptr_t)span.p, (unsigned)span.n);
  if (ex->relay_chunked) ex->out[ex->nout++] = uv_buf_init((char *)(uintptr_t)CHUNK_CRLF.p, 2);
}

static void end_reply(struct exchange *ex) {
  if (!ex->relay_chunked || ex->aborted) return;
  struct buf end;
  buf_init(&end);
  write_chunk_end(&end, &ex->response.trailers);
  if (ex->nout == OUT_MAX) relay_flush(ex);
  ex->out[ex->nout++] = uv_buf_init((char *)end.p, (unsigned)end.n);
  relay_flush(ex);
  buf_fini(&end);
}

/* Runs when the head is made, and again when the upstream's reply has ended. */
enum verdict step_relay(struct exchange *ex) {
  bool here = body_here(ex);
  if (here && ex->reply.n > 0 && !ex->no_reply_body) {
    relay_out(ex, buf_str(&ex->reply));
    relay_flush(ex);
  }
  if (here || ex->reply_complete) {
    if (ex->aborted) return DONE;
    call_cancel(&ex->call);
    end_reply(ex);
    relay_flush(ex);
    return DONE;
  }
  if (ex->reply.n > 0) { /* res:body() gave up at its limit: what it had gathered goes first */
    relay_out(ex, buf_str(&ex->reply));
    relay_flush(ex);
    buf_fini(&ex->reply);
  }
  if (!ex->aborted) call_resume(&ex->call);
  if (!ex->aborted && !ex->call.feeding)
    relay_flush(ex); /* else on_flush does, with the body that came in the same read */
  return WAIT;
}
