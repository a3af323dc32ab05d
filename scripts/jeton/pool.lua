--- Several keys for one API: taken in turn or by use; one that has met its limit rests, and the request goes on with another.
--
--   local keys = pool.new { tokens = { "one", "two" }, rest_on = { 429 } }
--   tokens = { one = jeton.secret.file "one.key", two = jeton.secret.file "two.key" },
--   on_send = function(req, tokens) local key = keys:choose(req, tokens); if key then req.headers["x-api-key"] = key end end,
--   on_response = function(res, req) keys:answered(res, req) end,
--
-- Who rests, whose turn it is and how often each was used stands in a jeton.shared store, so all workers know, and a reload changes nothing. The key of
-- a request is chosen once and stays with its tries, a replay or a fresh connection among them, until `answered` has it sent again (req:retry), which is
-- the key's fault.

local names = require "jeton.names"
local reply = require "jeton.oauth2.reply"

local M = {}
local Pool = {}
Pool.__index, Pool.__name = Pool, "jeton.pool"

local OPTIONS = { tokens = true, name = true, choose = true, rest_on = true, rest = true, longest = true, window = true, retry = true }
local WAYS = { round_robin = true, least_used = true }
local REST, LONGEST, WINDOW = 60, 3600, 60 -- seconds

local function fail(text, ...) error("pool.new: " .. text:format(...), 0) end

-- options -------------------------------------------------------------------------------------------------------------------------------------

local function check_tokens(tokens)
  if type(tokens) ~= "table" or #tokens == 0 then fail('tokens: expected a list of names in `tokens`, as in { "one", "two" }, got %s', type(tokens)) end
  local seen = {}
  for _, name in ipairs(tokens) do
    if type(name) ~= "string" then fail("tokens: expected names in `tokens`, got %s: give each key a name there", type(name)) end
    if seen[name] then fail("tokens: %s is there twice", name) end
    seen[name] = true
  end
end

local function check_statuses(statuses)
  local good = type(statuses) == "table" and #statuses > 0
  for _, status in ipairs(good and statuses or {}) do good = good and math.type(status) == "integer" and status >= 300 and status <= 599 end
  if not good then fail("rest_on: expected a list of statuses such as { 429 }, got %s", type(statuses)) end
end

local function check(options)
  if type(options) ~= "table" then fail("expected a table of options, got %s", type(options)) end
  names.check(OPTIONS, options, fail)
  check_tokens(options.tokens)
  if options.rest_on ~= nil then check_statuses(options.rest_on) end
  if options.choose ~= nil and not WAYS[options.choose] then fail('choose: expected "round_robin" or "least_used", got %s', type(options.choose)) end
  for _, key in ipairs { "rest", "longest", "window" } do
    local value = options[key]
    if value ~= nil and (type(value) ~= "number" or value <= 0) then fail("%s: expected seconds as a number, got %s", key, type(value)) end
  end
  if options.retry ~= nil and type(options.retry) ~= "boolean" then fail("retry: expected true or false, got %s", type(options.retry)) end
  if options.name ~= nil and (type(options.name) ~= "string" or not options.name:find "^[%w_-]+$" or #options.name > 40) then
    fail("name: expected up to 40 letters, digits, _ and -, got %s", type(options.name))
  end
end

local made = {} -- by name: the pools of this VM

--- A pool of keys, each a token of the policy. At the top of a policy's file. options: tokens, their names; name, where a policy has several pools;
--- choose, "round_robin" or "least_used"; rest_on, the statuses by which a key is at its limit; rest, for how many seconds where the reply has no
--- Retry-After, and longest, where it has; window, over how many seconds uses are counted; retry = false relays what a limit answers.
---@param options jeton.pool.options
---@return jeton.pool
function M.new(options)
  local good, why = pcall(check, options)
  if not good then error(why, 2) end
  local rests = {}
  for _, status in ipairs(options.rest_on or { 429 }) do rests[status] = true end
  local name = options.name or "keys"
  if made[name] then error(("pool.new: name: another pool of this policy is '%s', and they would share what rests: give each its own"):format(name), 2) end
  made[name] = true
  return setmetatable({
    tokens = { table.unpack(options.tokens) },
    store = jeton.shared("jeton.pool/" .. name, { max = "1m" }),
    mark = "jeton.pool/" .. name, -- in req.ctx: the request's key
    by_use = options.choose == "least_used",
    rests = rests,
    rest = options.rest or REST,
    longest = options.longest or LONGEST,
    window = options.window or WINDOW,
    retry = options.retry ~= false,
  }, Pool)
end

-- who is chosen -------------------------------------------------------------------------------------------------------------------------------

--- Seconds until a key may be used again; nil: now.
function Pool:resting(name)
  local till = self.store:get("rest/" .. name)
  local left = till and till - jeton.now()
  return left and left > 0 and left or nil
end

function Pool:used(name) return self.store:get("used/" .. name) or 0 end

--- The first key from `start` on that does not rest; one without a valid value only where there is none else, since it would be waited for.
function Pool:next_from(start, tokens)
  local waits
  for i = 0, #self.tokens - 1 do
    local name = self.tokens[(start + i) % #self.tokens + 1]
    if not self:resting(name) then
      if not tokens or tokens[name].valid then return name end
      waits = waits or name
    end
  end
  return waits
end

--- The key that was used least in this window; among equals it goes in turn.
function Pool:least_from(start, tokens)
  local best, least
  for i = 0, #self.tokens - 1 do
    local name = self.tokens[(start + i) % #self.tokens + 1]
    local used = not self:resting(name) and self:used(name) + (tokens[name].valid and 0 or math.maxinteger // 2)
    if used and (not least or used < least) then best, least = name, used end
  end
  return best
end

--- How long until the first key is back, in whole seconds.
function Pool:back_in()
  local least
  for _, name in ipairs(self.tokens) do
    local left = self:resting(name) or 0
    least = math.min(least or left, left)
  end
  return math.max(1, math.ceil(least))
end

--- The token that this request goes with, in on_send. Nil where all keys rest: then the client has been answered 429, with when the first is back.
---@param req jeton.request
---@param tokens jeton.tokens
---@return jeton.token?
function Pool:choose(req, tokens)
  local name = req.ctx[self.mark]
  if not name then
    local start = self.store:incr("turn") - 1
    name = self.by_use and self:least_from(start, tokens) or not self.by_use and self:next_from(start, tokens)
    if not name then
      req:respond(429, { ["retry-after"] = self:back_in() }, "all keys are at their limit\n")
      return nil
    end
    req.ctx[self.mark] = name
    self.store:incr("used/" .. name, 1, self.window)
  end
  return tokens[name]
end

-- what was answered ---------------------------------------------------------------------------------------------------------------------------

--- Looks at a reply, in on_response: one of `rest_on` lets the request's key rest, and the request is sent again with another one, if there is one that
--- does not rest and `limits.retries` allows it. Returns whether it is; else the client gets the reply.
---@param res jeton.response
---@param req jeton.request
---@return boolean again
function Pool:answered(res, req)
  local name = req.ctx[self.mark]
  if not name or not self.rests[res.status] then return false end
  local seconds = math.min(reply.retry_after(res) or self.rest, self.longest)
  if seconds > 0 then
    self.store:set("rest/" .. name, jeton.now() + seconds, seconds)
    jeton.log.info("a key is at its limit, and rests", { token = name, status = res.status, seconds = math.ceil(seconds) })
  end
  if not self.retry or not self:next_from(0) or not req:retry(self.mark) then return false end
  req.ctx[self.mark] = nil
  return true
end

--- How the keys stand: a list of { token =, resting = seconds or nil, used = in this window }.
function Pool:status()
  local list = {}
  for i, name in ipairs(self.tokens) do list[i] = { token = name, resting = self:resting(name), used = self:used(name) } end
  return list
end

return names.strict("jeton.pool", M)
