/* control_test.c: the control socket with a host made of constants: routes, formats, answers that come later, and who may open it. */
#include "ops/control.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/named.h"
#include "check.h"
#include "ops/control_client.h"
#include "token/keeper.h"
#include "token/result.h"
#include "token/slot_internal.h"

enum { END_MS = 60 };
static unsigned stranger;

static char path[64];
struct fixture {
  struct registry *names;
  struct services services;
  struct control *control;
  uv_thread_t thread;
  uv_async_t stop;
  uv_timer_t later;
  struct slot *slot;
  enum { END_SET, END_FAIL, END_CLOSE, END_NEVER } end; /* of a refresh, END_MS after it was asked for */
  uint64_t ended_at;                                    /* uv_hrtime */
  struct reload_waiter *waiter;
  int refusal;
  bool ready, stopped;
};

static bool host_ready(void *ctx, enum control_form form, struct buf *out) {
  bool ready = ((struct fixture *)ctx)->ready;
  CHECK(form == CONTROL_JSON);
  buf_addf(out, "{\"ready\":%s}\n", ready ? "true" : "false");
  return ready;
}
static void host_status(void *ctx, enum control_form form, struct buf *out) {
  (void)ctx;
  buf_addz(out, form == CONTROL_METRICS ? "fine 1\n" : form == CONTROL_TEXT ? "fine\n" : "{\"fine\":true}\n");
}
static void on_reload_later(uv_timer_t *t) {
  struct fixture *f = t->data;
  struct reload_result r = {
      .status = f->refusal, .number = 7, .text = f->refusal != 0 ? "policy.lua:3: upstream: \"x\"\n" : ""};
  list_remove(&f->waiter->link);
  f->waiter->done(f->waiter, &r);
}
static void host_reload(void *ctx, bool prove, struct reload_waiter *w) {
  struct fixture *f = ctx;
  f->waiter = w;
  CHECK(uv_timer_start(&f->later, on_reload_later, prove ? 60 : 5, 0) == 0);
}
static void fail_slot(struct slot *s) { /* as the keeper does when a fetch has failed */
  const struct slot_failure failure = {.why = "the issuer is away"};
  pthread_mutex_lock(&s->mutex);
  slot_fail_locked(s, &failure, clock_boot_ms());
  slot_gather_locked(s, WAKE_ONE_ATTEMPT, ERR_TOKEN_MISSING);
  pthread_mutex_unlock(&s->mutex);
  slot_wake(s);
}
static void on_refresh_ends(uv_timer_t *t) {
  struct fixture *f = t->data;
  struct fetch_result r = {.ok = true, .value = STR("wowser"), .has_expires_in = true, .expires_in = 60};
  f->ended_at = uv_hrtime();
  switch (f->end) {
    case END_SET: CHECK(slot_set(f->slot, &r) == NULL); break;
    case END_FAIL: fail_slot(f->slot); break;
    case END_CLOSE: slot_close(f->slot, false); break;
    case END_NEVER: break;
  }
}
static struct slot *host_slot(void *ctx, struct str name) {
  struct fixture *f = ctx;
  if (!str_eq(name, STR("api"))) return NULL;
  CHECK(uv_timer_start(&f->later, on_refresh_ends, END_MS, 0) == 0);
  return slot_ref(f->slot);
}
static void host_token_names(void *ctx, void (*fn)(void *arg, const char *name), void *arg) {
  (void)ctx;
  fn(arg, "api");
}
static void host_stop(void *ctx) { ((struct fixture *)ctx)->stopped = true; }

static struct control *open_control(struct fixture *f, int *status, char *err, size_t n) {
  struct control_host host = {f, host_ready, host_status, host_reload, host_slot, host_token_names, host_stop};
  return control_new(&host, &f->services, path, status, err, n);
}

static void on_stop(uv_async_t *a) {
  struct fixture *f = a->data;
  control_close(f->control);
  uv_close((uv_handle_t *)&f->later, NULL);
  uv_close((uv_handle_t *)a, NULL);
  uv_stop(&f->services.loop);
}
static void run_loop(void *arg) { (void)uv_run(&((struct fixture *)arg)->services.loop, UV_RUN_DEFAULT); }

static void begin(struct fixture *f) {
  char err[256];
  int status;
  *f = (struct fixture){.ready = true};
  f->names = registry_new();
  CHECK(services_init(&f->services, f->names) == 0);
  f->slot = slot_new(STR("api"), (struct str){0});
  slot_configure(f->slot, &schedule_default, true);
  f->stop.data = f->later.data = f;
  CHECK(uv_async_init(&f->services.loop, &f->stop, on_stop) == 0);
  CHECK(uv_timer_init(&f->services.loop, &f->later) == 0);
  f->control = open_control(f, &status, err, sizeof err);
  CHECK(f->control != NULL && status == 0);
}

static void serve(struct fixture *f) { CHECK(uv_thread_create(&f->thread, run_loop, f) == 0); }

static void end(struct fixture *f) {
  CHECK(uv_async_send(&f->stop) == 0);
  CHECK(uv_thread_join(&f->thread) == 0);
  services_close(&f->services);
  registry_free(f->names);
  slot_unref(f->slot);
  CHECK(access(path, F_OK) != 0);
}

static void expect(const char *method, const char *target, int status, const char *part) {
  struct buf body;
  buf_init(&body);
  int got = control_ask(path, method, target, &body, &stranger);
  if (got != status || strstr(buf_z(&body), part) == NULL)
    fprintf(stderr, "%s %s: %d %s\n", method, target, got, buf_z(&body));
  CHECK(got == status);
  CHECK(strstr(buf_z(&body), part) != NULL);
  buf_fini(&body);
}

static void answers_what_is_asked(void) {
  struct fixture f;
  begin(&f);
  serve(&f);
  expect("GET", "/health", 200, "{\"ready\":true}");
  expect("GET", "/status", 200, "{\"fine\":true}");
  expect("GET", "/status?format=text", 200, "fine\n");
  expect("GET", "/metrics", 200, "fine 1\n");
  expect("POST", "/metrics", 405, "another method");
  expect("GET", "/stauts", 404, "/stauts");
  expect("GET", "/reload", 405, "GET");
  expect("POST", "/stop", 202, "\"ok\":true");
  end(&f);
  CHECK(f.stopped);
}

static void health_is_503_until_ready(void) {
  struct fixture f;
  begin(&f);
  f.ready = false;
  serve(&f);
  expect("GET", "/health", 503, "false");
  expect("GET", "/ready", 503, "false");
  expect("GET", "/live", 200, "{\"live\":true}");
  end(&f);
}

static void a_reload_is_answered_when_it_has_ended(void) {
  struct fixture f;
  begin(&f);
  serve(&f);
  expect("POST", "/reload", 200, "\"policy\":7");
  expect("POST", "/reload?prove=1&format=text", 200, "policy 7 is active");
  end(&f);
}

static void a_refused_reload_says_why(void) {
  struct fixture f;
  begin(&f);
  f.refusal = ERR_CONFIG;
  serve(&f);
  expect("POST", "/reload", 422, "{\"ok\":false,\"error\":\"policy.lua:3: upstream: \\\"x\\\"\\n\"}");
  expect("POST", "/reload?format=text", 422, "policy.lua:3: upstream: \"x\"\n");
  end(&f);
}

static void a_refresh_waits_for_its_outcome_and_shows_no_secret(void) {
  struct fixture f;
  begin(&f);
  serve(&f);
  struct buf body;
  buf_init(&body);
  CHECK(control_ask(path, "POST", "/refresh/api?format=text", &body, &stranger) == 200);
  CHECK(strstr(buf_z(&body), "generation 1") != NULL);
  CHECK(strstr(buf_z(&body), "wowser") == NULL);
  buf_fini(&body);
  expect("POST", "/refresh/%61pj", 404, "did you mean \\\"api\\\"");
  slot_configure(f.slot, &schedule_default, false);
  expect("POST", "/refresh/api", 409, "no fetch");
  end(&f);
}

static void a_refresh_is_answered_when_it_ends_not_later(void) {
  struct fixture f;
  begin(&f);
  serve(&f);
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < 5; i++) { /* the machine may be busy: one good one will do */
    expect("POST", "/refresh/api", 200, "generation");
    uint64_t took = uv_hrtime() - f.ended_at;
    if (took < least) least = took;
  }
  CHECK(least < 20 * 1000 * 1000);
  end(&f);
}

static void a_refresh_that_fails_says_why(void) {
  struct fixture f;
  begin(&f);
  f.end = END_FAIL;
  serve(&f);
  expect("POST", "/refresh/api", 502, "token api: the issuer is away");
  expect("POST", "/refresh/api", 502, "token api: the issuer is away"); /* backoff or not */
  end(&f);
}

static void a_refresh_of_a_slot_that_closes_is_answered(void) {
  struct fixture f;
  begin(&f);
  f.end = END_CLOSE;
  serve(&f);
  expect("POST", "/refresh/api", 409, "took its fetch away");
  expect("POST", "/refresh/api", 409, "took its fetch away");
  end(&f);
}

/* slot_unref asserts that nobody waits any more. */
static void a_refresh_under_way_ends_with_the_socket(void) {
  struct fixture f;
  begin(&f);
  f.end = END_NEVER;
  serve(&f);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  memcpy(a.sun_path, path, strlen(path) + 1);
  CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
  static const char ask[] = "POST /refresh/api HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
  CHECK(send(fd, ask, sizeof ask - 1, 0) == (ssize_t)sizeof ask - 1);
  for (struct slot_facts facts = {0}; facts.waiters == 0; (void)usleep(1000))
    slot_facts(f.slot, clock_boot_ms(), &facts);
  end(&f);
  CHECK(close(fd) == 0);
}

static void only_its_owner_may_open_it(void) {
  struct fixture f;
  struct stat st;
  begin(&f);
  serve(&f);
  CHECK(stat(path, &st) == 0);
  CHECK((st.st_mode & 0777) == 0600);
  end(&f);
}

static void a_second_process_is_refused(void) {
  struct fixture f;
  begin(&f);
  serve(&f);
  struct fixture second = {.ready = true};
  char err[256] = "";
  int status = 0;
  CHECK(open_control(&second, &status, err, sizeof err) == NULL);
  CHECK(status == UV_EADDRINUSE);
  CHECK(strstr(err, path) != NULL);
  expect("GET", "/health", 200, "true");
  end(&f);
}

static void a_stale_file_is_replaced(void) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  memcpy(a.sun_path, path, strlen(path) + 1);
  CHECK(bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
  CHECK(close(fd) == 0);
  struct fixture f;
  begin(&f);
  serve(&f);
  expect("GET", "/health", 200, "true");
  end(&f);
}

static void a_client_that_leaves_harms_nobody(void) {
  struct fixture f;
  begin(&f);
  serve(&f);
  for (int i = 0; i < 3; i++) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, path, strlen(path) + 1);
    CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    const char *part = i == 0   ? "POST /refresh/api HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
                       : i == 1 ? "GET /sta"
                                : "junk\r\n\r\n";
    CHECK(send(fd, part, strlen(part), 0) == (ssize_t)strlen(part));
    CHECK(close(fd) == 0);
  }
  expect("GET", "/health", 200, "true");
  end(&f);
}

static void nobody_there_is_told_apart(void) {
  struct buf body;
  buf_init(&body);
  CHECK(control_ask(path, "GET", "/health", &body, &stranger) == UV_ENOENT);
  CHECK(control_wait_gone(path, 1000) == 0);
  buf_fini(&body);
}

int main(void) {
  (void)signal(SIGPIPE, SIG_IGN); /* as the process does */
  (void)snprintf(path, sizeof path, "/tmp/control_test.%ld", (long)getpid());
  RUN(answers_what_is_asked);
  RUN(health_is_503_until_ready);
  RUN(a_reload_is_answered_when_it_has_ended);
  RUN(a_refused_reload_says_why);
  RUN(a_refresh_waits_for_its_outcome_and_shows_no_secret);
  RUN(a_refresh_is_answered_when_it_ends_not_later);
  RUN(a_refresh_that_fails_says_why);
  RUN(a_refresh_of_a_slot_that_closes_is_answered);
  RUN(a_refresh_under_way_ends_with_the_socket);
  RUN(only_its_owner_may_open_it);
  RUN(a_second_process_is_refused);
  RUN(a_stale_file_is_replaced);
  RUN(a_client_that_leaves_harms_nobody);
  RUN(nobody_there_is_told_apart);
  return 0;
}
