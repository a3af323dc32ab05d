/* http_op.c: see http_op.h. Owned by the VM's thread.
 *
 * Order: (first outcomes of secret commands) -> (TLS settings, on the pool) -> call -> (redirect: again) -> (the reply's coding undone, on the pool) -> end. Every step is entered from the loop,
 * so await_finish never comes before the yield. Invariants: after `ended` nothing of the call runs and Lua is not touched again; the memory goes when
 * the timer is closed and the pool has given the work back. Messages name method, scheme, host and port, never a header or a byte of a body.
 *
 * A compressed reply is gathered as it comes and decoded on the pool: a hundred kilobytes may hold a hundred megabytes, and no loop may wait for these. It is decoded
 * whether or not the request asked for it, since issuers compress unasked, and a script can do nothing with it as it is. Both forms count against limits.body. */
#include "lua/http_op.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/provenance.h"
#include "http/redirect.h"
#include "http/services.h"
#include "lua/guard.h"
#include "token/secret.h"

enum { POOL_MS = 30 * 1000, POOL_AGE_MS = 60 * 60 * 1000, POOL_IDLE = 8 };

static void hop(struct http_op *op);

void http_op_init(struct http_op *op, struct services *services) {
  op->services = services;
  arena_init(&op->arena, op->first, sizeof op->first);
  headers_init(&op->headers, &op->arena);
  parts_init(&op->body);
  buf_init(&op->body_bytes);
  buf_init(&op->reply);
  buf_init(&op->plain);
  op->body_bytes.sensitive = op->reply.sensitive = op->plain.sensitive = true;
}

void http_op_unmake(void *p) {
  struct http_op *op = p;
  if (op->gated) secret_gate_leave(&op->gate);
  if (op->origin != NULL) origin_unref(op->origin);
  if (op->client != NULL) tls_client_unref(op->client);
  parents_unref(op->parents);
  tls_choice_fini(&op->tls);
  secret_unref(op->body_secret);
  secret_unref(op->query_secret);
  parts_fini(&op->body);
  buf_fini(&op->body_bytes);
  buf_fini(&op->reply);
  buf_fini(&op->plain);
  arena_reset(&op->arena);
  charge_end(&op->charge);
  free(op);
}

void http_op_where(const struct http_op *op, char *out, size_t size) {
  char where[URL_WHERE_SIZE];
  url_where(&op->url, where, sizeof where);
  (void)snprintf(out, size, "%.*s %s", STR_FMT(op->method), where);
}

/* For a fetch: what the secrets of its request were read from, and its TLS files, which are what they are by now. A command's first outcome is no change: it is
 * noted when that is there. */
static void note_provenance(struct http_op *op) {
  struct provenance **to = op->provenance;
  if (to == NULL) return;
  op->provenance = NULL;
  const struct tls_client_settings *tls = &op->tls.settings;
  const char *const files[] = {tls->cert, tls->key, tls->ca};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    if (files[i] != NULL) provenance_add_path(to, files[i]);
  for (unsigned i = 0; i < op->headers.n; i++)
    if (op->headers.v[i].secret != NULL) secret_note_provenance(op->headers.v[i].secret, to);
  if (op->query_secret != NULL) secret_note_provenance(op->query_secret, to);
  if (op->body_secret != NULL) secret_note_provenance(op->body_secret, to);
}

/* --- ends --- */

static void let_go(struct http_op *op) {
  if (--op->holders == 0) http_op_unmake(op);
}

static void on_timer_closed(uv_handle_t *h) { let_go(h->data); }

static void stop_call(struct http_op *op) {
  if (op->calling) call_fini(&op->call);
  op->calling = false;
}

static void stop(struct http_op *op) {
  op->ended = true;
  stop_call(op);
  if (op->gated) secret_gate_leave(&op->gate);
  op->gated = false;
  if (op->working) (void)uv_cancel((uv_req_t *)&op->work);
  uv_close((uv_handle_t *)&op->timer, on_timer_closed);
}

static int push(lua_State *L, void *arg) { return http_response_push(L, arg); }

static void finish(struct http_op *op, int error, const char *reason) {
  if (op->ended) return;
  op->error = error;
  (void)snprintf(op->reason, sizeof op->reason, "%s", reason);
  stop(op);
  await_finish(&op->await, push, op);
}

static void on_cancel(struct await *a) { stop(CONTAINER_OF(a, struct http_op, await)); }

static void on_deadline(uv_timer_t *t) {
  struct http_op *op = t->data;
  char reason[64];
  note_provenance(op); /* its gate may be shut still */
  (void)snprintf(reason, sizeof reason, "no complete response within %llu ms", (unsigned long long)op->timeout_ms);
  finish(op, UV_ETIMEDOUT, reason);
}

/* --- the call --- */

static bool wants_length(const struct http_op *op) {
  return op->has_body || str_eq(op->method, STR("POST")) || str_eq(op->method, STR("PUT")) ||
         str_eq(op->method, STR("PATCH"));
}

/* The body's secrets are expanded first, since the head states the body's length. */
static int make_body(struct http_op *op) {
  if (op->body_secret == NULL) return 0;
  buf_reset(&op->body_bytes);
  return secret_expand(op->body_secret, &op->target, &op->body_bytes);
}

static int make_head(struct call *c, struct request_head *head, struct str *body) {
  struct http_op *op = c->owner;
  const struct url *u = &op->url;
  op->target = (struct secret_context){
      .tls = u->tls, .host = u->host, .port = u->port, .unix_path = u->unix_path, .mask = mask_of_thread()};
  int rc = make_body(op);
  if (rc != 0) return rc;
  *body = op->body_secret != NULL ? buf_str(&op->body_bytes) : buf_str(&op->body.text);
  url_host_field(u, op->host_field);
  *head =
      (struct request_head){.method = op->method,
                            .path = u->path.n > 0 ? u->path : STR("/"),
                            .query = u->query,
                            .query_secret = op->query_secret,
                            .host = op->host.p != NULL ? op->host : str_of(op->host_field),
                            .headers = &op->headers,
                            .secrets = &op->target,
                            .framing = {.kind = wants_length(op) ? FRAMING_LENGTH : FRAMING_NONE, .length = body->n},
                            .body_secret = op->body_secret != NULL,
                            .keep_alive = true};
  c->body_done = true;
  return 0;
}

/* Part of a resource is part of its coded form, which cannot be undone from the middle (RFC 9110 section 14.2). */
static enum coding coding_for(const struct response *r) {
  return r->status == 206 ? CODING_NONE : coding_of(&r->headers);
}

static bool is_coded(const struct http_op *op) { return op->coding == CODING_GZIP || op->coding == CODING_DEFLATE; }

/* The parent's answer and not the server's, which has seen no request. */
static void finish_refused(struct http_op *op) {
  const struct parent *p = origin_parent(op->origin);
  char reason[200];
  (void)snprintf(reason, sizeof reason, "proxy %.100s: 407, %s", parent_where(p),
                 parent_has_credentials(p) ? PARENT_REFUSES : PARENT_WANTS);
  finish(op, ERR_PROXY, reason);
}

static void on_head(struct call *c) {
  struct http_op *op = c->owner;
  buf_reset(&op->body_bytes);
  op->coding = coding_for(&c->response);
  if (c->open && c->response.status == 407) finish_refused(op);
}

/* What cannot be compressed grows a little when it is, and must fit all the same. */
static uint64_t gathered_max(const struct http_op *op) {
  return is_coded(op) ? op->reply_max + op->reply_max / 64 + 1024 : op->reply_max;
}

static void finish_too_large(struct http_op *op) {
  char reason[80];
  (void)snprintf(reason, sizeof reason, "a response body of more than %llu bytes (limits.body)",
                 (unsigned long long)op->reply_max);
  finish(op, ERR_LIMIT, reason);
}

static void on_body(struct call *c, struct str span) {
  struct http_op *op = c->owner;
  if (op->reply.n + span.n <= gathered_max(op)) {
    if (charge_more(&op->charge, span.n))
      buf_adds(&op->reply, span);
    else
      finish(op, ERR_LIMIT, "its response has no room within limits.memory");
    return;
  }
  finish_too_large(op);
}

static void drop_body(struct http_op *op) {
  secret_unref(op->body_secret);
  op->body_secret = NULL;
  buf_reset(&op->body.text);
  op->has_body = false;
  (void)headers_remove(&op->headers, STR("content-type"));
}

/* A credential never follows to another origin. */
static void follow(struct http_op *op, struct str location) {
  struct url next;
  const char *wrong = http_resolve(&op->arena, &op->url, location, &next);
  if (wrong != NULL) {
    finish(op, ERR_PROTOCOL, wrong);
    return;
  }
  struct str method = http_redirect_method(op->call.response.status, op->method);
  if (!str_eq(method, op->method)) drop_body(op);
  op->method = method;
  if (!http_same_origin(&op->url, &next)) {
    if (op->credentials || op->body_secret != NULL) {
      finish(op, ERR_TOKEN_AUDIENCE, "a redirect to another origin is not followed with credentials");
      return;
    }
    op->host = (struct str){0};
  }
  secret_unref(op->query_secret); /* where it leads has a query of its own, or none */
  op->query_secret = NULL;
  op->url = next;
  op->redirects--;
  stop_call(op);
  buf_reset(&op->reply);
  hop(op);
}

static void queue(struct http_op *op, uv_work_cb work, uv_after_work_cb after) {
  op->work.data = op;
  op->working = true;
  op->holders++;
  int status = uv_queue_work(&op->services->loop, &op->work, work, after);
  assert(status == 0);
  (void)status;
}

static void on_undo(uv_work_t *w) {
  struct http_op *op = w->data;
  const size_t room = charge_room(&op->charge);
  op->error = coding_undo(op->coding, buf_str(&op->reply), room < op->reply_max ? room : op->reply_max, &op->plain);
  if (op->error == 0 && !charge_more(&op->charge, op->plain.n)) op->error = ERR_LIMIT;
}

/* The script gets the body as it was meant, and no field that says otherwise. */
static void take_plain(struct http_op *op) {
  struct buf coded = op->reply;
  op->reply = op->plain;
  op->plain = coded;
  (void)headers_remove(&op->call.response.headers, STR("content-encoding"));
  (void)headers_remove(&op->call.response.headers, STR("content-length"));
  finish(op, 0, "");
}

static void on_undone(uv_work_t *w, int status) {
  struct http_op *op = w->data;
  int error = status != 0 ? status : op->error;
  op->working = false;
  if (op->ended) {
    let_go(op);
    return;
  }
  if (error == 0) {
    take_plain(op);
  } else if (error == ERR_LIMIT) {
    finish_too_large(op);
  } else {
    const char *name = op->coding == CODING_GZIP ? "gzip" : "deflate";
    char reason[96];
    (void)snprintf(reason, sizeof reason, "the response says Content-Encoding: %s and %s", name,
                   error == ERR_TRUNCATED ? "is cut short" : "is not that");
    finish(op, error, reason);
  }
  let_go(op);
}

static void on_end(struct call *c) {
  struct http_op *op = c->owner;
  const struct header *location = headers_find(&c->response.headers, STR("location"));
  if (op->redirects > 0 && location != NULL && http_is_redirect(c->response.status))
    follow(op, location->value);
  else if (is_coded(op) && op->reply.n > 0)
    queue(op, on_undo, on_undone);
  else
    finish(op, 0, "");
}

static void on_error(struct call *c, int status, const char *reason) { finish(c->owner, status, reason); }

static const struct call_events events = {
    .make_head = make_head, .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_error = on_error};

static void start_call(struct http_op *op) {
  const struct url *u = &op->url;
  struct origin_settings s = {.tls = u->tls,
                              .host = u->host,
                              .port = u->port,
                              .client = op->client,
                              .keepalive = op->services->keepalive,
                              .http2 = http2_for(op->http2, u->tls)};
  if (u->unix_path.p != NULL)
    s.unix_path = arena_dup(&op->arena, u->unix_path).p;
  else
    s.parent = parents_for(op->parents, u->tls, u->host, u->port);
  if (op->origin != NULL) origin_unref(op->origin);
  op->origin = origin_get(op->services->origins, &s);
  struct call *c = &op->call;
  call_init(c, &events, op, &op->arena, &op->services->wheel);
  op->calling = true;
  c->method = op->method;
  c->connect_ms = c->first_byte_ms = c->response_ms = c->send_ms = op->timeout_ms;
  c->pool = (struct pool_terms){.keep_ms = POOL_MS, .age_ms = POOL_AGE_MS, .idle = POOL_IDLE};
  c->repeatable = method_idempotent(op->method);
  c->open = s.parent != NULL && !u->tls && !op->credentials && op->body_secret == NULL && op->host.p == NULL;
  call_start(c, op->origin);
}

/* --- before the call --- */

static void on_tls_note(void *arg, const char *text) {
  (void)arg;
  log_warn("jeton.http: tls: %s", text);
}

static void on_read_tls(uv_work_t *w) {
  struct http_op *op = w->data;
  const char *insecure = op->tls.settings.insecure;
  op->client = tls_client_new(&op->tls.settings, op->tls_error, sizeof op->tls_error);
  if (op->client != NULL) tls_client_notes(op->client, TLS_NOTES_USUAL, on_tls_note, NULL);
  if (op->client != NULL && insecure != NULL) log_warn("jeton.http: tls: " TLS_CHOICE_INSECURE, insecure);
}

static void on_tls_read(uv_work_t *w, int status) {
  struct http_op *op = w->data;
  op->working = false;
  if (!op->ended) {
    if (status == 0 && op->client != NULL) {
      op->client_is_new = true;
      start_call(op);
    } else {
      finish(op, ERR_TLS, op->tls_error);
    }
  }
  let_go(op);
}

static void hop(struct http_op *op) {
  int rc = op->parents != NULL ? parents_fix(op->parents) : 0;
  if (rc != 0) {
    char reason[120];
    (void)snprintf(reason, sizeof reason, "the proxy's password: %s", err_text(rc));
    finish(op, rc, reason);
    return;
  }
  if (!op->url.tls || op->client != NULL) {
    start_call(op);
    return;
  }
  queue(op, on_read_tls, on_tls_read);
}

static void on_gate(struct secret_gate_waiter *w) {
  struct http_op *op = CONTAINER_OF(w, struct http_op, gate);
  op->gated = false;
  if (!op->ended) note_provenance(op);
  if (op->started && !op->ended) hop(op);
}

static void on_start(uv_timer_t *t) {
  struct http_op *op = t->data;
  op->started = true;
  (void)uv_timer_start(t, on_deadline, op->timeout_ms, 0);
  if (!op->gated) hop(op);
}

static void begin(struct http_op *op) {
  uv_loop_t *loop = &op->services->loop;
  op->holders = 1;
  (void)uv_timer_init(loop, &op->timer);
  op->timer.data = op;
  uv_update_time(loop); /* the deadline counts from here, not from the loop's last reading of the clock */
  (void)uv_timer_start(&op->timer, on_start, 0, 0);
}

/* A snapshot of the list may be shared by a token already: so a longer one is made. */
static void note_server(struct audience **servers, const struct url *u) {
  struct audience *longer = audience_new();
  if (*servers != NULL) audience_add_all(longer, *servers);
  if (u->unix_path.p != NULL)
    audience_add_unix(longer, u->unix_path);
  else
    audience_add(longer, u->tls, u->host, u->port);
  audience_unref(*servers);
  *servers = longer;
}

static bool is_noted(const struct audience *a, const struct url *u) {
  return a != NULL && (u->unix_path.p != NULL ? audience_allows_unix(a, u->unix_path)
                                              : audience_allows(a, u->tls, u->host, u->port));
}

int http_op_await(lua_State *L, int guard, struct http_op *op) {
  struct audience **servers = task_servers(L);
  op->provenance = task_provenance(L);
  if (servers != NULL && !is_noted(*servers, &op->url)) note_server(servers, &op->url);
  if (op->credentials || op->body_secret != NULL || op->parents != NULL) {
    op->gate.open = on_gate;
    op->gated = secret_gate_wait(L, &op->gate);
  }
  if (!op->gated) note_provenance(op);
  await_begin(L, &op->await, on_cancel);
  guard_release(L, guard);
  begin(op);
  return await_yield(L, &op->await);
}
