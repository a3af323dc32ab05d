--- What `jeton login POLICY NAME` runs instead of the policy: the first login of one of its tokens (jeton.oauth2.first), and a port of this machine to which the
--- issuer may send the browser back. Called by jeton in each thread, with the policy's table.

local first = require "jeton.oauth2.first"

local M = {}

local function fail(text, ...) error(text:format(...), 0) end

--- "NAME", or "NAME[KEY]" of a family.
local function token_of(policy, what)
  local name, key = what:match "^([^%[]+)%[(.*)%]$"
  name = name or what
  local token = type(policy.tokens) == "table" and policy.tokens[name]
  if not token then fail("the policy has no token named '%s'", name) end
  local how = first.of(token)
  if not how then fail("tokens.%s needs no login with a browser: oauth2.device and oauth2.authorization_code do", name) end
  if how.family and not key then fail("tokens.%s is a family, which has a login for each key: jeton login POLICY '%s[KEY]'", name, name) end
  if key and not how.family then fail("tokens.%s is no family: jeton login POLICY %s", name, name) end
  return how, key
end

local PAGE = "<!DOCTYPE html><title>jeton</title><p>%s\n"

--- The browser comes back. Whoever has not the state that is waited for gets 400, and goes no further (RFC 6749 section 10.12).
local function on_request(req)
  local fields = jeton.url.query(req.query or "")
  local good
  if req.method == "GET" and (fields.code or fields.error) and fields.state then
    jeton.channel "jeton.login":try_send { code = fields.code, error = fields.error, error_description = fields.error_description, state = fields.state }
    good = jeton.channel "jeton.login.answer":recv(30)
  end
  req:respond(good and 200 or 400, { ["content-type"] = "text/html; charset=utf-8", ["referrer-policy"] = "no-referrer" },
    PAGE:format(good and "Go back to the terminal: it says what came of it." or "Nobody waits for this."))
end

--- The first answer that `fits`; or nil, message.
---@async
local function wait(patience, fits)
  local ends = jeton.now() + patience
  while true do
    local left = ends - jeton.now()
    local answer = left > 0 and jeton.channel "jeton.login":recv(left)
    if not answer then return nil, "nobody has logged in within " .. patience .. " seconds" end
    local good = fits(answer)
    jeton.channel "jeton.login.answer":try_send(good)
    if good then return answer end
  end
end

--- Writes the refresh token where the policy's token looks for it.
---@async
local function save(path, token)
  local lock <close>, why = jeton.file.lock(path, { timeout = 30 })
  if not lock then return nil, why end
  return jeton.file.write(path, token, { mode = "0600" })
end

---@async
local function run(how, key, port, say)
  local options, wrong = how.of(key)
  if not options then error(wrong, 0) end
  local body, why = how.run(options, how.ask(options), { say = say, port = port, wait = wait, authorize = how.authorize(options) })
  if not body then error(why, 0) end
  if type(body.refresh_token) ~= "string" or body.refresh_token == "" then
    error('the issuer gave no refresh token, without which the login ends with its first token: most want a scope for it, as in scope = "… offline_access"', 0)
  end
  local saved, unsaved = save(options.path, jeton.secret.value(body.refresh_token))
  if not saved then error("the refresh token was not saved: " .. unsaved, 0) end
  say("Logged in: the refresh token is at " .. options.path)
end

--- The policy of the process that logs in. port: one that is free; say(text): a line on the terminal.
function M.policy(policy, what, port, say)
  if type(policy) ~= "table" then return policy end
  local how, key = token_of(policy, what)
  local options = how.of(key)
  port = math.tointeger(options and first.port_of(options, port) or port)
  jeton.channel("jeton.login", 1)
  jeton.channel("jeton.login.answer", 1)
  return {
    listen = "127.0.0.1:" .. port,
    upstream = "http://127.0.0.1:" .. port, -- every request is answered here
    workers = 1,
    log = { level = "warn", access = false },
    on_request = on_request,
    tasks = { login = function() run(how, key, port, say) end },
  }
end

return M
