--- A jeton that runs Lua which a spec posts to it, in a hook, and answers with the results: for what scripts can call.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"

local M = {}

---@class Lab: Jeton
local Lab = {}

local POLICY = [[
local function shown(value)
  local kind = type(value)
  if kind == "userdata" or kind == "function" then return tostring(value) end
  return value
end
return {
  listen = { "127.0.0.1:0", %s },
  limits = { script_time = "2s" },
  log = { level = "debug", access = false },
  on_request = function(req, tokens)
    if req.path ~= "/lab" then return %s end
    local chunk = assert(load(req:body(), "=lab"))
    local out = table.pack(pcall(chunk, req, tokens))
    for i = 1, out.n do out[i] = out[i] == nil and jeton.json.null or shown(out[i]) end
    req:respond(200, { ["content-type"] = "application/json" }, jeton.json.encode(jeton.json.array(out)))
  end,
  %s
}]]

local function ask(lab, code)
  local res = assert(http.request(lab.port, "POST", "/lab", nil, code, 30))
  assert(res.status == 200, res.body)
  local out = cjson.decode(res.body)
  for i = 1, #out do
    if out[i] == cjson.null then out[i] = nil end
  end
  return out
end

--- Runs `code` (its arguments are req, tokens); returns what it returns. Fails when it raises.
function Lab:run(code)
  local out = ask(self, code)
  if not out[1] then error("the script raised: " .. tostring(out[2]) .. "\n" .. code, 2) end
  return table.unpack(out, 2, 8)
end
--- Runs `code`, which must raise: the message.
function Lab:raises(code)
  local out = ask(self, code)
  if out[1] then error("the script did not raise:\n" .. code, 2) end
  return out[2]
end

--- `more` are further keys of the policy as Lua text; options.listen further addresses, options.otherwise what other paths do.
function M.start(more, options)
  options = options or {}
  options.policy = POLICY:format(options.listen or "", options.otherwise or "req:respond(404)", more or "")
  local p = jeton.start(options)
  local base = getmetatable(p).__index
  return setmetatable(p, { __index = function(_, k) return Lab[k] or base(_, k) end })
end

return M
