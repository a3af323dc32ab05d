--- OAuth 2.0 tokens for a policy, by every grant that needs no user at the moment: client credentials, refresh token and password (RFC 6749 sections 4.4, 6 and
-- 4.3), the JWT bearer grant (RFC 7523) and token exchange (RFC 8693), each with DPoP (RFC 9449) where it is wanted.
--
-- Each function returns the table of a token: `fetch`, and those of the policy's token keys that were given. Nothing here but
-- jeton's public API; whoever needs another grant copies the twenty lines of `fetch`.
--
--   tokens = { api = oauth2.client_credentials { token_url = "https://…", client_id = "…", client_secret = jeton.secret.file "…" } }

local authentication = require "jeton.oauth2.authentication"
local assertion = require "jeton.oauth2.assertion"
local dpop = require "jeton.oauth2.dpop"
local first = require "jeton.oauth2.first"
local issuer = require "jeton.issuer"
local login = require "jeton.oauth2.login"
local names = require "jeton.names"
local options_of = require "jeton.oauth2.options"
local reply = require "jeton.oauth2.reply"

local M = {}

local REPLY_MAX = "256k"

local function fail(text, ...) error(text:format(...), 0) end

-- the request -----------------------------------------------------------------------------------------------------------------

local function form_of(options, grant)
  local form = {}
  for name, value in pairs(options.extra or {}) do form[name] = value end
  for name, value in pairs(grant) do form[name] = value end
  form.scope = issuer.joined(options.scope)
  form.audience = options.audience
  return form
end

-- the exchange with the issuer --------------------------------------------------------------------------------------------------

--- A reply of success without a token that is any good may have a new refresh token all the same, and the old one is spent.
local function rotated_in_vain(res)
  if res.status < 200 or res.status > 299 then return nil end
  local body = res:json()
  return type(body) == "table" and body.refresh_token or nil
end

--- One attempt: the reply, or nil, message, code. An assertion and a proof are good for one request, so each attempt makes its own.
local function post(options, grant)
  local request = {
    form = form_of(options, grant),
    headers = { accept = "application/json" },
    timeout = options.timeout,
    tls = options.tls,
    http2 = options.http2,
    proxy = options.proxy,
    limits = { body = REPLY_MAX },
  }
  local ready, why = authentication.add(options, request)
  if not ready then return nil, why end
  if options.dpop then
    request.headers.dpop, why = options.dpop:proof { method = "POST", url = options.token_url }
    if not request.headers.dpop then return nil, why end
  end
  return jeton.http.post(options.token_url, request)
end

--- POSTs the grant. Returns the reply's body; or nil, message, the OAuth error code if there was one, what the fetch's third result is to be, the reply's status,
--- and a refresh token that has come in vain.
local function request_token(options, grant, types)
  local res, why, code = post(options, grant)
  if res and options.dpop and options.dpop:learn(options.token_url, res) then res, why, code = post(options, grant) end
  if not res then return nil, why, code end
  if options.dpop then options.dpop:learn(options.token_url, res) end
  local body, how
  body, why, code, how = reply.read(res, options.dpop and "DPoP" or types)
  return body, why, code, how, res.status, not body and rotated_in_vain(res) or nil
end

--- The device authorization request (RFC 8628 section 3.1): the reply's table, or nil, message.
local function authorize(options, url, form)
  local request = { method = "POST", url = url, form = form }
  for name, value in pairs(options.extra or {}) do form[name] = value end
  local ready, why = authentication.add(options, request)
  if not ready then return nil, why end
  return issuer.ask(options, "the issuer", request)
end

local function result(options, body) return { value = body.access_token, expires_in = reply.life(body, options.lifetime) } end

-- the grants ------------------------------------------------------------------------------------------------------------------

--- A function for policies: options in, a token's table out.
local function of_grant(grant)
  return function(options)
    local made, of = options_of.checked(grant, options)
    return options_of.token(grant, made, function(ctx)
      local mine, wrong = of(ctx.key)
      if not mine then return nil, wrong end
      local form, unready = grant.form(mine, ctx)
      if not form then return nil, unready end
      local body, why, _, how = request_token(mine, form, grant.types)
      if not body then return nil, why, how end
      return result(mine, body)
    end)
  end
end

--- The client credentials grant (RFC 6749 section 4.4).
---@type fun(options: jeton.oauth2.client_credentials): jeton.token_options
M.client_credentials = of_grant {
  name = "client_credentials",
  own = {},
  form = function() return { grant_type = "client_credentials" } end,
}

--- A name and a password (RFC 6749 section 4.3), for an issuer that knows nothing better. Each fetch logs in anew.
---@type fun(options: jeton.oauth2.password): jeton.token_options
M.password = of_grant {
  name = "password",
  own = { username = true, password = true },
  writes = { username = true, password = true },
  anonymous = true,
  check = function(options, fixed)
    if fixed "username" then authentication.check_credential(options, "username") end
    if fixed "password" then authentication.check_credential(options, "password") end
  end,
  form = function(options) return { grant_type = "password", username = options.username, password = options.password } end,
}

--- A JWT that the policy signs, or that somebody else has signed, is exchanged for a token (RFC 7523 section 2.1).
---@type fun(options: jeton.oauth2.jwt_bearer): jeton.token_options
M.jwt_bearer = of_grant {
  name = "jwt_bearer",
  own = { jwt = true },
  writes = { assertion = true },
  anonymous = true,
  check = function(options, fixed)
    if fixed "jwt" then assertion.check_grant(options.jwt, options.token_url) end
  end,
  form = function(options)
    local made, why = assertion.of_grant(options.jwt, options.token_url)
    if not made then return nil, "jwt: " .. why end
    return { grant_type = "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion = made }
  end,
}

M.token_exchange = of_grant(require "jeton.oauth2.exchange")

local function check_path(path)
  if type(path) ~= "string" or path == "" then fail("path: expected the path of a file, got %s", path == "" and "an empty string" or type(path)) end
end

--- Makes proofs of possession (RFC 9449): for the tokens that are bound to its key, and for the requests that carry them.
M.dpop = dpop.new

local REFRESH = {
  name = "refresh_token",
  own = { refresh_token = true, path = true },
  login = true,
  check = function(options, fixed)
    if options.path ~= nil and fixed "path" then check_path(options.path) end
    if (options.path == nil or options.refresh_token ~= nil) and fixed "refresh_token" then authentication.check_credential(options, "refresh_token") end
  end,
}

--- How the refresh token's grant is made, over the grant's own options.
local function kept_login(grant)
  return function(options)
    local made, of = options_of.checked(grant, options)
    if made.rotates == nil then made.rotates = true end
    local kept = login.new(grant.first ~= nil)
    local token = options_of.token(grant, made, function(ctx)
      local mine, wrong = of(ctx.key)
      if not mine then return nil, wrong end
      local body, fields, how = kept:fetch(mine, ctx, function(refresh_token)
        return request_token(mine, { grant_type = "refresh_token", refresh_token = refresh_token })
      end)
      if not body then return nil, fields, how end
      local value = result(mine, body)
      value.fields = fields
      value.refresh_expires_in = login.life(body)
      return value
    end)
    if grant.first then
      first.register(token, {
        run = grant.first, of = of, family = made.family,
        ask = function(mine)
          return function(form) return request_token(mine, form) end
        end,
        authorize = function(mine)
          return function(url, form) return authorize(mine, url, form) end
        end,
      })
    end
    return token
  end
end

--- The refresh token grant (RFC 6749 section 6), with rotation: a new refresh token replaces the old one, in memory, and at `path`.
---@type fun(options: jeton.oauth2.refresh_token): jeton.token_options
M.refresh_token = kept_login(REFRESH)

local function check_kept(options, fixed)
  if options.path == nil then fail "path: is needed, where the login is kept: path = \"/var/lib/jeton/login\"" end
  if fixed "path" then check_path(options.path) end
end

--- A login that somebody allows once, with a code that he types into a browser, by `jeton login` (RFC 8628); then as of refresh_token.
---@type fun(options: jeton.oauth2.device): jeton.token_options
M.device = kept_login {
  name = "device",
  own = { device_url = true, path = true },
  login = true,
  anonymous = true,
  first = first.device,
  check = function(options, fixed)
    options_of.check_url(options, "device_url")
    check_kept(options, fixed)
  end,
}

local function check_redirect(url)
  if url == nil then return end
  local parts = type(url) == "string" and jeton.url.parse(url)
  if not parts or parts.scheme ~= "http" or not (parts.host == "127.0.0.1" or parts.host == "localhost") or not url:find ":%d+/" then
    fail 'redirect_url: expected one of this machine with its port and a path, such as "http://127.0.0.1:8400/"'
  end
end

--- A login that somebody allows once, in a browser on this machine, by `jeton login` (RFC 6749 section 4.1, RFC 7636); then as of refresh_token.
---@type fun(options: jeton.oauth2.authorization_code): jeton.token_options
M.authorization_code = kept_login {
  name = "authorization_code",
  own = { authorize_url = true, redirect_url = true, authorize = true, path = true },
  login = true,
  anonymous = true,
  first = first.authorization_code,
  check = function(options, fixed)
    options_of.check_url(options, "authorize_url")
    if type(options.client_id) ~= "string" and fixed "client_id" then fail "client_id: expected a string, since it stands in a URL" end
    check_redirect(options.redirect_url)
    if options.authorize ~= nil and type(options.authorize) ~= "table" then fail("authorize: expected a table, got %s", type(options.authorize)) end
    check_kept(options, fixed)
  end,
}

return names.strict("jeton.oauth2", M)
