/* library_test.c: the jeton library in a real VM on a real loop: each case is a script that asserts, run as a task. */
#include "lua/library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "http/redirect.h"
#include "library_run.h"
#include "lua/l_fetch.h"
#include "token/family.h"
#include "token/keeper.h"
#include "token/slot.h"

static void put(const char *name, const char *text) {
  char path[128];
  (void)snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "w");
  CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* --- timers --- */

static void sleep_sleeps(void) {
  passes(
      "local t = jeton.now() jeton.sleep('50ms') local d = jeton.now() - t assert(d >= 0.045 and d < 5, d) "
      "jeton.sleep(0)"
      " assert(not pcall(jeton.sleep, -1)) assert(not pcall(jeton.sleep, 'soon'))");
}
static void spawned_functions_run_beside(void) {
  passes(
      "local got = {} local h = jeton.spawn(function(a, b) jeton.sleep(0.01) got[1] = a + b end, 1, 2) assert(not "
      "h.done)"
      " assert(got[1] == nil) jeton.sleep(0.1) assert(got[1] == 3 and h.done and tostring(h) == 'spawn<done>')");
}
static void a_spawned_function_is_cancelled_where_it_waits(void) {
  passes(
      "local closed, after = false, false local h = jeton.spawn(function() local c <close> = setmetatable({}, { "
      "__close = function() closed = true end })"
      " jeton.sleep(10) after = true end) h:cancel() assert(closed and h.done and not after) h:cancel()"
      " local g g = jeton.spawn(function() jeton.sleep(0.01) g:cancel() jeton.sleep(0.01) after = true end) "
      "jeton.sleep(0.1) assert(not after and g.done)");
}
static void an_error_in_a_spawned_function_ends_only_it(void) {
  passes(
      "local h = jeton.spawn(function() error 'on purpose' end) assert(h.done) local g = jeton.spawn(function() "
      "jeton.sleep(0.01) error {} end)"
      " jeton.sleep(0.05) assert(g.done)");
}
static void every_repeats_until_cancelled(void) {
  passes(
      "local n, h = 0 h = jeton.every('10ms', function() n = n + 1 if n == 2 then error 'on purpose' end if n == 4 "
      "then h:cancel() end end)"
      " while not h.done do jeton.sleep(0.01) end local was = n jeton.sleep(0.05) assert(was == 4 and n == 4)");
}
static void every_does_not_pile_up(void) {
  passes(
      "local running, most = 0, 0 local h = jeton.every(0.005, function() running = running + 1 most = math.max(most, "
      "running) jeton.sleep(0.03)"
      " running = running - 1 end) jeton.sleep(0.12) h:cancel() assert(most == 1)");
}
static void timers_end_with_the_vm(void) {
  passes(
      "jeton.every(0.01, function() jeton.sleep(5) end) jeton.every(100, print) jeton.spawn(function() "
      "jeton.sleep(100) end) jeton.sleep(0.03)");
}

/* --- files --- */

static void files_are_written_and_read(void) {
  passes(
      "local _, dir = ... local p = dir .. '/a' assert(jeton.file.write(p, 'one')) assert(jeton.file.read(p) == 'one')"
      " local s = assert(jeton.file.stat(p)) assert(s.size == 3 and s.type == 'file' and s.mode == '0600', s.mode)"
      " assert(jeton.file.write(p, 'two', { mode = '0640' })) assert(jeton.file.stat(p).mode == '0640')"
      " assert(jeton.file.exists(p) == true) assert(jeton.file.remove(p)) assert(jeton.file.exists(p) == false)"
      " local v, m, c = jeton.file.read(p) assert(v == nil and c == 'ENOENT' and m:find(p, 1, true), m)");
}
static void reads_are_bounded(void) {
  passes(
      "local _, dir = ... local p = dir .. '/b' jeton.file.write(p, ('x'):rep(100)) local v, m, c = jeton.file.read(p, "
      "{ max = 99 })"
      " assert(v == nil and c == 'LIMIT', m) assert(#jeton.file.read(p, { max = 100 }) == 100) assert(select(3, "
      "jeton.file.read(dir)) == 'EISDIR')");
}
static void a_numeric_mode_is_refused(void) {
  passes(
      "local _, dir = ... local ok, m = pcall(jeton.file.write, dir .. '/c', 'x', { mode = 600 }) assert(not ok and "
      "m:find('mode'), m)"
      " local ok, m = pcall(jeton.file.write, dir .. '/c', 'x', { mod = '0600' }) assert(not ok and m:find(\"did you "
      "mean 'mode'\"), m)");
}
static void secrets_are_written_to_files(void) {
  passes(
      "local _, dir = ... assert(jeton.file.write(dir .. '/s', 'a=' .. jeton.secret.value 'hush')) "
      "assert(jeton.file.read(dir .. '/s') == 'a=hush')");
}
static void a_lock_lets_one_go_on_at_a_time(void) {
  passes(
      "local _, dir = ... local p, inside, most, runs = dir .. '/lock', 0, 0, 0"
      " local function once() local lock <close> = assert(jeton.file.lock(p)) inside = inside + 1 most = "
      "math.max(most, "
      "inside) jeton.sleep(0.02) inside = inside - 1 runs = runs + 1 end"
      " for i = 1, 5 do jeton.spawn(once) end while runs < 5 do jeton.sleep(0.01) end assert(most == 1)"
      " assert(jeton.file.exists(p .. '.lock') and not jeton.file.exists(p))"
      " jeton.file.write(p, 'x') local held = assert(jeton.file.lock(p)) assert(tostring(held) == 'lock<held>')"
      " jeton.file.write(p, 'replaced') local v, m, c = jeton.file.lock(p, { timeout = 0.05 }) assert(v == nil and c "
      "== "
      "'ETIMEDOUT' and m:find(p, 1, true), m)"
      " held:unlock() held:unlock() assert(tostring(held) == 'lock<released>') assert(jeton.file.lock(p)):unlock()"
      " v, m, c = jeton.file.lock(dir .. '/no/such') assert(v == nil and c == 'ENOENT', m)"
      " assert(not pcall(jeton.file.lock, p, { timeuot = 1 }) and not pcall(jeton.file.lock, '') and not "
      "pcall(jeton.file.lock))");
}
static void a_lock_ends_with_its_task(void) {
  passes(
      "local _, dir = ... local p, got = dir .. '/lock2' local h = jeton.spawn(function() local lock <close> = "
      "assert(jeton.file.lock(p)) got = true jeton.sleep(60) end)"
      " while not got do jeton.sleep(0.01) end local waits = jeton.spawn(function() jeton.file.lock(p) error 'never' "
      "end)"
      " jeton.sleep(0.05) waits:cancel() h:cancel() assert(jeton.file.lock(p, { timeout = 1 }))");
}
static void whether_a_file_can_be_written_is_tried(void) {
  passes(
      "local _, dir = ... assert(jeton.file.writable(dir .. '/fresh') == true and not jeton.file.exists(dir .. "
      "'/fresh'))"
      " local v, m, c = jeton.file.writable(dir .. '/no/such') assert(v == nil and c == 'ENOENT' and "
      "m:find('writable', "
      "1, true), m) assert(select(3, jeton.file.writable(dir)) == 'EISDIR')");
}
static void a_replaced_file_is_watched_on(void) {
  passes(
      "local _, dir = ... local p, n = dir .. '/w', 0 jeton.file.write(p, '1') local h = assert(jeton.file.watch(p, "
      "function(q) assert(q == p) n = n + 1 end))"
      " jeton.sleep(0.2) assert(n == 0) jeton.file.write(p, '22') for i = 1, 100 do if n == 1 then break end "
      "jeton.sleep(0.05) end assert(n == 1)"
      " jeton.file.write(p, '333') for i = 1, 100 do if n == 2 then break end jeton.sleep(0.05) end assert(n == 2)"
      " h:cancel() jeton.file.write(p, '4444') jeton.sleep(0.2) assert(n == 2)");
}
static void watching_nowhere_fails(void) {
  passes("local v, m, c = jeton.file.watch('/nonexistent/dir/file', print) assert(v == nil and c == 'ENOENT', m)");
}

/* --- exec --- */

static void a_child_is_run_and_captured(void) {
  passes(
      "local r = assert(jeton.exec { 'sh', '-c', 'cat; echo $X; echo bad >&2; exit 3', stdin = 'in\\n', env = { X = 'x "
      "y', HOME = false } })"
      " assert(r.status == 3 and r.signal == nil and r.stdout == 'in\\nx y\\n' and r.stderr == 'bad\\n')"
      " r = assert(jeton.exec { 'pwd', cwd = '/' }) assert(r.stdout == '/\\n') r = assert(jeton.exec { 'cat' }) "
      "assert(r.stdout == '')");
}
static void a_missing_program_is_a_failure(void) {
  passes(
      "local v, m, c = jeton.exec { 'no-such-program-here' } assert(v == nil and c == 'ENOENT' and m:find('no%-such'), "
      "m)");
}
static void a_child_is_ended_in_time(void) {
  passes(
      "local t = jeton.now() local v, m, c = jeton.exec { 'sh', '-c', 'trap \"\" TERM; sleep 20; sleep 20', timeout = "
      "0.1 }"
      " assert(v == nil and c == 'ETIMEDOUT', m) assert(jeton.now() - t < 5)");
}
static void a_child_that_talks_too_much_is_ended(void) {
  passes(
      "local v, m, c = jeton.exec { 'sh', '-c', 'while :; do echo y; done', limits = { stdout = '1k' } } assert(v == "
      "nil and c == 'LIMIT', m)");
}
static void secrets_may_be_input_but_not_arguments(void) {
  passes(
      "local s = jeton.secret.value 'hush' local ok, m = pcall(jeton.exec, { 'echo', s }) assert(not ok and "
      "m:find('/proc'), m)"
      " local r = assert(jeton.exec { 'sh', '-c', 'cat; echo $S', stdin = s, env = { S = 'a' .. s } }) assert(r.stdout "
      "== 'hushahush\\n')");
}
static void a_background_child_does_not_hold_exec(void) {
  passes(
      "local t = jeton.now() local r = assert(jeton.exec { 'sh', '-c', 'sleep 20 & echo started' }) assert(r.stdout == "
      "'started\\n') assert(jeton.now() - t < 10)");
}
static void a_cancelled_exec_ends_its_child(void) {
  passes(
      "local _, dir = ... local h = jeton.spawn(function() jeton.exec { 'sh', '-c', 'echo $$ > ' .. dir .. '/pid; "
      "sleep 30' } end)"
      " while not (jeton.file.read(dir .. '/pid') or ''):find('\\n') do jeton.sleep(0.02) end h:cancel()"
      " local pid = jeton.file.read(dir .. '/pid'):match('%d+') for i = 1, 100 do if not jeton.file.exists('/proc/' .. "
      "pid) then return end jeton.sleep(0.05) end"
      " error 'the child lives on'");
}

/* --- secrets --- */

static void secrets_are_opaque(void) {
  passes(
      "local s = jeton.secret.value 'hush' local j = 'a ' .. s .. 1 assert(tostring(j) == 'secret<a <secret value>1>', "
      "tostring(j))"
      " for _, f in ipairs { function() return #s end, function() return s.x end, function() return s < s end, "
      "function() return s:sub(1) end,"
      " function() return ('').rep(s, 1) end, function() return s .. {} end, function() s.x = 1 end, function() return "
      "table.concat { s } end,"
      " function() for _ in pairs(s) do end end } do local ok, m = pcall(f) assert(not ok and not m:find('hush'), m) "
      "end"
      " assert(s == s and s ~= jeton.secret.value 'hush') assert(getmetatable(s) == 'secret') assert(('%s'):format(s) "
      "== 'secret<<secret value>>')");
}
static void a_secret_cannot_grow_without_bound(void) {
  passes(
      "local s = jeton.secret.value 'x' local ok = pcall(function() for _ = 1, 1000 do s = s .. s end end) assert(not "
      "ok)");
}
static void a_secret_file_is_read_again(void) {
  put("secret", "one\n");
  passes(
      "local _, dir = ... local s = 'v:' .. jeton.secret.file(dir .. '/secret') local out = dir .. '/out'"
      " jeton.file.write(out, s) assert(jeton.file.read(out) == 'v:one') jeton.file.write(dir .. '/secret', 'two\\n') "
      "jeton.sleep(1.1)"
      " jeton.file.write(out, s) assert(jeton.file.read(out) == 'v:two') jeton.file.remove(dir .. '/secret') "
      "jeton.sleep(1.1)"
      " jeton.file.write(out, s) assert(jeton.file.read(out) == 'v:two')"
      " local ok, m = pcall(jeton.secret.file, dir .. '/nothing') assert(not ok and m:find('/nothing', 1, true), m)");
}
static void a_secret_variable_has_to_be_set(void) {
  passes(
      "local ok, m = pcall(jeton.secret.env, 'JETON_TEST_UNSET') assert(not ok and m:find('JETON_TEST_UNSET'), m)"
      " assert(tostring(jeton.secret.env 'JETON_TEST_SET'):find('env JETON_TEST_SET')) assert(jeton.env.JETON_TEST_SET "
      "== 'set')"
      " assert(jeton.env 'JETON_TEST_UNSET' == nil) assert(not pcall(function() jeton.env.X = 1 end))");
}
static void a_secret_command_is_waited_for_by_http(void) {
  passes(
      "local port = ... local s = jeton.secret.exec { 'sh', '-c', 'sleep 0.1; echo hush' }"
      " local r = assert(jeton.http.post('http://127.0.0.1:' .. port .. '/echo', { body = s })) "
      "assert(r.body:find('\\r\\n\\r\\nhush$'), r.body)");
}

/* --- http --- */

static void a_request_and_its_response(void) {
  passes(
      "local port = ... local url = 'http://127.0.0.1:' .. port local r, m = jeton.http.get(url .. '/echo?q=1', { "
      "headers = { ['X-A'] = 1, Y = { 'p', 'q' } } })"
      " assert(r, m) assert(r.status == 200 and r.headers['CONTENT-type'] == 'text/plain' and r.headers['none'] == nil)"
      " assert(r.body:find('^GET /echo%?q=1 HTTP/1.1\\r\\n') and r.body:find('\\nX%-A: 1\\r') and "
      "r.body:find('jeton/') and not r.body:lower():find('content%-length'), r.body)"
      " assert(select(2, r.body:gsub('\\nY: ', '')) == 2 and r.body:lower():find('\\nhost: 127.0.0.1:' .. port, 1, "
      "true))"
      " local cookies = r.headers:all 'Set-Cookie' assert(#cookies == 2 and cookies[2] == 'b=2') local n = 0 for k, v "
      "in pairs(r.headers) do n = n + 1 end assert(n >= 4)"
      " assert(tostring(r):find('^response<200, %d+ bytes>$'))");
}
static void bodies_and_their_types(void) {
  passes(
      "local port = ... local url = 'http://127.0.0.1:' .. port .. '/echo' local s = jeton.secret.value 'h&\\\"h'"
      " local r = assert(jeton.http.post(url, { form = { ['a b'] = { s, 'x y' } } })) "
      "assert(r.body:find('\\r\\n\\r\\na%+b=h%%26%%22h&a%+b=x%+y$'), r.body)"
      " assert(r.body:lower():find('application/x%-www%-form%-urlencoded') and r.body:lower():find('content%-length: "
      "20'), r.body)"
      " r = assert(jeton.http.put(url, { json = { { k = s }, 2.5, true, jeton.json.null, jeton.json.array {} } }))"
      " assert(r.body:find('[{\"k\":\"h&\\\\\"h\"},2.5,true,null,[]]', 1, true) and r.body:find('application/json'), "
      "r.body)"
      " r = assert(jeton.http.post(url)) assert(r.body:lower():find('content%-length: 0'), r.body)"
      " r = assert(jeton.http.post(url, { auth = { 'u', jeton.secret.value 'p' } })) assert(r.body:find('Basic dTpw'), "
      "r.body)"
      " assert(not pcall(jeton.http.post, url, { body = 'a', form = {} }))");
}
static void json_of_a_response(void) {
  passes(
      "local port = ... local r = assert(jeton.http.get('http://127.0.0.1:' .. port .. '/json')) local v = "
      "assert(r:json())"
      " assert(v.a == 42 and math.type(v.a) == 'integer' and v.b == 1.5 and v.c[2] == 2 and math.type(v.c[2]) == "
      "'integer')"
      " r = assert(jeton.http.get('http://127.0.0.1:' .. port .. '/echo')) local v, m, c = r:json() assert(v == nil "
      "and c == 'EINVAL' and not m:find('GET'), m)");
}
static void a_reply_is_bounded(void) {
  passes(
      "local port = ... local url = 'http://127.0.0.1:' .. port .. '/big' local v, m, c = jeton.http.get(url) assert(v "
      "== nil and c == 'LIMIT', m)"
      " local r = assert(jeton.http.get(url, { limits = { body = '4m' } })) assert(#r.body == 2 << 20)");
}
static void a_call_has_a_time_limit(void) {
  passes(
      "local port = ... local t = jeton.now() local v, m, c = jeton.http.get('http://127.0.0.1:' .. port .. '/slow', { "
      "timeout = '100ms' })"
      " assert(v == nil and c == 'ETIMEDOUT' and m:find('127.0.0.1'), m) assert(jeton.now() - t < 3)");
}
static void a_refused_connection_is_a_failure(void) {
  passes(
      "local v, m, c = jeton.http.get('http://127.0.0.1:1/x?secret=1') assert(v == nil and c == 'ECONNREFUSED' and not "
      "m:find('secret'), m)");
}
static void redirects_are_followed_when_asked(void) {
  passes(
      "local port = ... local url = 'http://127.0.0.1:' .. port local r = assert(jeton.http.get(url .. '/302?echo')) "
      "assert(r.status == 302)"
      " r = assert(jeton.http.post(url .. '/302?echo', { redirects = 1, body = 'x' })) assert(r.status == 200 and "
      "r.body:find('^GET /echo '), r.body)"
      " r = assert(jeton.http.post(url .. '/307?echo', { redirects = 1, body = 'x' })) assert(r.body:find('^POST /echo "
      "') and r.body:find('x$'))"
      " r = assert(jeton.http.get(url .. '/302?302?echo', { redirects = 1 })) assert(r.status == 302)");
}
static void credentials_do_not_follow_to_another_origin(void) {
  passes(
      "local port = ... local url = 'http://127.0.0.1:' .. port .. '/away' local s = jeton.secret.value 'hush'"
      " for _, o in ipairs { { headers = { authorization = 'x' } }, { headers = { ['x-key'] = s } }, { headers = { "
      "Cookie = 'a=b' } }, { auth = { 'u', 'p' } } } do"
      " o.redirects = 3 local v, m, c = jeton.http.get(url, o) assert(v == nil and c == 'TOKEN_AUDIENCE', m) end"
      " local v, m, c = jeton.http.request { url = url:gsub('away', 'away307'), method = 'POST', body = s, redirects = "
      "3 } assert(v == nil and c == 'TOKEN_AUDIENCE', m)"
      " local r, m = jeton.http.get(url, { redirects = 3 }) assert(r and r.status == 200, m)");
}
static void what_a_part_has_not_is_named_with_what_it_has(void) {
  passes(
      "local function raises(text, f) local ok, err = pcall(f) assert(not ok and err:find(text, 1, true), err) end"
      " raises(\"jeton.json has no 'encod' (did you mean 'encode'?)\", function() return jeton.json.encod {} end)"
      " raises(\"jeton.log has no 'warm' (did you mean 'warn'?)\", function() jeton.log.warm 'x' end)"
      " raises(\"jeton.crypto has no 'sha256' (docs/library.md\", function() return jeton.crypto.sha256 'x' end)"
      " raises(\"jeton.select has no 'sede' (did you mean 'seed'?)\", function() jeton.select.sede(1) end)"
      " raises(\"jeton has no 'htp' (did you mean 'http'?)\", function() return jeton.htp.get 'x' end)"
      " raises(\"jeton has no 'fetch' (docs/library.md\", function() return jeton.fetch 'x' end)"
      " assert(rawget(jeton, 'fetch') == nil and rawget(jeton, 'http') == jeton.http and rawget(jeton.http, 'get') ~= "
      "nil)"
      " assert(rawget(_G, 'jeton') == jeton and rawget(_G, 'nothing') == nil and rawget(_G, 'print') == print)"
      " raises('jeton cannot be set: it would be seen by all requests', function() jeton = {} end)"
      " raises('jeton cannot be set', function() _G.jeton = nil end)"
      " raises('globals cannot be set with rawset', function() rawset(_G, 'jeton', {}) end)"
      " do local jeton = { http = 1 } assert(jeton.http == 1) end assert(jeton.http ~= 1 and _G.jeton == jeton)"
      " assert(rawget(jeton.env, 'NOT_THERE_AT_ALL') == nil and jeton.env.NOT_THERE_AT_ALL == nil)");
}
static void a_part_that_is_used_as_something_else_says_what_it_is(void) {
  passes(
      "local function raises(text, f) local ok, err = pcall(f) assert(not ok and err:find(text, 1, true), err) end"
      " raises('write jeton.http.get(…), with a dot', function() return jeton.http:get 'http://x/' end)"
      " raises('write jeton.sleep(…), with a dot', function() return jeton:sleep(1) end)"
      " raises('write jeton.log.info(…), with a dot', function() return jeton.log:info 'x' end)"
      " raises('jeton.secret is a table of functions', function() return jeton.secret 'x' end)"
      " raises('jeton.http.timeout cannot be set', function() jeton.http.timeout = 5 end)"
      " raises('jeton.store cannot be set', function() jeton.store = {} end)"
      " for name, part in pairs(jeton) do if type(part) == 'table' then assert(getmetatable(part) == false, name) end "
      "end"
      " assert(getmetatable(jeton) == false)");
}
static void the_metatable_of_lists_is_out_of_reach(void) {
  passes(
      "local list = jeton.json.array { 1 } assert(getmetatable(list) == false and getmetatable(jeton.json.decode '[]') "
      "== false)"
      " assert(jeton.json.encode(jeton.json.array(list)) == '[1]')"
      " local ok, err = pcall(function() jeton.json.array(_G) end) assert(not ok and err:find('protected metatable', "
      "1, true), err)"
      " ok, err = pcall(function() leaked = 1 end) assert(not ok and err:find 'undeclared global', err)");
}
static void misuse_raises(void) {
  passes(
      "for _, o in ipairs { { headers = { ['Content-Length'] = 1 } }, { headers = { ['a b'] = '1' } }, { headers = { a "
      "= 'x\\r\\ny: 1' } }, { timeout = 0 }, { time_out = 1 },"
      "{ redirects = -1 }, { limits = { bdy = 1 } }, { form = { a = print } }, { json = print }, { tls = { certificate "
      "= 'x' } }, { auth = { 'a:b', 'c' } } } do"
      " local ok, m = pcall(function() jeton.http.get('http://127.0.0.1:1/', o) end) assert(not ok and "
      "m:find('^test:%d+:'), m) end"
      " local ok, m = pcall(jeton.http.get, 'http://x/ y') assert(not ok and m:find('url: a byte that has to be "
      "percent-encoded: write %20', 1, true), m)"
      " assert(not pcall(jeton.http.get, 'ftp://x/')) assert(not pcall(jeton.http.get, 'http://x/ y')) assert(not "
      "pcall(jeton.http.get, jeton.secret.value 'http://x/'))");
}
static void tls_settings_that_cannot_be_read_are_a_failure(void) {
  passes(
      "local good, m = pcall(jeton.http.get, 'https://127.0.0.1:1/', { tls = { verify = false, insecure = 'x', ca = "
      "'y' "
      "} }) assert(not good and m:find('ca: has no use beside verify = false', 1, true), m)");
  passes(
      "local v, m, c = jeton.http.get('https://127.0.0.1:1/', { tls = { ca = '/nonexistent/ca.pem' } }) assert(v == "
      "nil and c == 'TLS' and m:find('/nonexistent/ca.pem'), m)");
}
static void a_cancelled_request_leaves_nothing(void) {
  passes(
      "local port = ... local h = jeton.spawn(function() jeton.http.get('http://127.0.0.1:' .. port .. '/slow') end) "
      "jeton.sleep(0.05) h:cancel() jeton.sleep(0.02)"
      " jeton.spawn(function() jeton.http.get('http://127.0.0.1:' .. port .. '/slow') end)");
}
static void secrets_wrong_for_a_header_are_not_sent(void) {
  passes(
      "local port = ... local v, m, c = jeton.http.get('http://127.0.0.1:' .. port .. '/echo', { headers = { a = "
      "jeton.secret.value 'x\\ny' } })"
      " assert(v == nil and c == 'SECRET_BYTES', m)");
}

static const char *resolved(const char *base, const char *location) {
  static struct arena a;
  static char text[256];
  struct url from, to;
  arena_init(&a, NULL, 0);
  CHECK(url_parse(str_of(base), &from) == NULL);
  const char *wrong = http_resolve(&a, &from, str_of(location), &to);
  if (wrong == NULL)
    (void)snprintf(text, sizeof text, "%s://%.*s:%u%.*s%s%.*s", to.tls ? "https" : "http", STR_FMT(to.host), to.port,
                   STR_FMT(to.path), to.query.p != NULL ? "?" : "", STR_FMT(to.query));
  arena_reset(&a);
  return wrong == NULL ? text : NULL;
}

static void locations_are_resolved(void) {
  const char *base = "http://h:81/a/b/c?q";
  CHECK(strcmp(resolved(base, "d"), "http://h:81/a/b/d") == 0);
  CHECK(strcmp(resolved(base, "../d?x#f"), "http://h:81/a/d?x") == 0);
  CHECK(strcmp(resolved(base, "../../../../d/."), "http://h:81/d/") == 0);
  CHECK(strcmp(resolved(base, "/x/../y/.."), "http://h:81/") == 0);
  CHECK(strcmp(resolved(base, "?z"), "http://h:81/a/b/c?z") == 0);
  CHECK(strcmp(resolved(base, "//g/x"), "http://g:80/x") == 0);
  CHECK(strcmp(resolved(base, "https://g/x?y"), "https://g:443/x?y") == 0);
  CHECK(strcmp(resolved("http://h", "d"), "http://h:80/d") == 0);
  CHECK(resolved(base, "javascript:alert(1)") == NULL);
  CHECK(resolved(base, "/a b") == NULL);
  CHECK(resolved(base, "http://u@h/") == NULL);
}

/* --- json, log --- */

static void json_goes_both_ways(void) {
  passes(
      "local j = jeton.json assert(j.encode { 1, 2 } == '[1,2]' and j.encode {} == '{}' and j.encode(j.array {}) == "
      "'[]')"
      " assert(j.encode(123456789012345678) == '123456789012345678' and j.encode(0.1) == '0.1' and j.encode(3.0) == "
      "'3' and j.encode 'a\\\"\\n' == [[\"a\\\"\\n\"]])"
      " assert(j.decode('42') == 42 and math.type(j.decode('42')) == 'integer' and j.decode('1e2') == 100 and j.decode "
      "'null' == j.null)"
      " assert(j.decode('{\"a\":[1,{\"b\":2}]}').a[2].b == 2) local v, m, c = j.decode('{') assert(v == nil and c == "
      "'EINVAL', m)"
      " v, m, c = j.encode(print) assert(v == nil and c == 'EINVAL', m) v, m, c = j.encode(0/0) assert(v == nil) local "
      "t = {} t.t = t v, m, c = j.encode(t) assert(v == nil, m)"
      " v, m, c = j.decode(('['):rep(1000)) assert(v == nil) local s = j.encode { a = jeton.secret.value 'hu\"sh' }"
      " assert(jeton.crypto.equal(s, '{\"a\":\"hu\\\\\"sh\"}') and not tostring(s):find 'hu', tostring(s))");
}
static void json_keeps_lists_that_are_empty(void) {
  passes(
      "local j = jeton.json local function same(text) local got = j.encode(assert(j.decode(text))) assert(got == text, "
      "got) end"
      " for _, text in ipairs { '[]', '{}', '[[],{},[]]', '[{\"a\":[]}]', '{\"a\":{\"b\":[[],[[]]]}}', "
      "'[1,\"[]\",[],\"]\",{}]',"
      "   [=[[\"\\\\\",[],\"\\\"[\",{}]]=], '[null,[],true,{}]', '{\"\":[]}', '\"[]\"' } do same(text) end"
      " local v = j.decode [=[ { \"\\u0061\\n\" : [ ] , \"o\" : { } } ]=]"
      " assert(j.encode { v['a' .. string.char(10)] } == '[[]]' and j.encode { v.o } == '[{}]')"
      " v = j.decode '[]' v[1] = 5 assert(j.encode(v) == '[5]') v = j.decode '[]' v.name = 5 assert(j.encode(v) == "
      "'{\"name\":5}')"
      " v = j.decode '{\"a\":[],\"a\":[1]}' assert(v.a[1] == 1) v = j.decode '{\"a\":[[]],\"a\":7}' assert(v.a == 7)"
      " local deep = ('['):rep(90) .. (']'):rep(90) same(deep) assert(j.decode '{\"a\":[]' == nil)");
}
static void logging_takes_anything(void) {
  passes(
      "jeton.log 'a' jeton.log.info('b', { k = 1, s = jeton.secret.value 'hush', [1] = {} }) jeton.log.error(nil) "
      "jeton.log.debug(jeton.secret.value 'x')"
      " assert(not pcall(jeton.log.info)) assert(not pcall(jeton.log.info, 'x', 1))");
}
static void the_loading_file_only_declares(void) {
  struct vm *vm = new_vm();
  vm_set_loading(vm, true);
  static const char *const calls[] = {
      "jeton.sleep(1)",        "jeton.spawn(print)",           "jeton.every(1, print)", "jeton.http.get('http://x/')",
      " jeton.file.read('x')", "jeton.file.watch('x', print)", "jeton.exec { 'true' }"};
  for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
    char script[128];
    const char *message = NULL;
    (void)snprintf(script, sizeof script, "%s", calls[i]);
    struct run r = {.script = script, .vm = vm};
    CHECK(vm_call(vm, l_compile, &r, &message) == 0);
    task_start(vm, r.fn, NULL, on_done, &r, NULL);
    CHECK(r.over && r.status != 0);
    CHECK(strstr(r.message, "on_start") != NULL);
  }
  vm_unref(vm);
}

/* --- tokens --- */

static void with_token(const char *script, bool reveal) {
  struct run r = {.script = script};
  r.slot = slot_new(STR("api"), (struct str){0});
  r.terms = (struct token_terms){.audience = audience_new(), .reveal = reveal, .wait_ms = 50, .max_waiters = 10};
  CHECK(audience_add_host(r.terms.audience, STR("http://127.0.0.1")));
  run_script(&r);
  if (r.status != 0) (void)fprintf(stderr, "%s\n", r.message);
  CHECK(r.status == 0);
  slot_unref(r.slot);
  audience_unref(r.terms.audience);
}

static void a_token_is_set_and_sent(void) {
  with_token(
      "local port, dir, api = ... local url = 'http://127.0.0.1:' .. port .. '/echo' assert(not api.valid and "
      "api.state == 'empty' and api.name == 'api')"
      " local v, m, c = jeton.http.get(url, { headers = { authorization = 'Bearer ' .. api } }) assert(v == nil and c "
      "== 'TOKEN_MISSING', m)"
      " assert(api:set('hush', { expires_in = '300', fields = { session = jeton.secret.value 'sess' } }))"
      " assert(api.valid and api.generation == 1 and api.expires_in > 200 and api.expires_in <= 300) assert(api:wait())"
      " assert(tostring(api):find('^token<api generation 1, expires in %d+ s>$'), tostring(api))"
      " local r = assert(jeton.http.get(url, { headers = { authorization = 'Bearer ' .. api, ['x-s'] = api:field "
      "'session' } })) assert(r.body:find('Bearer hush') and r.body:find('x%-s: sess'))"
      " r = assert(jeton.http.get(url, { headers = { authorization = 'Bearer ' .. api, ['x-t'] = api } })) "
      "assert(r.body:find('Bearer hush') and r.body:find('x%-t: hush'))"
      " v, m, c = jeton.http.get('http://localhost:' .. port .. '/echo', { headers = { a = api } }) assert(v == nil "
      "and c == 'TOKEN_AUDIENCE', m)"
      " local ok, m = pcall(api.reveal, api) assert(not ok and m:find('reveal = true'), m) assert(not pcall(function() "
      "return api.value end))"
      " assert(tostring('Bearer ' .. api) == 'secret<Bearer <token api>>') assert(tostring('Basic ' .. api .. 1) == "
      "'secret<Basic <token api>1>')",
      false);
}
static void a_token_can_be_revealed_when_allowed(void) {
  with_token(
      "local _, _, api = ... assert(select(3, api:reveal()) == 'TOKEN_MISSING') assert(api:set('hush', { expires_at = "
      "jeton.now() + 60 })) assert(api:reveal() == 'hush')",
      true);
}
static void nonsense_is_not_set(void) {
  with_token(
      "local _, _, api = ... for _, o in ipairs { {}, { expires_in = 0 }, { expires_in = 'soon' }, { expires_in = 0/0 "
      "}, { expires_in = '0x10' }, { expires_in = 10, fields = 1 } } do"
      " local v, m, c = api:set('hush', o) assert(v == nil and c == 'EINVAL' and not m:find('hush'), m) end"
      " assert(api:set('ab\\n', { expires_in = 1 }) == nil) assert(api:set(1, { expires_in = 1 }) == nil) "
      "assert(api:set(nil, { expires_in = 1 }) == nil)"
      " for _, o in ipairs { 300, 'soon', { expires = 300 }, { expires_in = 60, lifetime = 60 } } do"
      " local ok, m = pcall(function() api:set('hush', o) end) assert(not ok and m:find('expires_in', 1, true) and not "
      "m:find('hush'), m) end"
      " local ok, m = pcall(function() api:set('hush') end) assert(not ok and m:find('got nil', 1, true), m)"
      " local done, why, code = api:refresh() assert(done == nil and why:find('it has no fetch', 1, true) and code == "
      "'ENOTSUP', why)"
      " ok, m = pcall(function() api.refresh() end) assert(not ok and m:find('with a colon, as in x:refresh(…)', 1, "
      "true), m)"
      " ok, m = pcall(function() api() end) assert(not ok and m:find('token api is not a function', 1, true), m)"
      " ok, m = pcall(table.concat, { 'a', api }) assert(not ok and m:find('join them with ..', 1, true), m)",
      false);
}
static void waiting_for_a_token_ends_in_time(void) {
  with_token(
      "local _, _, api = ... local v, m, c = api:wait() assert(v == nil and c == 'TOKEN_MISSING', m) assert(select(3, "
      "api:wait '10ms') == 'TOKEN_MISSING')"
      " jeton.spawn(function() jeton.sleep(0.02) api:set('hush', { expires_in = 60 }) end) assert(api:wait(10))"
      " local h = jeton.spawn(function() api:refresh() end) h:cancel()",
      false);
}
static void a_family_has_a_token_a_key(void) {
  struct run r = {.script =
                      "local _, _, tenant = ... local a, b = tenant.acme, tenant['b'] assert(a.name == 'tenant[acme]' "
                      "and rawequal(tenant.acme, a) and not rawequal(a, b))"
                      " a:set('x', { expires_in = 60 }) assert(tenant.acme.valid and not tenant.b.valid) local ok, m = "
                      "pcall(function() return 'x' .. tenant end)"
                      " assert(not ok and m:find('tokens.tenant%[key%]'), m) assert(not pcall(function() return "
                      "tenant[1] end)) local ok, m = pcall(function() return tenant.c end)"
                      " assert(not ok and m:find('all 2 places'), m) a, b = nil, nil assert(tenant.c) "
                      "assert(tostring(tenant):find('family<tenant of %d tokens>'))",
                  .terms = {.max_waiters = 10}};
  r.family = family_new(STR("tenant"));
  family_configure(r.family, 2, 60 * 1000);
  run_script(&r);
  if (r.status != 0) (void)fprintf(stderr, "%s\n", r.message);
  CHECK(r.status == 0);
  family_unref(r.family);
}

/* --- what a fetch returns --- */

static struct run fetched(const char *script) {
  struct run r = {.script = script, .fetch = true};
  buf_init(&r.hold);
  r.hold.sensitive = true;
  run_script(&r);
  CHECK(r.status == 0);
  return r;
}

static void a_good_result_is_read(void) {
  struct run r = fetched(
      "return { value = jeton.secret.value 'hush', expires_in = '3600', expires_at = 12.5, fields = { a = 'b' } }");
  CHECK(r.result.ok && str_eq(r.result.value, STR("hush")));
  CHECK(r.result.has_expires_in && r.result.expires_in == 3600 && r.result.has_expires_at &&
        r.result.expires_at == 12.5);
  CHECK(r.result.nfields == 1 && str_eq(r.result.fields[0].name, STR("a")) &&
        str_eq(r.result.fields[0].bytes, STR("b")));
  buf_fini(&r.hold);
}

static void bad_results_are_told_without_their_bytes(void) {
  static const char *const scripts[][2] = {
      {"return nil, 'the issuer is down'", "the issuer is down"},
      {"return 'hush'", "a bare string"},
      {"return", "nothing"},
      {"return {}", "a table without a value"},
      {"return { value = 5 }", "value: expected a string"},
      {"return { value = 'hush', expires_in = {} }", "expires_in: expected a number"},
      {"return { value = 'hush', expires_in = 'hush' }", "not a decimal number"},
      {"return { value = 'hush', fields = { a = 5 } }", "fields.a: expected a string"},
      {"return nil, {}", "instead of a message"},
      {"local t = {} for i = 1, 17 do t['f' .. i] = 'x' end return { value = 'hush', fields = t }", "more than 16"},
  };
  for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
    struct run r = fetched(scripts[i][0]);
    CHECK(!r.result.ok && strstr(r.result.error, scripts[i][1]) != NULL && strstr(r.result.error, "hush") == NULL);
    CHECK((strncmp(r.result.error, "test:0: ", 8) == 0) == (i > 0)); /* not before the script's own words */
    buf_fini(&r.hold);
  }
}

static struct fetch context_fetch;

static int push_context(lua_State *L, void *arg) {
  (void)arg;
  return l_fetch_push_context(L, &context_fetch, false);
}

static void a_fetch_sees_its_context(void) {
  struct token_field field = {STR("refresh"), STR("hush")};
  struct run r = {.script =
                      "local c = ... assert(c.reason == 'expiring' and c.attempt == 2 and c.key == 'acme') local p = "
                      "c.previous assert(p.generation == 7 and p.expires_in == 0)"
                      " assert(tostring(p:field 'refresh'):find('^secret<') and p:field 'none' == nil and p:field()) "
                      "assert(not pcall(function() return p.value end))"};
  context_fetch = (struct fetch){.slot = slot_new(STR("tenant"), STR("acme")),
                                 .reason = FETCH_EXPIRING,
                                 .attempt = 2,
                                 .previous = token_new(STR("old"), &field, 1)};
  context_fetch.previous->generation = 7;
  const char *message = NULL;
  r.vm = new_vm();
  CHECK(vm_call(r.vm, l_compile, &r, &message) == 0);
  task_start(r.vm, r.fn, push_context, on_done, &r, NULL);
  if (r.status != 0) (void)fprintf(stderr, "%s\n", r.message);
  CHECK(r.over && r.status == 0);
  vm_unref(r.vm);
  token_unref(context_fetch.previous);
  slot_unref(context_fetch.slot);
}

/* --- all --- */

static void run_timers_and_files(void) {
  RUN(sleep_sleeps);
  RUN(spawned_functions_run_beside);
  RUN(a_spawned_function_is_cancelled_where_it_waits);
  RUN(an_error_in_a_spawned_function_ends_only_it);
  RUN(every_repeats_until_cancelled);
  RUN(every_does_not_pile_up);
  RUN(timers_end_with_the_vm);
  RUN(files_are_written_and_read);
  RUN(reads_are_bounded);
  RUN(a_numeric_mode_is_refused);
  RUN(secrets_are_written_to_files);
  RUN(a_lock_lets_one_go_on_at_a_time);
  RUN(a_lock_ends_with_its_task);
  RUN(whether_a_file_can_be_written_is_tried);
  RUN(a_replaced_file_is_watched_on);
  RUN(watching_nowhere_fails);
}

static void run_processes_and_secrets(void) {
  RUN(a_child_is_run_and_captured);
  RUN(a_missing_program_is_a_failure);
  RUN(a_child_is_ended_in_time);
  RUN(a_child_that_talks_too_much_is_ended);
  RUN(secrets_may_be_input_but_not_arguments);
  RUN(a_background_child_does_not_hold_exec);
  RUN(a_cancelled_exec_ends_its_child);
  RUN(secrets_are_opaque);
  RUN(a_secret_cannot_grow_without_bound);
  RUN(a_secret_file_is_read_again);
  RUN(a_secret_variable_has_to_be_set);
  RUN(a_secret_command_is_waited_for_by_http);
}

static void run_http(void) {
  RUN(a_request_and_its_response);
  RUN(bodies_and_their_types);
  RUN(json_of_a_response);
  RUN(a_reply_is_bounded);
  RUN(a_call_has_a_time_limit);
  RUN(a_refused_connection_is_a_failure);
  RUN(redirects_are_followed_when_asked);
  RUN(credentials_do_not_follow_to_another_origin);
  RUN(what_a_part_has_not_is_named_with_what_it_has);
  RUN(a_part_that_is_used_as_something_else_says_what_it_is);
  RUN(the_metatable_of_lists_is_out_of_reach);
  RUN(misuse_raises);
  RUN(tls_settings_that_cannot_be_read_are_a_failure);
  RUN(a_cancelled_request_leaves_nothing);
  RUN(secrets_wrong_for_a_header_are_not_sent);
  RUN(locations_are_resolved);
}

static void run_tokens(void) {
  RUN(json_goes_both_ways);
  RUN(json_keeps_lists_that_are_empty);
  RUN(logging_takes_anything);
  RUN(the_loading_file_only_declares);
  RUN(a_token_is_set_and_sent);
  RUN(a_token_can_be_revealed_when_allowed);
  RUN(nonsense_is_not_set);
  RUN(waiting_for_a_token_ends_in_time);
  RUN(a_family_has_a_token_a_key);
  RUN(a_good_result_is_read);
  RUN(bad_results_are_told_without_their_bytes);
  RUN(a_fetch_sees_its_context);
}

int main(void) {
  (void)setenv("JETON_TEST_SET", "set", 1);
  library_begin();
  run_timers_and_files();
  run_processes_and_secrets();
  run_http();
  run_tokens();
  library_end();
  return 0;
}
