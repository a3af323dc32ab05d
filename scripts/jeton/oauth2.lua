--- OAuth 2.0 tokens for a policy: the client credentials grant and the refresh token grant (RFC 6749 sections 4.4 and 6).
--
-- Each function returns the table of a token: `fetch`, and those of the policy's token keys that were given. Nothing here but
-- jeton's public API; whoever needs another grant copies the twenty lines of `fetch`.
--
--   tokens = { api = oauth2.client_credentials { token_url = "https://…", client_id = "…", client_secret = jeton.secret.file "…" } }

local authentication = require "jeton.oauth2.authentication"
local family = require "jeton.oauth2.family"
local login = require "jeton.oauth2.login"
local names = require "jeton.names"
local reply = require "jeton.oauth2.reply"

local M = {}

--- Keys of a policy's token, passed through as they are.
local TOKEN_KEYS = {
  "refresh_at", "jitter", "leeway", "wait", "missing", "reject_on", "hosts", "reveal", "timeout", "backoff", "family", "max", "idle",
  "rotates", "ready", "version", "release",
}

local CLIENT_KEYS = { "token_url", "client_id", "client_secret", "auth", "assertion", "scope", "audience", "extra", "tls", "http2", "proxy", "lifetime" }
local REFRESH_KEYS = { "refresh_token", "path" }

local RESERVED = {
  grant_type = true, client_id = true, client_secret = true, client_assertion = true, client_assertion_type = true,
  refresh_token = true, scope = true, audience = true,
}

local CREDENTIALS = { client_secret = true, refresh_token = true }

local REPLY_MAX = "256k"

-- options ---------------------------------------------------------------------------------------------------------------------

local function set_of(...)
  local set = {}
  for _, list in ipairs { ... } do
    for _, key in ipairs(list) do set[key] = true end
  end
  return set
end

local function fail(text, ...) error(text:format(...), 0) end

local function check_keys(options, known)
  for key in pairs(options) do
    if not known[key] then fail("unknown option '%s': %s", tostring(key), names.meant(known, key)) end
  end
end

--- A string, or a list of them.
local function check_strings(options, key)
  local value = options[key]
  if value == nil or type(value) == "string" then return end
  local good = type(value) == "table" and #value > 0
  for _, part in ipairs(good and value or {}) do good = good and type(part) == "string" end
  if not good then fail("%s: expected a string or a list of strings, got %s", key, type(value)) end
end

local function check_extra(extra)
  if type(extra) ~= "table" then fail("extra: expected a table, got %s", type(extra)) end
  for name in pairs(extra) do
    if RESERVED[name] then fail("extra: %s is written by the grant itself", name) end
  end
end

--- Opens the files: the first fetch would tell what is wrong with them, and jeton check would not.
local function check_tls(tls)
  if type(tls) ~= "table" then fail("tls: expected a table, got %s", type(tls)) end
  local good, why = pcall(jeton.http.tls, tls)
  if not good then fail("tls: %s", (why:gsub("^.-jeton%.http[.:] ?tls: ", ""))) end
end

--- url: a function for each key, or what check_url has seen.
local function check_http2(http2, url)
  if http2 ~= "auto" and type(http2) ~= "boolean" then
    fail('http2: expected true, false or "auto", got %s', type(http2) == "string" and '"' .. http2 .. '"' or type(http2))
  end
  if http2 == "auto" and type(url) == "string" and not url:find "^https:" then
    fail 'http2: "auto" has no use over http://, since nothing tells there what a server speaks: write true for HTTP/2 with prior knowledge, or false'
  end
end

local function check_proxy(proxy)
  local good, why, told = pcall(jeton.http.proxy, proxy)
  if not good or told then fail("proxy: %s", ((told or why):gsub("^.-jeton%.http: proxy: ", ""))) end
end

local function check_url(url)
  if type(url) ~= "string" then fail("token_url: expected an http or https URL, got %s", type(url)) end
  if url:find "^https?://" then return end
  local shown = url:match "^[%w.:/_-]+$" and #url <= 100 and url -- nothing that a password could stand in
  if not shown then fail "token_url: expected a URL that begins with https:// or http://, got another text" end
  local meant = not url:find("://", 1, true) and url:find "^[%w-]+[.:]" and (' (did you mean "https://%s"?)'):format(url) or ""
  fail('token_url: expected a URL that begins with https:// or http://, got "%s"%s', shown, meant)
end

local function check_path(path)
  if type(path) ~= "string" or path == "" then fail("path: expected the path of a file, got %s", path == "" and "an empty string" or type(path)) end
end

local owners = {} -- by path: whose login is kept there

--- Two tokens may share a login. Two logins in one file would each present the other's refresh token to its own issuer.
local function check_owner(options)
  if type(options.path) ~= "string" or type(options.token_url) ~= "string" or type(options.client_id) ~= "string" then return end
  local owner = options.token_url .. " " .. options.client_id
  if (owners[options.path] or owner) ~= owner then fail "path: another token keeps the login of another client or issuer there: give each its own" end
  owners[options.path] = owner
end

local function check_login(options)
  if options.path ~= nil and family.is_fixed(options, "path") then check_path(options.path) end
  if (options.path == nil or options.refresh_token ~= nil) and family.is_fixed(options, "refresh_token") then
    authentication.check_credential(options, "refresh_token")
  end
end

--- What is a function of the key is checked for each key, when it is there.
local function check(options, own_keys)
  local fixed = function(...) return family.is_fixed(options, ...) end
  if fixed "token_url" then check_url(options.token_url) end
  if fixed("token_url", "client_id", "client_secret", "assertion", "tls") then authentication.check(options) end
  if options.tls ~= nil and fixed "tls" then check_tls(options.tls) end
  if options.http2 ~= nil then check_http2(options.http2, options.token_url) end
  if options.proxy ~= nil then check_proxy(options.proxy) end
  if fixed "scope" then check_strings(options, "scope") end
  if fixed "audience" then check_strings(options, "audience") end
  if options.extra ~= nil and fixed "extra" then check_extra(options.extra) end
  if own_keys == REFRESH_KEYS then check_login(options) end
  if fixed "lifetime" and options.lifetime ~= nil and type(options.lifetime) ~= "number" then
    fail("lifetime: expected seconds as a number, got %s", type(options.lifetime))
  end
end

local function check_all(options, own_keys)
  if type(options) ~= "table" then fail("expected a table of options, got %s", type(options)) end
  check_keys(options, set_of(TOKEN_KEYS, CLIENT_KEYS, own_keys))
  authentication.check_method(options.auth)
  check(options, own_keys)
  family.check(options, own_keys == REFRESH_KEYS)
  if own_keys == REFRESH_KEYS then check_owner(options) end
end

--- What is wrong and yet no reason to refuse the policy, or nil. A file that cannot be written is of use until the issuer rotates, and may be mended while the
--- program runs; after that the login is lost with the next restart.
local function doubt(options, own_keys)
  local refreshes = own_keys == REFRESH_KEYS
  local constant = family.constant(options, refreshes)
  if constant then return constant .. ": the same for every key, so that all of them get one login" end
  if not refreshes or type(options.path) ~= "string" then return nil end
  local ok, why = jeton.file.writable(options.path)
  if ok then return nil end
  return ("path: %s: a new refresh token could not be saved, and a restart would be locked out"):format(why)
end

--- The options, with the whole name of the authentication method, and a function that gives those of a key. Raises with the policy's line for what is wrong with
--- them.
local function checked(where, options, own_keys)
  local made = options
  if type(options) == "table" then
    made = {}
    for key, value in pairs(options) do made[key] = value end
    made.auth = authentication.method(options.auth)
  end
  local ok, why = pcall(check_all, made, own_keys)
  if not ok then error(("oauth2.%s: %s"):format(where, why), 3) end
  local doubtful = doubt(made, own_keys)
  local _, place = pcall(error, "", 4) -- the policy's
  if doubtful then warn(("%soauth2.%s: %s"):format(place, where, doubtful)) end
  return made, family.resolver(made, function(resolved) check(resolved, own_keys) end)
end

--- What the token is made of, by which a reload sees that it is another one: all but the keys that pass through. A credential counts by where it comes from, and
-- one that stands in the policy as a string comes from there.
local function version(where, options)
  local made = {}
  for key, value in pairs(options) do made[key] = CREDENTIALS[key] and type(value) == "string" and "a string" or value end
  for _, key in ipairs(TOKEN_KEYS) do made[key] = nil end
  return { where, made, options.version }
end

--- The hosts of a token whose refresh token is kept at `path`: a fetch of the policy's own may write it there as well.
local function hosts(options)
  if type(options.path) ~= "string" or options.path:sub(1, 1) ~= "/" then return options.hosts end
  if options.hosts ~= nil and (type(options.hosts) ~= "table" or #options.hosts == 0) then return options.hosts end
  local list = {}
  for key, host in pairs(options.hosts or {}) do list[key] = host end
  list[#list + 1] = "file:" .. options.path
  return list
end

--- The token's table: the keys that the policy knows, and fetch.
local function token(where, options, fetch)
  local made = { fetch = fetch }
  for _, key in ipairs(TOKEN_KEYS) do made[key] = options[key] end
  made.version = version(where, options)
  made.hosts = hosts(options)
  return made
end

-- the request -----------------------------------------------------------------------------------------------------------------

--- Scopes are written with blanks between them (RFC 6749 section 3.3).
local function scope_of(scope)
  if type(scope) == "table" then return table.concat(scope, " ") end
  return scope
end

local function form_of(options, grant)
  local form = {}
  for name, value in pairs(options.extra or {}) do form[name] = value end
  for name, value in pairs(grant) do form[name] = value end
  form.scope = scope_of(options.scope)
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

--- POSTs the grant. Returns the reply's body; or nil, message, the OAuth error code if there was one, what the fetch's third result is to be, the reply's status,
--- and a refresh token that has come in vain.
local function request_token(options, grant)
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
  local res, code
  res, why, code = jeton.http.post(options.token_url, request)
  if not res then return nil, why, code end
  local body, how
  body, why, code, how = reply.read(res)
  return body, why, code, how, res.status, not body and rotated_in_vain(res) or nil
end

local function result(options, body) return { value = body.access_token, expires_in = reply.life(body, options.lifetime) } end

-- the grants ------------------------------------------------------------------------------------------------------------------

--- The client credentials grant (RFC 6749 section 4.4).
---@param options jeton.oauth2.client_credentials
---@return jeton.token_options
function M.client_credentials(options)
  local of
  options, of = checked("client_credentials", options, {})
  return token("client_credentials", options, function(ctx)
    local mine, wrong = of(ctx.key)
    if not mine then return nil, wrong end
    local body, why, _, how = request_token(mine, { grant_type = "client_credentials" })
    if not body then return nil, why, how end
    return result(mine, body)
  end)
end

--- The refresh token grant (RFC 6749 section 6), with rotation: a new refresh token replaces the old one, in memory, and at `path`.
---@param options jeton.oauth2.refresh_token
---@return jeton.token_options
function M.refresh_token(options)
  local of
  options, of = checked("refresh_token", options, REFRESH_KEYS)
  if options.rotates == nil then options.rotates = true end
  local kept = login.new()
  return token("refresh_token", options, function(ctx)
    local mine, wrong = of(ctx.key)
    if not mine then return nil, wrong end
    local body, fields, how = kept:fetch(mine, ctx, function(refresh_token)
      return request_token(mine, { grant_type = "refresh_token", refresh_token = refresh_token })
    end)
    if not body then return nil, fields, how end
    local made = result(mine, body)
    made.fields = fields
    made.refresh_expires_in = login.life(body)
    return made
  end)
end

return names.strict("jeton.oauth2", M)
