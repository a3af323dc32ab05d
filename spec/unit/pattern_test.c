/* Patterns: the same as the stock functions on random patterns and subjects, and bounded in time where the stock ones are not. */
#include "lua/pattern.h"

#include <lualib.h>

#include "vm_support.h"

enum { BUDGET_US = 20 * 1000, SLACK_US = 250 * 1000 };

static int l_open_stock(lua_State *L) {
  luaopen_string(L);
  sandbox_declare(L, "stock");
  return 0;
}

static struct vm *vm_with_stock(void) {
  struct vm *vm = vm_for_test(0, 0);
  CHECK(vm_call(vm, l_open_stock, NULL, NULL) == 0);
  return vm;
}

/* same(name, ...): calls both, compares all results, or the errors' texts. */
static const char SAME[] =
    "local function show(t) local o = {} for i = 1, t.n do o[i] = stock.format('%q', t[i]) end return "
    "(stock.gsub(table.concat(o, ' '), \"to '[%w.?]+'\", '')) end\n"
    "local function same(name, ...)\n"
    "  local a, b = table.pack(pcall(stock[name], ...)), table.pack(pcall(string[name], ...))\n"
    "  if show(a) ~= show(b) then\n"
    "    error(name .. '(' .. show(table.pack(select(1, ...))) .. '): stock ' .. show(a) .. ', here ' .. show(b))\n"
    "  end\n"
    "end\n"
    "local function all(f, s, p, init)\n" /* every match of gmatch, and the error that ends it */
    "  local o = {}\n"
    "  local ok, why = pcall(function() for a, b, c in f(s, p, init) do o[#o + 1] = tostring(a) .. '/' .. tostring(b) "
    ".. '/' .. tostring(c) end end)\n"
    "  return table.concat(o, ';') .. (ok and '' or tostring(why))\n"
    "end\n"
    "local function same_walk(s, p, init)\n"
    "  local a, b = all(stock.gmatch, s, p, init), all(string.gmatch, s, p, init)\n"
    "  if a ~= b then error(('gmatch(%q, %q): stock %q, here %q'):format(s, p, a, b)) end\n"
    "end\n";

static void expect_same(struct vm *vm, const char *text) {
  char all[8192];
  CHECK(snprintf(all, sizeof all, "%s%s\nreturn true", SAME, text) < (int)sizeof all);
  vm_expect(vm, all);
}

static void test_random_patterns_match_as_the_stock_functions_do(void) {
  struct vm *vm = vm_with_stock();
  expect_same(
      vm,
      "local items = { 'a', 'b', '.', '%a', '%d', '%s', '%w', '%W', '%p', '[ab]', '[^a]', '[a-c]', '[%d_]', '[]]', "
      "'[^]x]', '[a-]', '[%a-z]', '[-a]', '%.',\n"
      "  '%%', '(', ')', '()', '(a)', '(.-)', '(.*)', '%1', '%2', '%b()', '%bab', '%f[a]', '%f[^a]', '%f[%w]', '^', "
      "'$', 'c', '(', ')', ' ', '\\0', '%x', '%u', '%l',\n"
      "  '%A', '%S', '%D', '%c', '%C', '%g', '%G', '%P', '%U', '%X', '%L' }\n"
      "local marks = { '', '', '', '*', '+', '-', '?' }\n"
      "local odd = { '%', '[', '[^', '[a', '%b', '%bx', '%f', '%f[', '%0', '%9', '[%', '[a-', '[]', '[^]', '[%a-%z]', "
      "'*', '+', '?' }\n"
      "local bytes = { 'a', 'b', 'c', 'x', '1', '2', ' ', '(', ')', '_', '.', '-', '\\0', '\\n', '\\200', 'A', 'Z' }\n"
      "local function pick(t) return t[math.random(#t)] end\n"
      "local repls = { 'r', '%0', '<%1>', '%2', '%%', '%', '%x', '', '%1%1', 7, { a = 'A', b = 1, c = false, [1] = "
      "'one' }, {},\n"
      "  function(a, b) return b or a end, function() end, function() return false end, function() return {} end, "
      "function(...) return select('#', ...) end }\n"
      "math.randomseed(20)\n"
      "for i = 1, 60000 do\n"
      "  local p, s = {}, {}\n"
      "  if math.random(6) == 1 then p[1] = '^' end\n"
      "  for k = 1, math.random(0, 6) do p[#p + 1] = pick(items) .. pick(marks) end\n"
      "  if math.random(20) == 1 then p[#p + 1] = pick(odd) end\n"
      "  if math.random(6) == 1 then p[#p + 1] = '$' end\n"
      "  for k = 1, math.random(0, 12) do s[k] = pick(bytes) end\n"
      "  p, s = table.concat(p), table.concat(s)\n"
      "  local init = math.random(3) == 1 and math.random(-15, 15) or nil\n"
      "  same('find', s, p, init)\n"
      "  same('match', s, p, init)\n"
      "  same('find', s, p, init, math.random(4) == 1)\n"
      "  same_walk(s, p, init)\n"
      "  same('gsub', s, p, pick(repls), math.random(3) == 1 and math.random(-1, 4) or nil)\n"
      "end");
  vm_unref(vm);
}

static void test_arguments_are_checked_as_the_stock_functions_do(void) {
  struct vm *vm = vm_with_stock();
  expect_same(
      vm,
      "for _, f in ipairs { 'find', 'match', 'gmatch', 'gsub' } do\n"
      "  same(f) same(f, 'a') same(f, nil, 'a') same(f, 'a', nil) same(f, {}, 'a') same(f, 'a', {}) same(f, 'a', 'a', "
      "{})\n"
      "  same(f, 'a', 'a', 'x') same(f, 'a', 'a', 1.5)\n"
      "end\n"
      "same('gsub', 'a', 'a', nil) same('gsub', 'a', 'a', true) same('gsub', 'a', 'a', 'b', 'x') same('gsub', 12, 1, "
      "3)\n"
      "same('find', 123, 2) same('find', 'abc', 'b', math.mininteger) same('find', 'abc', 'b', math.maxinteger)\n"
      "same('find', '', '') same('find', '', '', 2) same('find', 'abc', '', 4) same('find', 'abc', '', 5) same('find', "
      "'a.b', '.', 2, true)\n"
      "same('gsub', 'abc', '%w', '%0%0') same('gsub', 'hello world', 'o', error) same('gsub', 'abc', '', '-')");
  vm_unref(vm);
}

static void test_bounds_are_those_of_the_stock_functions(void) {
  struct vm *vm = vm_with_stock();
  expect_same(
      vm,
      "for _, n in ipairs { 1, 31, 32, 33, 40 } do\n"
      "  same('match', ('a'):rep(50), ('(a)'):rep(n)) same('find', ('a'):rep(50), ('()'):rep(n)) same('match', 'a', "
      "('('):rep(n))\n"
      "end\n"
      "for _, n in ipairs { 10, 150, 250 } do same('match', ('a'):rep(n), ('a?'):rep(n)) same('match', '', "
      "('a-'):rep(n)) same('match', ('a'):rep(n), ('a'):rep(n)) end\n"
      "same('match', ('a'):rep(2000), '.-b') same('match', ('a'):rep(100000), '^(a*)$') same('gsub', ('ab'):rep(1000), "
      "'a(b)', '%1')\n"
      "same('match', ('('):rep(1000) .. (')'):rep(1000), '%b()') same('find', ('x'):rep(20000) .. 'yz', 'x*y(z)')");
  vm_unref(vm);
}

static void test_an_iterator_may_go_on_in_another_coroutine(void) {
  struct vm *vm = vm_with_stock();
  vm_expect(vm,
            "local walk = string.gmatch('a b c', '%a')\n"
            "assert(walk() == 'a')\n"
            "assert(coroutine.wrap(function() return walk() end)() == 'b')\n"
            "collectgarbage 'count'\n"
            "return walk() == 'c' and walk() == nil and walk() == nil");
  vm_unref(vm);
}

static void test_pattern_bombs_end_in_the_budget(void) {
  static const char *const bombs[] = {
      "return (('a'):rep(60)):match(('a?'):rep(60) .. ('a'):rep(61))",
      "return (('a'):rep(100000)):match('.-.-.-.-.-.-.-.-b')",
      "return (('a'):rep(100000)):find('a*a*a*a*a*b')",
      "return (('a'):rep(1000000)):find('(.*)(.*)(.*)x')",
      "return (('('):rep(1000000)):find('%b()')",
      "return (('a'):rep(1000000)):gsub('.-b', '')",
      "for _ in (('a'):rep(1000000)):gmatch('.-b') do end",
      "return (('a'):rep(2000) .. ('b'):rep(2000)):rep(50):find('(a+)(b+)%1%2%1c')",
      "return (('a'):rep(1000000)):find('[^b]*c')",
      "while true do (('a'):rep(1000)):find('a-b') end",
      "while true do pcall(string.find, ('a'):rep(100000), '.-.-.-b') end",
      "return coroutine.wrap(string.find)(('a'):rep(100000), '.-.-.-b')",
  };
  struct vm *vm = vm_for_test(0, BUDGET_US);
  for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
    int64_t start = clock_thread_us();
    vm_refuses(vm, bombs[i], ERR_BUDGET, "test.lua:1: time budget of 20 ms exceeded");
    CHECK(clock_thread_us() - start < BUDGET_US + SLACK_US);
    vm_expect(vm, "return ('key = value'):match('^(%w+)%s*=%s*(%w+)$') == 'key'");
  }
  vm_unref(vm);
}

int main(void) {
  RUN(test_random_patterns_match_as_the_stock_functions_do);
  RUN(test_arguments_are_checked_as_the_stock_functions_do);
  RUN(test_bounds_are_those_of_the_stock_functions);
  RUN(test_an_iterator_may_go_on_in_another_coroutine);
  RUN(test_pattern_bombs_end_in_the_budget);
  return 0;
}
