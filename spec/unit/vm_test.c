/* A VM's life, its memory, its time budget, and calls on its main thread. */
#include "lua/vm.h"

#include <unistd.h>

#include "lua/alloc.h"
#include "vm_support.h"

enum { MIB = 1024 * 1024, BUDGET_US = 20 * 1000, SLACK_US = 250 * 1000 };

/* --- the allocator --- */

static void test_blocks_of_every_size_keep_their_bytes_when_they_move(void) {
  struct alloc a;
  alloc_init(&a, 0, false);
  unsigned char *p = NULL;
  size_t old = 0;
  for (size_t n = 1; n < 20000; n += 1 + n / 7) {
    p = alloc_lua(&a, p, old, n);
    for (size_t i = 0; i < old; i++) CHECK(p[i] == (unsigned char)(i * 7));
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)(i * 7);
    old = n;
  }
  for (size_t n = old; n > 40; n -= 1 + n / 5) {
    p = alloc_lua(&a, p, old, n);
    for (size_t i = 0; i < n; i++) CHECK(p[i] == (unsigned char)(i * 7));
    old = n;
  }
  CHECK(alloc_lua(&a, p, old, 0) == NULL);
  alloc_fini(&a);
}

static void test_memory_of_one_size_can_become_memory_of_another(void) {
  enum { N = 6000 };
  static void *blocks[N];
  struct alloc a;
  alloc_init(&a, 16 * (size_t)MIB, false);
  for (size_t size = 16; size <= 2048; size *= 2) {
    for (int i = 0; i < N; i++) CHECK((blocks[i] = alloc_lua(&a, NULL, 0, size)) != NULL);
    for (int i = 0; i < N; i++) alloc_lua(&a, blocks[i], size, 0);
    CHECK(a.used == 0 && a.reserved <= (uint64_t)ALLOC_CLASSES * ALLOC_SLAB);
  }
  alloc_fini(&a);
}

static void test_the_cap_refuses_growth_and_never_shrinking(void) {
  struct alloc a;
  alloc_init(&a, 100 * 1000, false);
  void *p = alloc_lua(&a, NULL, 0, 90 * 1000);
  CHECK(p != NULL);
  CHECK(alloc_lua(&a, NULL, 0, 20 * 1000) == NULL);
  CHECK(alloc_lua(&a, p, 90 * 1000, 110 * 1000) == NULL);
  a.max = 1000;
  p = alloc_lua(&a, p, 90 * 1000, 5000);
  CHECK(p != NULL);
  p = alloc_lua(&a, p, 5000, 100);
  CHECK(p != NULL);
  alloc_lua(&a, p, 100, 0);
  alloc_fini(&a);
}

static void test_freed_memory_is_wiped_when_asked(void) {
  struct alloc a;
  alloc_init(&a, 0, true);
  char *p = alloc_lua(&a, NULL, 0, 64);
  memset(p, 'x', 64);
  alloc_lua(&a, p, 64, 0);
  char *q = alloc_lua(&a, NULL, 0, 64); /* the same block, but for what links free ones */
  CHECK(q == p);
  for (size_t i = sizeof(void *); i < 64; i++) CHECK(q[i] == 0);
  alloc_lua(&a, q, 64, 0);
  alloc_fini(&a);
}

/* --- calls --- */

static int l_fail(lua_State *L) { return luaL_error(L, "%s", (const char *)lua_touserdata(L, 1)); }
static int l_raise_table(lua_State *L) {
  lua_newtable(L);
  return lua_error(L);
}

static void test_a_call_tells_its_error(void) {
  struct vm *vm = vm_for_test(0, 0);
  const char *message = NULL;
  char why[] = "for a reason";
  CHECK(vm_call(vm, l_fail, why, &message) == ERR_SCRIPT);
  CHECK(strcmp(message, "for a reason") == 0);
  CHECK(vm_call(vm, l_raise_table, NULL, &message) == ERR_SCRIPT);
  CHECK(strcmp(message, "error raised with a table value") == 0);
  CHECK(lua_gettop(vm_state(vm)) == 0);
  vm_unref(vm);
}

static void test_a_vm_lives_as_long_as_its_references(void) {
  struct vm *vm = vm_for_test(0, 0);
  CHECK(vm_of(vm_state(vm)) == vm && vm_role(vm) == VM_WORKER && vm_memory(vm) > 0);
  vm_ref(vm);
  vm_unref(vm);
  vm_expect(vm, "return true");
  vm_unref(vm);
}

static void test_a_vm_that_cannot_have_its_memory_is_not_made(void) {
  struct vm_settings s = {VM_WORKER, 8 * 1024, 0, false, NULL};
  CHECK(vm_new(&s) == NULL);
}

/* --- what was raised --- */

static void test_any_error_value_gives_a_message_with_file_and_line(void) {
  struct vm *vm = vm_for_test(0, 0);
  vm_refuses(vm, "\nerror 'plain'", ERR_SCRIPT, "test.lua:2: plain");
  vm_refuses(vm, "\nerror()", ERR_SCRIPT, "test.lua:2: error raised without a message");
  vm_refuses(vm, "\n\nerror({})", ERR_SCRIPT, "test.lua:3: error raised with a table value");
  vm_refuses(vm, "error(42)", ERR_SCRIPT, "42");
  vm_refuses(vm, "error(setmetatable({}, { __tostring = function() return 'my own' end }))", ERR_SCRIPT, "my own");
  vm_refuses(vm, "error(setmetatable({}, { __tostring = function() error 'inner' end }))", ERR_SCRIPT, "inner");
  vm_refuses(vm, "error(setmetatable({}, { __tostring = function() return {} end }))", ERR_SCRIPT, "__tostring");
  vm_refuses(vm, "local t = {} setmetatable(t, { __tostring = function() error(t) end }) error(t)", ERR_SCRIPT, "");
  vm_refuses(vm, "local x = nil\nreturn x.y", ERR_SCRIPT, "test.lua:2: attempt to index a nil value");
  vm_refuses(vm, "local function f() return f() + 1 end\nf()", ERR_SCRIPT, "stack overflow");
  vm_expect(vm, "return true");
  vm_unref(vm);
}

/* --- the time budget --- */

/* The least of three runs: pages that the machine is slow to give count as processor time, too, and no budget can foresee them. */
static void expect_budget(struct vm *vm, const char *text) {
  int64_t least = INT64_MAX;
  for (int run = 0; run < 3 && least >= BUDGET_US + SLACK_US; run++) {
    int64_t start = clock_thread_us();
    vm_refuses(vm, text, ERR_BUDGET, "time budget of 20 ms exceeded");
    int64_t took = clock_thread_us() - start;
    if (took < least) least = took;
  }
  if (least >= BUDGET_US + SLACK_US) fprintf(stderr, "%s\n-- took %lld us of the processor\n", text, (long long)least);
  CHECK(least < BUDGET_US + SLACK_US);
  vm_expect(vm,
            "local n = 0 for i = 1, 5000 do n = n + 1 end return n == 5000"); /* the next one has a budget of its own */
}

static void test_an_endless_loop_ends_wherever_it_is(void) {
  static const char *const loops[] = {
      "while true do end",
      "pcall(function() while true do end end)",
      "while true do pcall(function() while true do end end) end",
      "xpcall(function() while true do end end, function() while true do end end)",
      "xpcall(error, function() while true do end end)",
      "while true do pcall(error) end",
      "while true do xpcall(error, type) end",
      "coroutine.wrap(function() while true do end end)()",
      "local co = coroutine.create(function() while true do end end) coroutine.resume(co) return true",
      "local co = coroutine.create(function() while true do end end) while true do coroutine.resume(co) end",
      "while true do coroutine.wrap(function() end)() end",
      "local function f() while true do pcall(coroutine.wrap(f)) end end f()",
      "do local x <close> = setmetatable({}, { __close = function() while true do end end }) end",
      "local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
      "local x <close> = setmetatable({}, { __close = function() while true do end end }) error 'x'",
      "local co = coroutine.wrap(function() local x <close> = setmetatable({}, { __close = function() while true do "
      "end end })"
      " while true do end end) pcall(co) while true do end",
      "local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() while true do "
      "end end })"
      " coroutine.yield() end) coroutine.resume(co) coroutine.close(co)",
      "table.sort({ 3, 2, 1 }, function() while true do end end)",
      "local t = {} for i = 1, 300 do t[i] = i end while true do table.sort(t) end",
      "string.gsub('x', 'x', function() while true do end end)",
      "return tostring(setmetatable({}, { __tostring = function() while true do end end }))",
      "error(setmetatable({}, { __tostring = function() while true do end end }))",
      "return setmetatable({}, { __index = function() while true do end end }).x",
      "for _ in function() while true do end end do end",
      "load(function() while true do end end)",
      "load(function() return ' ' end)",
      "while true do load('(') end",
      "goto again ::again:: goto again",
      "table.move({}, 1, math.maxinteger - 1, 2)",
      "table.insert(setmetatable({}, { __len = function() return 1 << 60 end }), 1, 1)",
      "table.remove(setmetatable({}, { __len = function() return 1 << 60 end }), 1)",
      "table.concat(setmetatable({}, { __index = rawlen }), '', 1, 1 << 60)",
      "table.sort(setmetatable({}, { __len = function() return 1 << 30 end }), rawequal)",
      "local s = ('x'):rep(4 << 20) while true do local t = s .. 'y' end",
      "local s = ('x'):rep(1 << 20) while true do s:upper() end",
      "local s = ('x'):rep(8 << 20) while true do utf8.len(s) end",
      "local s = ('x'):rep(8 << 20) while true do s:find('y', 1, true) s:find('y+') end",
      "local s = ('1'):rep(8 << 20) while true do tonumber(s) end",
      "local s = ('1'):rep(8 << 20) while true do local x = s + 0 end",
      "local s = ('1'):rep(8 << 20) while true do local x = -s end",
      "while true do table.unpack({}, 1, 900000) end",
      "local s = ('1'):rep(900000) while true do s:byte(1, -1) end",
      "local a, b = ('x'):rep(8 << 20), ('x'):rep(8 << 20) while a <= b do end",
      "coroutine.wrap(function() local a, b = ('x'):rep(8 << 20), ('x'):rep(8 << 20) while a <= b do end end)()",
      ("local co = coroutine.wrap(function(a, b) coroutine.yield() while a <= b do end end)"
       " local a, b = ('x'):rep(8 << 20), ('x'):rep(8 << 20) co(a, b) co()"),
      "local s = (' '):rep(1 << 20) while true do load(function() return s end) end",
      "local s = (' '):rep(4 << 20) while true do load(s) end",
      "local s = ('x'):rep(8 << 20) while true do jeton.crypto.hash('sha512', s) end",
      "while true do jeton.crypto.random(1 << 20) end",
      "local s = jeton.secret.value(('x'):rep(1 << 20)) while true do jeton.crypto.equal(s, s) end",
      "local s = (' '):rep(8 << 20) .. 'x' while true do jeton.json.decode(s) end",
      "local t = {} for i = 1, 1000 do t[i] = true end while true do jeton.json.encode(t) end",
      "local s = ('x'):rep(8 << 20) while true do jeton.base64.decode(s) end",
      "local s = ('x'):rep(8 << 20) while true do pcall(jeton.http.get, s) end",
  };
  struct vm *vm = vm_for_test(32 * MIB, BUDGET_US);
  for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) expect_budget(vm, loops[i]);
  vm_unref(vm);
}

static void test_a_budget_error_tells_where(void) {
  struct vm *vm = vm_for_test(0, BUDGET_US);
  vm_refuses(vm, "\n\nwhile true do end", ERR_BUDGET, "test.lua:3: time budget of 20 ms exceeded");
  vm_refuses(vm, "\npcall(function() while true do end end)", ERR_BUDGET, "test.lua:2: time budget");
  vm_unref(vm);
}

static void test_a_handler_does_not_run_when_the_budget_is_over(void) {
  struct vm *vm = vm_for_test(0, BUDGET_US);
  expect_budget(vm, "xpcall(function() while true do end end, function() table.handled = true end)");
  vm_expect(vm, "return table.handled == nil");
  vm_unref(vm);
}

static void test_a_coroutine_that_ran_out_of_time_never_runs_again(void) {
  struct vm *vm = vm_for_test(0, BUDGET_US);
  expect_budget(vm,
                "table.co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() "
                "while true do end end })"
                " while true do end end) coroutine.resume(table.co)");
  vm_expect(vm, "local ok, why = coroutine.close(table.co) return not ok and why:find 'budget'");
  vm_expect(vm, "local ok, why = coroutine.resume(table.co) return not ok and why:find 'dead'");
  vm_unref(vm);
}

static int l_stall(lua_State *L) { /* as a thread does that gets no processor */
  (void)L;
  CHECK(usleep(3 * BUDGET_US) == 0);
  return 0;
}

static void test_time_without_a_processor_is_not_spent(void) {
  struct vm *vm = vm_for_test(0, BUDGET_US);
  vm_declare(vm, "stall", l_stall);
  vm_expect(vm, "for i = 1, 3000 do end stall() for i = 1, 3000 do end return true");
  expect_budget(vm, "for i = 1, 3000 do end stall() while true do end");
  vm_unref(vm);
}

static int l_loop(lua_State *L) {
  luaL_loadstring(L, "while true do end");
  lua_call(L, 0, 0);
  return 0;
}

static void test_a_call_has_a_budget(void) {
  struct vm *vm = vm_for_test(0, 0);
  const char *message;
  vm_limit(vm, 0, 5000);
  CHECK(vm_call(vm, l_loop, NULL, &message) == ERR_BUDGET);
  CHECK(strstr(message, "time budget of 5 ms exceeded") != NULL);
  CHECK(vm_call(vm, l_loop, NULL, &message) == ERR_BUDGET);
  vm_limit(vm, 0, 0);
  vm_expect(vm, "for i = 1, 1e6 do end return true");
  vm_unref(vm);
}

/* --- memory --- */

static void expect_memory(struct vm *vm, const char *text) {
  int64_t start = clock_thread_us();
  vm_refuses(vm, text, ERR_MEMORY, "test.lua:");
  CHECK(clock_thread_us() - start < 3 * 1000 * 1000);
  vm_refuses(vm, text, ERR_MEMORY, "not enough memory: the limit is 16384 KiB");
  vm_expect(vm, "return #('x'):rep(1000000) == 1000000"); /* what was taken is given back */
}

static void test_memory_that_runs_away_ends_at_the_cap(void) {
  static const char *const takers[] = {
      "return ('x'):rep(1 << 30)",
      "return ('x'):rep(1 << 30, ',')",
      "local t = {} while true do t[#t + 1] = {} end",
      "local t = {} for i = 1, 1e9 do t[i] = i end",
      "local s = 'x' while true do s = s .. s end",
      "local t = {} for i = 1, 100 do t[i] = ('x'):rep(1 << 19) end return table.concat(t)",
      ("return ('%s'):rep(60):format(table.unpack((function() local t = {} local s = ('x'):rep(1 << 20) for i = 1, 60 "
       "do t[i] = s end return t end)()))"),
      "return string.pack('c1000000000', '')",
      "local t = {} while true do t[#t + 1] = coroutine.create(print) end",
  };
  struct vm *vm = vm_for_test(16 * MIB, 0);
  for (size_t i = 0; i < sizeof takers / sizeof *takers; i++) expect_memory(vm, takers[i]);
  CHECK(vm_memory(vm) <= 16 * MIB);
  vm_unref(vm);
}

static void test_memory_errors_that_are_caught_again_and_again_end_in_time(void) {
  struct vm *vm = vm_for_test(32 * MIB, BUDGET_US);
  expect_budget(vm, "while true do pcall(string.rep, 'x', 1 << 30) end");
  expect_budget(vm, "while true do pcall(function() return ('x'):rep(1 << 24) .. ('y'):rep(1 << 24) end) end");
  expect_budget(
      vm, "while true do pcall(function() local s = ('x'):rep(1 << 23) return table.concat { s, s, s, s } end) end");
  vm_unref(vm);
}

static void test_garbage_does_not_make_the_cap_look_reached(void) {
  struct vm *vm = vm_for_test(16 * MIB, 0);
  for (int i = 0; i < 50; i++) vm_expect(vm, "local s = ('x'):rep(3 << 20) return #s:upper() == 3 << 20");
  vm_expect(vm, "for i = 1, 50 do local s = ('x'):rep(5 << 20) end return true");
  vm_unref(vm);
}

static void test_huge_widths_fail_at_once(void) {
  struct vm *vm = vm_for_test(16 * MIB, BUDGET_US);
  vm_refuses(vm, "return ('%999999999d'):format(1)", ERR_SCRIPT, "invalid conversion");
  vm_refuses(vm, "return ('x'):rep(math.maxinteger, ',')", ERR_SCRIPT, "resulting string too large");
  vm_unref(vm);
}

static void test_steady_work_takes_no_more_memory(void) {
  struct vm *vm = vm_for_test(0, 0);
  int fn = vm_compile(vm, "local t = { a = 1, b = {} } t.c = ('x'):rep(100) .. #t return function() return t end");
  struct outcome o = {0};
  uint64_t most = 0;
  for (int i = 0; i < 20000; i++) {
    task_start(vm, fn, NULL, on_outcome, &o, NULL);
    if (i == 5000) most = vm_memory(vm) * 2;
    CHECK(i <= 5000 || vm_memory(vm) < most);
  }
  CHECK(o.calls == 20000);
  vm_unref(vm);
}

/* Lua 5.4.4 loses the operands of a join when the stack moves while a __concat runs: as it grows, or as the collector shrinks it. */
static void test_a_join_survives_the_collector(void) {
  static const char *const before[] = {"local function run(f) f() end ",
                                       "local function run(f) select('#', table.unpack({}, 1, 100)) f() end ",
                                       "local function run(f) coroutine.wrap(f)() end ",
                                       "local function run(f) assert(coroutine.resume(coroutine.create(f))) end "};
  static const char *const values[] = {
      "local value = jeton.secret.value ",
      "local m = {} local function value() return setmetatable({}, m) end m.__concat = value "};
  for (size_t i = 0; i < sizeof before / sizeof *before * 2; i++) {
    for (int wipe = 0; wipe < 2; wipe++) {
      char text[1024];
      static struct services services;
      struct vm_settings s = {VM_WORKER, 0, 0, wipe != 0, &services};
      struct vm *vm = vm_new(&s);
      CHECK(vm != NULL);
      (void)snprintf(text, sizeof text,
                     "%s%s for i = 1, 40 do run(function() for j = 1, 500 do\n"
                     "  local s = (function() return '<' .. value 'b' .. 5 .. value 'c' .. '>' end)()\n"
                     "  assert(type(s) ~= 'string')\n"
                     "end end) end return true",
                     before[i / 2], values[i % 2]);
      vm_expect(vm, text);
      vm_unref(vm);
    }
  }
}

int main(void) {
  RUN(test_blocks_of_every_size_keep_their_bytes_when_they_move);
  RUN(test_memory_of_one_size_can_become_memory_of_another);
  RUN(test_the_cap_refuses_growth_and_never_shrinking);
  RUN(test_freed_memory_is_wiped_when_asked);
  RUN(test_a_call_tells_its_error);
  RUN(test_a_vm_lives_as_long_as_its_references);
  RUN(test_a_vm_that_cannot_have_its_memory_is_not_made);
  RUN(test_any_error_value_gives_a_message_with_file_and_line);
  RUN(test_an_endless_loop_ends_wherever_it_is);
  RUN(test_a_budget_error_tells_where);
  RUN(test_a_handler_does_not_run_when_the_budget_is_over);
  RUN(test_a_coroutine_that_ran_out_of_time_never_runs_again);
  RUN(test_time_without_a_processor_is_not_spent);
  RUN(test_a_call_has_a_budget);
  RUN(test_memory_that_runs_away_ends_at_the_cap);
  RUN(test_memory_errors_that_are_caught_again_and_again_end_in_time);
  RUN(test_garbage_does_not_make_the_cap_look_reached);
  RUN(test_huge_widths_fail_at_once);
  RUN(test_steady_work_takes_no_more_memory);
  RUN(test_a_join_survives_the_collector);
  return 0;
}
