/* control.c: a small HTTP server for one user: the owner of the socket.
 *
 * A connection carries one request and is closed behind its answer. An answer may come later (a reload, a refresh): the connection is then listed
 * there and takes itself off when its client leaves first. Nothing is polled: the reload or slot that a connection waits for calls it back. Invariants: a wait
 * never outlives its connection; a body is read and dropped up to BODY_MAX. Control's thread. */
#include "ops/control.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/must.h"
#include "ops/small_http.h"

enum { BACKLOG = 64, REQUEST_MS = 10 * 1000, REFRESH_MS = 60 * 1000, BODY_MAX = 64 * 1024 };

struct control {
  struct control_host host;
  struct services *services;
  uv_pipe_t listener;
  struct link conns;
  char *path;
  unsigned handles;
  bool closing;
};
struct control_conn {
  struct link link;
  struct small_http http;
  struct control *control;
  struct timeout timeout; /* until the request is there, and then until the client has taken the answer */
  struct reload_waiter reload;
  /* a refresh; what it waits for is in `refresh`, and how long in `limit` */
  struct slot *slot; /* a reference */
  struct slot_waiter refresh;
  struct timeout limit;
  uint64_t generation; /* before it */
};
struct route {
  const char *method, *path; /* a path that ends in "/" takes what follows */
  void (*handle)(struct control_conn *c, struct str rest);
};

/* --- a connection's end --- */

static void one_handle_less(struct control *c) {
  if (--c->handles > 0 || !c->closing) return;
  free(c->path);
  free(c);
}

static struct control_conn *conn_of(struct small_http *h) { return CONTAINER_OF(h, struct control_conn, http); }

static void on_conn_closed(struct stream *s) {
  struct control_conn *c = conn_of(small_http_of(s));
  struct control *control = c->control;
  arena_reset(&c->http.arena);
  free(c);
  one_handle_less(control);
}

static void close_conn(struct control_conn *c) {
  list_remove(&c->link);
  reload_forget(&c->reload);
  timeout_fini(&c->timeout);
  timeout_fini(&c->limit);
  slot_wait_cancel(&c->refresh);
  if (c->slot != NULL) slot_unref(c->slot);
  c->slot = NULL;
  small_http_close(&c->http, on_conn_closed);
}

static void on_timeout(struct timeout *t) { close_conn(CONTAINER_OF(t, struct control_conn, timeout)); }

/* --- answers --- */

static bool wants_text(const struct control_conn *c) {
  return c->http.request.query.p != NULL &&
         memmem(c->http.request.query.p, c->http.request.query.n, "format=text", 11) != NULL;
}

static void on_answered_read(struct stream *s, ssize_t n, const uint8_t *data) {
  (void)data;
  if (n < 0) close_conn(conn_of(small_http_of(s))); /* the client has closed: it has everything */
}

/* The connection ends when the client has closed, or by its timeout. */
static void answer_as(struct control_conn *c, int status, struct str type, struct str body) {
  struct headers headers;
  headers_init(&headers, &c->http.arena);
  headers_add(&headers, STR("content-type"), type);
  headers_add(&headers, STR("cache-control"), STR("no-store"));
  int failed = small_http_answer(&c->http, status, &headers, body, false, false);
  if (failed != 0) {
    close_conn(c);
    return;
  }
  timeout_set(&c->timeout, REQUEST_MS);
  stream_shutdown(&c->http.stream);
  stream_read_start(&c->http.stream, on_answered_read);
}

/* The body is text or JSON by what the request asked for. */
static void answer(struct control_conn *c, int status, struct str body) {
  answer_as(c, status, wants_text(c) ? STR("text/plain; charset=utf-8") : STR("application/json"), body);
}

/* {"ok":…,"message":…}, or the message alone in text. */
static void answer_message(struct control_conn *c, int status, const char *key, struct str message) {
  struct buf body;
  buf_init(&body);
  if (wants_text(c)) {
    buf_adds(&body, message);
    if (message.n > 0 && message.p[message.n - 1] != '\n') buf_addz(&body, "\n");
  } else {
    buf_addf(&body, "{\"ok\":%s,\"%s\":", status < 400 ? "true" : "false", key);
    json_add_string(&body, message);
    buf_addz(&body, "}\n");
  }
  answer(c, status, buf_str(&body));
  buf_fini(&body);
}

static void answer_error(struct control_conn *c, int status, const char *fmt, struct str what) {
  struct buf message;
  buf_init(&message);
  buf_addz(&message, fmt);
  buf_adds(&message, what);
  answer_message(c, status, "error", buf_str(&message));
  buf_fini(&message);
}

/* --- what can be asked --- */

static void handle_live(struct control_conn *c, struct str rest) {
  (void)rest;
  answer(c, 200, wants_text(c) ? STR("live\n") : STR("{\"live\":true}\n"));
}

static void handle_ready(struct control_conn *c, struct str rest) {
  (void)rest;
  struct buf body;
  buf_init(&body);
  bool ready = c->control->host.ready(c->control->host.ctx, wants_text(c) ? CONTROL_TEXT : CONTROL_JSON, &body);
  answer(c, ready ? 200 : 503, buf_str(&body));
  buf_fini(&body);
}

static void handle_status(struct control_conn *c, struct str rest) {
  (void)rest;
  struct buf body;
  buf_init(&body);
  c->control->host.status(c->control->host.ctx, wants_text(c) ? CONTROL_TEXT : CONTROL_JSON, &body);
  answer(c, 200, buf_str(&body));
  buf_fini(&body);
}

static void handle_metrics(struct control_conn *c, struct str rest) {
  (void)rest;
  struct buf body;
  buf_init(&body);
  c->control->host.status(c->control->host.ctx, CONTROL_METRICS, &body);
  answer_as(c, 200, STR("text/plain; version=0.0.4; charset=utf-8"), buf_str(&body));
  buf_fini(&body);
}

static void on_reloaded(struct reload_waiter *w, const struct reload_result *result) {
  struct control_conn *c = CONTAINER_OF(w, struct control_conn, reload);
  if (result->status == ERR_CLOSED) {
    answer_message(c, 503, "error", str_of(result->text));
    return;
  }
  struct buf body;
  buf_init(&body);
  if (result->status != 0) {
    buf_addz(&body, result->text);
    if (wants_text(c)) buf_addz(&body, "the policy was refused, the active one goes on\n");
    answer_message(c, 422, "error", buf_str(&body));
    buf_fini(&body);
    return;
  }
  if (wants_text(c)) {
    buf_addf(&body, "%sreloaded: policy %llu is active\n", result->text, (unsigned long long)result->number);
  } else {
    buf_addf(&body, "{\"ok\":true,\"policy\":%llu,\"warnings\":", (unsigned long long)result->number);
    json_add_string(&body, str_of(result->text));
    buf_addz(&body, "}\n");
  }
  answer(c, 200, buf_str(&body));
  buf_fini(&body);
}

static void handle_reload(struct control_conn *c, struct str rest) {
  (void)rest;
  struct str query = c->http.request.query;
  bool prove = query.p != NULL && memmem(query.p, query.n, "prove=1", 7) != NULL;
  c->control->host.reload(c->control->host.ctx, prove, &c->reload);
}

static void handle_stop(struct control_conn *c, struct str rest) {
  (void)rest;
  struct control_host host = c->control->host;
  answer_message(c, 202, "message", STR("stopping"));
  host.stop(host.ctx);
}

/* --- refresh --- */

static void answer_generation(struct control_conn *c, const struct slot_facts *now) {
  char text[256];
  char ends[64] = "does not end";
  if (!now->lasts)
    (void)snprintf(ends, sizeof ends, "expires in %lld s", (long long)(now->expires_in_ms / 1000));
  else if (now->generation == c->generation)
    (void)snprintf(ends, sizeof ends, "its secret is what it was");
  (void)snprintf(text, sizeof text, "token %s: generation %llu, %s", slot_name(c->slot),
                 (unsigned long long)now->generation, ends);
  answer_message(c, 200, "message", str_of(text));
}

static void answer_failure(struct control_conn *c, const struct slot_facts *now) {
  char text[256];
  (void)snprintf(text, sizeof text, "token %s: %s", slot_name(c->slot),
                 now->last_error[0] != '\0' ? now->last_error : "the fetch failed");
  answer_message(c, 502, "error", str_of(text));
}

/* It has succeeded if there is a new value, wherever that came from. */
static void on_refreshed(struct slot_waiter *w, int status) {
  struct control_conn *c = CONTAINER_OF(w, struct control_conn, refresh);
  struct slot_facts now;
  timeout_clear(&c->limit);
  slot_facts(c->slot, clock_boot_ms(), &now);
  if (now.generation != c->generation || (status == 0 && now.constant && now.valid)) {
    answer_generation(c, &now);
  } else if (status == UV_ECANCELED || !now.has_fetch) {
    answer_error(c, 409, "a reload took its fetch away: token ", str_of(slot_name(c->slot)));
  } else {
    answer_failure(c, &now);
  }
}

static void on_refresh_limit(struct timeout *t) {
  struct control_conn *c = CONTAINER_OF(t, struct control_conn, limit);
  struct slot_facts now;
  char text[320];
  slot_wait_cancel(&c->refresh);
  slot_facts(c->slot, clock_boot_ms(), &now);
  (void)snprintf(text, sizeof text, "the refresh has not ended yet: token %.160s, its fetch has taken %lld s",
                 slot_name(c->slot), (long long)(now.fetching_ms > 0 ? now.fetching_ms / 1000 : 0));
  answer_message(c, 504, "error", str_of(text));
}

/* Percent-decoding (RFC 3986 section 2.1); what is not an escape stands for itself. */
static struct str decode(struct arena *a, struct str s) {
  char *out = arena_alloc(a, s.n + 1);
  size_t n = 0;
  for (size_t i = 0; i < s.n; i++) {
    int high = i + 2 < s.n && s.p[i] == '%' ? hex_value(s.p[i + 1]) : -1;
    int low = high >= 0 ? hex_value(s.p[i + 2]) : -1;
    out[n++] = low >= 0 ? (char)(high * 16 + low) : s.p[i];
    if (low >= 0) i += 2;
  }
  out[n] = '\0';
  return (struct str){out, n};
}

struct nearest {
  struct str wanted;
  const char *name;
  unsigned distance;
};
static void compare_name(void *arg, const char *name) {
  struct nearest *n = arg;
  unsigned d = str_distance(n->wanted, str_of(name));
  if (d >= n->distance) return;
  n->distance = d;
  n->name = name;
}

static void answer_no_token(struct control_conn *c, struct str name) {
  struct nearest nearest = {.wanted = name, .distance = 4};
  c->control->host.token_names(c->control->host.ctx, compare_name, &nearest);
  struct buf text;
  buf_init(&text);
  buf_addf(&text, "there is no token \"%.*s\"", STR_FMT(name));
  if (nearest.name != NULL) buf_addf(&text, " (did you mean \"%s\"?)", nearest.name);
  answer_message(c, 404, "error", buf_str(&text));
  buf_fini(&text);
}

static void handle_refresh(struct control_conn *c, struct str rest) {
  struct str name = decode(&c->http.arena, rest);
  c->slot = c->control->host.slot(c->control->host.ctx, name);
  if (c->slot == NULL) {
    answer_no_token(c, name);
    return;
  }
  struct slot_facts before;
  slot_facts(c->slot, clock_boot_ms(), &before);
  c->generation = before.generation;
  switch (slot_refresh_wait(c->slot, &c->refresh, &c->control->services->mailbox, UINT_MAX)) {
    case 0: timeout_set(&c->limit, REFRESH_MS); break;
    case UV_ENOTSUP:
      answer_error(c, 409, "there is no fetch to run, scripts fill it with :set: token ", str_of(slot_name(c->slot)));
      break;
    default: answer_error(c, 409, "a reload took its fetch away: token ", str_of(slot_name(c->slot))); /* closed */
  }
}

/* --- reading --- */

static const struct route ROUTES[] = {{"GET", "/live", handle_live},         {"GET", "/ready", handle_ready},
                                      {"GET", "/health", handle_ready},      {"GET", "/status", handle_status},
                                      {"GET", "/metrics", handle_metrics},   {"POST", "/reload", handle_reload},
                                      {"POST", "/refresh/", handle_refresh}, {"POST", "/stop", handle_stop}};

static bool route_takes(const struct route *r, struct str path, struct str *rest) {
  struct str own = str_of(r->path);
  *rest = (struct str){path.p + own.n, path.n >= own.n ? path.n - own.n : 0};
  bool open_ended = own.p[own.n - 1] == '/';
  return open_ended ? str_starts(path, own) && rest->n > 0 : str_eq(path, own);
}

static void on_waiting_read(struct stream *s, ssize_t n, const uint8_t *data) {
  (void)data;
  struct control_conn *c = conn_of(small_http_of(s));
  /* A client that has only shut its own side down still wants its answer; a write fails when it is gone. */
  if (n < 0 && n != UV_EOF) close_conn(c);
}

static void dispatch(struct control_conn *c) {
  timeout_clear(&c->timeout);
  stream_read_start(&c->http.stream, on_waiting_read);
  bool known = false;
  for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++) {
    struct str rest;
    if (!route_takes(&ROUTES[i], c->http.request.path, &rest)) continue;
    known = true;
    if (!str_eq(c->http.request.method, str_of(ROUTES[i].method))) continue;
    ROUTES[i].handle(c, rest);
    return;
  }
  answer_error(c, known ? 405 : 404, known ? "this path takes another method than " : "there is nothing at ",
               known ? c->http.request.method : c->http.request.path);
}

static bool on_request(struct small_http *h, size_t behind) {
  (void)behind; /* one request a connection */
  dispatch(conn_of(h));
  return false;
}

static void on_fault(struct small_http *h, int status, const char *text) {
  answer_error(conn_of(h), status, text, STR(""));
}

static void on_gone(struct small_http *h) { close_conn(conn_of(h)); }

static const struct small_http_events EVENTS = {on_request, on_fault, on_gone, BODY_MAX};

static void on_connection(uv_stream_t *listener, int status) {
  struct control *control = listener->data;
  if (status != 0) return;
  struct control_conn *c = calloc(1, sizeof *c);
  if (c == NULL || small_http_accept(&c->http, &control->services->net, listener, &EVENTS) != 0) {
    free(c);
    return;
  }
  c->control = control;
  control->handles++;
  list_push(&control->conns, &c->link);
  list_init(&c->reload.link);
  c->reload.done = on_reloaded;
  c->refresh.done = on_refreshed;
  timeout_init(&c->timeout, &control->services->wheel, on_timeout);
  timeout_init(&c->limit, &control->services->wheel, on_refresh_limit);
  timeout_set(&c->timeout, REQUEST_MS);
}

/* --- life --- */

void control_default_path(char *out, size_t n) {
  const char *dir = getenv("XDG_RUNTIME_DIR");
  if (dir != NULL && dir[0] == '/') {
    (void)snprintf(out, n, "%s/jeton.sock", dir);
  } else if (geteuid() == 0) {
    (void)snprintf(out, n, "/run/jeton.sock");
  } else {
    (void)snprintf(out, n, "/tmp/jeton-%u.sock", (unsigned)geteuid());
  }
}

/* The descriptor, made under a umask that keeps others out from the first moment on (no other thread runs yet). */
static int open_socket(const char *path, char *err, size_t errsize) {
  char text[256];
  union address a;
  (void)snprintf(text, sizeof text, "unix:%s", path);
  int fd = address_parse(str_of(text), &a);
  if (fd == 0) {
    mode_t before = umask(0177);
    fd = address_listen(&a, BACKLOG);
    (void)umask(before);
  }
  struct stat there;
  if (fd < 0 && lstat(path, &there) == 0 && there.st_uid != geteuid()) {
    (void)snprintf(
        err, errsize,
        "cannot open the control socket %s: what stands there belongs to another user (uid %u): give this one "
        "its own with --control, or set XDG_RUNTIME_DIR to a directory of yours",
        path, (unsigned)there.st_uid);
  } else if (fd == UV_EADDRINUSE) {
    (void)snprintf(err, errsize,
                   "another jeton answers on the control socket %s: stop it, or give this one its own with --control",
                   path);
  } else if (fd < 0) {
    (void)snprintf(err, errsize, "cannot open the control socket %s: %s; --control takes another path", path,
                   err_text(fd));
  }
  return fd;
}

struct control *control_new(const struct control_host *host, struct services *services, const char *path, int *status,
                            char *err, size_t errsize) {
  int fd = open_socket(path, err, errsize);
  *status = fd < 0 ? fd : 0;
  if (fd < 0) return NULL;
  struct control *c = must_calloc(1, sizeof *c);
  c->path = must_strdup(path);
  c->host = *host;
  c->services = services;
  c->handles = 1;
  c->listener.data = c;
  list_init(&c->conns);
  (void)uv_pipe_init(&services->loop, &c->listener, 0);
  *status = uv_pipe_open(&c->listener, fd);
  if (*status == 0) *status = uv_listen((uv_stream_t *)&c->listener, BACKLOG, on_connection);
  if (*status == 0) return c;
  (void)snprintf(err, errsize, "cannot listen on the control socket %s: %s", path, err_text(*status));
  control_close(c);
  return NULL;
}

static void on_listener_closed(uv_handle_t *h) { one_handle_less(h->data); }

void control_close(struct control *c) {
  c->closing = true;
  (void)unlink(c->path);
  while (!list_empty(&c->conns)) close_conn(CONTAINER_OF(c->conns.next, struct control_conn, link));
  uv_close((uv_handle_t *)&c->listener, on_listener_closed);
}
