/* steps_request.c: the steps from a parsed head to a request on its way to the upstream. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "http/forwarded.h"
#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/forward.h"
#include "proxy/l_exchange.h"
#include "proxy/tunnel.h"
#include "proxy/worker_internal.h"

/* --- admit --- */

/* RFC 9110 section 7.6.2. At 0 the request ends here: all that is forwarded may be asked for. */
static enum verdict count_hop(struct exchange *ex) {
  struct headers *hs = &ex->request.headers;
  const struct header *h = headers_find(hs, STR("Max-Forwards"));
  unsigned long long left;
  if (h == NULL || !str_to_u64(h->value, &left)) return NEXT;
  if (left > 0) {
    headers_set(hs, STR("Max-Forwards"), arena_printf(&ex->arena, "%llu", left - 1));
    return NEXT;
  }
  reply_local(ex, 200, STR(""));
  headers_add(&ex->response.headers, STR("Allow"), ALLOWED_METHODS);
  ex->step = STEP_REPLY;
  return NEXT;
}

enum verdict step_admit(struct exchange *ex) {
  struct request *r = &ex->request;
  const struct policy *p = ex->runtime->policy;
  if (str_eq(r->method, STR("TRACE"))) /* its reply is the request as the upstream saw it */
    return exchange_fail(ex, 405, ERR_PROTOCOL, "TRACE: the reply would show the client the token");
  if ((r->is_connect || r->absolute_form) && forward_admit(ex) != NEXT) return FAIL;
  if (p->limits.body > 0 && r->framing == FRAMING_LENGTH && r->content_length > p->limits.body)
    return exchange_fail(ex, 413, ERR_LIMIT, "the request's body is over the limit");
  headers_strip_hop_by_hop(&r->headers);
  if (ex->forward != NULL) forward_keep_credentials(ex);
  headers_remove_id(&r->headers,
                    H_EXPECT); /* hop by hop in effect: make_head asks anew where there is something to ask */
  if (p->forwarded != FORWARDED_OFF) {
    forwarded_apply(&r->headers, &ex->arena, p->forwarded, arena_dup(&ex->arena, conn_peer(ex->conn)), ex->conn->tls,
                    r->authority);
  }
  if (p->via) via_add(&r->headers, &ex->arena, r->minor);
  return str_eq(r->method, STR("OPTIONS")) ? count_hop(ex) : NEXT;
}

/* --- on_request --- */

/* A script's error fails closed: no token, no upstream request (cases.md 51). */
static void on_request_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct exchange *ex = arg;
  ex->task = NULL;
  if (status == 0) message = l_exchange_wrong_result(L, nresults, ex, HOOK_REQUEST);
  if (message != NULL) {
    COUNT(ex->worker, script_errors, 1);
    exchange_fail_now(ex, 500, status != 0 ? status : ERR_SCRIPT, message);
    return;
  }
  exchange_resume(ex, ex->local ? STEP_REPLY : STEP_ROUTE);
}

enum verdict step_request_hook(struct exchange *ex) {
  if (!ex->runtime->policy->hooks[HOOK_REQUEST]) return NEXT;
  exchange_hook(ex, ex->runtime->binding.hooks[HOOK_REQUEST], l_exchange_push_request, on_request_done);
  return WAIT;
}

/* --- route --- */

enum verdict step_route(struct exchange *ex) {
  if (ex->forward != NULL && ex->upstream_name.p == NULL) return forward_route(ex);
  struct str name = ex->upstream_name.p != NULL ? ex->upstream_name : STR("default");
  ex->upstream = runtime_upstream(ex->runtime, name);
  if (ex->upstream == NULL && ex->runtime->policy->forward != NULL) return forward_refuse_origin_form(ex);
  if (ex->upstream == NULL)
    return exchange_fail(ex, 500, ERR_CONFIG,
                         "the policy has no default upstream, and on_request neither chose one nor responded");
  ex->origin = upstream_next(ex->upstream, &ex->url, &ex->host_field);
  return NEXT;
}

/* --- token --- */

static const char REMOVED[] = "the token was removed from the policy";

static void on_slot(struct slot_waiter *w, int status) {
  struct exchange *ex = CONTAINER_OF(w, struct exchange, waiter);
  timeout_clear(&ex->timeout);
  if (status != 0)
    exchange_fail_now(ex, 503, ERR_TOKEN_MISSING, REMOVED);
  else
    exchange_resume(ex, STEP_TOKEN);
}

static enum verdict token_missing(struct exchange *ex, struct slot *s) {
  char reason[sizeof ex->failure.reason];
  struct slot_facts facts;
  int64_t now = clock_boot_ms();
  slot_facts(s, now, &facts);
  const char *why = facts.consecutive_failures > 0 ? facts.last_error : ""; /* else it is of another time */
  snprintf(reason, sizeof reason, "no valid token %.60s%s%.120s", slot_name(s), why[0] != '\0' ? ": " : "", why);
  ex->failure.retry_after = slot_retry_after(s, now);
  return exchange_fail(ex, 503, ERR_TOKEN_MISSING, reason);
}

/* Waits once for one token at a time. The limit is for all tokens of one try: a replay, or a token that ended while the connection was made, has
 * the whole of it again, however long the upstream took. */
static enum verdict wait_for(struct exchange *ex, struct slot *s, int64_t wait_ms) {
  uint64_t now = uv_now(&ex->worker->services.loop);
  if (ex->wait_until == 0) ex->wait_until = now + (uint64_t)wait_ms;
  if (now >= ex->wait_until) return token_missing(ex, s);
  ex->waiter.done = on_slot;
  int rc = slot_wait(s, &ex->waiter, &ex->worker->services.mailbox, ex->runtime->policy->limits.waiters);
  if (rc < 0) return exchange_fail(ex, 503, rc, rc == ERR_LIMIT ? "too many requests wait for a token" : REMOVED);
  if (rc == 1) return NEXT; /* it has come meanwhile */
  COUNT(ex->worker, token_waits, 1);
  timeout_set(&ex->timeout, ex->wait_until - now);
  return WAIT;
}

struct missing { /* the first token of a secret that is not there */
  struct slot *slot;
  enum token_missing policy;
};

static int find_missing(void *arg, const struct secret_token_view *t) {
  struct missing *m = arg;
  if (slot_read(t->reader, clock_boot_ms()) != NULL) return 0;
  m->slot = t->reader->slot;
  m->policy = t->missing;
  return 1;
}

enum verdict step_token(struct exchange *ex) {
  struct headers *hs = &ex->request.headers;
  for (unsigned i = 0; i < hs->n; i++) {
    struct header *h = &hs->v[i];
    struct missing m;
    if (h->secret == NULL || h->name.p == NULL || secret_each_token(h->secret, find_missing, &m) == 0) continue;
    const struct token_conf *conf = runtime_token_conf(ex->runtime, m.slot);
    enum token_missing policy = ex->replayed ? MISSING_WAIT : m.policy;
    if (policy != MISSING_WAIT) slot_want(m.slot); /* nobody waits, and yet it is wanted */
    if (policy == MISSING_PASS) {
      headers_remove(hs, h->name);
      continue;
    }
    if (policy == MISSING_FAIL) return token_missing(ex, m.slot);
    enum verdict v = wait_for(ex, m.slot, conf != NULL ? conf->wait_ms : 2000);
    if (v != NEXT) return v;
    i--; /* look at it again */
  }
  ex->wait_until = 0;
  return NEXT;
}

/* --- send --- */

static bool body_at_hand(const struct exchange *ex) {
  return ex->body_replaced || (ex->body_complete && ex->body_kept);
}

enum { TOKEN_RACES_MAX = 4, CONTINUE_MS = 1000 };

static struct framing request_framing(const struct exchange *ex) {
  const struct request *r = &ex->request;
  if (ex->body_replaced) return (struct framing){ex->body.n > 0 ? FRAMING_LENGTH : FRAMING_NONE, ex->body.n};
  if (r->framing == FRAMING_CHUNKED && body_at_hand(ex) && r->trailers.n == 0)
    return (struct framing){FRAMING_LENGTH, ex->body.n};
  return (struct framing){r->framing, r->content_length};
}

static struct str host_for(struct exchange *ex) {
  if (ex->host.p != NULL) return ex->host;
  if (ex->upstream->conf->preserve_host && ex->request.authority.n > 0) return ex->request.authority;
  return ex->host_field;
}

static struct str path_for(struct exchange *ex) {
  struct str prefix = ex->url->path, path = ex->request.path;
  if (prefix.n > 0 && prefix.p[prefix.n - 1] == '/') prefix.n--;
  if (prefix.n == 0 || path.n == 0 || path.p[0] != '/') return path;
  return arena_printf(&ex->arena, "%.*s%.*s", STR_FMT(prefix), STR_FMT(path));
}

/* The upstream may refuse a head, a stale token's above all, before the body has gone anywhere: so long as the client waits, it is asked. */
static bool may_ask(const struct exchange *ex) {
  const struct request *r = &ex->request;
  return r->expect_continue && !ex->continue_sent && ex->body_seen == 0 && !ex->body_complete && !ex->body_replaced;
}

static int make_head(struct call *call, struct request_head *head, struct str *body) {
  struct exchange *ex = call->owner;
  const struct url *u = ex->url;
  ex->asked = may_ask(ex);
  ex->used = (struct secret_context){
      .tls = u->tls, .host = u->host, .port = u->port, .unix_path = u->unix_path, .header_safe = true};
  *head = (struct request_head){
      .method = ex->request.method,
      .path = path_for(ex),
      .query = ex->request.query,
      .host = host_for(ex),
      .headers = &ex->request.headers,
      .secrets = &ex->used,
      .framing = request_framing(ex),
      .keep_alive = true,
      .expect_continue = ex->asked,
      .te_trailers = headers_has_token(&ex->request.headers, H_TE, STR("trailers")),
      .upgrade = ex->request.upgrade ? ex->request.upgrade_protocol : (struct str){0},
  };
  if (body_at_hand(ex) && head->framing.kind != FRAMING_CHUNKED) {
    *body = buf_str(&ex->body);
    call->body_done = true;
  }
  return 0;
}

static void on_sent(struct call *call) {
  struct exchange *ex = call->owner;
  if (ex->asked)
    timeout_set(&ex->timeout, CONTINUE_MS);
  else
    send_continue(ex);
  send_gathered_body(ex);
}

enum verdict step_send(struct exchange *ex) {
  struct call *c = &ex->call;
  const struct upstream_conf *u = ex->upstream->conf;
  assert(!call_running(c));
  c->method = ex->request.method;
  c->limits = &ex->runtime->policy->limits.http;
  c->connect_ms = u->timeouts.connect;
  c->first_byte_ms = u->timeouts.first_byte;
  c->response_ms = u->timeouts.response;
  c->send_ms = u->timeouts.send;
  c->pool_ms = u->timeouts.pool;
  c->pool_idle = u->pool_idle;
  c->upgrade = ex->request.upgrade;
  c->repeatable = method_idempotent(ex->request.method) && body_at_hand(ex);
  ex->streaming = false;
  call_start(c, ex->origin);
  return WAIT;
}

/* --- the upstream's events --- */

static void on_interim(struct call *call) { /* 103 goes on to whoever can understand it (RFC 9110 section 15.2) */
  struct exchange *ex = call->owner;
  if (call->response.status == 100 && ex->asked) {
    send_continue(ex);
    conn_arm(ex->conn);
  }
  if (call->response.status == 100 || ex->request.minor == 0) return;
  struct buf b;
  buf_init(&b);
  headers_strip_hop_by_hop(&call->response.headers);
  if (ex->forward != NULL) forward_sign(ex, &call->response);
  struct response_head h = {.status = call->response.status,
                            .reason = call->response.reason,
                            .headers = &call->response.headers,
                            .no_body = true,
                            .keep_alive = true,
                            .client_minor = 1};
  write_response_head(&b, &h);
  uv_buf_t v = uv_buf_init((char *)b.p, (unsigned)b.n);
  stream_write(&ex->conn->stream, &v, 1, false);
  buf_fini(&b);
}

static void on_head(struct call *call) {
  struct exchange *ex = call->owner;
  end_asking(ex);
  ex->response = call->response;
  bool names_upgrade = ex->response.status == 101 || ex->response.status == 426;
  ex->upgrade = names_upgrade ? headers_join(&ex->response.headers, STR("Upgrade")) : (struct str){0};
  if (call->phase != CALL_TUNNEL) headers_strip_hop_by_hop(&ex->response.headers);
  if (ex->forward != NULL) forward_sign(ex, &ex->response);
  exchange_resume(ex, STEP_JUDGE);
}

static void on_body(struct call *call, struct str span) {
  struct exchange *ex = call->owner;
  if (ex->replaying) return; /* a rejected reply on its way to nowhere */
  if (!ex->gather_reply) {
    relay_out(ex, span);
    return;
  }
  buf_adds(&ex->reply, span);
  if (ex->reply.n > ex->runtime->policy->limits.script_body) {
    call_pause(call);
    ex->gather_reply = false;
    body_wait_done(&ex->reply_wait, ERR_LIMIT);
  }
}

static void on_passed(struct call *call, size_t n) {
  struct exchange *ex = call->owner;
  ex->bytes_out += n;
  relay_flowed(ex);
}

/* What goes out as it came need not come into this process. */
static void on_flush(struct call *call) {
  struct exchange *ex = call->owner;
  struct conn *c = ex->conn;
  if (ex->step != STEP_RELAY) return;
  relay_flush(ex);
  bool live = c->exchange == ex; /* else the client was gone, and ex with it */
  if (live && !ex->relay_chunked && !ex->no_reply_body && !ex->gather_reply) call_pass_on(call, &c->stream);
}

static void on_drain(struct call *call) {
  struct exchange *ex = call->owner;
  if (!ex->body_complete) conn_continue(ex->conn);
}

/* A reply that was paused is fed on from within step_relay: its spans end with the event, before the dispatcher goes on. */
static void flush_spans(struct exchange *ex) {
  if (ex->running && ex->step == STEP_RELAY) relay_flush(ex);
}

static void on_end(struct call *call) {
  struct exchange *ex = call->owner;
  flush_spans(ex);
  ex->response.trailers = call->response.trailers;
  ex->reply_complete = true;
  if (ex->replaying) {
    ex->replaying = false;
    ex->reply_complete = false;
    exchange_resume(ex, STEP_TOKEN);
  } else if (ex->gather_reply) {
    body_wait_done(&ex->reply_wait, 0);
  } else {
    exchange_resume(ex, STEP_RELAY);
  }
}

/* No connection, so nothing of the request was sent: another address of the upstream may have it, whatever its method. */
static bool try_another(struct exchange *ex) {
  if (ex->call.phase != CALL_CONNECT || ++ex->failed_dials >= ex->upstream->conf->nurls) return false;
  ex->origin = upstream_next(ex->upstream, &ex->url, &ex->host_field);
  exchange_resume(ex, STEP_TOKEN);
  return true;
}

static void on_error(struct call *call, int status, const char *reason) {
  struct exchange *ex = call->owner;
  end_asking(ex);
  flush_spans(ex);
  bool token_gone = status == ERR_TOKEN_MISSING || status == ERR_TOKEN_EXPIRED;
  if (token_gone && ++ex->token_races < TOKEN_RACES_MAX) { /* it expired while the connection was made */
    exchange_resume(ex, STEP_TOKEN);
    return;
  }
  if (token_gone) { /* missing: valid, and yet without bytes: a field that the fetch did not return */
    exchange_fail_now(ex, 503, status,
                      status == ERR_TOKEN_MISSING ? "the token has no such field"
                                                  : "each token ended before the upstream was connected");
    return;
  }
  COUNT(ex->worker, upstream_errors, 1);
  if (ex->replaying) { /* the rejected reply is of no interest */
    ex->replaying = false;
    exchange_resume(ex, STEP_TOKEN);
    return;
  }
  char where[URL_WHERE_SIZE];
  url_where(ex->url, where, sizeof where);
  log_warn("upstream %s (%s): %s", ex->upstream->conf->name, where, reason);
  if (try_another(ex)) return;
  if (ex->task != NULL) { /* res:body() waits: it gets the failure, and then the exchange does */
    ex->gather_reply = false;
    ex->upstream_broke = status;
    body_wait_done(&ex->reply_wait, status);
    return;
  }
  if (status == ERR_FORBIDDEN) forward_tell_forbidden(ex);
  exchange_fail_now(ex,
                    status == UV_ETIMEDOUT                                       ? 504
                    : status == ERR_FORBIDDEN                                    ? 403
                    : status == ERR_TOKEN_AUDIENCE || status == ERR_SECRET_BYTES ? 500
                                                                                 : 502,
                    status, reason);
}

const struct call_events upstream_events = {
    .make_head = make_head,
    .on_sent = on_sent,
    .on_interim = on_interim,
    .on_head = on_head,
    .on_passed = on_passed,
    .on_body = on_body,
    .on_flush = on_flush,
    .on_drain = on_drain,
    .on_end = on_end,
    .on_error = on_error,
};
