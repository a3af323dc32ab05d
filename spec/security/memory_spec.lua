--- What the memory of the process still holds of tokens that were replaced, expired or removed: nothing, whichever way they came.
-- The release binary: a sanitizer keeps freed memory as it was, for a while.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local memory = require "spec.support.memory"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local RELEASE = os.getenv "JETON_RELEASE" or jeton.root .. "/build/release/jeton"

-- Every eight bytes of a token say which it is, so that a piece of one is found as well: Zq0007Kv is of the seventh. Hexadecimal, so that nobody has to escape it.
local ISSUER = [[
local n = 0
local function unit(letter) return (letter .. "q%%04dKv"):format(n):rep(24) end
return {
  listen = { { "127.0.0.1:0"%s } },
  on_request = function(req)
    local what = req.path:match "^/(%%w+)"
    if what == "fail" then return req:respond(500, nil, "no") end
    n = n + 1
    if what == "text" then return req:respond(200, nil, unit "Z") end
    req:respond(200, { ["content-type"] = "application/json" }, jeton.json.encode {
      access_token = unit "Z", token_type = "Bearer", expires_in = 3600, refresh_token = unit "R", note = "a line\nbreak",
    })
  end,
}]]

--- What stands in the memory of p: by number of the token, where its first pieces are.
local function held(p)
  local at = {}
  for _, letter in ipairs { "Z", "R" } do
    memory.each(p.pid, letter .. "q0", "^" .. letter .. "q(%d%d%d%d)Kv", function(n, where, around)
      local number = letter .. math.tointeger(tonumber(n))
      at[number] = at[number] or {}
      if #at[number] < 4 then table.insert(at[number], where .. " " .. around:gsub("[^%g ]", "."))  end
    end)
  end
  return at
end

local function use(p, path)
  for _ = 1, 12 do -- the workers share these
    local res = assert(http.get(p.port, path))
    assert(res.status == 200, res.status .. " " .. res.body)
  end
end

--- Polls until nothing but `allowed` (a set of numbers) is there.
local function only(p, allowed)
  local left
  process.poll(function()
    left = {}
    for number, where in pairs(held(p)) do
      if not allowed[number] then left[#left + 1] = number .. " at\n    " .. table.concat(where, "\n    ") end
    end
    table.sort(left)
    return #left == 0
  end, 10, function() return "the memory to be clean of\n" .. table.concat(left, "\n") end)
end

local MAKE = [[cd "$(dirname "$0")"; n=$(($(cat count) + 1)); echo $n >count
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do printf 'Zq%04dKv' $n; done]]

--- Each a token by the name of "api", or a family: issuer's URL, tls key for it, a directory.
local FLOWS = {
  { "the oauth2 helper", function(url, ca)
    return ('oauth2.client_credentials { token_url = %q, client_id = "spec", client_secret = jeton.secret.value "s3cret", %s }'):format(url .. "/token", ca)
  end },
  { "a login of the oauth2 helper, which saves its refresh token", function(url, ca, dir)
    process.write_file(dir .. "/login", "first")
    assert(os.execute("chmod 600 " .. dir .. "/login"))
    return ('oauth2.refresh_token { token_url = %q, client_id = "spec", client_secret = jeton.secret.value "s3cret", refresh_token = jeton.secret.file %q, path = %q, %s }'):format(
      url .. "/token", dir .. "/login", dir .. "/saved", ca)
  end },
  { "a family", function(url, ca)
    return ('oauth2.client_credentials { family = true, token_url = %q, client_id = function(key) return key end, client_secret = jeton.secret.value "s3cret", %s }'):format(
      url .. "/token", ca)
  end, family = true },
  { "a fetch by jeton.http that decodes JSON", function(url, ca)
    return ([[{ fetch = function(ctx)
      local old = ctx.previous and ctx.previous:field "refresh"
      local res = assert(jeton.http.post(%q, { form = { refresh_token = old or "none" }, %s }))
      local body = assert(res:json())
      return { value = body.access_token, expires_in = body.expires_in, fields = { refresh = body.refresh_token } }
    end }]]):format(url .. "/token", ca)
  end },
  { "a fetch by jeton.http of plain text", function(url, ca)
    return ('{ fetch = function() return { value = assert(jeton.http.get(%q, { %s })).body, expires_in = 3600 } end }'):format(url .. "/text", ca)
  end },
  { "a command", function(_, _, dir)
    process.write_file(dir .. "/count", "0")
    process.write_file(dir .. "/make.sh", MAKE)
    return ('{ fetch = function() return { value = assert(jeton.exec { "/bin/sh", %q }).stdout, expires_in = 3600 } end }'):format(dir .. "/make.sh")
  end, plain_only = true },
  { "a file that a fetch reads", function(_, _, dir)
    process.write_file(dir .. "/count", "0")
    process.write_file(dir .. "/make.sh", MAKE .. ">token")
    return ([[{ fetch = function()
      assert(jeton.exec { "/bin/sh", %q })
      return { value = assert(jeton.file.read %q), expires_in = 3600 }
    end }]]):format(dir .. "/make.sh", dir .. "/token")
  end, plain_only = true },
}

local UPSTREAM = 'return { listen = { { "127.0.0.1:0"%s } }, on_request = function(req) req:respond(200, nil, "ok") end }'
local NO_TOKEN = UPSTREAM:format ""

local function start(policy)
  local p = jeton.start { binary = RELEASE, workers = 2, policy = policy }
  if not memory.readable(p.pid) then pending "the memory of a process cannot be read here" end
  return p
end

describe("memory", function()
  local upstream
  setup(function() upstream = jeton.start(NO_TOKEN) end)
  teardown(function() upstream:finish() end)

  it("holds no token that was pushed and has expired", function()
    local p = start(([[return {
      listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
      tokens = { api = { missing = "pass", leeway = 0 } },
      on_start = function() jeton.tokens.api:set(("Zq%%04dKv"):format(1):rep(24), { expires_in = 2, fields = { refresh = ("Rq%%04dKv"):format(1):rep(24) } }) end,
      on_request = function(req, tokens) if req.path == "/" then req.headers.authorization = "Bearer " .. tokens.api end end,
    }]]):format(upstream.port))
    process.poll(function() return held(p).Z1 end, 2, "the token")
    use(p)
    only(p, {})
    p:finish()
  end)

  it("holds nothing of a replaced token that was computed of it, or placed in a query, a cookie or a body", function()
    local p = start(([[
    local n = 0
    return {
      listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
      tokens = { api = { fetch = function() n = n + 1 return { value = ("Zq%%04dKv"):format(n):rep(24), expires_in = 3600 } end } },
      on_request = function(req, tokens)
        local copy = assert(jeton.secret.value(tokens.api))
        local decoded = assert(jeton.base64.decode(jeton.base64.encode(copy)))
        req.headers.copy = "<" .. copy .. ">"
        req.headers.kept = jeton.url.escape(decoded, "/")
        req.headers.mac = jeton.crypto.hex(jeton.crypto.hmac("sha256", copy, decoded))
        assert(jeton.crypto.equal(copy, decoded))
        req:set_query("key", tokens.api)
        req:set_cookie("session", decoded)
        req:set_json { a = tokens.api, b = jeton.json.encode { copy } }
      end,
    }]]):format(upstream.port))
    use(p)
    for _ = 1, 3 do
      assert.equal(200, (p:control("POST", "/refresh/api")).status)
      use(p)
    end
    assert.equal(200, (p:control("POST", "/refresh/api")).status) -- which nobody asks for: the workers rest
    only(p, { Z5 = true })
    p:finish()
  end)

  it("holds no content of a secret's file that was replaced", function()
    local file = process.write_file(process.temp_dir() .. "/token", ("Zq0001Kv"):rep(24))
    assert(os.execute("chmod 600 " .. file))
    local p = start(([[
    local key = jeton.secret.file %q
    return {
      listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
      on_request = function(req) req.headers.authorization = "Bearer " .. key end,
    }]]):format(file, upstream.port))
    use(p)
    assert.is_truthy(held(p).Z1)
    process.write_file(file, ("Zq0002Kv"):rep(24))
    process.poll(function()
      assert.equal(200, http.get(p.port).status) -- of one worker: the other one rests
      return held(p).Z2
    end, 5, "the new content to be read")
    only(p, { Z2 = true })
    p:finish()
  end)
end)

for _, tls in ipairs { false, true } do
  describe("memory, with " .. (tls and "a TLS" or "a plain") .. " issuer", function()
    local issuer, upstream, base, url, ca, dir
    setup(function()
      dir = peers.certificates()
      local served = tls and (", tls = { certificates = { { cert = %q, key = %q } } }"):format(dir .. "/rsa.pem", dir .. "/rsa.key") or ""
      issuer = jeton.start { policy = ISSUER:format(served) }
      upstream = jeton.start(UPSTREAM:format(served))
      base = tls and "https://localhost:" or "http://127.0.0.1:"
      url = base .. issuer.port
      ca = tls and ("tls = { ca = %q },"):format(dir .. "/ca.pem") or ""
    end)
    teardown(function()
      issuer:finish()
      upstream:finish()
    end)

    for _, flow in ipairs(FLOWS) do
      if not (tls and flow.plain_only) then it("holds only the current token of " .. flow[1], function()
        local p = start(([[
          local oauth2 = require "jeton.oauth2"
          return {
            listen = "127.0.0.1:0", upstream = { %q, %s }, tokens = { api = %s },
            on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api%s end,
          }]]):format(base .. upstream.port, ca, flow[2](url, ca, process.temp_dir()), flow.family and ".tenant" or ""))
        use(p)
        for _ = 1, 3 do
          assert.equal(200, (p:control("POST", "/refresh/" .. (flow.family and "api[tenant]" or "api"))).status)
          use(p)
        end
        assert.equal(200, (p:control("POST", "/refresh/" .. (flow.family and "api[tenant]" or "api"))).status) -- which nobody asks for: the workers rest
        local newest = 0
        for number in pairs(held(p)) do newest = math.max(newest, tonumber(number:match "%d+")) end
        assert.is_true(newest > 0)
        only(p, { ["Z" .. newest] = true, ["R" .. newest] = true })
        p:reload_file(NO_TOKEN)
        local res = p:control("POST", "/reload")
        assert.equal(200, res.status, res.body)
        only(p, {})
        p:finish()
      end) end
    end
  end)
end
