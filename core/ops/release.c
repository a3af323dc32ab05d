/* release.c: see release.h.
 *
 * A family may lose hundreds of keys at a time, and a stranger who invents keys has others dropped for them. So a few releases of a policy run at a time, and of those that
 * wait for their turn only so many are kept, but for the end of the process, when no more come.
 * Invariants: a release is in `releases` from its begin to its end, and holds slot, token and the runtime's VM; `ended` is called once. */
#include "ops/release.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "lua/l_fetch.h"
#include "lua/vm.h"

enum { AT_A_TIME = 16, WAITING_MAX = 4096 };

struct release {
  struct link link;
  struct under_way_fetch under_way;
  uv_timer_t timer; /* 0 ms: the start, from the loop; then the limit */
  struct keeper_runtime *runtime;
  const struct token_conf *token;
  struct fetch *context; /* as a fetch has it: slot and previous; owned, with its slot's reference */
  enum release_reason reason;
  struct task *task;
  bool begun;
  void (*ended)(void *arg);
  void *arg;
};

static void begin_next(struct keeper_runtime *r);

static void on_closed(uv_handle_t *h) {
  struct release *rel = h->data;
  struct keeper_runtime *r = rel->runtime;
  free(rel);
  keeper_runtime_check(r);
  keeper_runtime_let_go(r);
}

static void end(struct release *rel, const char *why) {
  struct slot *s = rel->context->slot;
  if (why != NULL) {
    char source[80];
    (void)snprintf(source, sizeof source, "token %s", slot_name(s));
    log_from(LOG_WARN, source, "its release failed, what it has at its issuer lasts until that ends it: %s", why);
  }
  list_remove(&rel->link);
  under_way_end(rel->runtime->under_way, &rel->under_way);
  if (rel->begun) rel->runtime->releasing--;
  fetch_free(rel->context);
  slot_unref(s);
  begin_next(rel->runtime);
  uv_close((uv_handle_t *)&rel->timer, on_closed);
  rel->ended(rel->arg);
}

/* nil, message is a failure, as of the library's functions; anything else is none. */
static void on_task_ended(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct release *rel = arg;
  rel->task = NULL;
  bool failed = nresults >= 2 && !lua_toboolean(L, -nresults) && lua_type(L, 1 - nresults) == LUA_TSTRING;
  if (status == 0 && failed) message = lua_tostring(L, 1 - nresults);
  end(rel, status != 0 || failed ? message : NULL);
}

static void on_limit(uv_timer_t *t) {
  struct release *rel = t->data;
  struct task *task = rel->task;
  char text[80];
  rel->task = NULL;
  if (task != NULL) task_cancel(task);
  (void)snprintf(text, sizeof text, "it took longer than its limit of %lld ms",
                 (long long)rel->token->fetch_timeout_ms);
  end(rel, text);
}

static int push_context(lua_State *L, void *arg) {
  static const char *const reasons[] = {"unused", "removed", "stop"};
  const struct release *rel = arg;
  (void)l_fetch_push_context(L, rel->context, rel->token->reveal);
  lua_pushstring(L, reasons[rel->reason]);
  lua_setfield(L, -2, "reason");
  lua_pushnil(L);
  lua_setfield(L, -2, "attempt");
  return 1;
}

static int function_of(const struct keeper_runtime *r, const struct token_conf *t) {
  return r->binding.release[t - r->policy->tokens];
}

static void on_start(uv_timer_t *t) {
  struct release *rel = t->data;
  struct keeper_runtime *r = rel->runtime;
  int64_t limit = rel->token->fetch_timeout_ms;
  (void)uv_timer_start(&rel->timer, on_limit, (uint64_t)limit, 0);
  task_start(r->vm, function_of(r, rel->token), push_context, on_task_ended, rel, &rel->task);
}

static void begin_next(struct keeper_runtime *r) {
  for (struct link *l = r->releases.next; l != &r->releases && r->releasing < AT_A_TIME; l = l->next) {
    struct release *rel = CONTAINER_OF(l, struct release, link);
    if (rel->begun) continue;
    rel->begun = true;
    r->releasing++;
    (void)uv_timer_start(&rel->timer, on_start, 0, 0);
  }
}

bool release_is_there(const struct keeper_runtime *r, const struct slot *s) {
  const struct token_conf *t = r != NULL && r->vm != NULL ? keeper_runtime_token(r, s) : NULL;
  return t != NULL && t->releases;
}

static bool has_room(const struct keeper_runtime *r) {
  unsigned n = 0;
  for (const struct link *l = r->releases.next; l != &r->releases; l = l->next) n++;
  return n < WAITING_MAX;
}

void release_begin(struct keeper_runtime *r, struct slot *s, struct token *last, enum release_reason reason,
                   void (*ended)(void *arg), void *arg) {
  if (reason == RELEASE_UNUSED && !has_room(r)) {
    log_warn("token %s is not released: %d others wait for theirs", slot_token_name(s), WAITING_MAX);
    return;
  }
  struct release *rel = must_calloc(1, sizeof *rel);
  const struct token_conf *t = keeper_runtime_token(r, s);
  *rel = (struct release){.runtime = r, .token = t, .reason = reason, .ended = ended, .arg = arg};
  rel->context = must_calloc(1, sizeof *rel->context);
  rel->context->slot = slot_ref(s);
  rel->context->previous = token_ref(last);
  rel->context->bond.made_of[0] = t->made_of[0];
  rel->context->bond.made_of[1] = t->made_of[1];
  rel->timer.data = rel;
  rel->under_way.release = true;
  (void)uv_timer_init(r->loop, &rel->timer);
  r->holders++;
  list_push(&r->releases, &rel->link);
  under_way_begin(r->under_way, &rel->under_way, slot_name(s));
  begin_next(r);
}

void release_end_all(struct keeper_runtime *r) {
  r->releasing += AT_A_TIME; /* nothing begins in the place of what ends */
  while (!list_empty(&r->releases)) {
    struct release *rel = CONTAINER_OF(r->releases.next, struct release, link);
    struct task *task = rel->task;
    rel->task = NULL;
    if (task != NULL) task_cancel(task);
    end(rel, NULL);
  }
}
