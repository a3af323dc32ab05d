/* demo_servers.c: a small HTTP server, twice. Keep-alive, one answer a request, bodies read and dropped.
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

#include "base/arena.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/rand.h"
#include "base/units.h"
#include "base/wheel.h"
#include "http/parser.h"
#include "http/writer.h"
#include "net/address.h"
#include "net/stream.h"

enum {
  TOKENS_KEPT = 64,
  TOKEN_BYTES = 16,
  TOKEN_CHARS = 2 * TOKEN_BYTES,
  FIRST_BLOCK = 4096,
  BACKLOG = 1024,
  TELL_MS = 1000
};

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
  struct stream stream;
  struct demo_listener *listener;
  struct arena arena;
  struct http_parser parser;
  struct request request;
  struct timeout delay; /* of the reply; nothing is read meanwhile */
  _Alignas(16) uint8_t first[FIRST_BLOCK];
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

static void on_conn_closed(struct stream *s) {
  struct demo_conn *c = s->owner;
  arena_reset(&c->arena);
  free(c);
}

static void close_conn(struct demo_conn *c) {
  list_remove(&c->link);
  timeout_fini(&c->delay);
  stream_close(&c->stream, on_conn_closed);
}

static void begin_message(struct demo_conn *c) {
  arena_reset(&c->arena);
  http_parser_init_request(&c->parser, &c->arena, &http_limits_default, &c->request);
}

/* False when the connection is closed. */
static bool answer(struct demo_conn *c) {
  struct reply reply = {.status = 200};
  buf_init(&reply.body);
  c->listener->serve(c->listener->servers, &c->request, &reply);
  struct headers headers;
  headers_init(&headers, &c->arena);
  headers_add(&headers, STR("content-type"), STR("application/json"));
  if (reply.status == 401) headers_add(&headers, STR("www-authenticate"), STR("Bearer"));
  struct response_head head = {.status = reply.status,
                               .headers = &headers,
                               .framing = {FRAMING_LENGTH, reply.body.n},
                               .no_body = c->request.is_head,
                               .keep_alive = c->request.keep_alive,
                               .client_minor = c->request.minor};
  struct buf out;
  buf_init(&out);
  out.sensitive = true; /* the issuer's answer holds a token */
  reply.body.sensitive = true;
  write_response_head(&out, &head);
  if (!head.no_body) buf_adds(&out, buf_str(&reply.body));
  uv_buf_t piece = uv_buf_init((char *)out.p, (unsigned)out.n);
  int failed = stream_write(&c->stream, &piece, 1, true);
  buf_fini(&out);
  buf_fini(&reply.body);
  bool stays = failed == 0 && c->request.keep_alive;
  if (!stays) close_conn(c);
  if (stays) begin_message(c);
  return stays;
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data);

static void on_delay_over(struct timeout *t) {
  struct demo_conn *c = CONTAINER_OF(t, struct demo_conn, delay);
  if (answer(c)) stream_read_start(&c->stream, on_read);
}

/* The reply comes later. A client that has sent more behind a request for that is hung up on: it would have to be kept. */
static bool is_delayed(struct demo_conn *c, size_t behind) {
  int64_t ms = asked_ms(&c->request, STR("delay"), 0);
  if (ms == 0) return false;
  if (behind > 0) {
    close_conn(c);
    return true;
  }
  stream_read_stop(&c->stream);
  timeout_set(&c->delay, (uint64_t)ms);
  return true;
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct demo_conn *c = s->owner;
  if (n < 0) {
    close_conn(c);
    return;
  }
  size_t left = (size_t)n;
  for (;;) {
    struct str span;
    switch (http_parser_next(&c->parser, &data, &left, &span)) {
      case PARSE_MORE: return;
      case PARSE_HEAD:
      case PARSE_BODY: break;
      case PARSE_END:
        if (is_delayed(c, left) || !answer(c)) return;
        break;
      case PARSE_ERROR: close_conn(c); return;
    }
  }
}

static void on_connection(uv_stream_t *handle, int status) {
  struct demo_listener *l = handle->data;
  if (status != 0) return;
  struct demo_conn *c = calloc(1, sizeof *c);
  if (c == NULL || stream_init_accept(&c->stream, &l->servers->net, handle) != 0) {
    free(c);
    return;
  }
  c->stream.owner = c;
  c->listener = l;
  list_push(&l->servers->conns, &c->link);
  arena_init(&c->arena, c->first, sizeof c->first);
  timeout_init(&c->delay, &l->servers->wheel, on_delay_over);
  begin_message(c);
  stream_read_start(&c->stream, on_read);
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
