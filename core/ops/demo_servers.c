/* demo_servers.c: a small HTTP server (ops/small_http.h), twice. Keep-alive, one answer a request.
 *
 * The issuer and the upstream share nothing but the table of tokens, as an issuer and a resource server share a database. Tokens are random
 * and known by their number in what is printed: the demo keeps to the rule that no token is ever shown. Owned by the servers' thread,
 * but for start and stop. */
#include "ops/demo_servers.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/rand.h"
#include "base/units.h"
#include "base/wheel.h"
#include "net/address.h"
#include "net/stream.h"
#include "ops/small_http.h"

enum { TOKENS_KEPT = 64, TOKEN_BYTES = 16, TOKEN_CHARS = 2 * TOKEN_BYTES, BACKLOG = 1024, TELL_MS = 1000 };

struct issued {
  char value[TOKEN_CHARS + 1];
  unsigned number;
  int64_t until; /* clock_boot_ms */
};
struct reply {
  int status;
  struct buf body;
};
struct demo_servers;
struct demo_listener {
  uv_tcp_t handle;
  struct demo_servers *servers;
  void (*serve)(struct demo_servers *d, const struct request *q, struct reply *out);
};
struct demo_servers {
  uv_loop_t loop;
  struct net net;
  struct wheel wheel;
  uv_thread_t thread;
  uv_async_t stop;
  struct demo_listener issuer, upstream;
  struct link conns;
  struct issued tokens[TOKENS_KEPT]; /* the newest ones, by number */
  unsigned issued;
  int64_t told_at; /* when the last 401 was printed */
  unsigned untold; /* those since */
};
struct demo_conn {
  struct link link;
  struct small_http http;
  struct demo_listener *listener;
  struct timeout delay; /* of the reply; nothing is read meanwhile */
};

/* --- the issuer --- */

/* The duration NAME=… of the query, or what is usual; never more than a day. */
static int64_t asked_ms(const struct request *q, struct str name, int64_t usual) {
  enum { DAY_MS = 24 * 3600 * 1000 };
  struct str rest = q->query;
  while (rest.n > 0) {
    const char *end = memchr(rest.p, '&', rest.n);
    struct str part = {rest.p, end != NULL ? (size_t)(end - rest.p) : rest.n};
    int64_t ms;
    if (str_starts(part, name) && part.n > name.n && part.p[name.n] == '=' &&
        units_duration_ms((struct str){part.p + name.n + 1, part.n - name.n - 1}, &ms))
      return ms < DAY_MS ? ms : DAY_MS;
    rest.p += part.n + (end != NULL);
    rest.n -= part.n + (end != NULL);
  }
  return usual;
}

static void serve_token(struct demo_servers *d, const struct request *q, struct reply *out) {
  if (!str_eq(q->method, STR("POST")) || !str_eq(q->path, STR("/token"))) {
    out->status = 404;
    buf_addz(&out->body, "{\"error\":\"this issuer answers POST /token\"}\n");
    return;
  }
  struct issued *t = &d->tokens[d->issued % TOKENS_KEPT];
  uint8_t bytes[TOKEN_BYTES];
  random_bytes(bytes, sizeof bytes);
  for (unsigned i = 0; i < TOKEN_BYTES; i++) (void)snprintf(t->value + (size_t)2 * i, 3, "%02x", bytes[i]);
  t->number = ++d->issued;
  int64_t life = asked_ms(q, STR("life"), DEMO_TOKEN_MS);
  t->until = clock_boot_ms() + life;
  buf_addf(&out->body, "{\"access_token\":\"%s\",\"token_type\":\"Bearer\",\"expires_in\":%g}\n", t->value,
           (double)life / 1000);
  (void)fprintf(stderr, "issuer:   token %u issued, good for %g s\n", t->number, (double)life / 1000);
}

/* --- the upstream --- */

static const struct issued *token_of(const struct demo_servers *d, const struct request *q) {
  const struct header *h = headers_find_id(&q->headers, H_AUTHORIZATION);
  if (h == NULL || !str_starts(h->value, STR("Bearer "))) return NULL;
  struct str value = {h->value.p + 7, h->value.n - 7};
  for (unsigned i = 0; i < TOKENS_KEPT; i++) {
    if (d->tokens[i].number > 0 && str_eq(value, str_of(d->tokens[i].value))) return &d->tokens[i];
  }
  return NULL;
}

/* A line a second: visitors are refused by the hundred, and count for themselves. */
static void tell_refusal(struct demo_servers *d, const char *why) {
  int64_t now = clock_boot_ms();
  if (d->told_at != 0 && now - d->told_at < TELL_MS) {
    d->untold++;
    return;
  }
  char more[48] = "";
  if (d->untold > 0) (void)snprintf(more, sizeof more, "; %u more since the last line", d->untold);
  (void)fprintf(stderr, "upstream: 401, %s%s\n", why, more);
  d->told_at = now;
  d->untold = 0;
}

static void serve_api(struct demo_servers *d, const struct request *q, struct reply *out) {
  const struct issued *t = token_of(d, q);
  int64_t left = t != NULL ? t->until - clock_boot_ms() : 0;
  if (left > 0) {
    buf_addf(&out->body, "{\"path\":\"%.*s\",\"token\":%u,\"good_for\":%.1f}\n", STR_FMT(q->path), t->number,
             (double)left / 1000);
    return;
  }
  out->status = 401;
  buf_addf(&out->body, "{\"error\":\"%s\"}\n", t != NULL ? "this token has expired" : "a valid token is needed");
  tell_refusal(d, t != NULL ? "an expired token" : "no token that is known here");
}

/* --- a connection --- */

static struct demo_conn *conn_of(struct small_http *h) { return CONTAINER_OF(h, struct demo_conn, http); }

static void on_conn_closed(struct stream *s) {
  struct demo_conn *c = conn_of(small_http_of(s));
  arena_reset(&c->http.arena);
  free(c);
}

static void close_conn(struct demo_conn *c) {
  list_remove(&c->link);
  timeout_fini(&c->delay);
  small_http_close(&c->http, on_conn_closed);
}

/* False when the connection is closed. */
static bool answer(struct demo_conn *c) {
  const struct request *q = &c->http.request;
  struct reply reply = {.status = 200};
  buf_init(&reply.body);
  reply.body.sensitive = true; /* the issuer's answer holds a token */
  c->listener->serve(c->listener->servers, q, &reply);
  struct headers headers;
  headers_init(&headers, &c->http.arena);
  headers_add(&headers, STR("content-type"), STR("application/json"));
  if (reply.status == 401) headers_add(&headers, STR("www-authenticate"), STR("Bearer"));
  int failed = small_http_answer(&c->http, reply.status, &headers, buf_str(&reply.body), q->keep_alive, true);
  buf_fini(&reply.body);
  bool stays = failed == 0 && q->keep_alive;
  if (!stays) close_conn(c);
  return stays;
}

static void on_delay_over(struct timeout *t) {
  struct demo_conn *c = CONTAINER_OF(t, struct demo_conn, delay);
  if (answer(c)) small_http_next(&c->http);
}

/* A reply that was asked for later comes later. A client that has sent more behind such a request is hung up on: it would have to be kept. */
static bool on_request(struct small_http *h, size_t behind) {
  struct demo_conn *c = conn_of(h);
  int64_t ms = asked_ms(&h->request, STR("delay"), 0);
  if (ms == 0) return answer(c);
  if (behind > 0) {
    close_conn(c);
    return false;
  }
  stream_read_stop(&h->stream);
  timeout_set(&c->delay, (uint64_t)ms);
  return false;
}

static void on_fault(struct small_http *h, int status, const char *text) {
  (void)status, (void)text;
  close_conn(conn_of(h));
}

static void on_gone(struct small_http *h) { close_conn(conn_of(h)); }

static const struct small_http_events EVENTS = {on_request, on_fault, on_gone, SIZE_MAX};

static void on_connection(uv_stream_t *handle, int status) {
  struct demo_listener *l = handle->data;
  if (status != 0) return;
  struct demo_conn *c = calloc(1, sizeof *c);
  if (c == NULL || small_http_accept(&c->http, &l->servers->net, handle, &EVENTS) != 0) {
    free(c);
    return;
  }
  c->listener = l;
  list_push(&l->servers->conns, &c->link);
  timeout_init(&c->delay, &l->servers->wheel, on_delay_over);
}

/* --- the thread --- */

static int open_listener(struct demo_servers *d, struct demo_listener *l, char url[DEMO_URL_SIZE]) {
  union address a;
  char text[48];
  int fd = address_parse(STR("127.0.0.1:0"), &a);
  if (fd == 0) fd = address_listen(&a, BACKLOG);
  l->servers = d;
  l->handle.data = l;
  (void)uv_tcp_init(&d->loop, &l->handle);
  if (fd < 0) return fd;
  int status = uv_tcp_open(&l->handle, fd);
  if (status == 0) status = uv_listen((uv_stream_t *)&l->handle, BACKLOG, on_connection);
  if (address_format(&a, text, sizeof text) < 0) text[0] = '\0';
  (void)snprintf(url, DEMO_URL_SIZE, "http://%s", text);
  return status;
}

static void close_all(struct demo_servers *d) {
  while (!list_empty(&d->conns)) close_conn(CONTAINER_OF(d->conns.next, struct demo_conn, link));
  uv_close((uv_handle_t *)&d->issuer.handle, NULL);
  uv_close((uv_handle_t *)&d->upstream.handle, NULL);
  uv_close((uv_handle_t *)&d->stop, NULL);
  wheel_close(&d->wheel);
}

static void on_stop(uv_async_t *a) { close_all(a->data); }

static void servers_main(void *arg) { (void)uv_run(&((struct demo_servers *)arg)->loop, UV_RUN_DEFAULT); }

static void free_servers(struct demo_servers *d) {
  int status = uv_loop_close(&d->loop);
  assert(status == 0);
  (void)status;
  net_fini(&d->net);
  free(d);
}

struct demo_servers *demo_servers_start(char issuer[DEMO_URL_SIZE], char upstream[DEMO_URL_SIZE]) {
  struct demo_servers *d = calloc(1, sizeof *d);
  if (d == NULL || uv_loop_init(&d->loop) != 0) {
    free(d);
    return NULL;
  }
  net_init(&d->net, &d->loop);
  wheel_init(&d->wheel, &d->loop);
  list_init(&d->conns);
  d->issuer.serve = serve_token;
  d->upstream.serve = serve_api;
  d->stop.data = d;
  int status = uv_async_init(&d->loop, &d->stop, on_stop);
  int first = open_listener(d, &d->issuer, issuer);
  int second = open_listener(d, &d->upstream, upstream);
  if (status == 0 && first == 0 && second == 0 && uv_thread_create(&d->thread, servers_main, d) == 0) return d;
  close_all(d);
  (void)uv_run(&d->loop, UV_RUN_DEFAULT);
  free_servers(d);
  return NULL;
}

void demo_servers_stop(struct demo_servers *d) {
  (void)uv_async_send(&d->stop);
  (void)uv_thread_join(&d->thread);
  free_servers(d);
}
