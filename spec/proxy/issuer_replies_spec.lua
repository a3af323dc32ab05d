--- What issuers answer in fact, beside what RFC 6749 says: statuses, formats, codings, errors with 200, lives and clocks. The issuer here replies with the bytes of a file.
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local dir, issuer, proxy

local SERVER = [[ while true do
  local head = c:read "head"
  if not head then return c:close() end
  c:read(tonumber(head:lower():match "content%%-length: (%%d+)" or 0))
  local f = io.open(%q, "rb")
  local text = f:read "a"
  f:close()
  c:write(text)
end ]]

local function token() return proxy:status().tokens[1] end

--- A refresh by hand joins a fetch that is under way, whose reply is the one before: so the first fetch is over when this returns, and none that fails is tried again soon.
local function start(options)
  proxy = jeton.start(([[
local oauth2 = require "jeton.oauth2"
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
  tokens = { api = oauth2.client_credentials {
    token_url = "http://127.0.0.1:%d/token", client_id = "spec", client_secret = jeton.secret.value "s3cret",
    leeway = 0, backoff = { min = "60s", max = "60s" }, %s } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
}]]):format(issuer.port, issuer.port, options or ""))
  process.poll(function() return token().generation + token().failures > 0 end, 10, "the first fetch")
end

setup(function()
  dir = process.temp_dir()
  issuer = peers.raw(SERVER:format(dir .. "/reply"))
end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local function date(offset) return os.date("!%a, %d %b %Y %H:%M:%S GMT", math.tointeger(os.time() + offset)) end
local function base64url(text) return (require "mime".b64(text):gsub("[+/=]", { ["+"] = "-", ["/"] = "_", ["="] = "" })) end
local function jwt(claims) return ("%s.%s.c2ln"):format(base64url '{"alg":"none"}', base64url(claims)) end

--- status line and fields without the length, and the body.
local function reply(head, body)
  process.write_file(dir .. "/next", ("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s"):format(head, #body, body))
  assert(os.rename(dir .. "/next", dir .. "/reply"))
end
local JSON = "200 OK\r\nContent-Type: application/json"
local function json(body) reply(JSON, body) end

local function refresh() return (proxy:control("POST", "/refresh/api?format=text")) end
local function brings(seconds)
  local res = refresh()
  assert.equal(200, res.status, res.body)
  local left = token().expires_in
  assert.is_true(left <= seconds + 2 and left > seconds - 20, left)
end
local function fails(...)
  local res = refresh()
  assert.equal(502, res.status, res.body)
  for _, text in ipairs { ... } do assert.is_truthy(res.body:find(text, 1, true), res.body) end
  return res.body
end

local function compress(command, text)
  process.write_file(dir .. "/plain", text)
  assert(os.execute(("%s <%s/plain >%s/coded"):format(command, dir, dir)))
  return process.read_file(dir .. "/coded")
end
local function gzip(text) return compress("gzip -c", text) end

describe("a token endpoint's reply", function()
  it("is a token with 201 and other statuses of success", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    for _, status in ipairs { "200 OK", "201 Created", "202 Accepted", "203 Altered" } do
      reply(status .. "\r\nContent-Type: application/json", '{"access_token":"a","expires_in":100}')
      brings(100)
    end
    reply("204 No Content\r\nX: y", "")
    fails "it is empty"
  end)

  it("is an error with 200 when it says so: by RFC 6749, Slack, Google, WeChat, Apigee", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    for body, said in pairs {
      ['{"error":"invalid_grant","error_description":"gone"}'] = "answered 200: invalid_grant: gone",
      ['{"ok":false,"error":"invalid_refresh_token"}'] = "answered 200: invalid_refresh_token",
      ['{"ok":false,"error":"ratelimited","access_token":"a","expires_in":9}'] = "answered 200: ratelimited",
      ['{"error":{"code":403,"message":"no such account","status":"PERMISSION_DENIED"}}'] = "answered 200: PERMISSION_DENIED: no such account",
      ['{"errcode":40013,"errmsg":"invalid appid"}'] = "answered 200: 40013: invalid appid",
      ['{"success":false,"message":"locked"}'] = "answered 200: locked",
    } do
      json(body)
      fails(said)
    end
    for body, said in pairs {
      ['{"error":{"code":401,"message":"bad key","status":"UNAUTHENTICATED"}}'] = "answered 401: UNAUTHENTICATED: bad key",
      ['{"fault":{"faultstring":"Invalid ApiKey","detail":{}}}'] = "answered 401: Invalid ApiKey",
      ['{"errors":[{"code":"E1","message":"first"}]}'] = "answered 401: E1: first",
      ['{"errorCode":"E0000004","errorSummary":"Authentication failed"}'] = "answered 401: E0000004: Authentication failed",
      ['error=bad_verification_code&error_description=The+code+is%20old'] = "answered 401: bad_verification_code: The code is old",
      ['{"errors":["first","second"]}'] = "answered 401: first",
      ['{"error":[{"code":"E2","message":"of a list"}]}'] = "answered 401: E2: of a list",
      ['{"name":"AUTHENTICATION_FAILURE","message":"no such client"}'] = "answered 401: AUTHENTICATION_FAILURE: no such client",
      ['{"reason":"no such secret","error":"invalid_client"}'] = "answered 401: invalid_client: no such secret",
      ['<html>no</html>'] = "answered 401",
    } do
      reply("401 Unauthorized\r\nContent-Type: text/plain", body)
      fails(said)
    end
    json '{"error":null,"ok":true,"errcode":0,"access_token":"a","expires_in":100}'
    brings(100)
  end)

  it("is named by what it is when it is no JSON", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    reply("200 OK\r\nContent-Type: text/html; charset=utf-8", "<html>sign in</html>")
    fails("not JSON", "text/html")
    reply("200 OK\r\nContent-Type: application/json\r\nContent-Encoding: br", "\x0b\x02\x80")
    fails("not JSON", "Content-Encoding is br")
    reply(JSON, gzip '{"access_token":"a","expires_in":100}')
    fails("not JSON", "compressed with gzip")
    for _, text in ipairs { "\xff\xfe{\0}\0", "\xfe\xff\0{\0}", "{\0}\0" } do
      json(text)
      fails("not JSON", "it is UTF-16")
    end
    json '{"access_token":12345,"expires_in":100}'
    fails "has an access_token that is a number, not a string"
    json '{"access_token":{"value":"a"},"expires_in":100}'
    fails "has an access_token that is a table, not a string"
    reply("302 Found\r\nLocation: https://login.example.com/token?code=s3", "")
    assert.is_nil(fails("answered 302", "https://login.example.com/token", "token_url"):find("s3", 1, true))
  end)

  it("may come as a form, with a byte order mark, and with a type that is not its own", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    for _, case in ipairs {
      { "application/x-www-form-urlencoded; charset=utf-8", "access_token=a%2Bb&expires_in=90&token_type=bearer&scope=" },
      { "text/plain", "access_token=a&expires_in=90\r\n" },
      { "text/html", "expires_in=90&access_token=a" },
      { "application/json", "\xEF\xBB\xBF{\"access_token\":\"a\",\"expires_in\":90}" },
      { "application/x-www-form-urlencoded", '{"access_token":"a","expires_in":90}' },
      { "application/x-www-form-urlencoded", "\xEF\xBB\xBFaccess_token=a&expires_in=90" },
    } do
      reply("200 OK\r\nContent-Type: " .. case[1], case[2])
      brings(90)
    end
  end)

  it("may be compressed, within the bound that its plain bytes have as well", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    local body = '{"access_token":"a","expires_in":80}'
    for _, name in ipairs { "gzip", "x-gzip", "GZIP", "identity, gzip" } do
      reply(JSON .. "\r\nContent-Encoding: " .. name, gzip(body))
      brings(80)
    end
    reply(JSON .. "\r\nContent-Encoding: gzip", gzip('{"error":"no"}'))
    fails "answered 200: no"
    reply("400 Bad\r\nContent-Encoding: gzip", gzip('{"error":"no"}'))
    fails "answered 400: no"
    reply(JSON .. "\r\nContent-Encoding: gzip", body)
    fails "says Content-Encoding: gzip and is not that"
    reply(JSON .. "\r\nContent-Encoding: gzip", gzip(body):sub(1, -9))
    fails "is cut short"
    reply(JSON .. "\r\nContent-Encoding: gzip", gzip(body .. (" "):rep(8 << 20)))
    fails "more than 262144 bytes (limits.body)"
  end)

  it("may leave token_type out, empty or null, and may name a bearer token otherwise", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    for _, kind in ipairs { "null", '""', '"bearer"', '"BEARER"', '" Bearer "', '"BearerToken"', '"bot"', '"Application Access Token"', '"User Access Token"', '"JWT"' } do
      json(('{"access_token":"a","expires_in":70,"token_type":%s}'):format(kind))
      brings(70)
    end
    for kind, shown in pairs { ['"DPoP"'] = "DPoP", ['"mac"'] = "mac", ["5"] = "another one", ['{}'] = "another one", ['"an eyJhbGciOi.s3cret"'] = "another one" } do
      json(('{"access_token":"a","expires_in":70,"token_type":%s}'):format(kind))
      assert.is_nil(fails("token_type is " .. shown .. ", not Bearer"):find("s3cret", 1, true))
    end
  end)
end)

describe("the life of an issuer's token", function()
  local TEN_YEARS = 10 * 366 * 86400

  it("is capped when it has no end, and read however it is written", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    for _, life in ipairs { "2147483647", "9223372036854775807", '"9223372036854775807"', "4294967295" } do
      json(('{"access_token":"a","expires_in":%s}'):format(life))
      brings(TEN_YEARS)
    end
    for _, life in ipairs { "3600", '"3600"', '" 3600 "', "3600.0", '"3600\\n"', "3.6e3", '"3.6E+3"', '"+3600"', '"3600s"', '"3600.00"' } do
      json(('{"access_token":"a","expires_in":%s}'):format(life))
      brings(3600)
    end
    for life, said in pairs { ["-1"] = "not positive", ['"soon"'] = "not a decimal number", ["true"] = "expected a number", ["0"] = "not positive", ['""'] = "no lifetime", ["null"] = "no lifetime" } do
      json(('{"access_token":"a","expires_in":%s}'):format(life))
      fails(said)
    end
    for _, unit in ipairs { "", "000", "000000", "000000000" } do
      json(('{"access_token":"a","expires_in":%d%s}'):format(os.time() + 3600, unit))
      fails "give it as expires_at"
    end
  end)

  it("is the policy's `lifetime` where the issuer gives none or 0", function()
    json '{"access_token":"a","expires_in":100}'
    start "lifetime = 300,"
    for _, life in ipairs { "0", '"0"', "null", '""', '" "', "0.0" } do
      json(('{"access_token":"a","expires_in":%s}'):format(life))
      brings(300)
    end
    json '{"access_token":"a"}'
    brings(300)
    json '{"access_token":"a","expires_in":9000}'
    brings(9000)
    json '{"access_token":"a","expires_in":-5}'
    fails "not positive"
  end)

  it("may be told by its end alone, by the issuer's clock", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    local at = math.tointeger(os.time() + 1000)
    for name, value in pairs { expires_on = ('"%d"'):format(at), expires_at = ("%d"):format(at), expiry = ('"%s"'):format(os.date("!%Y-%m-%dT%H:%M:%SZ", at)),
      expiration = ('"%s"'):format(os.date("!%Y-%m-%dT%H:%M:%S.123+00:00", at)), expireTime = ('"%s"'):format(os.date("!%Y-%m-%dT%H:%M:%S+02:00", at + 7200)),
      expires_on_ = ("%d000"):format(at) } do
      json(('{"access_token":"a","%s":%s}'):format(name:gsub("_$", ""), value))
      brings(1000)
    end
    for _, offset in ipairs { -600, 600 } do
      reply(JSON .. "\r\nDate: " .. date(offset), ('{"access_token":"a","expires_on":"%d"}'):format(at + offset))
      brings(1000)
    end
    for name, value in pairs {
      expires_on = ('"%s"'):format(os.date("!%m/%d/%Y %I:%M:%S %p +00:00", at)), expires_at = ('"%s"'):format(os.date("!%m/%d/%Y %H:%M:%S +00:00", at)),
      expires = ("%d"):format(at), expiry = ('"%s"'):format(date(1000)), expiration = ("%.9fe9"):format(at / 1e9),
    } do
      json(('{"access_token":"a","%s":%s}'):format(name, value))
      brings(1000)
    end
    for _, member in ipairs { '"expires":1000', '"expires":"1000"', '"expiresIn":1000', '"expires_at":1000', '"expires_on":"1000"' } do
      json('{"access_token":"a",' .. member .. "}") -- a length, whatever its name
      brings(1000)
    end
    json(('{"access_token":"a","expires_in":50,"expires_on":"%d"}'):format(at))
    brings(50)
  end)

  it("stands in a JWT, held against the reply's Date, else the shorter of what two clocks say", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    local now = math.tointeger(os.time())
    local function claims(text, ...) return ('{"access_token":"%s"}'):format(jwt(text:format(...))) end
    for _, offset in ipairs { -600, 0, 600 } do
      reply(JSON .. "\r\nDate: " .. date(offset), claims('{"exp":%d,"iat":%d}', now + offset + 900, now + offset))
      brings(900)
      json(claims('{"exp":%d,"iat":%d}', now + offset + 900, now + offset))
      brings(math.min(900, 900 + offset))
    end
    json(claims('{"exp":%d,"iat":%d}', now + 200, now - 700)) -- handed out again, from a cache
    brings(200)
    reply(JSON .. "\r\nDate: " .. date(0), claims('{"exp":%d,"iat":%d}', now + 200, now - 700))
    brings(200)
    reply(JSON .. "\r\nDate: Thu, 01 Jan 1970 00:00:10 GMT", claims('{"exp":%d}', now + 200)) -- a server without a clock
    brings(200)
    json(claims('{"exp":%d,"iat":%d}', now - 10, now - 910))
    fails "not positive"
    json(claims('{"exp":%d000,"iat":%d000}', now + 900, now)) -- milliseconds
    brings(900)
    json(claims('{"exp":"%d"}', now + 900))
    brings(900)
    json(('{"access_token":"%s"}'):format((jwt(('{"exp":%d,"a":""}'):format(now + 900)):gsub("%.c2ln", "==.c2ln"))))
    brings(900)
  end)

  it("is held against a Date in each form that a recipient has to read", function()
    json '{"access_token":"a","expires_in":100}'
    start()
    local now = math.tointeger(os.time())
    for _, form in ipairs { "!%A, %d-%b-%y %H:%M:%S GMT", "!%a %b %d %H:%M:%S %Y", "!%a, %d %b %Y %H:%M:%S UTC" } do
      reply(JSON .. "\r\nDate: " .. os.date(form, now + 600), ('{"access_token":"%s"}'):format(jwt(('{"exp":%d}'):format(now + 1500))))
      brings(900)
    end
  end)
end)

describe("Retry-After of a token endpoint", function()
  it("is heeded, in seconds and as a date, whatever the status", function()
    reply("429 Too Many\r\nRetry-After: 20", "{}")
    start 'backoff = { min = "50ms", max = "60s" },'
    assert.equal(1, token().failures)
    assert.is_true(token().next_attempt_in > 15 and token().next_attempt_in <= 22, token().next_attempt_in)
    for _ = 1, 3 do assert.equal(503, require "spec.support.http".get(proxy.port, "/", nil, 10).status) end
    assert.equal(1, token().fetches)
    for head, seconds in pairs {
      ["503 Busy\r\nRetry-After: " .. date(40)] = 40,
      ["503 Busy\r\nDate: " .. date(-600) .. "\r\nRetry-After: " .. date(-560)] = 40,
      ["400 Bad\r\nRetry-After: 30"] = 30,
      ["200 OK\r\nRetry-After: 30"] = 30,
      ["503 Busy\r\nRetry-After: 99999999"] = 3600,
      ["503 Busy\r\nRetry-After: " .. os.date("!%A, %d-%b-%y %H:%M:%S GMT", math.tointeger(os.time() + 70))] = 70,
      ["503 Busy\r\nRetry-After: " .. os.date("!%a %b %d %H:%M:%S %Y", math.tointeger(os.time() + 90))] = 90,
    } do
      reply(head, '{"error":"slow_down"}')
      fails "slow_down"
      assert.is_true(token().next_attempt_in > seconds - 5 and token().next_attempt_in <= seconds * 1.1, head .. token().next_attempt_in)
    end
    for _, value in ipairs { "0", "-5", "soon", "", "1e3", date(-100), "Fri, 31 Feb 2099 00:00:00 GMT", "Fri, 01 Foo 2099 00:00:00 GMT" } do
      reply("503 Busy\r\nRetry-After: " .. value, '{"error":"slow_down"}')
      fails "slow_down"
      assert.is_true((token().next_attempt_in or 0) < 61, value)
    end
  end)

  it("counts for a reply without a token as well", function()
    reply("200 OK\r\nRetry-After: 40", "{}")
    start 'backoff = { min = "50ms", max = "60s" },'
    assert.is_true(token().next_attempt_in > 35 and token().next_attempt_in <= 44, token().next_attempt_in)
    reply("502 Bad Gateway\r\nRetry-After: 50", "<html>")
    fails "502"
    assert.is_true(token().next_attempt_in > 45 and token().next_attempt_in <= 55, token().next_attempt_in)
  end)

  it("of a hand-written fetch is its third result", function()
    proxy = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
      tokens = {
        a = { fetch = function() return nil, "later", { retry_after = 30 } end },
        b = { fetch = function() return nil, "later", { retry_after = "50s" } end },
        c = { fetch = function() return nil, "later", { retry_after = "soon" } end },
        d = { fetch = function() return jeton.http.get "http://127.0.0.1:1/" end },
      } }]]
    process.poll(function()
      for _, t in ipairs(proxy:status().tokens) do
        if t.failures == 0 then return false end
      end
      return true
    end)
    for _, t in ipairs(proxy:status().tokens) do
      if t.name == "a" then assert.is_true(t.next_attempt_in > 25 and t.next_attempt_in <= 33) end
      if t.name == "b" then assert.is_true(t.next_attempt_in > 45 and t.next_attempt_in <= 55) end
      if t.name == "c" then assert.is_truthy(t.last_error:find("neither seconds nor a duration", 1, true), t.last_error) end
      if t.name == "d" then assert.is_truthy(t.last_error:find("refused", 1, true), t.last_error) end
    end
  end)
end)

describe("A refusal", function()
  it("that is one for good is not repeated for five minutes", function()
    reply("401 Unauthorized", '{"error":"invalid_client"}')
    start()
    for _, code in ipairs { "invalid_client", "unauthorized_client", "invalid_scope", "invalid_grant", "unsupported_grant_type", "invalid_target", "invalid_request" } do
      for _, status in ipairs { "400 Bad", "200 OK" } do
        reply(status, ('{"error":"%s"}'):format(code))
        fails(code)
        assert.is_false(token().spent)
        assert.is_true(token().next_attempt_in > 290, code)
      end
    end
    for head, body in pairs {
      ["500 Oops"] = '{"error":"invalid_client"}', ["404 Not Found"] = "<html>", ["403 Forbidden"] = "{}", ["401 Unauthorized"] = "{}",
      ["400 Bad"] = '{"error":"temporarily_unavailable"}', ["429 Slow"] = '{"error":"slow_down"}',
    } do
      reply(head, body)
      fails(head:match "%d+")
      assert.is_nil(token().permanent_for, head)
      assert.is_true((token().next_attempt_in or 0) < 61, head)
    end
  end)
end)
