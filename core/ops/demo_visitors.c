/* demo_visitors.c: a request every VISIT_MS, and a line of figures every REPORT_MS.
 *
 * Visits begin by the clock, not when the one before has ended: a stall slows all visits that begin during it, where it would otherwise count as one slow
 * request. A visit whose reply has not come within LIMIT_MS has failed. The first visitor comes alone and is not counted: before there is a token everybody has
 * to wait, whatever the policy does. Owned by the visitors' thread, but for start and stop. */
#include "ops/demo_visitors.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/must.h"
#include "http/call.h"
#include "http/services.h"
#include "net/url.h"

enum {
  VISIT_MS = 5,
  REPORT_MS = 5000,
  BEHIND_MAX_US = 1000 * 1000,
  LIMIT_MS = 10 * 1000,
  POOL_MS = 60 * 1000,
  POOL_IDLE = 1024,
  TIMES_MAX = 2 * REPORT_MS / VISIT_MS,
  FIRST_BLOCK = 2048,
  URL_SIZE = 160
};

struct demo_visitors {
  struct services services;
  uv_thread_t thread;
  uv_async_t stop;
  uv_timer_t next, report;
  char text[URL_SIZE];
  struct url url; /* slices of `text` */
  struct origin *origin;
  struct link visits;
  int64_t due_us;       /* the next visit */
  bool stopping, begun; /* begun: the first visit is over */
  /* since the last report */
  uint32_t times_us[TIMES_MAX];
  unsigned ntimes, refused, failed;
};
struct visit {
  struct link link;
  struct demo_visitors *visitors;
  struct call call;
  struct arena arena;
  struct headers headers;
  int64_t begun_us;
  int status;
  _Alignas(16) uint8_t first[FIRST_BLOCK];
};

static void on_report(uv_timer_t *t);

/* --- a visit --- */

static void free_visit(struct visit *v) {
  list_remove(&v->link);
  call_fini(&v->call);
  arena_reset(&v->arena);
  free(v);
}

/* Memory goes with the next visit: the call is still on the stack. */
static void end_visit(struct visit *v) {
  struct demo_visitors *all = v->visitors;
  if (!all->begun) {
    all->begun = true;
    (void)uv_timer_start(&all->report, on_report, REPORT_MS, REPORT_MS);
    return;
  }
  if (all->ntimes < TIMES_MAX) all->times_us[all->ntimes++] = (uint32_t)(clock_mono_us() - v->begun_us);
  if (v->status == 401)
    all->refused++;
  else if (v->status < 200 || v->status > 299)
    all->failed++;
}

static int make_head(struct call *c, struct request_head *head, struct str *body) {
  (void)body;
  struct visit *v = c->owner;
  *head = (struct request_head){.method = c->method,
                                .path = STR("/visit"),
                                .host = str_of(v->visitors->text + sizeof "http://" - 1),
                                .headers = &v->headers,
                                .framing = {.kind = FRAMING_NONE},
                                .keep_alive = true};
  c->body_done = true;
  return 0;
}

static void on_head(struct call *c) { ((struct visit *)c->owner)->status = c->response.status; }
static void on_body(struct call *c, struct str span) { (void)c, (void)span; }
static void on_end(struct call *c) { end_visit(c->owner); }
static void on_error(struct call *c, int status, const char *reason) {
  (void)status, (void)reason;
  struct visit *v = c->owner;
  v->status = 0;
  end_visit(v);
}

static const struct call_events EVENTS = {
    .make_head = make_head, .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_error = on_error};

static void sweep(struct demo_visitors *all) {
  for (struct link *l = all->visits.next, *next; l != &all->visits; l = next) {
    next = l->next;
    struct visit *v = CONTAINER_OF(l, struct visit, link);
    if (!call_running(&v->call)) free_visit(v);
  }
}

static void begin_visit(struct demo_visitors *all) {
  struct visit *v = must_calloc(1, sizeof *v);
  v->visitors = all;
  list_push(&all->visits, &v->link);
  arena_init(&v->arena, v->first, sizeof v->first);
  headers_init(&v->headers, &v->arena);
  v->begun_us = clock_mono_us();
  struct call *c = &v->call;
  call_init(c, &EVENTS, v, &v->arena, &all->services.wheel);
  c->method = STR("GET");
  c->limits = &http_limits_default;
  c->connect_ms = c->first_byte_ms = c->response_ms = c->send_ms = LIMIT_MS;
  c->pool = (struct pool_terms){.keep_ms = POOL_MS, .idle = POOL_IDLE};
  c->repeatable = true;
  call_start(c, all->origin);
}

/* As many as are due: a thread that was kept from running catches up. */
static void on_next(uv_timer_t *t) {
  struct demo_visitors *all = t->data;
  int64_t now = clock_mono_us();
  sweep(all);
  if (!all->begun) {
    if (list_empty(&all->visits)) begin_visit(all);
    all->due_us = now;
    return;
  }
  if (now - all->due_us > BEHIND_MAX_US) all->due_us = now - BEHIND_MAX_US;
  for (; all->due_us <= now; all->due_us += VISIT_MS * 1000) begin_visit(all);
}

/* --- figures --- */

static int by_size(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static double at_share(const struct demo_visitors *all, double share) {
  return (double)all->times_us[(unsigned)((all->ntimes - 1) * share)] / 1000;
}

static void on_report(uv_timer_t *t) {
  struct demo_visitors *all = t->data;
  if (all->ntimes > 0) {
    qsort(all->times_us, all->ntimes, sizeof all->times_us[0], by_size);
    (void)printf(
        "visitors: %4u requests; half answered within %.1f ms, 99 of 100 within %.1f ms, all within %.1f ms; "
        "%u refused by the upstream, %u failed\n",
        all->ntimes, at_share(all, 0.5), at_share(all, 0.99), at_share(all, 1), all->refused, all->failed);
    (void)fflush(stdout);
  }
  all->ntimes = all->refused = all->failed = 0;
}

/* --- the thread --- */

static void on_stop(uv_async_t *a) {
  struct demo_visitors *all = a->data;
  while (!list_empty(&all->visits)) {
    struct visit *v = CONTAINER_OF(all->visits.next, struct visit, link);
    call_cancel(&v->call);
    free_visit(v);
  }
  origin_unref(all->origin);
  uv_close((uv_handle_t *)&all->next, NULL);
  uv_close((uv_handle_t *)&all->report, NULL);
  uv_close((uv_handle_t *)&all->stop, NULL);
  all->stopping = true;
}

static void visitors_main(void *arg) {
  struct demo_visitors *all = arg;
  while (!all->stopping) (void)uv_run(&all->services.loop, UV_RUN_ONCE);
  services_close(&all->services);
}

static void open_timers(struct demo_visitors *all) {
  uv_loop_t *loop = &all->services.loop;
  all->next.data = all->report.data = all->stop.data = all;
  (void)uv_async_init(loop, &all->stop, on_stop);
  (void)uv_timer_init(loop, &all->next);
  (void)uv_timer_init(loop, &all->report);
  (void)uv_timer_start(&all->next, on_next, VISIT_MS, VISIT_MS);
}

static const char *read_url(struct demo_visitors *all, const char *url) {
  (void)snprintf(all->text, sizeof all->text, "%s", url);
  const char *wrong = url_parse(str_of(all->text), &all->url);
  if (wrong != NULL) return wrong;
  return all->url.tls || all->url.unix_path.p != NULL ? "they speak plain HTTP over TCP only" : NULL;
}

struct demo_visitors *demo_visitors_start(const char *url) {
  struct demo_visitors *all = must_calloc(1, sizeof *all);
  const char *wrong = read_url(all, url);
  if (wrong == NULL && services_init(&all->services, NULL) != 0) wrong = "out of descriptors";
  if (wrong != NULL) {
    (void)fprintf(stderr, "visitors: none will come: %s\n", wrong);
    free(all);
    return NULL;
  }
  list_init(&all->visits);
  struct origin_settings s = {.host = all->url.host, .port = all->url.port};
  all->origin = origin_get(all->services.origins, &s);
  open_timers(all);
  if (uv_thread_create(&all->thread, visitors_main, all) != 0) abort();
  return all;
}

void demo_visitors_stop(struct demo_visitors *all) {
  if (all == NULL) return;
  (void)uv_async_send(&all->stop);
  (void)uv_thread_join(&all->thread);
  free(all);
}
