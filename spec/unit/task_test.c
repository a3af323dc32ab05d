/* Tasks: how they start, wait, end and are cancelled, and what refuses to wait. */
#include "lua/task.h"

#include "base/list.h"
#include "lua/pins.h"
#include "vm_support.h"

enum { MIB = 1024 * 1024, BUDGET_US = 20 * 1000, WAITS = 64 };

/* --- wait(): suspends its task until the test ends it --- */

struct wait {
  struct await await;
  bool waiting;
  int number;
};
static struct wait waits[WAITS];
static int nwaits, ncancelled;

static void on_wait_cancel(struct await *a) {
  struct wait *w = CONTAINER_OF(a, struct wait, await);
  CHECK(w->waiting);
  w->waiting = false;
  ncancelled++;
}

static int l_wait(lua_State *L) {
  struct wait *w = &waits[nwaits];
  await_begin(L, &w->await, on_wait_cancel);
  CHECK(nwaits < WAITS);
  w->number = nwaits++;
  w->waiting = true;
  return await_yield(L, &w->await);
}

static int push_number(lua_State *L, void *arg) {
  const struct wait *w = arg;
  lua_pushinteger(L, w->number);
  lua_pushliteral(L, "second");
  return 2;
}

static int push_error(lua_State *L, void *arg) { return luaL_error(L, "%s", (const char *)arg); }

static void end_wait(int i) {
  CHECK(waits[i].waiting);
  waits[i].waiting = false;
  await_finish(&waits[i].await, push_number, &waits[i]);
}

static int l_wait_pinned(lua_State *L) {
  struct wait *w = &waits[nwaits];
  await_begin_pinned(L, &w->await, on_wait_cancel);
  w->number = nwaits++;
  w->waiting = true;
  return await_yield(L, &w->await);
}

static struct vm *vm_that_waits(void) {
  struct vm *vm = vm_for_test(0, BUDGET_US);
  nwaits = ncancelled = 0;
  vm_declare(vm, "wait", l_wait);
  return vm;
}

/* --- start and end --- */

static int push_two(lua_State *L, void *arg) {
  (void)arg;
  lua_pushinteger(L, 20);
  lua_pushinteger(L, 22);
  return 2;
}

static void test_a_task_gets_its_arguments_and_gives_its_results(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o = {0};
  struct task *t = (struct task *)&o;
  task_start(vm, vm_compile(vm, "local a, b = ... return 'sum ' .. a + b, 2, 3"), push_two, on_outcome, &o, &t);
  CHECK(o.calls == 1 && o.status == 0 && o.nresults == 3 && t == NULL);
  CHECK(strcmp(o.result, "sum 42") == 0);
  vm_unref(vm);
}

static void test_an_error_while_arguments_are_pushed_is_contained(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o = {0};
  for (int i = 0; i < 3; i++) {
    memset(&o, 0, sizeof o);
    task_start(vm, vm_compile(vm, "return true"), push_error, on_outcome, &o, NULL);
    /* its own argument is what it raises: the outcome, which is empty */
    CHECK(o.calls == 1 && o.status == ERR_SCRIPT);
  }
  vm_expect(vm, "return true");
  vm_unref(vm);
}

static int coroutines(struct vm *vm) { /* that the registry holds */
  int n = 0;
  lua_State *L = vm_state(vm);
  for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, LUA_REGISTRYINDEX); i++) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, i);
    n += lua_isthread(L, -1);
    lua_pop(L, 1);
  }
  return n;
}

static void test_finished_coroutines_are_used_again(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o = {0};
  struct task *t;
  int fn = vm_compile(vm, "return true"), failing = vm_compile(vm, "error 'x'");
  int waiting = vm_compile(vm, "wait()"), endless = vm_compile(vm, "while true do end");
  int before = coroutines(vm);
  for (int i = 0; i < 1000; i++) task_start(vm, fn, NULL, on_outcome, &o, NULL);
  for (int i = 0; i < 10; i++) task_start(vm, failing, NULL, on_outcome, &o, NULL);
  for (int i = 0; i < 3; i++) task_start(vm, endless, NULL, on_outcome, &o, NULL);
  for (int i = 0; i < 10; i++) {
    task_start(vm, waiting, NULL, on_outcome, &o, &t);
    task_cancel(t);
  }
  CHECK(o.calls == 1013 && ncancelled == 10);
  CHECK(coroutines(vm) == before + 1);
  vm_unref(vm);
}

static void test_a_budget_is_there_for_every_use_of_a_coroutine(void) {
  struct vm *vm = vm_that_waits();
  for (int i = 0; i < 3; i++) {
    vm_refuses(vm, "while true do end", ERR_BUDGET, "time budget");
    vm_refuses(vm, "error 'x'", ERR_SCRIPT, "x");
    vm_expect(vm, "return true");
  }
  vm_unref(vm);
}

static int ended;
static void count_and_unref(void *arg, lua_State *L, int nresults, int status, const char *message) {
  (void)L, (void)nresults, (void)message;
  CHECK(status == 0);
  ended++;
  vm_unref(arg); /* the last but the task's own */
}

static void test_the_last_reference_may_go_in_done(void) {
  struct vm *vm = vm_that_waits();
  ended = 0;
  task_start(vm, vm_compile(vm, "wait()"), NULL, count_and_unref, vm, NULL);
  end_wait(0);
  CHECK(ended == 1);
}

/* --- tasks in tasks --- */

static int inner_fn;
static struct outcome inner;
static int l_start(lua_State *L) {
  memset(&inner, 0, sizeof inner);
  task_start(vm_of(L), inner_fn, NULL, on_outcome, &inner, NULL);
  return 0;
}

static void test_a_task_may_start_another_that_waits_or_fails(void) {
  struct vm *vm = vm_that_waits();
  vm_declare(vm, "start", l_start);
  inner_fn = vm_compile(vm, "return wait() == 0");
  vm_expect(vm, "start() return true");
  CHECK(inner.calls == 0);
  end_wait(0);
  CHECK(inner.calls == 1 && inner.truth);
  inner_fn = vm_compile(vm, "error 'inner'");
  vm_expect(vm, "start() return true");
  CHECK(inner.calls == 1 && inner.status == ERR_SCRIPT);
  inner_fn = vm_compile(vm, "while true do end");
  vm_refuses(vm, "pcall(start) return true", ERR_BUDGET, "time budget");
  CHECK(inner.calls == 1 && inner.status == ERR_BUDGET);
  vm_unref(vm);
}

static int nrefused;
static void on_nested(void *arg, lua_State *L, int nresults, int status, const char *message) {
  (void)arg, (void)L, (void)nresults, (void)message;
  nrefused += status == ERR_LIMIT;
}
static int l_start_nested(lua_State *L) {
  task_start(vm_of(L), inner_fn, NULL, on_nested, NULL, NULL);
  return 0;
}

static void test_tasks_that_start_themselves_end(void) {
  struct vm *vm = vm_that_waits();
  vm_declare(vm, "start", l_start_nested);
  nrefused = 0;
  inner_fn = vm_compile(vm, "start()");
  vm_expect(vm, "start() return true");
  CHECK(nrefused == 1);
  vm_unref(vm);
}

/* Lua's own bound is 200 calls of C. A coroutine and a pcall take one each, and a task that starts in the innermost has to count on from there. */
static void test_coroutines_and_tasks_inside_of_one_another_share_one_bound_of_c_calls(void) {
  struct vm *vm = vm_that_waits();
  vm_declare(vm, "start", l_start_nested);
  inner_fn = vm_compile(vm,
                        "local function deep(n) table.now = table.now + 1\n"
                        "  table.most = math.max(table.most, table.now)\n"
                        "  pcall(coroutine.wrap(n < 60 and deep or start), n + 1) table.now = table.now - 1 end\n"
                        "deep(0)");
  vm_expect(vm, "table.now, table.most = 0, 0 start() return table.now == 0 and table.most > 60 and table.most < 150");
  vm_unref(vm);
}

/* --- waiting --- */

static void test_a_wait_gives_what_completed_it(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o;
  struct task *t = NULL;
  vm_start(vm, "local a, b = wait() local c = wait() return a == 0 and b == 'second' and c == 1", &o, &t);
  CHECK(o.calls == 0 && t != NULL);
  end_wait(0);
  CHECK(o.calls == 0);
  end_wait(1);
  CHECK(o.calls == 1 && o.status == 0 && o.truth);
  vm_unref(vm);
}

static void test_a_task_may_wait_inside_of_pcall_xpcall_iterators_and_metamethods_of_lua(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o;
  vm_start(vm,
           "local ok, n = pcall(wait)\n"
           "local ok2, n2 = xpcall(wait, print)\n"
           "for n3 in wait do assert(n3 == 2) break end\n"
           "local t = setmetatable({}, { __index = function() return (wait()) end })\n"
           "local four = t.x\n"
           "do local x <close> = setmetatable({}, { __close = function() wait() end }) end\n"
           "local ok4, why = pcall(function() wait() error 'after' end)\n"
           "return ok and n == 0 and ok2 and n2 == 1 and four == 3 and not ok4 and why:find 'after'",
           &o, NULL);
  for (int i = 0; i < 6; i++) end_wait(i);
  CHECK(o.calls == 1 && o.status == 0 && o.truth);
  vm_unref(vm);
}

static void test_an_error_while_results_are_pushed_is_the_waits_error(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o;
  char why[] = "no result";
  vm_start(vm, "local ok, why = pcall(wait) return not ok and why:find 'no result'", &o, NULL);
  waits[0].waiting = false;
  await_finish(&waits[0].await, push_error, why);
  CHECK(o.calls == 1 && o.status == 0 && o.truth);
  vm_start(vm, "wait()", &o, NULL);
  waits[1].waiting = false;
  await_finish(&waits[1].await, push_error, why);
  CHECK(o.calls == 1 && o.status == ERR_SCRIPT);
  vm_unref(vm);
}

static void test_each_resume_has_its_own_budget(void) {
  enum { TURNS = 8 }; /* of 40 ms: together more than the budget, each far less */
  struct vm *vm = vm_that_waits();
  struct outcome o;
  vm_limit(vm, 0, 300 * 1000);
  vm_start(vm, "for i = 1, 8 do local t = os.clock() + 0.04 while os.clock() < t do end wait() end return true", &o,
           NULL);
  for (int i = 0; i < TURNS; i++) end_wait(i);
  CHECK(o.calls == 1 && o.status == 0);
  vm_start(vm, "wait() while true do end", &o, NULL);
  end_wait(TURNS);
  CHECK(o.calls == 1 && o.status == ERR_BUDGET);
  vm_unref(vm);
}

static void test_places_that_may_not_wait_say_so(void) {
  struct vm *vm = vm_that_waits();
  vm_refuses(vm, "coroutine.wrap(function() wait() end)()", ERR_SCRIPT,
             "'wait' cannot wait here: this is a coroutine of your own");
  vm_refuses(vm, "table.sort({ 2, 1 }, function() wait() end)", ERR_SCRIPT, "a sort comparator");
  vm_refuses(vm, "('x'):gsub('x', function() wait() end)", ERR_SCRIPT, "cannot wait here");
  vm_refuses(vm, "tostring(setmetatable({}, { __tostring = function() wait() end }))", ERR_SCRIPT, "a metamethod");
  vm_refuses(vm, "coroutine.yield()", ERR_SCRIPT, "coroutine.yield outside of a coroutine");
  CHECK(nwaits == 0 && ncancelled == 0);
  vm_unref(vm);
}

static int push_pins(lua_State *L, void *arg) {
  static struct pins pins;
  (void)arg;
  task_pin(L, &pins, "its tokens are pinned");
  return 0;
}

static void test_a_task_whose_tokens_are_pinned_waits_for_what_may_be_waited_for(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o = {0};
  struct task *t;
  vm_declare(vm, "wait_pinned", l_wait_pinned);
  task_start(vm, vm_compile(vm, "assert(wait_pinned() == 0) wait()"), push_pins, on_outcome, &o, &t);
  CHECK(o.calls == 0 && nwaits == 1 && t != NULL);
  end_wait(0);
  CHECK(o.calls == 1 && o.status == ERR_SCRIPT && nwaits == 1);
  CHECK(strstr(o.message, "'wait' cannot wait here: its tokens are pinned") != NULL);
  memset(&o, 0, sizeof o);
  vm_start(vm, "wait()", &o, &t); /* the next task in that coroutine has none */
  CHECK(o.calls == 0 && nwaits == 2);
  end_wait(1);
  CHECK(o.status == 0);
  vm_unref(vm);
}

static int l_call_wait(lua_State *L) {
  lua_getglobal(L, "wait");
  lua_call(L, 0, 0);
  return 0;
}

static void test_a_file_that_loads_may_not_wait(void) {
  struct vm *vm = vm_that_waits();
  const char *message;
  vm_set_loading(vm, true);
  CHECK(vm_loading(vm));
  CHECK(vm_call(vm, l_call_wait, NULL, &message) == ERR_SCRIPT);
  CHECK(strstr(message, "on_start") != NULL && strstr(message, "`tasks`") != NULL);
  vm_set_loading(vm, false);
  CHECK(vm_call(vm, l_call_wait, NULL, &message) == ERR_SCRIPT);
  CHECK(strstr(message, "no task runs") != NULL);
  vm_unref(vm);
}

static void test_no_script_resumes_or_closes_a_task(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o;
  vm_start(vm, "table.victim = coroutine.running() return wait() == 0", &o, NULL);
  vm_expect(vm, "local ok, why = coroutine.resume(table.victim) return not ok and why:find 'own'");
  vm_expect(vm, "return not pcall(coroutine.close, table.victim)");
  vm_expect(vm, "return not coroutine.resume(coroutine.running())");
  end_wait(0);
  CHECK(o.calls == 1 && o.truth);
  vm_expect(vm, "return not coroutine.resume(table.victim, print)"); /* now idle, in the pool */
  vm_unref(vm);
}

/* --- cancelling --- */

static const char WITH_CLOSE[] =
    "local x <close> = setmetatable({}, { __close = function() table.closed = true end })\n"
    "pcall(wait) table.went_on = true";

static void test_a_cancelled_task_ends_its_wait_and_closes_its_variables(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o;
  struct task *t;
  vm_start(vm, WITH_CLOSE, &o, &t);
  task_cancel(t);
  CHECK(o.calls == 0 && ncancelled == 1);
  vm_expect(vm, "return table.closed and not table.went_on");
  vm_unref(vm);
}

static void test_closing_variables_of_a_cancelled_task_may_not_wait_nor_loop(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o;
  struct task *t;
  vm_start(vm, "local x <close> = setmetatable({}, { __close = function() wait() end }) wait()", &o, &t);
  task_cancel(t);
  vm_start(vm, "local x <close> = setmetatable({}, { __close = function() while true do end end }) wait()", &o, &t);
  int64_t start = clock_thread_us();
  task_cancel(t);
  CHECK(clock_thread_us() - start < 500 * 1000);
  CHECK(o.calls == 0 && ncancelled == 2 && nwaits == 2);
  vm_refuses(vm, "while true do end", ERR_BUDGET, "time budget"); /* the coroutine's hook still works */
  vm_unref(vm);
}

static void test_a_wait_begun_with_the_budget_over_is_cancelled(void) {
  struct vm *vm = vm_that_waits();
  vm_refuses(vm, "local x <close> = setmetatable({}, { __close = wait }) while true do end", ERR_BUDGET, "time budget");
  CHECK(nwaits == 1 && ncancelled == 1 && !waits[0].waiting);
  vm_unref(vm);
}

static struct task *self;
static int l_cancel_self(lua_State *L) {
  (void)L;
  task_cancel(self);
  return 0;
}

static void test_a_task_cancelled_while_it_runs_ends_at_its_next_wait(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o;
  vm_declare(vm, "cancel_self", l_cancel_self);
  vm_start(vm, "cancel_self() table.why = select(2, pcall(wait))", &o, &self);
  CHECK(o.calls == 0 && nwaits == 0);
  vm_expect(vm, "return table.why:find 'cancelled'");
  vm_start(vm, "wait() cancel_self() wait()", &o, &self);
  end_wait(0);
  CHECK(o.calls == 0 && nwaits == 1 && ncancelled == 0);
  vm_expect(vm, "return true");
  vm_unref(vm);
}

static int l_cancel_all(lua_State *L) {
  vm_cancel_tasks(vm_of(L));
  return 0;
}

static void test_all_tasks_of_a_vm_are_cancelled_and_none_starts_any_more(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o[10], late;
  for (int i = 0; i < 10; i++) vm_start(vm, i % 2 ? WITH_CLOSE : "wait()", &o[i], NULL);
  vm_cancel_tasks(vm);
  CHECK(ncancelled == 10);
  for (int i = 0; i < 10; i++) CHECK(o[i].calls == 0);
  vm_start(vm, "return true", &late, NULL);
  CHECK(late.calls == 1 && late.status == ERR_CLOSED);
  vm_unref(vm);
}

static void test_a_task_may_cancel_all(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o, other;
  vm_declare(vm, "cancel_all", l_cancel_all);
  vm_start(vm, "wait()", &other, NULL);
  vm_start(vm, "cancel_all() wait()", &o, NULL);
  CHECK(o.calls == 0 && other.calls == 0 && ncancelled == 1);
  vm_unref(vm);
}

/* --- many, and no memory --- */

static void test_more_tasks_wait_than_the_pool_keeps(void) {
  enum { MANY = 2000 };
  static struct outcome o[MANY];
  static struct task *t[MANY];
  struct vm *vm = vm_that_waits();
  int fn = vm_compile(vm, "wait() return true");
  memset(o, 0, sizeof o);
  for (int i = 0; i < MANY; i++) {
    nwaits = i % WAITS; /* the waits themselves are of no interest: all are cancelled */
    task_start(vm, fn, NULL, on_outcome, &o[i], &t[i]);
  }
  for (int i = 0; i < MANY; i++) {
    waits[i % WAITS].waiting = true;
    task_cancel(t[i]);
  }
  CHECK(ncancelled == MANY && coroutines(vm) < 300);
  vm_unref(vm);
}

static void test_no_memory_for_a_coroutine_is_an_outcome(void) {
  struct vm *vm = vm_that_waits();
  struct outcome o = {0};
  int fn = vm_compile(vm, "return true");
  vm_limit(vm, vm_memory(vm) / 2, 0);
  lua_gc(vm_state(vm), LUA_GCSTOP);
  task_start(vm, fn, NULL, on_outcome, &o, NULL);
  CHECK(o.calls == 1 && (o.status == ERR_MEMORY || o.status == 0));
  vm_limit(vm, 0, 0);
  vm_expect(vm, "return true");
  vm_unref(vm);
}

int main(void) {
  RUN(test_a_task_gets_its_arguments_and_gives_its_results);
  RUN(test_an_error_while_arguments_are_pushed_is_contained);
  RUN(test_finished_coroutines_are_used_again);
  RUN(test_a_budget_is_there_for_every_use_of_a_coroutine);
  RUN(test_the_last_reference_may_go_in_done);
  RUN(test_a_task_may_start_another_that_waits_or_fails);
  RUN(test_tasks_that_start_themselves_end);
  RUN(test_coroutines_and_tasks_inside_of_one_another_share_one_bound_of_c_calls);
  RUN(test_a_wait_gives_what_completed_it);
  RUN(test_a_task_may_wait_inside_of_pcall_xpcall_iterators_and_metamethods_of_lua);
  RUN(test_an_error_while_results_are_pushed_is_the_waits_error);
  RUN(test_each_resume_has_its_own_budget);
  RUN(test_places_that_may_not_wait_say_so);
  RUN(test_a_task_whose_tokens_are_pinned_waits_for_what_may_be_waited_for);
  RUN(test_a_file_that_loads_may_not_wait);
  RUN(test_no_script_resumes_or_closes_a_task);
  RUN(test_a_cancelled_task_ends_its_wait_and_closes_its_variables);
  RUN(test_closing_variables_of_a_cancelled_task_may_not_wait_nor_loop);
  RUN(test_a_wait_begun_with_the_budget_over_is_cancelled);
  RUN(test_a_task_cancelled_while_it_runs_ends_at_its_next_wait);
  RUN(test_all_tasks_of_a_vm_are_cancelled_and_none_starts_any_more);
  RUN(test_a_task_may_cancel_all);
  RUN(test_more_tasks_wait_than_the_pool_keeps);
  RUN(test_no_memory_for_a_coroutine_is_an_outcome);
  return 0;
}
