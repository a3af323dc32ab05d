/* steps_request.c: the steps from a parsed head to a request on its way to the upstream.
 *
 * admit, on_request, route, token, send; on_send, between the last two, is in steps_send.c. A replay comes back to the token step, so everything that a try needs
 * is made from there on: what on_send sets, the connection, the head with its secrets, the body from its start. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "http/base_path.h"
#include "http/forwarded.h"
#include "proxy/client.h"
#include "proxy/forward.h"
#include "proxy/l_exchange.h"
#include "proxy/placed.h"
#include "proxy/steps.h"
#include "proxy/try.h"
#include "proxy/worker_state.h"

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

static void say_who_asks(struct exchange *ex, enum forwarded_mode how) {
  const struct conn *conn = ex->down->conn;
  bool says = how == FORWARDED_SET || how == FORWARDED_APPEND;
  struct str ip = says ? arena_dup(&ex->arena, client_address(conn)) : (struct str){NULL, 0};
  if (how != FORWARDED_OFF)
    forwarded_apply(&ex->request.headers, &ex->arena, how, ip, client_has_tls(conn), ex->request.authority);
}

enum verdict step_admit(struct exchange *ex) {
  struct request *r = &ex->request;
  const struct policy *p = ex->runtime->policy;
  if (str_eq(r->method, STR("TRACE"))) /* its reply is the request as the upstream saw it */
    return exchange_fail(ex, 405, ERR_PROTOCOL, "TRACE: the reply would show the client the token");
  if (forward_meant(ex) && forward_admit(ex) != NEXT) return FAIL;
  if (p->limits.body > 0 && r->framing == FRAMING_LENGTH && r->content_length > p->limits.body) {
    ex->body.place = BODY_REFUSED; /* the connection ends, as it does where a chunked one grows too large */
    return exchange_fail(ex, 413, ERR_LIMIT, "the request's body is over the limit");
  }
  headers_strip_hop_by_hop(&r->headers);
  if (ex->forward != NULL) forward_keep_credentials(ex);
  headers_remove_id(&r->headers,
                    H_EXPECT); /* hop by hop in effect: write_head asks anew where there is something to ask */
  say_who_asks(ex, p->forwarded);
  if (p->via) via_add(&r->headers, &ex->arena, r->version);
  return str_eq(r->method, STR("OPTIONS")) ? count_hop(ex) : NEXT;
}

/* --- on_request --- */

/* A script's error fails closed: no token, no upstream request (spec/README.md, 51). */
static void on_request_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct exchange *ex = arg;
  ex->task = NULL;
  if (status == 0) message = l_exchange_wrong_result(L, nresults, ex, HOOK_REQUEST);
  if (message != NULL) {
    COUNT(ex->worker, script_errors, 1);
    exchange_fail_now(ex, 500, status != 0 ? status : ERR_SCRIPT, message);
    return;
  }
  exchange_resume(ex, ex->reply.source == REPLY_LOCAL ? STEP_REPLY : STEP_ROUTE);
}

enum verdict step_request_hook(struct exchange *ex) {
  if (!ex->runtime->policy->hooks[HOOK_REQUEST]) return NEXT;
  exchange_hook(ex, ex->runtime->binding.hooks[HOOK_REQUEST], l_exchange_push_request, on_request_done);
  return WAIT;
}

/* --- route --- */

/* The path is as on_request left it: what a script makes of a client's words is judged alike. */
static enum verdict refuse_path(struct exchange *ex) {
  static const char told[] = "the path leaves the upstream's base path";
  ex->failure.told = told;
  return exchange_fail(ex, 400, ERR_PROTOCOL, told);
}

enum verdict step_route(struct exchange *ex) {
  if (ex->forward != NULL && ex->upstream_name.p == NULL) return forward_route(ex);
  struct str name = ex->upstream_name.p != NULL ? ex->upstream_name : STR("default");
  ex->upstream = runtime_upstream(ex->runtime, name);
  if (ex->upstream == NULL && ex->runtime->policy->forward != NULL) return forward_refuse_origin_form(ex);
  if (ex->upstream == NULL)
    return exchange_fail(ex, 500, ERR_CONFIG,
                         "the policy has no default upstream, and on_request neither chose one nor responded");
  if (ex->upstream->conf->has_base && base_path_left(ex->request.path)) return refuse_path(ex);
  ex->call.allowed = NULL; /* that of a forward target, before on_response chose an upstream */
  ex->origin = upstream_next(ex->upstream, method_idempotent(ex->request.method), &ex->url, &ex->host_field);
  return NEXT;
}

/* --- token --- */

static const char REMOVED[] = "the token was removed from the policy";

/* An attempt that failed, with none behind it that would come in time, brings the exchange to the same step, which says so. */
static void on_slot(struct slot_waiter *w, int status) {
  struct exchange *ex = CONTAINER_OF(w, struct exchange, waiter);
  timeout_clear(&ex->token_wait);
  if (status != 0 && status != ERR_TOKEN_MISSING)
    exchange_fail_now(ex, 503, ERR_TOKEN_MISSING, REMOVED);
  else
    exchange_resume(ex, STEP_TOKEN);
}

enum { TOKEN_REASON_MAX = 120 };

/* Why there is none, for the log; and what the client may know of it, or NULL. An old failure is of another time. */
static const char *why_missing(const struct slot_facts *f, char out[TOKEN_REASON_MAX]) {
  const char *last = f->consecutive_failures > 0 ? f->last_error : "";
  int n = 0;
  out[0] = '\0';
  if (f->fetching_ms >= 0)
    n = snprintf(out, TOKEN_REASON_MAX, ": its fetch has taken %.1f s so far%s", (double)f->fetching_ms / 1000,
                 last[0] != '\0' ? ", the last one" : "");
  if (last[0] != '\0')
    (void)snprintf(out + n, (size_t)(TOKEN_REASON_MAX - n), "%s%s%s", n > 0 ? " failed" : "",
                   n == 0 && f->outlook != OUTLOOK_OPEN ? ": its fetch failed for good: " : ": ", last);
  if (f->fetching_ms >= 0) return "there is no valid token, and its fetch has not ended yet";
  if (f->outlook != OUTLOOK_OPEN) return "there is no valid token, and its last fetch failed for good";
  if (last[0] != '\0') return "there is no valid token, and its last fetch failed";
  if (!f->has_fetch) return "there is no valid token, and none has been set";
  return NULL;
}

static enum verdict token_missing(struct exchange *ex, struct slot *s) {
  char reason[sizeof ex->failure.reason], why[TOKEN_REASON_MAX];
  struct slot_facts facts;
  int64_t now = clock_boot_ms();
  slot_facts(s, now, &facts);
  ex->failure.told = why_missing(&facts, why);
  snprintf(reason, sizeof reason, "no valid token %.60s%s", slot_name(s), why);
  ex->failure.retry_after = slot_retry_after(s, now);
  return exchange_fail(ex, 503, ERR_TOKEN_MISSING, reason);
}

/* Waits once for one token at a time. The limit is for all tokens of one try, those of its on_send included: a replay, or a token that ended while the connection was made or
 * the body awaited, has the whole of it again, however long that took. */
static enum verdict wait_for(struct exchange *ex, struct slot *s, uint64_t beyond, int64_t wait_ms) {
  uint64_t now = uv_now(&ex->worker->services.loop);
  if (ex->wait_until == 0) ex->wait_until = now + (uint64_t)wait_ms;
  if (now >= ex->wait_until) return token_missing(ex, s);
  ex->waiter.done = on_slot;
  ex->waiter.beyond = beyond;
  ex->waiter.until = clock_boot_ms() + (int64_t)(ex->wait_until - now);
  int rc = slot_wait(s, &ex->waiter, &ex->worker->services.mailbox, ex->runtime->policy->limits.waiters);
  if (rc == ERR_TOKEN_MISSING) return token_missing(ex, s);
  if (rc < 0) return exchange_fail(ex, 503, rc, rc == ERR_LIMIT ? "too many requests wait for a token" : REMOVED);
  if (rc == 1) return NEXT; /* it has come meanwhile */
  COUNT(ex->worker, token_waits, 1);
  timeout_set(&ex->token_wait, ex->wait_until - now);
  return WAIT;
}

enum verdict exchange_await_token(struct exchange *ex, struct slot *s, uint64_t beyond, enum token_missing missing) {
  const struct token_conf *conf = runtime_token_conf(ex->runtime, s);
  if (missing == MISSING_WAIT) return wait_for(ex, s, beyond, conf != NULL ? conf->wait_ms : 2000);
  slot_want(s); /* nobody waits, and yet it is wanted */
  return token_missing(ex, s);
}

struct missing {            /* the first token of a secret that is not there */
  struct secret_context to; /* the upstream */
  struct slot *slot;
  uint64_t beyond; /* the generation that is there is not for this upstream, and the next may be; 0: none is there */
  enum token_missing policy;
};

/* A token that this upstream may never have is no missing one: the write refuses it. */
static int find_missing(void *arg, const struct secret_token_view *t) {
  struct missing *m = arg;
  bool outdated;
  if (secret_token_for(t, &m->to, clock_boot_ms(), &outdated) != NULL) return 0;
  const struct token *there = t->reader->token;
  if (there != NULL && !outdated) return 0;
  m->slot = t->reader->slot;
  m->beyond = there != NULL ? there->generation : 0;
  m->policy = t->missing;
  return 1;
}

/* Until each token in s is there. *without: one is missing, and its policy says that the request goes without it. */
static enum verdict await_tokens(struct exchange *ex, struct secret *s, bool *without) {
  struct missing m;
  for (;;) {
    secret_context_aim(&m.to, ex->url->tls, ex->url->host, ex->url->port, ex->url->unix_path);
    if (secret_each_token(s, find_missing, &m) == 0) return NEXT;
    enum token_missing policy = ex->replayed ? MISSING_WAIT : m.policy;
    *without = policy == MISSING_PASS;
    if (*without) {
      slot_want(m.slot); /* nobody waits, and yet it is wanted */
      return NEXT;
    }
    enum verdict v = exchange_await_token(ex, m.slot, m.beyond, policy);
    if (v != NEXT) return v; /* else look at it again */
  }
}

/* A cookie that goes without leaves the client's; so these come before the fields, of which they are one. */
static enum verdict await_placed(struct exchange *ex) {
  bool without = false;
  enum verdict v = NEXT;
  for (const struct placed_item *i = ex->placed->query; i != NULL && v == NEXT; i = i->next) {
    v = await_tokens(ex, i->secret, &without);
    if (v == NEXT && without) (void)placed_query_set(placed_of_request(ex), i->name, NULL);
    without = false;
  }
  for (const struct placed_item *i = ex->placed->cookies; i != NULL && v == NEXT; i = i->next) {
    if (i->secret != NULL) v = await_tokens(ex, i->secret, &without);
    if (v == NEXT && without) (void)placed_cookie_set(placed_of_request(ex), i->name, NULL, (struct str){0});
    without = false;
  }
  return v;
}

/* A body cannot leave out what it is made of. */
static enum verdict await_body(struct exchange *ex) {
  static const char reason[] =
      "the body that on_request set holds a token that is not there, and missing = \"pass\" leaves out headers only";
  bool without = false;
  enum verdict v = await_tokens(ex, ex->body.secret, &without);
  return without ? exchange_fail(ex, 503, ERR_TOKEN_MISSING, reason) : v;
}

enum verdict step_token(struct exchange *ex) {
  struct headers *hs = &ex->request.headers;
  enum verdict v = placed_any(ex->placed) ? await_placed(ex) : NEXT;
  for (unsigned i = 0; hs->secrets && i < hs->n && v == NEXT; i++) {
    struct header *h = &hs->v[i];
    bool without = false;
    if (h->secret == NULL || h->name.p == NULL) continue;
    v = await_tokens(ex, h->secret, &without);
    if (without) headers_remove(hs, h->name);
  }
  if (v == NEXT && ex->body.secret != NULL) v = await_body(ex);
  if (v != NEXT || ex->runtime->policy->hooks[HOOK_SEND]) return v; /* that may lack one, within the same time */
  ex->wait_until = 0;
  ex->step = STEP_SEND;
  return NEXT;
}

/* --- send --- */

/* As the client framed it, whether or not its end has come by now: what goes out must not depend on how long a connection took. A body that a script has asked
 * for, or replaced, is here whole, and goes with its length; so on every try. */
struct framing request_framing(const struct exchange *ex) {
  const struct request *r = &ex->request;
  const struct request_body *b = &ex->body;
  if (b->place == BODY_REPLACED) return (struct framing){b->bytes.n > 0 ? FRAMING_LENGTH : FRAMING_NONE, b->bytes.n};
  if (r->framing == FRAMING_CHUNKED && b->place == BODY_GATHERED && b->complete && r->trailers.n == 0)
    return (struct framing){FRAMING_LENGTH, b->bytes.n};
  return (struct framing){r->framing, r->content_length};
}

struct str request_host(const struct exchange *ex) {
  struct str said = ex->try != NULL ? ex->try->host : ex->host;
  if (said.p != NULL) return said;
  if (ex->upstream->conf->preserve_host && ex->request.authority.n > 0) return ex->request.authority;
  return ex->host_field;
}

struct str request_path(struct exchange *ex) {
  struct str prefix = ex->url->path, path = try_request(ex)->path;
  if (prefix.n > 0 && prefix.p[prefix.n - 1] == '/') prefix.n--;
  if (prefix.n == 0 || path.n == 0 || path.p[0] != '/') return path;
  return arena_printf(&ex->arena, "%.*s%.*s", STR_FMT(prefix), STR_FMT(path));
}

int request_make_head(struct call *call, struct request_head *h, struct str *body) {
  struct exchange *ex = call->owner;
  const struct url *u = ex->url;
  const struct request *r = try_request(ex);
  if (ex->try == NULL)
    secret_context_aim(&ex->used, u->tls, u->host, u->port, u->unix_path);
  else if (try_resume(ex) != 0)
    return ERR_TOKEN_EXPIRED;
  request_body_hold(&ex->body); /* a stale connection's retry sends its body from the start */
  int rc = request_body_expand(&ex->body, &ex->used);
  if (rc != 0) return rc;
  *h = (struct request_head){
      .method = r->method,
      .path = request_path(ex),
      .query = r->query,
      .query_secret = placed_query(placed_of_try(ex)),
      .host = request_host(ex),
      .headers = &r->headers,
      .secrets = &ex->used,
      .framing = request_framing(ex),
      .body_secret = ex->body.secret != NULL,
      .keep_alive = true,
      .expect_continue = request_body_ask(&ex->body),
      .te_trailers = headers_has_token(&ex->request.headers, H_TE, STR("trailers")),
      .upgrade = ex->request.upgrade ? ex->request.upgrade_protocol : (struct str){0},
  };
  if (request_body_at_hand(&ex->body) && h->framing.kind != FRAMING_CHUNKED) {
    *body = buf_str(&ex->body.bytes);
    call->body_done = true;
  }
  return 0;
}

void request_sent(struct call *call) {
  struct exchange *ex = call->owner;
  request_body_await_answer(ex);
  request_body_stream(ex);
}

static int is_one(void *arg, struct secret *s) {
  (void)arg, (void)s;
  return 1;
}

/* A parent proxy may read it. It makes Host of the target, so one that says something else goes through a tunnel, as an Upgrade does, which few parents pass on. */
static bool is_open(struct exchange *ex) {
  const struct headers *hs = &try_request(ex)->headers;
  char absolute[ORIGIN_ABSOLUTE_SIZE];
  if (ex->url->tls || ex->request.upgrade || hs->secrets || placed_each_secret(ex, is_one, NULL) != 0) return false;
  origin_absolute(ex->origin, absolute);
  return str_ieq(request_host(ex), str_of(absolute + sizeof "http://" - 1));
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
  c->pool = (struct pool_terms){.keep_ms = u->timeouts.pool, .age_ms = u->pool_age_ms, .idle = u->pool_idle};
  c->upgrade = ex->request.upgrade;
  c->open = origin_parent(ex->origin) != NULL && is_open(ex);
  c->repeatable = method_idempotent(ex->request.method) && request_body_at_hand(&ex->body);
  request_body_hold(&ex->body);
  ex->asked = ex->upstream;
  c->tries_by_owner = ex->try != NULL;
  if (ex->try != NULL && ex->try->again) {
    call_start_again(c, ex->origin);
    return WAIT;
  }
  call_start(c, ex->origin);
  return WAIT;
}
