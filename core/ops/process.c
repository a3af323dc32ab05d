/* process.c: start, signals, drain, stop.
 *
 * Start: harden -> load the policy (its errors are shown, nothing has been started) -> control socket -> keeper and worker threads -> the first
 * policy goes the way of every reload -> "listening on …" -> every token that counts is valid -> "ready". Stop: no more reloads -> workers drain, up to timeouts.drain -> workers
 * stop and are joined -> the keeper waits for fetches under way, up to the same moment, stops and is joined -> everything of this thread closes. A stage
 * begins when the one before has answered; the drain's limit is the only one that time moves on. A second SIGTERM or SIGINT ends the process at once, and says
 * what that costs.
 * Main thread. */
#include "ops/process.h"

#include <assert.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "base/named.h"
#include "base/secmem.h"
#include "base/version.h"
#include "http/services.h"
#include "ops/certificates.h"
#include "ops/control.h"
#include "ops/exits.h"
#include "ops/keeper_thread.h"
#include "ops/metrics.h"
#include "ops/notify.h"
#include "ops/own_dir.h"
#include "ops/readiness.h"
#include "ops/reload.h"
#include "ops/status.h"
#include "ops/watch.h"
#include "proxy/addresses.h"
#include "proxy/worker.h"
#include "token/family.h"

enum { NSIGNALS = 4, READY_CHECK_MS = 100 };
static const int SIGNALS[NSIGNALS] = {SIGHUP, SIGTERM, SIGINT, SIGUSR1};

struct process;
struct worker_end { /* DRAIN, and STOP, which may come while it still drains; REOPEN before both */
  struct order drain, stop, reopen;
  struct process *process;
};
struct process {
  const struct process_options *options;
  struct registry *names;
  struct services services;
  uv_signal_t signals[NSIGNALS];
  uv_timer_t drain_limit;
  uv_timer_t ready_check; /* until the tokens are there for the first time: slots do not report to control */
  struct keeper_thread *keeper;
  struct order drain_keeper, stop_keeper;
  int64_t drained_by; /* once it stops: CLOCK_BOOTTIME ms; INT64_MAX: no limit */
  struct worker **workers;
  struct worker_end *ends;
  struct addresses *addresses; /* of clients, over all workers */
  unsigned nworkers, running;  /* threads wanted, and those that run */
  unsigned undrained, unstopped, unopened;
  struct reload *reload;
  struct control *control;
  struct watch *watch;
  struct certificates *certificates;
  int64_t started_at, serving_since;
  int exit_code;
  bool serving; /* the first policy is active */
  bool ready;   /* and all tokens have been there: the manager was told */
  bool stopping, workers_stopping;
};

/* --- stop, from its last stage to its first --- */

static void on_keeper_stopped(struct order *o) {
  struct process *p = CONTAINER_OF(o, struct process, stop_keeper);
  keeper_thread_join(p->keeper);
  p->keeper = NULL;
  uv_stop(&p->services.loop);
}

static void stop_keeper(struct process *p) {
  for (unsigned i = 0; i < p->running; i++) worker_join(p->workers[i]);
  p->running = 0;
  if (p->keeper == NULL) {
    uv_stop(&p->services.loop);
    return;
  }
  p->stop_keeper = (struct order){
      .reply_to = &p->services.mailbox, .done = on_keeper_stopped, .kind = ORDER_STOP, .until = p->drained_by};
  keeper_thread_post(p->keeper, &p->stop_keeper);
}

static void on_worker_stopped(struct order *o) {
  struct process *p = CONTAINER_OF(o, struct worker_end, stop)->process;
  if (--p->unstopped == 0) stop_keeper(p);
}

static void stop_workers(struct process *p) {
  if (p->workers_stopping) return;
  p->workers_stopping = true;
  (void)uv_timer_stop(&p->drain_limit);
  p->unstopped = p->running;
  for (unsigned i = 0; i < p->running; i++) {
    p->ends[i].stop = (struct order){.reply_to = &p->services.mailbox, .done = on_worker_stopped, .kind = ORDER_STOP};
    worker_post(p->workers[i], &p->ends[i].stop);
  }
  if (p->running == 0) stop_keeper(p);
}

static void on_drain_limit(uv_timer_t *t) {
  log_warn("the drain has reached its limit, closing what is left");
  stop_workers(t->data);
}

static void on_worker_drained(struct order *o) {
  struct process *p = CONTAINER_OF(o, struct worker_end, drain)->process;
  if (--p->undrained == 0) stop_workers(p);
}

static void on_keeper_drains(struct order *o) { (void)o; }

static void drain(struct process *p) {
  if (reload_policy(p->reload) == NULL) { /* it never served */
    stop_workers(p);
    return;
  }
  uint64_t limit = reload_policy(p->reload)->timeouts.drain;
  p->drained_by = limit > 0 ? clock_boot_ms() + (int64_t)limit : INT64_MAX;
  if (limit > 0) (void)uv_timer_start(&p->drain_limit, on_drain_limit, limit, 0);
  p->drain_keeper = (struct order){.reply_to = &p->services.mailbox, .done = on_keeper_drains, .kind = ORDER_DRAIN};
  keeper_thread_post(p->keeper, &p->drain_keeper);
  p->undrained = p->running;
  for (unsigned i = 0; i < p->running; i++) {
    p->ends[i].drain = (struct order){.reply_to = &p->services.mailbox, .done = on_worker_drained, .kind = ORDER_DRAIN};
    worker_post(p->workers[i], &p->ends[i].drain);
  }
}

static void begin_stop(struct process *p) {
  if (p->stopping) return;
  p->stopping = true;
  if (p->serving) log_info("draining");
  notify_manager("STOPPING=1");
  if (reload_stop(p->reload)) drain(p); /* else when the round under way has ended */
}

/* --- reload --- */

static size_t add_files(struct watched_path *to, const struct policy *policy) {
  for (size_t i = 0; i < policy->nfiles; i++)
    to[i] = (struct watched_path){policy->files[i].path, &policy->files[i].seen};
  return policy->nfiles;
}

/* Also those of a policy that was refused, NULL: none: the fault that will be repaired may be in a module that only it has, or lacks. A folder that is not
 * there was searched in vain. */
static void watch_files(struct process *p, const struct policy *active, const struct policy *refused) {
  struct watched_path *v = must_calloc(active->nfiles + (refused != NULL ? refused->nfiles : 0), sizeof *v);
  size_t n = add_files(v, active);
  if (refused != NULL) n += add_files(v + n, refused);
  int status = watch_set(p->watch, v, n);
  if (status != 0 && status != UV_ENOENT && status != UV_ENOTDIR)
    log_warn("cannot watch the policy's files: %s", err_text(status));
  free(v);
}

/* A warning says so by its level here. */
static void log_lines(enum log_level level, const char *text) {
  static const char prefix[] = "warning: ";
  for (const char *end; *text != '\0'; text = *end == '\0' ? end : end + 1) {
    end = strchrnul(text, '\n');
    if (level == LOG_WARN && strncmp(text, prefix, sizeof prefix - 1) == 0) text += sizeof prefix - 1;
    if (end > text) log_line(level, "%.*s", (int)(end - text), text);
  }
}

static bool check_ready(struct process *p) {
  if (!readiness_of(reload_policy(p->reload), reload_tokens(p->reload))) return false;
  (void)uv_timer_stop(&p->ready_check);
  p->ready = true;
  log_info("ready");
  notify_manager("READY=1");
  return true;
}

static void say_missing(struct process *p, enum log_level level, const char *what) {
  struct buf text;
  buf_init(&text);
  readiness_say(reload_policy(p->reload), reload_tokens(p->reload), &text);
  log_line(level, "%s", what);
  log_lines(level, buf_z(&text));
  buf_fini(&text);
}

static void on_ready_check(uv_timer_t *t) {
  struct process *p = t->data;
  uint64_t limit = reload_policy(p->reload)->timeouts.prove;
  if (p->stopping || check_ready(p) || !p->options->prove || limit == 0) return;
  if (clock_boot_ms() - p->serving_since < (int64_t)limit) return;
  say_missing(p, LOG_ERROR, "not every token has a value within timeouts.prove: jeton cannot start");
  p->exit_code = EXIT_UNAVAILABLE;
  (void)uv_timer_stop(t);
  begin_stop(p);
}

static void begin_serving(struct process *p) {
  const struct listeners *l = reload_listeners(p->reload);
  char url[160] = "";
  if (l->n > 0) listener_url(&l->v[0], url, sizeof url);
  p->serving = true;
  p->serving_since = clock_boot_ms();
  if (!check_ready(p)) {
    log_info("not ready yet: a token has no valid value");
    (void)uv_timer_start(&p->ready_check, on_ready_check, READY_CHECK_MS, READY_CHECK_MS);
  }
  if (p->options->on_ready != NULL) p->options->on_ready(p->options->arg, url);
}

static void take_refusal(struct process *p, const struct reload_result *result) {
  log_lines(LOG_ERROR, result->text);
  log_error(p->serving ? "the policy was refused, the active one goes on" : "jeton cannot start");
  if (!p->serving) p->exit_code = exit_for(result->status);
  if (p->serving && p->watch != NULL) watch_files(p, reload_policy(p->reload), result->refused);
}

static void take_success(struct process *p, const struct reload_result *result) {
  log_lines(LOG_WARN, result->text);
  if (p->watch != NULL) watch_files(p, reload_policy(p->reload), NULL);
  if (p->serving) {
    log_info("policy %llu is active", (unsigned long long)result->number);
  } else {
    begin_serving(p);
  }
}

static void on_reload_ended(void *ctx, const struct reload_result *result) {
  struct process *p = ctx;
  (result->status == 0 ? take_success : take_refusal)(p, result);
  secmem_wipe_stack(); /* of the loading */
  if (p->stopping) {
    drain(p);
  } else if (!p->serving) {
    begin_stop(p);
  }
}

static void on_files_changed(void *arg) {
  struct process *p = arg;
  log_info("the policy's files have changed");
  reload_request(p->reload, false, NULL);
}

/* --- signals --- */

static void on_worker_reopened(struct order *o) { CONTAINER_OF(o, struct worker_end, reopen)->process->unopened--; }

/* SIGUSR1, which logrotate sends to other proxies: its default would end the process. */
static void reopen_logs(struct process *p) {
  const struct policy *policy = reload_policy(p->reload);
  if (p->stopping || policy == NULL || p->unopened > 0) return;
  if (!policy->access_log || policy->access_path == NULL) {
    log_info("SIGUSR1: no log goes to a file, there is nothing to open anew");
    return;
  }
  log_info("SIGUSR1: opening %s anew", policy->access_path);
  p->unopened = p->running;
  for (unsigned i = 0; i < p->running; i++) {
    p->ends[i].reopen =
        (struct order){.reply_to = &p->services.mailbox, .done = on_worker_reopened, .kind = ORDER_REOPEN};
    worker_post(p->workers[i], &p->ends[i].reopen);
  }
}

/* Nobody is waited for any more. */
static void end_at_once(struct process *p, int number) {
  struct worker_counts c = {0};
  for (unsigned i = 0; i < p->running; i++) worker_counts(p->workers[i], &c);
  log_warn("a second %s: ending at once; %llu connections are closed as they are",
           number == SIGINT ? "SIGINT" : "SIGTERM", (unsigned long long)c.connections);
  if (p->keeper != NULL) keeper_thread_log_cut(p->keeper);
  if (p->options->control_in_own_dir) own_dir_remove(p->options->control_path);
  _exit(128 + number);
}

static void on_signal(uv_signal_t *s, int number) {
  struct process *p = s->data;
  if (number == SIGHUP) {
    reload_request(p->reload, false, NULL);
  } else if (number == SIGUSR1) {
    reopen_logs(p);
  } else if (p->stopping) {
    end_at_once(p, number);
  } else {
    begin_stop(p);
  }
}

/* --- what the control socket is offered --- */

static struct status_view view_of(struct process *p) {
  return (struct status_view){.path = p->options->policy_path,
                              .uptime_ms = clock_boot_ms() - p->started_at,
                              .stopping = p->stopping,
                              .policy = reload_policy(p->reload),
                              .tokens = reload_tokens(p->reload),
                              .listeners = reload_listeners(p->reload),
                              .workers = p->workers,
                              .nworkers = p->running,
                              .reload = reload_facts(p->reload),
                              .names = p->names,
                              .certificates = certificates_facts(p->certificates)};
}

static bool host_ready(void *ctx, enum control_form form, struct buf *out) {
  struct status_view v = view_of(ctx);
  return (form == CONTROL_TEXT ? status_ready_text : status_ready_json)(&v, out);
}

static void host_status(void *ctx, enum control_form form, struct buf *out) {
  struct status_view v = view_of(ctx);
  (form == CONTROL_METRICS ? metrics_text : form == CONTROL_TEXT ? status_text : status_json)(&v, out);
}

static void host_reload(void *ctx, bool prove, struct reload_waiter *w) {
  reload_request(((struct process *)ctx)->reload, prove, w);
}

static struct slot *host_slot(void *ctx, struct str name) {
  return token_set_find(reload_tokens(((struct process *)ctx)->reload), name);
}

static void host_token_names(void *ctx, void (*fn)(void *arg, const char *name), void *arg) {
  const struct policy *policy = reload_policy(((struct process *)ctx)->reload);
  for (size_t i = 0; policy != NULL && i < policy->ntokens; i++) fn(arg, policy->tokens[i].name);
}

static void host_stop(void *ctx) { begin_stop(ctx); }

/* --- start --- */

/* glibc serves large pieces from pages of their own, and raises what it takes for large whenever one is freed, up to 32 MiB: then bodies that waited for a slow peer lie in the heap, and what
 * smaller pieces leave between them stays (200 KiB for one slow client). With a bound that does not move their memory goes when they do. Before there are other threads that allocate. */
static void size_heap(void) {
  enum { LARGE = 128 * 1024, KEPT_FREE = 1024 * 1024 /* at the heap's end: as much as glibc would keep by now */ };
  (void)mallopt(M_MMAP_THRESHOLD, LARGE);
  (void)mallopt(M_TRIM_THRESHOLD, KEPT_FREE);
}

/* libuv's threads resolve names, at most half of them at a time, and libc waits for a name server that does not answer for ten seconds and more: with libuv's
 * four threads two such names would hold up all others. libuv starts all of them at the pool's first use, and aborts when it is refused one. So under a limit on
 * the address space (ulimit -v) their stacks get an eighth of that, and all threads share one heap, since glibc lays out 64 MiB for each of several. Before the
 * pool's first use, and before there are other threads that allocate. */
static void size_thread_pool(void) {
  enum { THREADS = 32, STACK = 8 * 1024 * 1024, SHARE = 8 };
  struct rlimit space, stack;
  char text[8];
  rlim_t each = STACK, n = THREADS;
  if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur != RLIM_INFINITY && stack.rlim_cur > each)
    each = stack.rlim_cur;
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    n = space.rlim_cur / SHARE / each;
    (void)mallopt(M_ARENA_MAX, 1);
  }
  (void)snprintf(text, sizeof text, "%u", n < 1 ? 1 : n > THREADS ? THREADS : (unsigned)n);
  (void)setenv("UV_THREADPOOL_SIZE", text, 0);
}

static void harden(const struct process_options *o) {
  if (!o->debug_dumpable) {
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  }
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
  }
  (void)signal(SIGPIPE, SIG_IGN);
}

static struct policy *load_first(struct process *p) {
  struct report report;
  report_init(&report);
  struct policy *policy = reload_load(&p->services, p->options->policy_path, &p->options->overrides, &report);
  if (policy != NULL) { /* whose warnings are events like others */
    log_configure(&policy->log);
    log_lines(LOG_WARN, buf_z(&report.text));
  } else {
    (void)fwrite(report.text.p, 1, report.text.n, stderr);
  }
  report_fini(&report);
  return policy;
}

static int open_control(struct process *p) {
  struct control_host host = {.ctx = p,
                              .ready = host_ready,
                              .status = host_status,
                              .reload = host_reload,
                              .slot = host_slot,
                              .token_names = host_token_names,
                              .stop = host_stop};
  char err[320];
  int status;
  p->control = control_new(&host, &p->services, p->options->control_path, &status, err, sizeof err);
  if (status != 0) (void)fprintf(stderr, "jeton: %s\n", err);
  return status;
}

/* Starts the keeper and as many workers as it can; the first failure ends it. */
static int start_threads(struct process *p) {
  int status = keeper_thread_start(p->keeper);
  if (status != 0) {
    keeper_thread_join(p->keeper);
    p->keeper = NULL;
    return status;
  }
  for (unsigned i = 0; i < p->nworkers; i++) {
    p->ends[i].process = p;
    p->workers[i] = worker_new(i, p->nworkers, p->names, p->addresses);
    status = p->workers[i] != NULL ? worker_start(p->workers[i]) : UV_ENOMEM;
    if (status != 0) return status;
    p->running++;
  }
  return 0;
}

static void make_threads(struct process *p, const struct policy *policy) {
  p->nworkers = policy->workers != 0 ? policy->workers : uv_available_parallelism();
  p->workers = must_calloc(p->nworkers, sizeof *p->workers);
  p->ends = must_calloc(p->nworkers, sizeof *p->ends);
  p->addresses = addresses_new();
  p->keeper = keeper_thread_new(p->names);
  if (p->keeper == NULL) abort(); /* no descriptors for its loop: the process has just begun, and needs some twenty */
  struct reload_parts parts = {.services = &p->services,
                               .keeper = p->keeper,
                               .workers = p->workers,
                               .nworkers = p->nworkers,
                               .path = p->options->policy_path,
                               .overrides = &p->options->overrides,
                               .ended = on_reload_ended,
                               .ctx = p};
  p->reload = reload_new(&parts);
}

static void open_handles(struct process *p) {
  for (int i = 0; i < NSIGNALS; i++) {
    p->signals[i].data = p;
    (void)uv_signal_init(&p->services.loop, &p->signals[i]);
    (void)uv_signal_start(&p->signals[i], on_signal, SIGNALS[i]);
  }
  p->drain_limit.data = p;
  (void)uv_timer_init(&p->services.loop, &p->drain_limit);
  p->ready_check.data = p;
  (void)uv_timer_init(&p->services.loop, &p->ready_check);
  if (p->options->watch) p->watch = watch_new(&p->services.loop, on_files_changed, p);
  p->certificates = certificates_new(&p->services.loop, CERTIFICATES_REMIND_MS);
}

static void close_handles(struct process *p) {
  for (int i = 0; i < NSIGNALS; i++) uv_close((uv_handle_t *)&p->signals[i], NULL);
  uv_close((uv_handle_t *)&p->drain_limit, NULL);
  uv_close((uv_handle_t *)&p->ready_check, NULL);
  if (p->watch != NULL) watch_close(p->watch);
  certificates_close(p->certificates);
}

/* Takes the reference to the policy. Returns when everything that it started has ended. */
static void serve(struct process *p, struct policy *policy) {
  log_info("jeton %s, pid %ld, control socket %s", JETON_VERSION, (long)getpid(), p->options->control_path);
  open_handles(p);
  int status = start_threads(p);
  if (status == 0) {
    reload_first(p->reload, policy);
  } else {
    log_error("cannot start a thread: %s", err_text(status));
    policy_unref(policy);
    p->exit_code = EXIT_OSERR;
    begin_stop(p);
  }
  secmem_wipe_stack(); /* of the policy's loading: the loop's own frames, which are not filled, lie where it was */
  (void)uv_run(&p->services.loop, UV_RUN_DEFAULT);
  close_handles(p);
}

int process_run(const struct process_options *o) {
  struct process p = {.options = o, .started_at = clock_boot_ms(), .names = registry_new()};
  harden(o);
  log_open();
  size_heap();
  size_thread_pool();
  int status = services_init(&p.services, p.names);
  if (status != 0) {
    registry_free(p.names);
    (void)fprintf(stderr, "jeton: cannot start: %s\n", err_text(status));
    return EXIT_OSERR;
  }
  struct policy *policy = load_first(&p);
  if (policy == NULL) {
    p.exit_code = EXIT_CONFIG;
  } else if ((status = open_control(&p)) != 0) {
    policy_unref(policy);
    p.exit_code =
        status == UV_ENOENT ? EXIT_CANTCREAT : exit_for(status); /* to a command it means that nobody answers */
  } else {
    make_threads(&p, policy);
    serve(&p, policy);
    control_close(p.control);
    reload_free(p.reload);
  }
  services_close(&p.services);
  registry_free(p.names);
  addresses_free(p.addresses);
  free(p.workers);
  free(p.ends);
  return p.exit_code;
}
