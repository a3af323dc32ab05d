/* steps_send.c: on_send, the hook that runs before each try.
 *
 * A run ends in one of four ways. Well: its copy of the head goes out (try.h). By req:respond: nothing does. By an error: nothing does, and the client gets 500, as of
 * any hook. Or it has ended for a token (pins->ended), whatever its script made of that: as if it had never been, but for what the script did elsewhere. Then the
 * token that it lacks is awaited, as the token step would, and the hook runs anew; where it lacks none (what it had pinned has ended), at once.
 *
 * Nothing but the request's body is awaited in it: what else a hook needs it can have before (on_request, a token's fetch), and a wait here would be a
 * signature that grows old. */
#include "base/err.h"
#include "base/log.h"
#include "proxy/l_exchange.h"
#include "proxy/l_try.h"
#include "proxy/steps.h"
#include "proxy/try.h"
#include "proxy/worker_state.h"

enum { RUNS_MAX = 16 }; /* for one try: each of some tokens may be lacking once, and a few may end */

static enum verdict give_up(struct exchange *ex) {
  static const char told[] =
      "on_send began anew too often: each time a token of it ended, or was replaced, before it was done, or it "
      "computes "
      "with what it kept of an earlier one";
  ex->failure.told = told;
  return exchange_fail(ex, 503, ERR_TOKEN_EXPIRED, told);
}

/* What a run did besides the copy is undone. */
static void begin_anew(struct exchange *ex) {
  struct try *t = ex->try;
  ex->reply.source = REPLY_UPSTREAM;
  buf_reset(&ex->reply.bytes);
  if (t->suspended) ex->wait_until = 0;
  if (t->runs < RUNS_MAX) {
    exchange_resume(ex, t->pins.lacking != NULL ? STEP_SEND_HOOK : STEP_TOKEN);
    return;
  }
  (void)give_up(ex);
  exchange_resume(ex, STEP_ERROR);
}

static void on_send_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct exchange *ex = arg;
  ex->task = NULL;
  if (ex->try->pins.ended && (status == 0 || status == ERR_SCRIPT)) {
    begin_anew(ex);
    return;
  }
  if (status == 0) message = l_exchange_wrong_result(L, nresults, ex, HOOK_SEND);
  if (message != NULL) {
    COUNT(ex->worker, script_errors, 1);
    exchange_fail_now(ex, 500, status != 0 ? status : ERR_SCRIPT, message);
    return;
  }
  try_keep(ex);
  ex->wait_until = 0;
  exchange_resume(ex, ex->reply.source == REPLY_LOCAL ? STEP_REPLY : STEP_SEND);
}

/* Its last run lacked a token. */
static enum verdict await_lacking(struct exchange *ex) {
  struct pins *p = &ex->try->pins;
  struct slot *s = p->lacking;
  p->lacking = NULL;
  enum verdict v = exchange_await_token(ex, s, p->beyond, p->must_have ? MISSING_WAIT : p->missing);
  slot_unref(s);
  if (v == NEXT) ex->step = STEP_TOKEN;
  return v;
}

enum verdict step_send_hook(struct exchange *ex) {
  if (ex->try != NULL && ex->try->pins.lacking != NULL) return await_lacking(ex);
  try_begin(ex);
  exchange_hook(ex, ex->runtime->binding.hooks[HOOK_SEND], l_try_push, on_send_done);
  return WAIT;
}
