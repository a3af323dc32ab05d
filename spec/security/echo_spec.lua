--- What an issuer says of a failure may repeat what was sent to it. None of that is logged, or shown in status, in any form.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local process = require "spec.support.process"
local token_peer = require "spec.support.token_peer"

local peer, proxy
local SECRET, REFRESH = "p@ss/w0rd+of the=client", "refresh~0123456789/abcdefghijklmnop+qrstuvwxyz"

setup(function() peer = token_peer.start() end)
teardown(function() peer:finish() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local cases = 0
local function name()
  cases = cases + 1
  return "echo" .. cases
end

local function base64(text)
  local _, out = process.run({ "sh", "-c", "printf %s \"$T\" | base64 -w0" }, { env = { T = text, PATH = os.getenv "PATH" } })
  return (out:gsub("%s", ""))
end
local function form(text)
  return (text:gsub("[^%w*._-]", function(c) return c == " " and "+" or ("%%%02X"):format(c:byte()) end))
end

--- Percent-encoding of what is percent-encoded; entities of HTML; escapes of JSON, as those write them that escape more than they must.
local function twice(text) return (form(text):gsub("%%", "%%25")) end
local function entities(text) return (text:gsub("[^%w]", function(c) return ("&#x%x;"):format(c:byte()) end)) end
local function escapes(text) return (text:gsub("[^%w]", function(c) return ("\\u%04x"):format(c:byte()) end)) end

--- Everything that is said of a token: log, status as text and JSON, metrics, the reply to a client, what a script sees.
local function everything()
  local said = { proxy:output(), proxy:control("GET", "/status").body, proxy:control("GET", "/metrics").body }
  local _, out, err = jeton.run { "status", "--control", proxy.control_path }
  local res = http.get(proxy.port)
  said[#said + 1] = out .. err
  said[#said + 1] = res.raw_head .. res.body
  said[#said + 1] = proxy:errors()
  return table.concat(said, "\n")
end
local function assert_silent(said, what)
  local forms = {}
  for _, value in ipairs { SECRET, REFRESH } do
    for _, text in ipairs { value, form(value), value:gsub("/", "\\/") .. "", twice(value), entities(value), escapes(value) } do forms[#forms + 1] = text end
    forms[#forms + 1] = base64(value):gsub("=*$", "")
    forms[#forms + 1] = base64(value):sub(1, 12)
    forms[#forms + 1] = value:sub(1, 14)
  end
  forms[#forms + 1] = base64("spec:" .. SECRET):gsub("=*$", ""):sub(8)
  forms[#forms + 1] = base64("spec:" .. form(SECRET)):gsub("=*$", ""):sub(8)
  for _, text in ipairs(forms) do
    if said:find(text, 1, true) then error(("%s: %q is in\n%s"):format(what, text, said), 2) end
  end
end

--- `list` are tokens as Lua text. Waits until each has failed.
local function start(list)
  local named = {}
  for i, token in ipairs(list) do named[i] = ("%s = %s"):format(i == 1 and "api" or "t" .. i, token) end
  proxy = jeton.start(([[
    local oauth2 = require "jeton.oauth2"
    local SECRET, REFRESH = %q, %q
    return { listen = "127.0.0.1:0", upstream = %q, log = { level = "debug" }, tokens = { %s },
      on_request = function(req, tokens)
        req.headers.authorization = "Bearer " .. tokens.api
        if tokens.api.last_error then jeton.log.info("a script saw: " .. tokens.api.last_error) end
      end }]]):format(SECRET, REFRESH, peer:url(), table.concat(named, ", ")))
  for i = 1, #list do
    local failed = ("token %s: fetch failed: "):format(i == 1 and "api" or "t" .. i) -- its line comes behind the count
    process.poll(function() return proxy:status().tokens[i].failures >= 1 and proxy:errors():find(failed, 1, true) end, 10,
      function() return "a failed fetch:\n" .. proxy:errors() end)
  end
end

local ECHOES = {
  ["in clear"] = { status = 400, body = '{"error":"invalid_grant","error_description":"VALUE is unknown"}' },
  ["in the error itself"] = { status = 400, body = '{"error":"VALUE"}' },
  ["cut by the length that is shown"] = { status = 400, body = '{"error":"invalid_grant","error_description":"' .. ("x"):rep(185) .. ' VALUE"}' },
  ["as it was sent"] = { status = 400, body = '{"error":"invalid_request","error_description":"bad: $BODY, $AUTH"}' },
  ["percent-encoded twice"] = { status = 400, body = '{"error":"invalid_grant","error_description":"TWICE is unknown"}' },
  ["as entities of HTML"] = { status = 400, body = '{"error":"invalid_grant","error_description":"ENTITIES is unknown"}' },
  ["as JSON within JSON"] = { status = 400, body = '{"error":"invalid_grant","error_description":"{\\"e\\":\\"ESCAPES is unknown\\"}"}' },
  ["in base64"] = { status = 400, body = '{"error":"invalid_grant","error_description":"BASE64 is unknown"}' },
}

describe("an issuer that repeats what was sent to it", function()
  for way, answer in pairs(ECHOES) do
    it("is masked: " .. way, function()
      local list = {}
      for _, value in ipairs { SECRET, REFRESH } do
        local who = name()
        peer:answer(who, { status = answer.status, body = answer.body:gsub("VALUE", function() return value end):gsub("BASE64", function() return base64(value) end)
          :gsub("TWICE", function() return twice(value) end):gsub("ENTITIES", function() return entities(value) end)
          :gsub("ESCAPES", function() return (escapes(value):gsub("\\", "\\\\")) end) .. "" })
        for _, auth in ipairs { "client_secret_basic", "client_secret_post" } do
          list[#list + 1] = ([[oauth2.refresh_token { token_url = %q, client_id = "spec", auth = %q, client_secret = jeton.secret.value(SECRET), refresh_token = jeton.secret.value(REFRESH) }]])
            :format(peer:url("/" .. who .. "/token"), auth)
        end
      end
      start(list)
      local said = everything()
      assert.is_true(select(2, said:gsub("fetch failed: the token endpoint answered 400[^\n]*%*%*%*", "")) >= #list, said)
      assert_silent(said, way)
    end)
  end

  for way, options in pairs {
    ["opaque secrets in a form"] = [[form = { client_secret = jeton.secret.value(SECRET), refresh_token = jeton.secret.value(REFRESH) }]],
    ["opaque secrets in JSON"] = [[json = { a = jeton.secret.value(SECRET), b = { jeton.secret.value(REFRESH) } }]],
    ["opaque secrets in headers"] = [[headers = { ["x-secret"] = "k " .. jeton.secret.value(SECRET), authorization = "Bearer " .. jeton.secret.value(REFRESH) }]],
    ["auth"] = [[auth = { "spec", SECRET }, form = { refresh_token = REFRESH }]],
    ["strings in a form"] = [[form = { client_secret = SECRET, refresh_token = REFRESH }]],
    ["strings in JSON"] = [[json = { login = { password = SECRET }, refreshToken = REFRESH }]],
    ["a string as a header"] = [[headers = { authorization = "Bearer " .. REFRESH }, form = { client_secret = SECRET }]],
    ["a form as a string"] = [[body = "a=b&client_secret=FORM(SECRET)&refresh_token=FORM(REFRESH)"]],
  } do
    it("is masked in a fetch written by hand, whatever that does with it: " .. way, function()
      local who, list = name(), {}
      peer:answer(who, { status = 400, body = ("got %s and %s; %s, %s"):format(SECRET, REFRESH, form(SECRET), base64(REFRESH)) })
      local written = options:gsub("FORM%((%u+)%)", { SECRET = form(SECRET), REFRESH = form(REFRESH) })
      for i, rest in ipairs {
        "return nil, 'it says ' .. res.body",
        "error('it says ' .. res.body)",
        "jeton.log.warn('it says', { body = res.body }) print(res.body) return nil, 'failed'",
        "return nil, 'it says ' .. res.body:sub(1, 34)",
      } do
        list[i] = ("{ fetch = function() local res = assert(jeton.http.post(%q, { %s })) %s end }"):format(peer:url("/" .. who .. "/token"), written, rest)
      end
      start(list)
      local said = everything()
      assert.truthy(said:find("***", 1, true), said)
      assert_silent(said, way)
    end)
  end

  it("is masked when it is a command", function()
    start { [[{ fetch = function()
      local done = assert(jeton.exec { "/bin/sh", "-c", "cat >&2; echo \" $T\" >&2; exit 1", stdin = jeton.secret.value(SECRET), env = { T = jeton.secret.value(REFRESH) } })
      return nil, "the command said " .. done.stderr
    end }]] }
    local said = everything()
    assert.matches("the command said %*%*%*", said)
    assert_silent(said, "a command")
  end)

  it("is masked in a hook, and leaves what a reply holds to the script", function()
    peer:answer("hook", { status = 200, body = '{"token":"' .. REFRESH .. '"}' })
    proxy = jeton.start(([[
      local REFRESH = %q
      return { listen = "127.0.0.1:0", on_request = function(req)
        local res = assert(jeton.http.post(%q, { form = { refresh_token = jeton.secret.value(REFRESH) } }))
        jeton.log.info("the reply is " .. res.body)
        req:respond(200, nil, tostring(res:json().token == REFRESH) .. " " .. jeton.log.masked("a " .. REFRESH))
      end }]]):format(REFRESH, peer:url "/hook/token"))
    assert.equal("true a ***", http.get(proxy.port).body)
    proxy:wait_log 'the reply is {"token":"***"}'
    assert_silent(proxy:errors(), "a hook")
  end)

  it("leaves a client's id, a grant and a scope as they are", function()
    local who = name()
    peer:answer(who, { status = 400, body = '{"error":"invalid_scope","error_description":"client spec: refresh_token: scope read is unknown"}' })
    start { ([[oauth2.refresh_token { token_url = %q, client_id = "spec", scope = "read", client_secret = jeton.secret.value(SECRET), refresh_token = jeton.secret.value(REFRESH) }]])
      :format(peer:url("/" .. who .. "/token")) }
    assert.matches("invalid_scope: client spec: refresh_token: scope read is unknown", everything())
  end)
end)
