/* reply.c: replies made here: req:respond, and the error step with its reply. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "proxy/grpc.h"
#include "proxy/l_exchange.h"
#include "proxy/steps.h"
#include "proxy/worker_state.h"

void reply_local(struct exchange *ex, int status, struct str body) {
  ex->reply.source = REPLY_LOCAL;
  ex->response =
      (struct response){.status = status, .framing = FRAMING_LENGTH, .content_length = body.n, .version = HTTP_1_1};
  headers_init(&ex->response.headers, &ex->arena);
  headers_init(&ex->response.trailers, &ex->arena);
  buf_reset(&ex->reply.bytes);
  buf_adds(&ex->reply.bytes, body);
}

static bool wants_json(const struct exchange *ex) {
  const struct header *h = headers_find_id(&ex->request.headers, H_ACCEPT);
  return h != NULL && memmem(h->value.p, h->value.n, "json", 4) != NULL;
}

static void json_body(const struct exchange *ex, struct buf *out) {
  const struct failure *f = &ex->failure;
  buf_addf(out, "{\"status\":%d,\"error\":", f->status);
  json_add_string(out, str_of(status_phrase(f->status)));
  if (f->told != NULL) {
    buf_addz(out, ",\"message\":");
    json_add_string(out, str_of(f->told));
  }
  buf_addf(out, ",\"id\":\"%016llx\"}\n", (unsigned long long)ex->id);
}

static void text_body(const struct exchange *ex, struct buf *out) {
  const struct failure *f = &ex->failure;
  buf_addf(out, "%d %s", f->status, status_phrase(f->status));
  if (f->told != NULL) buf_addf(out, ": %s", f->told);
  buf_addf(out, "\nrequest %016llx\n", (unsigned long long)ex->id);
}

/* Says what the client needs: status, and an id to find the log line by. Never internals. */
static void error_reply(struct exchange *ex) {
  if (grpc_call(ex)) {
    grpc_error_reply(ex);
    return;
  }
  int status = ex->failure.status;
  struct arena *a = &ex->arena;
  bool json = wants_json(ex);
  struct buf body;
  buf_init(&body);
  if (json)
    json_body(ex, &body);
  else
    text_body(ex, &body);
  reply_local(ex, status, buf_str(&body));
  buf_fini(&body);
  struct headers *h = &ex->response.headers;
  headers_add(h, STR("Content-Type"), json ? STR("application/json") : STR("text/plain; charset=utf-8"));
  headers_add(h, STR("Cache-Control"), STR("no-store"));
  if (status == 503) headers_add(h, STR("Retry-After"), arena_printf(a, "%u", failure_retry_after(&ex->failure)));
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
  if (status != 0 || ex->reply.source != REPLY_LOCAL) error_reply(ex);
  exchange_resume(ex, STEP_REPLY);
}

static void log_failure(const struct exchange *ex) {
  const struct failure *f = &ex->failure;
  enum log_level level = f->status >= 500 || f->code == ERR_AMBIGUOUS ? LOG_WARN : LOG_INFO;
  if (!log_wants(level)) return;
  char status[8];
  (void)snprintf(status, sizeof status, "%d", f->status);
  if (level == LOG_WARN && !repeats_shown(&ex->worker->repeats, uv_now(&ex->worker->services.loop), status, f->reason))
    level = LOG_DEBUG; /* the access log has its line, with the id and the status */
  if (log_wants(level))
    log_line(level, "request %016llx: %d: %s (%s)", (unsigned long long)ex->id, f->status, f->reason,
             err_name(f->code));
}

enum verdict step_error(struct exchange *ex) {
  exchange_cancel_waits(ex);
  log_failure(ex);
  if (!ex->down->ops->take_back(ex->down)) { /* too late for a status: the client must see that the message was cut */
    ex->down->ops->reset(ex->down);
    return DONE;
  }
  ex->replied = false;
  ex->reply.source = REPLY_UPSTREAM;
  if (ex->reply.flow == REPLY_IS_GATHERED) ex->reply.flow = REPLY_PASSES;
  if (ex->runtime->policy->hooks[HOOK_ERROR] && !ex->error_hook_ran) {
    ex->error_hook_ran = true;
    exchange_hook(ex, ex->runtime->binding.hooks[HOOK_ERROR], l_exchange_push_error, on_error_done);
    return WAIT;
  }
  error_reply(ex);
  ex->step = STEP_REPLY;
  return NEXT;
}
