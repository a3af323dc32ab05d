--- jeton.hmac, held against what exchanges and webhooks have published: their examples' keys, messages and signatures.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local wire = require "spec.support.wire"

local proxy, upstream

local function start(options)
  upstream = peers.raw(options.fine or wire.fine)
  proxy = jeton.start(([[
local hmac = require "jeton.hmac"
%s
local sign = hmac.signer %s
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", tokens = { api = %s },
  on_send = function(req, tokens, try) %s end, %s
}]]):format(options.top or "", options.signer, upstream.port, options.token, options.send or "sign(req, tokens.api)", options.more or ""))
end
local function head(n)
  local found = wire.heads(upstream.received())
  return found[n or #found]
end
local function key(text) return ("jeton.secret.value %q"):format(text) end

after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local PUBLISHED = {
  { "Slack's (Verifying requests from Slack)", token = key "8f742231b10e8888abcd99yyyzzz85a5",
    signer = [[{ message = "v0:{timestamp}:{body}", timestamp = function() return 1531420618 end,
      headers = { ["x-slack-request-timestamp"] = "{timestamp}", ["x-slack-signature"] = "v0={signature}" } }]],
    body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
      .. "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    fields = { ["x-slack-request-timestamp"] = "1531420618", ["x-slack-signature"] = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503" } },
  { "GitHub's (Validating webhook deliveries)", token = key "It's a Secret to Everybody", body = "Hello, World!",
    signer = [[{ message = "{body}", headers = { ["x-hub-signature-256"] = "sha256={signature}" } }]],
    fields = { ["x-hub-signature-256"] = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17" } },
  { "Standard Webhooks' (Svix: Verifying manually)", token = key "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", body = [[{"test": 2432232314}]],
    signer = [[{ message = "{header:webhook-id}.{timestamp}.{body}", key = "base64", encoding = "base64", timestamp = function() return 1614265330 end,
      headers = { ["webhook-id"] = "msg_p5jXN8AQM9LWM0D4loKWxJek", ["webhook-timestamp"] = "{timestamp}", ["webhook-signature"] = "v1,{signature}" } }]],
    fields = { ["webhook-signature"] = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" } },
  { "Binance's (SIGNED endpoint examples), in the query", path = "/api/v3/order",
    query = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000",
    token = [[{ fetch = function() return { value = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j", expires_in = 60,
      fields = { id = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A" } } end }]],
    signer = [[{ message = "{query}{body}", timestamp = function() return 1499827319559 end,
      headers = { ["x-mbx-apikey"] = "{field:id}" }, query = { timestamp = "{timestamp}", signature = "{signature}" } }]],
    fields = { ["x-mbx-apikey"] = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A" },
    line = "timestamp=1499827319559&signature=c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71 " },
  { "Kraken's (Spot REST authentication)", path = "/0/private/AddOrder",
    token = key "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==", body = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25",
    signer = [[{ hash = "sha512", key = "base64", encoding = "base64", headers = { ["api-sign"] = "{signature}" },
      message = function(_, part)
        local nonce = part.body:match "nonce=(%d+)"
        return part.path .. jeton.crypto.hash("sha256", nonce .. part.body)
      end }]],
    fields = { ["api-sign"] = "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ==" } },
}

describe("hmac.signer", function()
  for _, case in ipairs(PUBLISHED) do
    it("makes " .. case[1], function()
      start(case)
      local target = (case.path or "/") .. (case.query and "?" .. case.query or "")
      local res = http.request(proxy.port, "POST", target, nil, case.body)
      assert.equal(200, res.status, proxy:errors())
      for name, value in pairs(case.fields) do assert.equal(value, head().fields[name]) end
      if case.line then assert.truthy(head().line:find(case.line, 1, true), head().line) end
    end)
  end

  it("signs all parts in their order", function()
    start { token = key "k", send = "req.headers.x = '1' sign(req, tokens.api)",
      signer = [[{ hash = "sha1", encoding = "base64url", timestamp = "iso8601", headers = { ["x-date"] = "{timestamp}", ["x-nonce"] = "{nonce}", ["x-sign"] = "s={signature}" },
        message = "{method}|{scheme}|{host}|{authority}|{path}|{query}|{target}|{header:x}|{header:x-date}|{timestamp}|{nonce}|{body_sha256}|{body_sha256_base64}|{body_md5_base64}" }]] }
    assert.equal(200, http.request(proxy.port, "POST", "/a%20b?c=d", nil, "body").status)
    local f = head().fields
    assert.matches("^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$", f["x-date"])
    local where = "127.0.0.1:" .. upstream.port
    local text = table.concat({ "POST", "http", "127.0.0.1", where, "/a%20b", "c=d", "/a%20b?c=d", "1", f["x-date"], f["x-date"], f["x-nonce"],
      "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5", "Iw2DWNyOiJC0xY3utikS7i8gNXrpKlzIYbmOaP4xrLU=", "hBotaJrYa9FhFEdFPCLG/A==" }, "|")
    local code, out = process.run { "sh", "-c", ("openssl dgst -sha1 -hmac k -binary %s | base64 | tr '+/' '-_' | tr -d '=\n'"):format(process.write_file(process.temp_dir() .. "/text", text)) }
    assert.equal(0, code)
    assert.equal("s=" .. out, f["x-sign"])
    assert.is_nil((proxy:errors() .. proxy:output()):find(out, 1, true))
  end)

  it("signs a replay with the token that it goes with", function()
    start { top = "local n = 0", token = "{ fetch = function() n = n + 1 return { value = 'k' .. n, expires_in = 60 } end }",
      signer = [[{ message = "{path}", headers = { ["x-sign"] = "{signature}" } }]], fine = [[
      local head = c:read "head"
      if not head then return c:close() end
      c.tries = (c.tries or 0) + 1
      if c.tries == 1 then c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
      else c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end]] }
    local function of(secret)
      local _, out = process.run { "sh", "-c", ("printf /a | openssl dgst -sha256 -hmac %s"):format(secret) }
      return out:match "(%x+)%s*$"
    end
    http.get(proxy.port, "/a")
    assert.equal(of "k1", head(1).fields["x-sign"])
    assert.equal(of "k2", head(2).fields["x-sign"])
  end)

  it("keeps its key over a reload, and reads a new one", function()
    local file = process.write_file(process.temp_dir() .. "/key", "one")
    assert(os.execute("chmod 600 " .. file))
    start { token = ("jeton.secret.file %q"):format(file), signer = [[{ message = "{path}", headers = { ["x-sign"] = "{signature}" } }]] }
    http.get(proxy.port, "/a")
    local first = head().fields["x-sign"]
    proxy:reload_file((process.read_file(proxy.policy):gsub("listen =", "via = true, listen =")))
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    http.get(proxy.port, "/a")
    assert.equal(first, head().fields["x-sign"])
    process.write_file(file, "two")
    process.poll(function()
      http.get(proxy.port, "/a")
      return head().fields["x-sign"] ~= first
    end, 10, "the new key")
  end)

  for what, case in pairs {
    ["no message"] = { [[{ headers = { x = "{signature}" } }]], 'hmac.signer: message: is needed, what is signed, such as "{timestamp}{method}{target}{body}"' },
    ["a signature that goes nowhere"] = { [[{ message = "{body}" }]], "hmac.signer: headers: no text holds {signature}: say where it goes" },
    ["an unknown part"] = { [[{ message = "{bdy}", headers = { x = "{signature}" } }]], "hmac.signer: message: there is no {bdy}: there are authority, body, body_md5_base64" },
    ["a brace by itself"] = { [[{ message = "a}b{body}", headers = { x = "{signature}" } }]], "hmac.signer: message: a brace without its other one" },
    ["a message of its signature"] = { [[{ message = "{signature}", headers = { x = "{signature}" } }]], "hmac.signer: message: {signature} is made of it" },
    ["an unknown hash"] = { [[{ message = "{body}", hash = "sha3", headers = { x = "{signature}" } }]], "hmac.signer: hash: there are md5, sha1, sha256, sha384 and sha512" },
    ["an unknown option"] = { [[{ mesage = "{body}" }]], "hmac.signer: unknown option 'mesage': did you mean 'message'?" },
  } do
    it("refuses " .. what .. " when the policy is loaded", function()
      local file = process.write_file(process.temp_dir() .. "/bad.lua", ("local hmac = require 'jeton.hmac'\nlocal sign = hmac.signer %s\nreturn { listen = '127.0.0.1:0', upstream = 'http://127.0.0.1:1', on_request = sign }"):format(case[1]))
      local code, _, err = jeton.run({ "check", file }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
      assert.equal(78, code, err)
      assert.truthy(err:find("bad.lua:2: " .. case[2], 1, true), err)
    end)
  end

  it("says what to write where it is called with something else, or a part is missing", function()
    start { token = key "k", signer = [[{ message = "{header:x-id}", headers = { x = "{signature}" } }]], more = "limits = { script_body = 4 },",
      top = [[local hmac2 = require "jeton.hmac".signer { message = "{body}", headers = { x = "{signature}" } }
local hmac3 = require "jeton.hmac".signer { message = "{field:id}", headers = { x = "{signature}" } }
local hmac4 = require "jeton.hmac".signer { message = "{method}", key = "base64", headers = { x = "{signature}" } }
local plain = jeton.secret.value "k"]],
      send = [[if req.path == "/key" then sign(req, "k") elseif req.path == "/body" then hmac2(req, tokens.api) elseif req.path == "/field" then hmac3(req, plain) elseif req.path == "/base64" then hmac4(req, tokens.api) else sign(req, tokens.api) end]] }
    for path, text in pairs { ["/key"] = "hmac.signer: expected req and a key such as tokens.api, got string", ["/header"] = "hmac.signer: the request has no x-id, which is signed",
      ["/body"] = "hmac.signer: the body is larger than limits.script_body, so it cannot be signed: raise that", ["/field"] = "hmac.signer: {field:id} is of a token, and the key is none",
      ["/base64"] = "hmac.signer: the key is not base64, as `key` says: " } do
      assert.equal(500, http.request(proxy.port, "POST", path, nil, "12345").status)
      proxy:wait_log(text)
    end
    assert.equal("", upstream.received())
  end)
end)

describe("the example", function()
  it("exchange signs", function()
    upstream = peers.raw(wire.fine)
    local dir = process.temp_dir()
    process.write_file(dir .. "/key", "a2V5")
    assert(os.execute("chmod 600 " .. dir .. "/key"))
    proxy = jeton.start { file = jeton.root .. "/examples/exchange.lua", env = { LISTEN = "127.0.0.1:0", UPSTREAM = "http://127.0.0.1:" .. upstream.port, SECRET_FILE = dir .. "/key" } }
    assert.equal(200, http.request(proxy.port, "POST", "/orders?a=b", nil, "{}").status)
    local f = head().fields
    process.write_file(dir .. "/text", f["cb-access-timestamp"] .. "POST/orders?a=b{}")
    local _, out = process.run { "sh", "-c", ("openssl dgst -sha256 -hmac key -binary %s/text | base64"):format(dir) }
    assert.equal(out:match "%S+", f["cb-access-sign"])
  end)
end)
