/* How deep scripts may nest what takes C stack: the bound that vm_internal.h states, and what happens beyond it. */
#include "base/log.h"
#include "lua/vm_internal.h"

#include "vm_support.h"

static struct vm *vm;
static size_t lowest;

static int l_left(lua_State *L) {
  size_t left = thread_stack_left();
  if (left < lowest) lowest = left;
  (void)L;
  return 0;
}

/* What `step`, which calls f() in some way, takes when it is inside of itself as often as Lua lets it. */
static size_t stack_of(const char *step) {
  char text[1024];
  (void)snprintf(text, sizeof text,
                 "local n, deepest = 0, 0 local function step(f) %s end\n"
                 "local function go() left() n = n + 1 deepest = n > deepest and n or deepest step(go) n = n - 1 end\n"
                 "pcall(go) return tostring(deepest)",
                 step);
  size_t before = thread_stack_left();
  lowest = SIZE_MAX;
  struct outcome o = vm_run(vm, text);
  CHECK(o.status == 0 && lowest != SIZE_MAX);
  return before - lowest;
}

static void test_a_count_of_c_calls_takes_no_more_stack_than_is_kept_for_it(void) {
  static const char *const steps[] = {
      "f()",
      "('x'):gsub('.', function() f() end)",
      "('x'):gsub('.', function() pcall(f) end)",
      "('x'):gsub('.', coroutine.wrap(function() f() end))",
      "coroutine.wrap(f)()",
      "table.sort({ 1, 2 }, function() f() end)",
      "local t, once = {}, true for i = 1, 100 do t[i] = 1 end table.sort(t, function() if once then once = false f() "
      "end return false end)",
      "table.concat(setmetatable({}, { __len = function() return 1 end, __index = function() f() return '' end }))",
      "string.format('%s', setmetatable({}, { __tostring = function() f() return '' end }))",
      "print(setmetatable({}, { __tostring = function() f() return '' end }))",
      "local _ = setmetatable({}, { __index = function() f() end }).x",
      "local _ = setmetatable({}, { __lt = function() f() end }) < 1",
      "local _ = setmetatable({}, { __concat = function() f() end }) .. 'x'",
      "do local _ <close> = setmetatable({}, { __close = function() f() end }) end",
      "xpcall(error, function() f() end)",
      "load(function() f() end)",
      "jeton.log.info('x', { a = setmetatable({}, { __tostring = function() f() return '' end }) })",
      "jeton.spawn(f)",
      "local co = coroutine.create(function() local _ <close> = setmetatable({}, { __close = function() end }) "
      "coroutine.yield() end) coroutine.resume(co) f() coroutine.close(co)",
  };
  size_t most = 0;
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    size_t taken = stack_of(steps[i]);
    most = taken > most ? taken : most;
  }
  CHECK(most < STACK_OF_A_COUNT);
}

/* Each coroutine's variable goes 150 calls deep and closes the next: in all of them together the C stack of any thread would end. Since 5.4.6 Lua counts on in a
 * coroutine that is closed, and ends it by itself. */
static void test_coroutines_that_close_one_another_from_deep_inside_end_with_an_error(void) {
  vm_expect(vm,
            "local first, why\n"
            "for i = 1, 300 do\n"
            "  local next = first\n"
            "  local function go(n)\n"
            "    if n > 0 then return ('x'):gsub('.', function() go(n - 1) end) end\n"
            "    if next then\n"
            "      local ok, closed, e = pcall(coroutine.close, next)\n"
            "      why = why or not ok and closed or not closed and e\n"
            "    end\n"
            "  end\n"
            "  first = coroutine.create(function()\n"
            "    local x <close> = setmetatable({}, { __close = function() go(150) end }) coroutine.yield() end)\n"
            "  coroutine.resume(first)\n"
            "end\n"
            "return coroutine.close(first) and (why:find 'close one another too deeply' or why:find 'stack overflow')");
}

static struct await waits[20000];
static int nwaits;
static struct task *tasks[20000];

static void on_wait_cancel(struct await *a) { (void)a; }
static int l_wait(lua_State *L) {
  struct await *a = &waits[nwaits++];
  await_begin(L, a, on_wait_cancel);
  return await_yield(L, a);
}
static int l_cancel(lua_State *L) {
  lua_Integer i = luaL_checkinteger(L, 1);
  if (i < nwaits && tasks[i] != NULL) task_cancel(tasks[i]);
  tasks[i] = NULL;
  return 0;
}

static void start_waiting(int n, const char *text) {
  nwaits = 0;
  int fn = vm_compile(vm, text);
  static struct outcome o;
  for (int i = 0; i < n; i++) task_start(vm, fn, NULL, on_outcome, &o, &tasks[i]);
  CHECK(nwaits == n && o.calls == 0);
}

/* Task i's variable cancels task i + 1. */
static const char row[] =
    "local i = table.next_i table.next_i = i + 1\n"
    "local x <close> = setmetatable({}, { __close = function() table.closed = table.closed + 1 cancel(i + 1) end }) "
    "wait()";

static void test_a_row_of_tasks_that_cancel_one_another_takes_the_stack_of_one(void) {
  enum { MANY = 15000 };
  vm_expect(vm, "table.next_i, table.closed = 0, 0 return true");
  start_waiting(MANY, row);
  struct task *first = tasks[0];
  tasks[0] = NULL;
  task_cancel(first);
  vm_expect(vm, "return table.closed == 15000");
  vm_expect(vm, "table.next_i, table.closed = 0, 0 return true");
  start_waiting(MANY, row);
  vm_expect(vm, "cancel(0) return table.closed == 15000"); /* from a script: when the call returns all are closed */
  vm_expect(vm, "table.next_i, table.closed = 0, 0 return true");
  start_waiting(MANY, row);
  vm_cancel_tasks(vm); /* the last: nothing starts in this VM any more */
}

static void test_a_cancel_from_deep_inside_is_done_at_the_end_of_the_run(void) {
  vm_expect(vm, "table.next_i, table.closed = 0, 0 return true");
  start_waiting(3, row);
  vm_expect(
      vm,
      "local function go(n) if n == 0 then return cancel(0) end ('x'):gsub('.', function() go(n - 1) end) end\n"
      "local function nest(n)\n"
      "  if n == 0 or not pcall(go, 150) then return end\n"
      "  local co = coroutine.create(function()\n"
      "    local x <close> = setmetatable({}, { __close = function()\n"
      "      local function deep(m) if m == 0 then return nest(n - 1) end ('x'):gsub('.', function() deep(m - 1) end) "
      "end deep(140) end }) coroutine.yield() end)\n"
      "  coroutine.resume(co) coroutine.close(co) end\n"
      "nest(100) return true");
  vm_expect(vm, "return table.closed == 3");
}

int main(void) {
  log_configure(&(struct log_settings){.level = LOG_OFF});
  vm = vm_for_test(0, 0);
  vm_declare(vm, "left", l_left);
  RUN(test_a_count_of_c_calls_takes_no_more_stack_than_is_kept_for_it);
  vm_declare(vm, "wait", l_wait);
  vm_declare(vm, "cancel", l_cancel);
  RUN(test_coroutines_that_close_one_another_from_deep_inside_end_with_an_error);
  RUN(test_a_cancel_from_deep_inside_is_done_at_the_end_of_the_run);
  RUN(test_a_row_of_tasks_that_cancel_one_another_takes_the_stack_of_one);
  vm_unref(vm);
  return 0;
}
