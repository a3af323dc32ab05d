/* What one instruction, or one step in C, may take: scripts that make that much end near their budget all the same. In processor time, so a busy machine is
 * no matter. */
#include "base/clock.h"
#include "base/thread.h"
#include "vm_support.h"

enum { BUDGET_US = 20 * 1000, SANITIZED = THREAD_FRAMES, OVER_US = SANITIZED * 400 * 1000 };

static struct vm *vm;

/* Large values, from runs that have ended. */
static void prepare(void) {
  static const char *const texts[] = {
      "table.keep = { zeros = ('\\0'):rep(8 << 20) .. 'a', same = ('\\0'):rep(8 << 20) .. 'b' } return true",
      "table.keep.digits = ('1'):rep(8 << 20) return true",
      "table.keep.tail = 'a' .. ('\\x80'):rep(4 << 20) return true",
      "local t = {} for i = 1, 400000 do t['k' .. i] = i end for k in pairs(t) do t[k] = nil end table.keep.emptied = "
      "t "
      "return true",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) vm_expect(vm, texts[i]);
}

static void ends_in_time(const char *text) {
  int64_t before = clock_thread_us();
  struct outcome o = vm_run(vm, text);
  int64_t took = clock_thread_us() - before;
  if (o.status != ERR_BUDGET || took > OVER_US)
    fprintf(stderr, "%s\n-- gave %d %s in %lld us\n", text, o.status, o.message, (long long)took);
  CHECK(o.status == ERR_BUDGET && took <= OVER_US);
}

static void test_patterns_with_sets_of_any_length_are_charged_by_it(void) {
  ends_in_time("local p, s = '[' .. ('b'):rep(1 << 20) .. ']', ('a'):rep(100000) while true do s:find(p) end");
  ends_in_time("local p, s = '[' .. ('b'):rep(1 << 20) .. ']*', ('b'):rep(100000) while true do s:match(p) end");
  ends_in_time("local p, s = '[^' .. ('%w'):rep(1 << 19) .. ']-x', ('-'):rep(100000) while true do s:match(p) end");
  ends_in_time("local p, s = '%f[' .. ('%w'):rep(1 << 19) .. ']x', ('-'):rep(100000) while true do s:find(p) end");
  ends_in_time("local p, s = '[' .. ('b'):rep(1 << 20) .. ']', ('a'):rep(100000) while true do s:gsub(p, '') end");
  ends_in_time("local p, s = '[' .. ('b'):rep(1 << 20) .. ']', ('a'):rep(100000) for _ in s:gmatch(p) do end");
  ends_in_time("local p, s = ('b'):rep(1 << 20) .. '[', 'a' while true do pcall(s.find, s, p) end");
}

static void test_a_replacement_is_charged_by_its_length(void) {
  ends_in_time("local r, s = ('%1'):rep(1 << 20), ('a'):rep(100000) while true do s:gsub('(x*)', r) end");
  ends_in_time("local s = ('a'):rep(1 << 20) while true do s:gsub('', '') end");
}

static void test_strings_of_an_earlier_run_are_compared_within_the_budget(void) {
  ends_in_time("local a, b = table.keep.zeros, table.keep.same while true do local x = a < b end");
  ends_in_time("local a, b = table.keep.zeros, table.keep.same while true do local x = a <= b end");
  ends_in_time(
      "local a, b = table.keep.zeros, table.keep.same\n"
      "local co = coroutine.wrap(function() while true do local x = a < b end end) co()");
  ends_in_time("local a, b = table.keep.zeros, table.keep.same while true do table.sort { a, b, a, b, a } end");
  ends_in_time("local s = table.keep.digits while true do pcall(function() for _ = s, 1 do end end) end");
  ends_in_time("local s = table.keep.tail while true do pcall(function() for _ in utf8.codes(s) do end end) end");
  ends_in_time(
      "local a, b = table.keep.zeros, table.keep.same\n"
      "local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function()\n"
      "  while true do local y = a < b end end }) coroutine.yield() end)\n"
      "coroutine.resume(co) coroutine.close(co)");
}

static void test_emptied_tables_are_walked_within_the_budget(void) {
  ends_in_time("local t = table.keep.emptied while true do next(t) end");
  ends_in_time("local t = table.keep.emptied while true do jeton.json.encode(t) end");
  ends_in_time("local l = {} for i = 1, 3000 do l[i] = table.keep.emptied end jeton.json.encode(l) while true do end");
  ends_in_time("local t = table.keep.emptied while true do jeton.log.debug('x', t) end");
}

static void test_many_arguments_are_copied_within_the_budget(void) {
  ends_in_time(
      "local function f(...) return select('#', ...) end local t = {} for i = 1, 200000 do t[i] = i end\n"
      "local function g(...) while true do f(...) end end g(table.unpack(t))");
}

static void test_dates_are_charged_by_their_parts(void) {
  ends_in_time("local f = ('%c'):rep(120) while true do os.date(f) end");
  vm_refuses(vm, "os.date(('%c'):rep(1000))", ERR_SCRIPT, "a format of more than 256 bytes");
  vm_expect(vm, "return os.date('!%Y-%m-%d', 0) == '1970-01-01' and os.date('*t').year > 2000");
}

/* With nothing left under the cap each allocation is a whole collection. */
static void test_allocations_at_the_cap_end_with_the_budget(void) {
  struct vm *small = vm_for_test(32 << 20, 20 * 1000);
  struct vm *all = vm;
  vm = small;
  int fn =
      vm_compile(vm,
                 "local t = table.all or {} table.all = t\n"
                 "pcall(function() for i = 1, 50000 do t[#t + 1] = {} end end) for i = 1, 3000 do t[#t] = nil end");
  static struct outcome o;
  for (int i = 0; i < 20; i++) task_start(vm, fn, NULL, on_outcome, &o, NULL);
  ends_in_time("while true do pcall(function() return { {}, {}, {} } end) end");
  vm = all;
  vm_unref(small);
}

static void test_weak_keys_with_strong_values_are_refused(void) {
  vm_refuses(vm, "setmetatable({}, { __mode = 'k' })", ERR_SCRIPT, "__mode = \"k\" is not available");
  vm_expect(vm,
            "setmetatable({}, { __mode = 'v' }) setmetatable({}, { __mode = 'kv' }) setmetatable({}, {}) return true");
}

/* 200,000 objects live: a collection takes some 10 ms. */
static void test_collections_that_a_stranger_brings_about_take_a_fifth_of_the_time_at_the_most(void) {
  struct vm *full = vm_for_test(0, 0);
  vm_expect(full, "local t = {} for i = 1, 200000 do t[i] = {} end table.all = t return true");
  CHECK(vm_collect_rarely(full));
  int in_a_row = 1;
  while (vm_collect_rarely(full)) in_a_row++;
  CHECK(in_a_row < 10);
  int64_t begin = clock_mono_us(), spent = 0;
  int done = 0;
  while (done < 3) {
    int64_t before = clock_mono_us();
    if (vm_collect_rarely(full)) done++, spent += clock_mono_us() - before;
  }
  CHECK(spent <= (clock_mono_us() - begin) * 2 / 3); /* the last of them has had no rest yet */
  vm_unref(full);
}

int main(void) {
  vm = vm_for_test(0, 0);
  prepare();
  vm_limit(vm, 0, BUDGET_US);
  RUN(test_patterns_with_sets_of_any_length_are_charged_by_it);
  RUN(test_a_replacement_is_charged_by_its_length);
  RUN(test_strings_of_an_earlier_run_are_compared_within_the_budget);
  RUN(test_emptied_tables_are_walked_within_the_budget);
  RUN(test_many_arguments_are_copied_within_the_budget);
  RUN(test_dates_are_charged_by_their_parts);
  RUN(test_allocations_at_the_cap_end_with_the_budget);
  RUN(test_collections_that_a_stranger_brings_about_take_a_fifth_of_the_time_at_the_most);
  RUN(test_weak_keys_with_strong_values_are_refused);
  vm_unref(vm);
  return 0;
}
