--- jeton's policies in the measurements, by name: { name for tables, token: does the origin see one, more: further keys as Lua text }. They add no
--- Forwarded fields, since the peers add none either; `forwarded` is the one that does.
local M = {}

--- A token that lives long enough to be left alone, from a fetch that asks nobody.
local TOKEN = [[
  tokens = { api = { fetch = function(ctx) return { value = ("token-%032d"):format(ctx.attempt), expires_in = 3600 } end } },]]
local BEARER = [[req.headers["authorization"] = "Bearer " .. tokens.api]]

local function hooked(name, hook, more)
  return { name = name, token = true, more = TOKEN .. " on_request = function(req, tokens) " .. hook .. " end, " .. (more or "") }
end

M.plain = { name = "no hook", token = false, more = "" }
M.token = hooked("hook with a token", BEARER)
M.headers = hooked("hook reads 5 fields, sets 3", [[
  local h = req.headers
  local tenant, trace = h["x-tenant"], h["x-trace"]
  if h["accept"] ~= "application/json" or not h["user-agent"] or not h["accept-language"] then tenant = "none" end
  h["x-route"] = tenant
  h["x-parent"] = trace
  h["authorization"] = "Bearer " .. tokens.api]])
M.forwarded = { name = "hook with a token, Forwarded fields", token = true, more = M.token.more, forwarded = "set" }
M.response = hooked("token and on_response", BEARER, [[on_response = function(res) res.headers["x-served-by"] = "bench" end,]])
M.send = hooked("token and on_send that signs", BEARER, [[on_send = function(req, tokens)
    local t = req.target
    req.headers["x-signature"] = jeton.crypto.hex(jeton.crypto.hmac("sha256", tokens.api, req.method .. t.authority .. t.path .. t.query))
  end,]])
--- Signature Version 4, as by jeton.aws.
M.sign = { name = "on_send with aws.sign", token = true, more = [[
  tokens = { aws = require "jeton.aws".static { access_key_id = "AKIDEXAMPLE", secret_access_key = jeton.secret.value "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" } },
  on_send = (function()
    local aws = require "jeton.aws"
    return function(req, tokens) aws.sign(req, tokens.aws, { service = "dynamodb", region = "eu-west-1" }) end
  end)(),]] }
M.logged_plain = { name = "no hook, access log", token = false, more = "", log = true }
M.logged = { name = "hook with a token, access log", token = true, more = M.token.more, log = true }
--- The token is refreshed every second, by hand, so that the rate does not hang on schedules.
M.refreshed = { name = "hook with a token", token = true, more = M.token.more .. [[
  tasks = { refresh = function() jeton.every("1s", function() jeton.tokens.api:refresh() end) end },]] }

--- The policy's text. options.tls: a directory with cert.pem and key.pem.
function M.text(origin, policy, options)
  local listen = options.tls and ('{ { "127.0.0.1:0", tls = { certificates = { { cert = "%s/cert.pem", key = "%s/key.pem" } } } } }'):format(options.tls, options.tls)
    or '"127.0.0.1:0"'
  local log = policy.log and "'access.log'" or "false"
  return ([[
return {
  listen = %s,
  upstream = { "http://127.0.0.1:%d", pool = { idle = 1024 }%s },
  log = { access = %s },
  timeouts = { idle = "10m" },
  forwarded = "%s",
  %s
}]]):format(listen, origin.port, origin.http2 and ", http2 = true" or "", log, policy.forwarded or "off", policy.more)
end

return M
