--- The first login of a token that lasts: somebody with a browser allows it once, by a code that he types in (RFC 8628) or by being sent back to a port of this
--- machine (RFC 6749 section 4.1 with PKCE, RFC 7636, as RFC 8252 section 7.3 has it). A part of jeton.oauth2.
---
--- `jeton login POLICY NAME` runs it, in a process of its own (jeton.login); what comes of it is a refresh token at `path`, with which the policy's token begins,
--- and which that renews from then on. One that runs already finds it there.

local issuer = require "jeton.issuer"

local M = {}

local DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code" -- RFC 8628 section 3.4
local INTERVAL, SLOWER = 5, 5 -- seconds: RFC 8628 sections 3.2 and 3.5
local LIFE = 600 -- seconds: of a code, where the issuer does not say
local PATIENCE = 600 -- seconds, that a browser may take

local logins = {} -- by a token's table: how its first login goes

--- how: { of =, run =, request = } of a token's table: of(key) gives the options, run(options, ask, io) the issuer's reply.
function M.register(token, how)
  logins[token] = how
  return token
end

--- What `register` was given, or nil.
function M.of(token) return logins[token] end

local function random() return jeton.base64.encode_url(jeton.crypto.random(32)) end

-- device ----------------------------------------------------------------------------------------------------------------------

--- Asks until somebody has answered. ask(form): the reply's body, or nil, message, code.
---@async
local function poll(ask, device)
  local interval = tonumber(device.interval) or INTERVAL
  local ends = jeton.now() + (tonumber(device.expires_in) or LIFE)
  while jeton.now() < ends do
    jeton.sleep(interval)
    local body, why, code = ask { grant_type = DEVICE_GRANT, device_code = device.device_code }
    if body then return body end
    if code == "slow_down" then
      interval = interval + SLOWER
    elseif code ~= "authorization_pending" then
      return nil, why
    end
  end
  return nil, "the code has ended before anybody used it"
end

--- io: { say =, authorize =, … }, see jeton.login.
---@async
function M.device(options, ask, io)
  local device, why = io.authorize(options.device_url, { scope = issuer.joined(options.scope), audience = options.audience })
  if not device then return nil, why end
  local place = device.verification_uri or device.verification_url -- Google's
  if type(device.device_code) ~= "string" or type(device.user_code) ~= "string" or type(place) ~= "string" then
    return nil, "the issuer's reply has no device_code, user_code and verification_uri"
  end
  io.say("To log in, open " .. place .. " and enter the code " .. device.user_code)
  if type(device.verification_uri_complete) == "string" then io.say("or open " .. device.verification_uri_complete) end
  return poll(ask, device)
end

-- authorization code ----------------------------------------------------------------------------------------------------------

--- Where the browser is sent back to: the policy's own, or a port that is free.
local function redirect_of(options, port) return options.redirect_url or ("http://127.0.0.1:%d/"):format(port) end

--- The port of this machine that waits for it.
function M.port_of(options, port)
  local url = options.redirect_url and jeton.url.parse(options.redirect_url)
  return url and url.port or port
end

---@async
function M.authorization_code(options, ask, io)
  local verifier, state = random(), random()
  local redirect = redirect_of(options, io.port)
  local query = {
    response_type = "code", client_id = options.client_id, redirect_uri = redirect, scope = issuer.joined(options.scope), audience = options.audience, state = state,
    code_challenge = jeton.base64.encode_url(jeton.crypto.hash("sha256", verifier)), code_challenge_method = "S256",
  }
  for name, value in pairs(options.authorize or {}) do query[name] = value end
  io.say("To log in, open " .. options.authorize_url .. (options.authorize_url:find("?", 1, true) and "&" or "?") .. jeton.url.query(query))
  local back, late = io.wait(PATIENCE, function(answer) return answer.state == state end)
  if not back then return nil, late end
  if not back.code then return nil, "the issuer said no: " .. tostring(back.error) .. (back.error_description and ": " .. back.error_description or "") end
  return ask { grant_type = "authorization_code", code = back.code, redirect_uri = redirect, code_verifier = verifier }
end

return M
