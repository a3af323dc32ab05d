/* jeton.channel and jeton.select as scripts find them, in one VM and between two. */
#include "base/channel.h"

#include "library_run.h"

/* Every task of a script is a coroutine of one VM; `go` starts one, `pause` lets the others run, and `wait` does so until `f` holds: which of two tasks that are due
 * runs first is not promised. */
#define PRELUDE                                                                \
  "local channel, nth, select = jeton.channel, select, jeton.select\n"         \
  "local function go(f, ...) return jeton.spawn(f, ...) end\n"                 \
  "local function pause() jeton.sleep(0.001) end\n"                            \
  "local function wait(f)\n"                                                   \
  "  for _ = 1, 5000 do if f() then return end pause() end\n"                  \
  "  error 'it never came'\n"                                                  \
  "end\n"                                                                      \
  "local function raises(part, f, ...)\n"                                      \
  "  local ok, message = pcall(f, ...)\n"                                      \
  "  assert(not ok, 'it did not raise: ' .. part)\n"                           \
  "  assert(message:find(part, 1, true), message .. '\\n-- lacks ' .. part)\n" \
  "end\n"
#define SCRIPT(text) passes(PRELUDE text)

/* --- values --- */

static void test_values_arrive_as_they_were(void) {
  SCRIPT(
      "local ch = channel('c', 1)\n"
      "local function through(v) assert(ch:send(v)) return ch:recv() end\n"
      "for _, v in ipairs { true, false, 0, -1, math.maxinteger, math.mininteger, 0.5, 1.0, -0.0, math.huge, 2^63, '', "
      "'a', 'a\\0b', ('x'):rep(500000) } do\n"
      "  local got = through(v)\n"
      "  assert(got == v and math.type(got) == math.type(v) and type(got) == type(v), tostring(v))\n"
      "end\n"
      "local nan = through(0/0) assert(nan ~= nan)\n"
      "assert(1 / through(-0.0) == -math.huge)\n"
      "local t = through { 1, 2.0, 'three', false, x = 'y', [2.5] = 1, [true] = 0, [-1] = 'neg', [''] = true }\n"
      "assert(#t == 4 and t[1] == 1 and math.type(t[2]) == 'float' and t[3] == 'three' and t[4] == false)\n"
      "assert(t.x == 'y' and t[2.5] == 1 and t[true] == 0 and t[-1] == 'neg' and t[''] == true)\n"
      "assert(next(through {}) == nil)\n"
      "local original = { n = 1 } local copy = through(original) copy.n = 2 assert(original.n == 1)\n"
      "assert(getmetatable(through(setmetatable({ a = 1 }, { __index = string }))) == nil)\n");
}

/* What a generator makes of a seed goes through a channel and is compared: every kind, table sizes and string lengths at random. */
static void test_any_flat_value_comes_back_equal(void) {
  SCRIPT(
      "local ch = channel('c', 0)\n"
      "math.randomseed(7)\n"
      "local r = math.random\n"
      "local kinds = {\n"
      "  function() return r(2) == 1 end,\n"
      "  function() return r(0) end,\n"
      "  function() return r(-5, 5) end,\n"
      "  function() return (r() - 0.5) * 10.0 ^ r(-20, 20) end,\n"
      "  function() return r(-5, 5) + 0.0 end,\n"
      "  function() local b = {} for i = 1, r(0, 40) do b[i] = string.char(r(0, 255)) end return table.concat(b) end,\n"
      "}\n"
      "local function scalar() return kinds[r(#kinds)]() end\n"
      "local function same(a, b)\n"
      "  if type(a) ~= 'table' then return math.type(a) == math.type(b) and a == b end\n"
      "  for k, v in pairs(a) do if not same(v, b[k]) then return false end end\n"
      "  for k in pairs(b) do if a[k] == nil then return false end end\n"
      "  return true\n"
      "end\n"
      "for _ = 1, 3000 do\n"
      "  local v = scalar()\n"
      "  if r(3) == 1 then v = {} for i = 1, r(0, 30) do v[r(2) == 1 and i or scalar()] = scalar() end end\n"
      "  go(function() ch:send(v) end)\n"
      "  local got = ch:recv()\n"
      "  assert(same(v, got))\n"
      "end\n");
}

static void test_what_cannot_be_sent_is_named(void) {
  SCRIPT(
      "local ch = channel('c', 1)\n"
      "raises('channel c: a function cannot be sent: a message is a boolean', ch.send, ch, print)\n"
      "raises('a thread cannot', ch.send, ch, coroutine.create(print))\n"
      "raises('a job cannot', ch.send, ch, go(function() end))\n"
      "raises('a channel cannot', ch.send, ch, ch)\n"
      "raises('nil cannot be sent', ch.send, ch, nil)\n"
      "raises('nil cannot be sent', ch.on_send, ch)\n"
      "raises('a table in a table cannot be sent: send jeton.json.encode', ch.send, ch, { {} })\n"
      "raises('a function in a table', ch.send, ch, { f = print })\n"
      "raises('a table as a key', ch.send, ch, { [{}] = 1 })\n"
      "raises('cannot be a secret', ch.send, ch, { [jeton.secret.value 's'] = 1 })\n"
      "raises('a function cannot', ch.try_send, ch, print)\n"
      "raises('a function cannot', ch.on_send, ch, print)\n"
      "local t = {} local case = ch:on_send(t) t[1] = {}\n"
      "raises('jeton.select: a table in a table', select, { case })\n"
      "assert(#ch == 0)\n");
}

static void test_a_secret_stays_opaque(void) {
  SCRIPT(
      "local ch = channel('c', 2)\n"
      "local secret = jeton.secret.value 's3cret'\n"
      "ch:send(secret) ch:send { auth = 'Bearer ' .. secret, n = 1 }\n"
      "local one, two = ch:recv(), ch:recv()\n"
      "assert(type(one) == 'userdata' and tostring(one) == tostring(secret))\n"
      "assert(jeton.crypto.equal(one, 's3cret') and jeton.crypto.equal(two.auth, 'Bearer s3cret') and two.n == 1)\n"
      "raises('cannot be read by a script', function() return #one end)\n"
      "assert(not tostring(two.auth):find 's3cret')\n");
}

static void test_a_file_goes_as_it_is_now(void) {
  SCRIPT(
      "local _, dir = ...\n"
      "local path = dir .. '/channel-secret'\n"
      "assert(jeton.file.write(path, 'one'))\n"
      "local ch, secret = channel('c', 1), jeton.secret.file(path)\n"
      "ch:send(jeton.base64.encode('x' .. secret .. 'y'))\n"
      "local got = ch:recv()\n"
      "assert(jeton.crypto.equal(got, jeton.base64.encode 'xoney'))\n"
      "assert(tostring(got):find('file ' .. path, 1, true), tostring(got))\n"
      "local pending = jeton.secret.exec { 'sleep', '30' }\n"
      "local ok, message, code = ch:send(pending)\n"
      "assert(ok == nil and code == 'SECRET_SOURCE' and message:find('channel c', 1, true), message)\n"
      "local ok, _, code = select { ch:on_send { pending } }\n"
      "assert(ok == nil and code == 'SECRET_SOURCE' and #ch == 0)\n");
}

static void test_sizes_are_limited(void) {
  SCRIPT(
      "local ch, big = channel('c', 65536), ('x'):rep(1000 * 1024)\n"
      "local ok, message, code = ch:send(('x'):rep(1024 * 1024))\n"
      "assert(ok == nil and code == 'LIMIT' and message == 'channel c: a message is at most 1024 KiB', message)\n"
      "local n = 0\n"
      "while true do\n"
      "  ok, message, code = ch:try_send(big)\n"
      "  if not ok then break end\n"
      "  n = n + 1\n"
      "end\n"
      "assert(code == 'LIMIT' and message:find('64 MiB', 1, true), message)\n"
      "assert(n >= 64 and n < 67 and #ch == n)\n"
      "assert(ch:recv() == big)\n"
      "assert(ch:send(big))\n"
      "for _ = 1, n do ch:recv() end\n");
}

/* --- send and receive --- */

static void test_tasks_meet(void) {
  SCRIPT(
      "local ch, log = channel('c'), {}\n"
      "go(function() for i = 1, 3 do ch:send(i) log[#log + 1] = 'sent' .. i end ch:close() end)\n"
      "for i = 1, 3 do assert(ch:recv() == i) end\n"
      "local v, why, code = ch:recv()\n"
      "assert(v == nil and why == 'closed' and code == 'CLOSED')\n"
      "assert(table.concat(log, ' ') == 'sent1 sent2 sent3')\n");
}

static void test_a_name_gives_one_channel(void) {
  SCRIPT(
      "local ch = channel('c', 2)\n"
      "assert(rawequal(ch, channel('c', 2)) and rawequal(ch, channel 'c'))\n"
      "assert(ch.name == 'c' and ch.capacity == 2 and ch.closed == false and #ch == 0)\n"
      "ch:send(1) assert(#ch == 1 and tostring(ch) == 'channel<c 1/2>')\n"
      "raises(\"'c' has capacity 2, named with 3 here: write jeton.channel(\\\"c\\\", 2)\", channel, 'c', 3)\n"
      "ch:close()\n"
      "assert(ch.closed and tostring(ch) == 'channel<c 1/2 closed>')\n"
      "local new = channel('c', 3)\n"
      "assert(new ~= ch and #new == 0 and ch:recv() == 1)\n"
      "raises(\"channel c has no 'sned'\", function() return ch.sned end)\n"
      "raises('name: expected a string', channel, 5)\n"
      "raises('name: 1 to 64 letters', channel, '')\n"
      "raises('name: 1 to 64 letters', channel, 'a b')\n"
      "raises('name: 1 to 64 letters', channel, ('x'):rep(65))\n"
      "raises('capacity: expected 0', channel, 'd', -1)\n"
      "raises('capacity: expected 0', channel, 'd', 65537)\n"
      "raises('capacity: expected 0', channel, 'd', 'many')\n");
}

static void test_closed_names_do_not_pile_up(void) {
  SCRIPT(
      "for i = 1, 5000 do channel('reply-' .. i, 1):close() end\n"
      "for i = 1, 1024 do channel('open-' .. i, 1) end\n"
      "raises('there are 1024 open channels', channel, 'one-more')\n"
      "for i = 1, 1024 do channel('open-' .. i):close() end\n"
      "channel('one-more')\n");
}

static void test_closing_and_sending_to_what_is_closed_raises(void) {
  SCRIPT(
      "local ch = channel('c', 1)\n"
      "ch:send 'left'\n"
      "local waiting = {}\n"
      "go(function() waiting = { pcall(ch.send, ch, 'late') } end)\n"
      "pause()\n"
      "ch:close()\n"
      "wait(function() return waiting[1] ~= nil end)\n"
      "assert(waiting[1] == false and waiting[2]:find('channel c: a send on a closed channel', 1, true), waiting[2])\n"
      "raises('channel c: close: it is closed already', ch.close, ch)\n"
      "raises('a send on a closed channel', ch.send, ch, 1)\n"
      "raises('a send on a closed channel', ch.try_send, ch, 1)\n"
      "raises('a send on a closed channel', select, { ch:on_send(1) })\n"
      "assert(ch:recv() == 'left')\n"
      "assert(ch:recv() == nil and ch:try_recv() == nil)\n"
      "local _, why = ch:try_recv() assert(why == 'closed')\n");
}

static void test_trying_does_not_wait(void) {
  SCRIPT(
      "local ch, meet = channel('c', 1), channel 'meet'\n"
      "local v, why, code = ch:try_recv() assert(v == nil and why == 'empty' and code == 'EAGAIN')\n"
      "assert(ch:try_send(false) == true)\n"
      "v, why, code = ch:try_send(1) assert(v == nil and why == 'full' and code == 'EAGAIN')\n"
      "assert(ch:try_recv() == false)\n"
      "assert(nth(2, meet:try_send(1)) == 'full')\n"
      "local got\n"
      "go(function() got = meet:recv() end)\n"
      "assert(meet:try_send 'now')\n"
      "wait(function() return got == 'now' end)\n"
      "assert(coroutine.wrap(function() return ch:try_send(1) end)())\n"
      "raises('cannot wait here', coroutine.wrap(function() return ch:recv() end))\n"
      "raises('cannot wait here', coroutine.wrap(function() return ch:send(1) end))\n");
}

static void test_time_limits(void) {
  SCRIPT(
      "local ch = channel 'c'\n"
      "local v, why, code = ch:recv(0.03) assert(v == nil and why == 'timeout' and code == 'ETIMEDOUT')\n"
      "v, why, code = ch:send('x', '30ms') assert(v == nil and why == 'timeout' and code == 'ETIMEDOUT')\n"
      "assert(ch:recv(0) == nil)\n"
      "assert(ch:send('x', 0) == nil)\n"
      "v, why, code = select { ch:on_recv(), timeout = 0.03 } assert(v == nil and why == 'timeout' and code == "
      "'ETIMEDOUT')\n"
      "assert(ch:try_recv() == nil) -- what timed out is not there any more\n"
      "go(function() ch:send 'in time' end)\n"
      "assert(ch:recv(5) == 'in time')\n"
      "raises('channel c: timeout: expected a duration', ch.recv, ch, -1)\n"
      "raises('channel c: timeout: expected a duration', ch.send, ch, 1, {})\n");
}

static void test_a_cancelled_task_neither_takes_nor_leaves(void) {
  SCRIPT(
      "local ch, lost = channel 'c', false\n"
      "local receiver = go(function() lost = ch:recv() end)\n"
      "receiver:cancel()\n"
      "assert(ch:try_send(1) == nil)\n"
      "local sender = go(function() ch:send(1) end)\n"
      "sender:cancel()\n"
      "assert(ch:try_recv() == nil)\n"
      "-- given a value, and cancelled before it ran: another has it\n"
      "receiver = go(function() lost = ch:recv() end)\n"
      "assert(ch:try_send 'handed on')\n"
      "receiver:cancel()\n"
      "assert(#ch == 1 and ch:recv() == 'handed on' and lost == false)\n"
      "local chooser = go(function() select { ch:on_recv(function(v) lost = v end), channel('d', 0):on_send(5) } end)\n"
      "assert(ch:try_send 'again')\n"
      "chooser:cancel()\n"
      "assert(ch:recv() == 'again' and channel('d'):try_recv() == nil and lost == false)\n");
}

/* A loop that gave nobody a turn would end with the time budget. */
static void test_a_busy_consumer_lets_others_run(void) {
  SCRIPT(
      "local ch, turns, n = channel('c', 1), 0, 0\n"
      "local ticker = jeton.every(0.001, function() turns = turns + 1 end)\n"
      "while turns < 5 do ch:send(n) assert(ch:recv() == n) n = n + 1 end\n"
      "turns, n = 0, 0\n"
      "while turns < 5 do\n"
      "  select { ch:on_send(n, function() n = n + 1 end), ch:on_recv(function(v) assert(v == n - 1) end) }\n"
      "end\n"
      "ticker:cancel()\n");
}

/* --- select --- */

static void test_select_takes_what_is_ready(void) {
  SCRIPT(
      "local a, b = channel('a', 1), channel('b', 1)\n"
      "b:send 'b1'\n"
      "local x, y = select { a:on_recv(function() error 'a' end), b:on_recv(function(v) return v, 'two' end) }\n"
      "assert(x == 'b1' and y == 'two')\n"
      "assert(select { a:on_send('a1', function() return 'sent' end), b:on_recv() } == 'sent' and a:recv() == 'a1')\n"
      "assert(select { a:on_send 'a2' } == true and select { a:on_recv() } == 'a2')\n"
      "assert(select { a:on_recv(), default = function() return 'idle' end } == 'idle')\n"
      "a:close()\n"
      "local v, why = select { a:on_recv() } assert(v == nil and why == 'closed')\n"
      "select { a:on_recv(function(v, why, code) assert(v == nil and why == 'closed' and code == 'CLOSED') end) }\n");
}

static void test_select_waits_for_the_first(void) {
  SCRIPT(
      "local a, b = channel 'a', channel 'b'\n"
      "go(function() pause() b:send 'first' end)\n"
      "local got = select { a:on_recv(), b:on_recv(function(v) pause() return v .. '!' end), timeout = 5 }\n"
      "assert(got == 'first!')\n"
      "assert(b:try_send(1) == nil and a:try_send(1) == nil) -- nothing of it waits any more\n"
      "local sent = {}\n"
      "go(function() sent[1] = a:recv() end)\n"
      "select { a:on_send 'x', b:on_send 'y' }\n"
      "wait(function() return sent[1] == 'x' end)\n"
      "raises('from the handler', select, { channel('c', 1):on_send(1, function() pause() error 'from the handler' "
      "end) })\n"
      "-- a case may be used again, and the table changed meanwhile\n"
      "local again = { a:on_recv(function(v) return v end) }\n"
      "for i = 1, 3 do\n"
      "  go(function() pause() again[1] = nil a:send(i) end)\n"
      "  local keep = again[1]\n"
      "  assert(select(again) == i)\n"
      "  again[1] = keep\n"
      "end\n");
}

static void test_misuse_of_select_is_told(void) {
  SCRIPT(
      "local ch = channel('c', 1)\n"
      "raises('nothing to select from', select, {})\n"
      "raises('nothing to select from', select, { default = function() end })\n"
      "raises('expected a table of cases', select)\n"
      "raises('case 1 is a channel: expected ch:on_recv(f)', select, { ch })\n"
      "raises('case 2 is a function', select, { ch:on_recv(), print })\n"
      "raises(\"unknown option 'timeuot' (did you mean 'timeout'?)\", select, { ch:on_recv(), timeuot = 1 })\n"
      "raises('timeout and default', select, { ch:on_recv(), timeout = 1, default = print })\n"
      "raises('default: expected a function', select, { ch:on_recv(), default = true })\n"
      "raises('timeout: expected a duration', select, { ch:on_recv(), timeout = 'soon' })\n"
      "raises('function expected', ch.on_recv, ch, 5)\n"
      "raises('function expected', ch.on_send, ch, 5, 5)\n"
      "local many = {} for i = 1, 65 do many[i] = ch:on_recv() end\n"
      "raises('65 cases, of which there may be 64', select, many)\n"
      "many[65] = nil ch:send 'x' assert(select(many) == 'x')\n"
      "raises('cannot wait here', coroutine.wrap(function() select { ch:on_recv() } end))\n"
      "raises('number expected', select.seed, 'x')\n");
}

/* The model that docs/library.md describes, in Lua. */
static void test_the_choices_follow_from_the_seed(void) {
  SCRIPT(
      "local state\n"
      "local function draw()\n"
      "  state = state + 0x9e3779b97f4a7c15\n"
      "  local z = state\n"
      "  z = (z ~ z >> 30) * 0xbf58476d1ce4e5b9\n"
      "  z = (z ~ z >> 27) * 0x94d049bb133111eb\n"
      "  return z ~ z >> 31\n"
      "end\n"
      "local function modulo(u, k) return math.tointeger(((u >> 1) % k * 2 + (u & 1)) % k) end\n"
      "local chs = { channel('a', 1), channel('b', 1), channel('c', 1) }\n"
      "for _, seed in ipairs { 0, 1, -7, math.maxinteger } do\n"
      "  select.seed(seed) state = seed\n"
      "  for round = 1, 200 do\n"
      "    local ready = {}\n"
      "    for i, ch in ipairs(chs) do if round >> (i - 1) & 1 == 1 then ch:send(i) ready[#ready + 1] = i end end\n"
      "    local expected = 'none'\n"
      "    if #ready == 1 then expected = ready[1] end\n"
      "    if #ready > 1 then expected = ready[modulo(draw(), #ready) + 1] end\n"
      "    local got = select { chs[1]:on_recv(), chs[2]:on_recv(), chs[3]:on_recv(), default = function() return "
      "'none' end }\n"
      "    assert(got == expected)\n"
      "    for _, ch in ipairs(chs) do ch:try_recv() end\n"
      "  end\n"
      "end\n");
}

/* --- the end of a VM, and memory --- */

static void test_a_value_that_does_not_fit_goes_to_another(void) {
  SCRIPT(
      "local ch, keep = channel('c', 1), {}\n"
      "local big = ('x'):rep(1000 * 1000)\n"
      "ch:send(big)\n"
      "big = nil\n"
      "local function fill(size) for i = 1, 1000 do keep[#keep + 1] = ('y'):rep(size) .. i end end\n"
      "assert(not pcall(fill, 900 * 1000))\n"
      "local ok = pcall(fill, 90 * 1000)\n"
      "assert(not ok)\n"
      "ok = pcall(ch.recv, ch)\n"
      "keep = nil\n"
      "assert(not ok and #ch == 1, 'it fitted')\n"
      "assert(#ch:recv() == 1000 * 1000)\n");
}

struct part { /* one VM with a script that may be waiting */
  struct run run;
  struct task *task;
};

static void part_start(struct part *p, const char *script) {
  *p = (struct part){.run.script = script};
  p->run.vm = new_vm();
  CHECK(vm_call(p->run.vm, l_compile, &p->run, NULL) == 0);
  task_start(p->run.vm, p->run.fn, NULL, on_done, &p->run, &p->task);
}
static void part_end(struct part *p) {
  vm_cancel_tasks(p->run.vm);
  vm_unref(p->run.vm);
}
static void part_passes(struct part *p) {
  while (!p->run.over) (void)uv_run(&services.loop, UV_RUN_ONCE);
  if (p->run.status != 0) (void)fprintf(stderr, "%s\n", p->run.message);
  CHECK(p->run.status == 0);
}

static void test_vms_share_channels_by_name(void) {
  struct part a, b;
  part_start(&a,
             "local ch = jeton.channel('c', 1)\n"
             "assert(ch:recv() == 1) ch:send { 'back', 2 }\n"
             "assert(not pcall(jeton.channel, 'd', 2))\n");
  part_start(&b,
             "local ch = jeton.channel('c', 1) jeton.channel('d', 1)\n"
             "ch:send(1) jeton.sleep(0.01)\n"
             "local t = ch:recv() assert(t[1] == 'back' and t[2] == 2)\n");
  part_passes(&b);
  part_passes(&a);
  part_end(&a);
  part_end(&b);
}

static void test_the_end_of_a_vm_ends_its_waits_and_keeps_what_others_name(void) {
  struct part a, b, c;
  part_start(&a, "local ch = jeton.channel('c', 0) ch:recv()");
  part_start(&b, "local ch = jeton.channel('c', 0) assert(ch:try_send 'for whom it may concern')");
  part_passes(&b);
  part_end(&a); /* it had been given the value, and never ran */
  CHECK(!a.run.over);
  part_start(&c, "assert(jeton.channel('c'):recv() == 'for whom it may concern')");
  part_passes(&c);
  part_end(&b);
  part_end(&c);
  part_start(&c, "assert(jeton.channel('c', 5):try_recv() == nil)"); /* nobody named it any more: it is a new one */
  part_passes(&c);
  part_end(&c);
}

static void test_the_last_vm_may_end_with_its_wait(void) {
  struct part a, b;
  part_start(&a, "assert(jeton.channel('c', 0):recv(5) == 'x')");
  part_start(&b, "assert(jeton.channel('c', 0):try_send 'x')");
  part_passes(&b);
  part_end(&b);
  vm_unref(a.run.vm); /* the task has the last reference, and its VM the last hold on all channels */
  part_passes(&a);
}

static void test_a_file_that_loads_may_name_but_not_use(void) {
  struct vm *vm = new_vm();
  struct run r = {.script =
                      "local ch = jeton.channel('c', 1)\n"
                      "jeton.select.seed(5)\n"
                      "for _, use in ipairs { 'send', 'recv', 'try_send', 'try_recv', 'close' } do\n"
                      "  local ok, message = pcall(ch[use], ch, 1)\n"
                      "  assert(not ok and message:find('on_start', 1, true), message)\n"
                      "end\n"
                      "assert(not pcall(jeton.select, { ch:on_recv(), default = print }))\n"
                      "assert(#ch == 0 and not ch.closed)\n"};
  CHECK(vm_call(vm, l_compile, &r, NULL) == 0);
  vm_set_loading(vm, true);
  task_start(vm, r.fn, NULL, on_done, &r, NULL);
  vm_set_loading(vm, false);
  if (r.status != 0) (void)fprintf(stderr, "%s\n", r.message);
  CHECK(r.over && r.status == 0);
  vm_unref(vm);
}

int main(void) {
  library_begin();
  RUN(test_values_arrive_as_they_were);
  RUN(test_any_flat_value_comes_back_equal);
  RUN(test_what_cannot_be_sent_is_named);
  RUN(test_a_secret_stays_opaque);
  RUN(test_a_file_goes_as_it_is_now);
  RUN(test_sizes_are_limited);
  RUN(test_tasks_meet);
  RUN(test_a_name_gives_one_channel);
  RUN(test_closed_names_do_not_pile_up);
  RUN(test_closing_and_sending_to_what_is_closed_raises);
  RUN(test_trying_does_not_wait);
  RUN(test_time_limits);
  RUN(test_a_cancelled_task_neither_takes_nor_leaves);
  RUN(test_a_busy_consumer_lets_others_run);
  RUN(test_select_takes_what_is_ready);
  RUN(test_select_waits_for_the_first);
  RUN(test_misuse_of_select_is_told);
  RUN(test_the_choices_follow_from_the_seed);
  RUN(test_a_value_that_does_not_fit_goes_to_another);
  RUN(test_vms_share_channels_by_name);
  RUN(test_the_end_of_a_vm_ends_its_waits_and_keeps_what_others_name);
  RUN(test_the_last_vm_may_end_with_its_wait);
  RUN(test_a_file_that_loads_may_name_but_not_use);
  library_end();
  return 0;
}
