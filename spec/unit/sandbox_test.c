/* What scripts find in their state, and what they do not. */
#include "lua/sandbox.h"

#include <lualib.h>

#include "vm_support.h"

static struct vm *vm;

static void refuses(const char *text, const char *part) { vm_refuses(vm, text, ERR_SCRIPT, part); }
static void expect(const char *text) { vm_expect(vm, text); }

static void test_blocking_functions_name_what_to_use_instead(void) {
  refuses("os.execute 'true'", "os.execute is not available: use jeton.exec");
  refuses("os.exit(0)", "os.exit is not available: raise an error");
  refuses("os.getenv 'HOME'", "use jeton.env");
  refuses("os.remove 'x'", "use jeton.file");
  refuses("os.rename('x', 'y')", "use jeton.file");
  refuses("os.tmpname()", "use jeton.file");
  refuses("os.setlocale 'C'", "the locale");
  refuses("io.open 'x'", "io.open is not available: use jeton.file");
  refuses("io.popen 'x'", "use jeton.exec");
  refuses("io.lines 'x'", "use jeton.file");
  refuses("io.write 'x'", "use jeton.log");
  refuses("io.stderr:write 'x'", "io.stderr is not available");
  refuses("dofile 'x'", "dofile is not available: use require");
  refuses("loadfile 'x'", "loadfile is not available: use require");
  expect(
      "return type(os.time()) == 'number' and type(os.date()) == 'string' and os.clock() >= 0 and os.difftime(2, 1) == "
      "1");
}

static void test_undeclared_globals_are_refused_with_the_remedy(void) {
  refuses("\nx = 1", "test.lua:2: assignment to undeclared global 'x': write `local x`");
  refuses("function f() end", "undeclared global 'f'");
  refuses("_G.x = 1", "undeclared global 'x'");
  refuses("_G[1] = 1", "undeclared global '1'");
  refuses("rawset(_G, 'x', 1)", "globals cannot be set with rawset");
  refuses("setmetatable(_G, nil)", "protected metatable");
  refuses("load('y = 1')()", "undeclared global 'y'");
  refuses("coroutine.wrap(function() z = 1 end)()", "undeclared global 'z'");
  vm_set_loading(vm, true);
  refuses("x = 1", "undeclared global 'x'");
  refuses("listen = ':8080'", "stands in the table that its file returns");
  vm_set_loading(vm, false);
  expect("return x == nil and getmetatable(_G) == false");
  expect("local t = {} load('a = 1', 'c', 't', t)() return t.a == 1");
  expect("return rawset({}, 1, 2)[1] == 2");
}

static int l_set_global(lua_State *L) {
  lua_pushinteger(L, 42);
  lua_setglobal(L, "declared_by_c");
  return 0;
}

static void test_c_declares_globals(void) {
  CHECK(vm_call(vm, l_set_global, NULL, NULL) == 0);
  expect("return declared_by_c == 42 and type(jeton) == 'table'");
}

static void test_only_text_is_loaded(void) {
  expect("return string.dump == nil");
  expect("local f, why = load('\\27Lua') return f == nil and why:find 'binary'");
  expect("local f, why = load('return 1', 'c', 'b') return f == nil and why:find 'only text'");
  expect("local f, why = load('\\27Lua', 'c', 'bt') return f == nil and why:find 'binary'");
  expect("return load('return ...', 'c')(7) == 7 and load('return 1')() == 1");
  expect("local parts, i = { 'return', ' 8' }, 0 return load(function() i = i + 1 return parts[i] end)() == 8");
  expect("local f, why = load('x =', '=chunk') return f == nil and why:find '^chunk:1:'");
  expect(
      "local n = 0 local long = 'return 0' .. ('+1'):rep(60) .. (' '):rep(10000) .. '+1'\n"
      "assert(load(long)() == 61)\n"
      "return load(function() n = n + 1 return n <= #long and long:sub(n, n) or nil end)() == 61");
  expect("local f, why = load(function() return {} end) return f == nil and why:find 'must return a string'");
  expect("local f, why = load(function() error 'in the reader' end) return f == nil and why:find 'in the reader'");
  expect("local f, why = load((' '):rep(5 << 20)) return f == nil and why:find 'more than 4194304 bytes'");
  expect(
      "local s = (' '):rep(1 << 20) local f, why = load(function() return s end) return f == nil and why:find 'more "
      "than'");
  expect("local f, why = load('x =') return f == nil and why:find('[string \"x =\"]:1:', 1, true)");
  expect("return load(12) == nil and load('return ...', nil, nil, nil)(4) == 4");
  refuses("load()", "function expected");
  expect("return load('return x', 'c', 't', { x = 3 })() == 3 and not pcall(load('return print.x', 'c', 't', nil))");
}

static void test_what_reaches_into_the_state_is_not_there(void) {
  expect("return package == nil and require == nil");
  expect(
      "local n = 0 for k in pairs(debug) do n = n + 1 end return n == 2 and debug.traceback():find 'traceback' ~= nil");
  expect(
      "local i = debug.getinfo(1) return i.short_src == 'test.lua' and i.currentline == 1 and i.func == nil and "
      "i.activelines == nil");
  expect("local i = debug.getinfo(1, 'l') return i.currentline == 1 and i.source == nil");
  expect("local i = debug.getinfo(print) return i.what == 'C' and debug.getinfo(100) == nil");
  refuses("debug.getinfo(1, '>')", "invalid option");
  expect("return getmetatable('') == false");
  refuses("collectgarbage()", "only \"count\" is");
  refuses("collectgarbage 'stop'", "only \"count\" is");
  expect("return collectgarbage 'count' > 0");
}

static void test_finalizers_are_refused(void) {
  refuses("setmetatable({}, { __gc = function() end })", "__gc is not available");
  refuses("setmetatable({}, { __gc = true })", "__gc is not available");
  refuses("local mt = {} local t = setmetatable({}, mt) mt.__gc = print setmetatable(t, mt)", "__gc is not available");
  expect("local mt = { __index = { a = 1 } } local t = setmetatable({}, mt) return t.a == 1 and getmetatable(t) == mt");
  expect(
      "local t = setmetatable({}, { __metatable = 'mine' }) return getmetatable(t) == 'mine' and not "
      "pcall(setmetatable, t, {})");
  refuses("setmetatable(1, {})", "table expected");
  refuses("setmetatable({}, 1)", "nil or table expected");
  expect("return getmetatable({}) == nil and getmetatable(setmetatable({}, nil)) == nil");
}

static void test_protected_calls_are_as_in_stock_lua(void) {
  expect("return select('#', pcall(function() end)) == 1 and select('#', pcall(function() return 1, nil end)) == 3");
  expect("local ok, e = pcall(error, 'x', 0) return ok == false and e == 'x'");
  expect("local ok, e = pcall(error) return ok == false and e == nil");
  expect("local t = {} local ok, e = pcall(error, t) return e == t");
  expect("local ok, a, b = xpcall(function(...) return ... end, print, 1, 2) return ok and a == 1 and b == 2");
  expect(
      "local ok, e = xpcall(function(x) error(x, 0) end, function(m) return m .. '!' end, 'x') return not ok and e == "
      "'x!'");
  expect("local ok, e = xpcall(error, function() return debug.traceback('t') end) return e:find 'traceback'");
  expect("return (select(2, pcall(pcall))):find 'value expected' ~= nil");
  refuses("xpcall(print)", "function expected");
  expect("local ok, e = xpcall(function() local x = nil + 1 end, function(m) error 'again' end) return not ok");
}

static void test_coroutines_are_as_in_stock_lua(void) {
  expect(
      "local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end)\n"
      "local _, x = coroutine.resume(co, 1) local _, y = coroutine.resume(co, 10)\n"
      "local ok, why = coroutine.resume(co) return x == 2 and y == 20 and not ok and why == 'cannot resume dead "
      "coroutine'");
  expect(
      "local co = coroutine.wrap(function() error 'x' end) local ok, e = pcall(co) return not ok and e == 'test.lua:1: "
      "x'");
  expect("local t = {} local co = coroutine.wrap(function() error(t) end) local ok, e = pcall(co) return e == t");
  expect(
      "local ok, e = coroutine.resume(coroutine.create(function() error 'x' end)) return not ok and e == 'test.lua:1: "
      "x'");
  expect(
      "local n = 0 for v in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) do n = n + v end "
      "return n == 6");
  expect(
      "local closed local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() "
      "closed = true end })\n"
      "coroutine.yield() end) coroutine.resume(co) return coroutine.close(co) and closed and coroutine.status(co) == "
      "'dead'");
  expect(
      "local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() error 'c' end "
      "}) coroutine.yield() end)\n"
      "coroutine.resume(co) local ok, e = coroutine.close(co) return not ok and e:find 'c'");
  expect(
      "local closed local f = coroutine.wrap(function() local x <close> = setmetatable({}, { __close = function(_, e) "
      "closed = e end })\n"
      "error 'boom' end) local ok, e = pcall(f) return not ok and e:find 'boom' and closed:find 'boom'");
  expect(
      "local co co = coroutine.create(function() return coroutine.resume(co) end) local _, ok, e = "
      "coroutine.resume(co) return ok == false and e:find 'non%-suspended'");
  expect(
      "local co co = coroutine.create(function() return pcall(coroutine.close, co) end) local _, ok, e = "
      "coroutine.resume(co) return ok == false and e:find 'running'");
  expect("return coroutine.isyieldable() and coroutine.status(coroutine.running()) == 'running'");
  expect("local ok, e = pcall(coroutine.wrap(function() pcall(coroutine.yield, 1) return 2 end)) return ok and e == 1");
  refuses("coroutine.resume(1)", "coroutine expected");
}

static void test_coroutines_that_close_one_another_end_before_the_stack_does(void) {
  expect(
      "local made = {}\n"
      "for i = 1, 20000 do\n"
      "  made[i] = coroutine.create(function() local x <close> = setmetatable({}, { __close = function()\n"
      "    if made[i - 1] then coroutine.close(made[i - 1]) end end }) coroutine.yield() end)\n"
      "  coroutine.resume(made[i])\n"
      "end\n"
      "return not coroutine.close(made[#made]) or true");
}

/* --- table --- */

static int l_open_stock(lua_State *L) {
  luaopen_table(L);
  sandbox_declare(L, "stock");
  return 0;
}

static void test_table_functions_are_as_in_stock_lua(void) {
  CHECK(vm_call(vm, l_open_stock, NULL, NULL) == 0);
  expect(
      "local function show(...) local o = {} for i = 1, select('#', ...) do local v = select(i, ...)\n"
      "  if type(v) == 'table' then local s = '' for k = -5, 25 do s = s .. tostring(v[k]) .. ',' end v = s end o[i] = "
      "tostring(v) end return stock.concat(o, ' ') end\n"
      "local function same(f, make, ...)\n"
      "  local t, u = make(), make()\n"
      "  local a, b = show(pcall(stock[f], t, ...)), show(pcall(table[f], u, ...))\n"
      "  a, b = a .. '|' .. show(t), b .. '|' .. show(u)\n"
      "  local function plain(s) return (s:gsub('table: %w+', ''):gsub(\"#%d to '[%w.?]+'\", '')) end\n"
      "  a, b = plain(a), plain(b)\n"
      "  assert(a == b, f .. ': stock ' .. a .. '\\nhere ' .. b)\n"
      "end\n"
      "math.randomseed(3)\n"
      "local function make(n) return function() local t = {} for i = 1, n do t[i] = (i * 7919) % 31 end return t end "
      "end\n"
      "for i = 1, 3000 do\n"
      "  local m, r = make(math.random(0, 20)), function() return math.random(-3, 23) end\n"
      "  same('insert', m, r()) same('insert', m, r(), 'v') same('insert', m) same('insert', m, 1, 2, 3)\n"
      "  same('remove', m) same('remove', m, r())\n"
      "  same('move', m, r(), r(), r()) same('move', m, r(), r(), r(), { 'to' })\n"
      "  same('concat', m) same('concat', m, ', ', r()) same('concat', m, ', ', r(), r())\n"
      "  same('sort', m) same('sort', m, function(a, b) return a > b end)\n"
      "  same('unpack', m) same('unpack', m, r()) same('unpack', m, r(), r())\n"
      "end\n"
      "same('move', make(3), 1, math.maxinteger, 2) same('move', make(3), math.mininteger, 1, 1) same('move', make(3), "
      "1, 3, math.maxinteger)\n"
      "same('sort', make(3), 1) same('sort', function() return { 1, 'a' } end) same('insert', function() return 1 end, "
      "2)\n"
      "same('unpack', make(3), 1, 1e8) same('unpack', make(3), math.mininteger, math.maxinteger) same('unpack', "
      "make(2), math.maxinteger, math.maxinteger)\n"
      "same('concat', function() return { 1, {}, 3 } end) same('concat', function() return {} end, 1, 'x')\n"
      "return true");
}

static void test_sort_orders_anything_and_survives_nonsense(void) {
  expect(
      "math.randomseed(5)\n"
      "for n = 0, 400, 7 do for _, range in ipairs { 1, 3, 1000000 } do\n"
      "  local t = {} for i = 1, n do t[i] = math.random(range) end\n"
      "  table.sort(t) for i = 2, n do assert(t[i - 1] <= t[i]) end\n"
      "  table.sort(t) for i = 2, n do assert(t[i - 1] <= t[i]) end\n"
      "  table.sort(t, function(a, b) return a > b end) for i = 2, n do assert(t[i - 1] >= t[i]) end\n"
      "end end\n"
      "for i = 1, 300 do\n"
      "  local t, sum = {}, 0 for k = 1, 100 do t[k] = k end\n"
      "  local ok, why = pcall(table.sort, t, function() return math.random(2) == 1 end)\n"
      "  assert(ok or why:find 'invalid order function')\n"
      "  pcall(table.sort, t, function() return true end)\n"
      "end\n"
      "local log = {} local t = setmetatable({}, { __len = function() return 3 end, __index = function(_, k) return 4 "
      "- k end,\n"
      "  __newindex = function(_, k, v) log[k] = v end })\n"
      "table.sort(t) return true");
}

/* --- string --- */

static void test_rep_is_as_in_stock_lua(void) {
  expect(
      "for n = -1, 9 do for _, sep in ipairs { '', ',', 'abc' } do for _, s in ipairs { '', 'x', 'xy', 'long string' } "
      "do\n"
      "  local o = {} for i = 1, n do o[i] = s end\n"
      "  assert(s:rep(n, sep) == table.concat(o, sep) and s:rep(n) == table.concat(o))\n"
      "end end end\n"
      "return #('ab'):rep(100001, '-') == 300002");
}

static void test_print_and_warn_go_to_the_log(void) {
  expect(
      "print('one', 2, nil, true, setmetatable({}, { __tostring = function() return 'three' end })) warn('a', 'b') "
      "return true");
  expect("print(('x'):rep(100000)) return true");
  refuses("print(setmetatable({}, { __tostring = function() error 'no' end }))", "no");
}

int main(void) {
  vm = vm_for_test(0, 0);
  RUN(test_blocking_functions_name_what_to_use_instead);
  RUN(test_undeclared_globals_are_refused_with_the_remedy);
  RUN(test_c_declares_globals);
  RUN(test_only_text_is_loaded);
  RUN(test_what_reaches_into_the_state_is_not_there);
  RUN(test_finalizers_are_refused);
  RUN(test_protected_calls_are_as_in_stock_lua);
  RUN(test_coroutines_are_as_in_stock_lua);
  RUN(test_coroutines_that_close_one_another_end_before_the_stack_does);
  RUN(test_table_functions_are_as_in_stock_lua);
  RUN(test_sort_orders_anything_and_survives_nonsense);
  RUN(test_rep_is_as_in_stock_lua);
  RUN(test_print_and_warn_go_to_the_log);
  vm_unref(vm);
  return 0;
}
