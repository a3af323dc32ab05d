/* exchange_log.c: the end of an exchange as others see it: counters, the access log's line, the on_log hook. */
#include <stdio.h>

#include "base/access.h"
#include "base/log.h"
#include "proxy/client.h"
#include "proxy/exchange.h"
#include "proxy/l_exchange.h"
#include "proxy/stamp.h"
#include "proxy/worker_state.h"

int exchange_status(const struct exchange *ex) { return ex->replied ? ex->response.status : ex->failure.status; }

static void write_line(struct exchange *ex, int status) {
  enum { TARGET_MAX = 512 };
  struct worker *w = ex->worker;
  char line[1024];
  const struct request *r = &ex->request;
  struct str target = r->target.p != NULL ? r->target : STR("-");
  if (target.n > TARGET_MAX) target.n = TARGET_MAX;
  int64_t us = (int64_t)(uv_hrtime() / 1000) - ex->started_us;
  int n = snprintf(line, sizeof line, "%s %s \"%.*s %.*s HTTP/%s\" %d %llu %lld.%03lldms %s %016llx%s",
                   stamp_iso(&w->stamp).p, client_address(ex->down->conn).p, STR_FMT(r->method), STR_FMT(target),
                   http_version(r->minor), status, (unsigned long long)ex->down->sent, (long long)us / 1000,
                   (long long)us % 1000, ex->upstream != NULL ? ex->upstream->conf->name : "-",
                   (unsigned long long)ex->id, ex->replayed ? " replayed" : "");
  access_line(&w->access->log, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

static void on_log_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  (void)arg, (void)L, (void)nresults;
  if (status != 0) log_error("on_log: %s", message);
}

void exchange_log(struct exchange *ex) {
  struct worker *w = ex->worker;
  const struct runtime *r = ex->runtime;
  int status = exchange_status(ex);
  COUNT(w, responses[status >= 100 && status < 600 ? status / 100 : 0], 1);
  COUNT(w, bytes_out, ex->down->sent);
  if (w->access != NULL) write_line(ex, status);
  if (r->policy->hooks[HOOK_LOG]) /* it gets a table of its own, so it may outlive the exchange */
    task_start(r->vm, r->binding.hooks[HOOK_LOG], l_exchange_push_log, on_log_done, ex, NULL);
}
