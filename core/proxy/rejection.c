/* rejection.c: see rejection.h.
 *
 * A function of the policy's is called for each token whose own it is, in the judge step, before anything of the reply is used: it sees status and fields, may not wait and
 * changes nothing. An error in it is logged, and counts as not refused: to refuse on error would fetch a token for each reply. Owned by the worker's thread. */
#include "proxy/rejection.h"

#include <lauxlib.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "lua/arg.h"
#include "proxy/client.h"
#include "proxy/exchange.h"
#include "proxy/grpc.h"
#include "proxy/l_exchange.h"
#include "proxy/worker_state.h"
#include "token/refusal.h"

/* --- reject_on --- */

struct question { /* for a function */
  struct exchange *ex;
  int fn;
  bool refused;
};

static int l_ask(lua_State *L) {
  struct question *q = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, q->fn);
  l_exchange_push_reply(L, q->ex);
  lua_call(L, 1, 1);
  if (!lua_isnoneornil(L, -1) && !lua_isboolean(L, -1))
    return luaL_error(L, "expected true (this reply refuses the token) or false, got %s", arg_push_noun(L, -1));
  q->refused = lua_toboolean(L, -1) != 0;
  return 0;
}

static bool ask(struct exchange *ex, const struct token_conf *conf) {
  struct question q = {.ex = ex, .fn = ex->runtime->binding.reject_on[conf - ex->runtime->policy->tokens]};
  const char *message = NULL;
  if (vm_call(ex->runtime->vm, l_ask, &q, &message) == 0) return q.refused;
  COUNT(ex->worker, script_errors, 1);
  bool shown = repeats_shown(&ex->worker->repeats, uv_now(&ex->worker->services.loop), conf->name, message);
  log_line(shown ? LOG_ERROR : LOG_DEBUG, "tokens.%s.reject_on: %s; the reply counts as not refused", conf->name,
           message);
  return false;
}

static bool refuses(struct exchange *ex, const struct token_conf *conf, int status) {
  if (conf == NULL) return false;
  if (conf->has_reject_on) return ask(ex, conf);
  for (unsigned i = 0; i < conf->nreject_on; i++)
    if (conf->reject_on[i] == status) return true;
  return false;
}

/* --- whom it is charged to --- */

static struct refusal *copy_reply(void *arg) {
  const struct exchange *ex = arg;
  const struct headers *hs = &ex->response.headers;
  struct str *fields = arena_alloc(hs->arena, (2 * (size_t)hs->n + 1) * sizeof *fields);
  unsigned n = 0;
  for (unsigned i = 0; i < hs->n; i++) {
    if (hs->v[i].name.p == NULL) continue;
    fields[2 * n] = hs->v[i].name;
    fields[2 * n + 1] = hs->v[i].value;
    n++;
  }
  return refusal_new(ex->response.status, fields, n);
}

static uint64_t account_of(const struct exchange *ex, const struct slot *s) {
  return slot_account(s, ex->request.path, client_address(ex->down->conn));
}

static void report_charge(const struct exchange *ex, const struct slot *s, uint64_t generation, int64_t ms) {
  char source[80], text[REPEATS_TEXT];
  struct str path = ex->request.path;
  if (ms == 0) return;
  (void)snprintf(source, sizeof source, "token %s", slot_name(s));
  (void)snprintf(text, sizeof text, "for %lld s refusals of %.*s to %s cause no fetch", (long long)(ms / 1000),
                 (int)(path.n < 60 ? path.n : 60), path.p, client_address(ex->down->conn).p);
  bool shown = repeats_shown(&ex->worker->repeats, uv_now(&ex->worker->services.loop), source, "charged");
  log_from(shown ? LOG_WARN : LOG_DEBUG, source,
           "an upstream refused generation %llu, which was fetched because of a refusal: %s",
           (unsigned long long)generation, text);
}

/* --- the slots --- */

static bool reject(struct exchange *ex, struct slot *s, uint64_t generation) {
  struct slot_refused by = {.account = account_of(ex, s), .reply = copy_reply, .arg = ex};
  if (!ex->replayed) return slot_reject_by(s, generation, &by) != SLOT_DAMPED;
  report_charge(ex, s, generation, slot_replay_refused(s, generation, by.account));
  return false;
}

bool rejection_judge(struct exchange *ex) {
  bool again = false;
  int status = ex->used.nused > 0 ? grpc_response_status(ex) : 0;
  for (unsigned i = 0; i < ex->used.nused; i++) {
    struct slot *s = ex->used.used[i].slot;
    uint64_t generation = ex->used.used[i].generation;
    if (refuses(ex, runtime_token_conf(ex->runtime, s), status)) {
      if (reject(ex, s, generation)) again = true;
    } else if (status < 400 && slot_is_charged(s)) {
      slot_accepted_by(s, generation, account_of(ex, s));
    }
  }
  return again;
}
