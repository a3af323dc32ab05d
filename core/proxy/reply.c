/* reply.c: replies made here (errors, req:respond), the access log line and the on_log hook. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/access.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/l_exchange.h"
#include "proxy/worker_internal.h"

void reply_local(struct exchange *ex, int status, struct str body) {
  ex->local = true;
  ex->response = (struct response){.status = status, .framing = FRAMING_LENGTH, .content_length = body.n, .minor = 1};
  headers_init(&ex->response.headers, &ex->arena);
  headers_init(&ex->response.trailers, &ex->arena);
  buf_reset(&ex->reply);
  buf_adds(&ex->reply, body);
}

static bool wants_json(const struct exchange *ex) {
  const struct header *h = headers_find_id(&ex->request.headers, H_ACCEPT);
  return h != NULL && memmem(h->value.p, h->value.n, "json", 4) != NULL;
}

/* Says what the client needs: status, and an id to find the log line by. Never internals. */
static void error_reply(struct exchange *ex) {
  int status = ex->failure.status;
  const char *phrase = status_phrase(status);
  struct arena *a = &ex->arena;
  bool json = wants_json(ex);
  const char *told = ex->failure.told, *open = told == NULL ? "" : json ? ",\"message\":\"" : ": ";
  struct str body = arena_printf(
      a, json ? "{\"status\":%d,\"error\":\"%s\"%s%s%s,\"id\":\"%016llx\"}\n" : "%d %s%s%s%s\nrequest %016llx\n",
      status, phrase, open, told != NULL ? told : "", told != NULL && json ? "\"" : "", (unsigned long long)ex->id);
  reply_local(ex, status, body);
  struct headers *h = &ex->response.headers;
  headers_add(h, STR("Content-Type"), json ? STR("application/json") : STR("text/plain; charset=utf-8"));
  headers_add(h, STR("Cache-Control"), STR("no-store"));
  if (status == 503)
    headers_add(h, STR("Retry-After"),
                arena_printf(a, "%u", ex->failure.retry_after > 0 ? ex->failure.retry_after : 1));
  if (status == 405) headers_add(h, STR("Allow"), ALLOWED_METHODS);
}

static void on_error_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct exchange *ex = arg;
  ex->task = NULL;
  if (status == 0) message = l_exchange_wrong_result(L, nresults, ex, HOOK_ERROR);
  if (message != NULL) {
    COUNT(ex->worker, script_errors, 1);
    log_error("on_error: %s", message);
  }
  if (status != 0 || !ex->local) error_reply(ex);
  exchange_resume(ex, STEP_REPLY);
}

static void log_failure(const struct exchange *ex) {
  const struct failure *f = &ex->failure;
  enum log_level level = f->status >= 500 ? LOG_WARN : LOG_INFO;
  if (log_wants(level))
    log_line(level, "request %016llx: %d: %s (%s)", (unsigned long long)ex->id, f->status, f->reason,
             err_name(f->code));
}

/* A reply that breaks in the very read that it began in has not been flushed yet. */
static void take_back(struct exchange *ex) {
  ex->replied = false;
  ex->nout = 0;
}

enum verdict step_error(struct exchange *ex) {
  slot_wait_cancel(&ex->waiter);
  timeout_clear(&ex->timeout);
  call_cancel(&ex->call);
  log_failure(ex);
  if (ex->bytes_out > 0) { /* too late for a status: the client must see that the message was cut */
    conn_reset(ex->conn);
    return DONE;
  }
  take_back(ex);
  ex->local = ex->reply_replaced = ex->gather_reply = false;
  if (ex->runtime->policy->hooks[HOOK_ERROR] && !ex->error_hook_done) {
    ex->error_hook_done = true;
    exchange_hook(ex, ex->runtime->binding.hooks[HOOK_ERROR], l_exchange_push_error, on_error_done);
    return WAIT;
  }
  error_reply(ex);
  ex->step = STEP_REPLY;
  return NEXT;
}

/* --- the log --- */

int exchange_status(const struct exchange *ex) {
  return ex->replied || ex->tunnel ? ex->response.status : ex->failure.status;
}

/* Made once a second; without strftime, whose names of days are the locale's. */
struct str reply_date(struct exchange *ex) {
  static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  struct worker *w = ex->worker;
  time_t now = (time_t)(clock_wall_ms() / 1000);
  if (now != w->dated) {
    struct tm tm;
    gmtime_r(&now, &tm);
    snprintf(w->date, sizeof w->date, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday,
             months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    w->dated = now;
  }
  return arena_dup(&ex->arena, str_of(w->date));
}

/* `2026-11-23T20:08:37Z`, made once a second. */
static const char *stamp(struct worker *w) {
  time_t now = (time_t)(clock_wall_ms() / 1000);
  if (now != w->stamped) {
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(w->stamp, sizeof w->stamp, "%Y-%m-%dT%H:%M:%SZ", &tm);
    w->stamped = now;
  }
  return w->stamp;
}

void access_log_exchange(struct exchange *ex) {
  enum { TARGET_MAX = 512 };
  struct worker *w = ex->worker;
  int status = exchange_status(ex);
  COUNT(w, responses[status >= 100 && status < 600 ? status / 100 : 0], 1);
  COUNT(w, bytes_out, ex->bytes_out);
  if (w->access == NULL) return;
  char line[1024];
  const struct request *r = &ex->request;
  struct str target = r->target.p != NULL ? r->target : STR("-");
  if (target.n > TARGET_MAX) target.n = TARGET_MAX;
  int64_t us = (int64_t)(uv_hrtime() / 1000) - ex->started_us;
  int n = snprintf(line, sizeof line, "%s %s \"%.*s %.*s HTTP/1.%u\" %d %llu %lld.%03lldms %s %016llx%s", stamp(w),
                   conn_peer(ex->conn).p, STR_FMT(r->method), STR_FMT(target), r->minor, status,
                   (unsigned long long)ex->bytes_out, (long long)us / 1000, (long long)us % 1000,
                   ex->upstream != NULL ? ex->upstream->conf->name : "-", (unsigned long long)ex->id,
                   ex->replayed ? " replayed" : "");
  access_line(&w->access->log, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

static void on_log_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  (void)arg, (void)L, (void)nresults;
  if (status != 0) log_error("on_log: %s", message);
}

/* The hook gets a table of its own, so it may outlive the exchange. */
void run_log_hook(struct exchange *ex) {
  if (!ex->runtime->policy->hooks[HOOK_LOG]) return;
  task_start(ex->runtime->vm, ex->runtime->binding.hooks[HOOK_LOG], l_exchange_push_log, on_log_done, ex, NULL);
}
