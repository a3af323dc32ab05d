--- What jeton.oauth2's functions take: options that are checked at the policy's line, and the token's table that comes of them. A part of jeton.oauth2.
---
--- A grant is a table:
---   name      of the function, as messages have it
---   own       a set of the options that are this grant's alone
---   check     check(options, fixed): raises for what is wrong with those; fixed(key, …): they are there as they stand, and are no functions of the key
---   anonymous the client may stay unnamed, since the grant says who asks
---   login     a login is kept: refresh tokens
---   data      with family = true the request may say what its token is made of (ctx.data)
---   form      form(options, ctx): what is posted, or nil, message
---   writes    a set of the parameters in it, which `extra` does not take
---   types     a set of the token types that are as good as Bearer here

local authentication = require "jeton.oauth2.authentication"
local dpop = require "jeton.oauth2.dpop"
local family = require "jeton.oauth2.family"
local issuer = require "jeton.issuer"
local names = require "jeton.names"

local M = {}

local CLIENT_KEYS = {
  "token_url", "client_id", "client_secret", "auth", "assertion", "scope", "audience", "extra", "tls", "http2", "proxy", "lifetime", "dpop",
}

local RESERVED = {
  grant_type = true, client_id = true, client_secret = true, client_assertion = true, client_assertion_type = true,
  refresh_token = true, scope = true, audience = true,
}

local CREDENTIALS = { client_secret = true, refresh_token = true, username = true, password = true }

local function fail(text, ...) error(text:format(...), 0) end

local function check_keys(options, own)
  local known = {}
  for _, list in ipairs { issuer.TOKEN_KEYS, CLIENT_KEYS } do
    for _, key in ipairs(list) do known[key] = true end
  end
  for key in pairs(own) do known[key] = true end
  names.check(known, options, fail)
end

--- A string, or a list of them.
function M.check_strings(options, key)
  local value = options[key]
  if value == nil or type(value) == "string" then return end
  local good = type(value) == "table" and #value > 0
  for _, part in ipairs(good and value or {}) do good = good and type(part) == "string" end
  if not good then fail("%s: expected a string or a list of strings, got %s", key, type(value)) end
end

local PLAIN = { string = true, number = true, boolean = true }
--- What a form takes.
local function is_field(value)
  if PLAIN[type(value)] or issuer.is_secret(value) then return true end
  if type(value) ~= "table" then return false end
  for key, part in pairs(value) do
    if math.type(key) ~= "integer" or not (PLAIN[type(part)] or issuer.is_secret(part)) then return false end
  end
  return true
end

local function check_extra(extra, grant)
  if type(extra) ~= "table" then fail("extra: expected a table, got %s", type(extra)) end
  for name, value in pairs(extra) do
    if not is_field(value) then
      fail("extra: %s: expected a string, a number, true or false, a secret, or a list of them, got %s", tostring(name), type(value))
    end
    if RESERVED[name] or grant.writes and grant.writes[name] then fail("extra: %s is written by the grant itself", name) end
  end
end

--- key: token_url, or another URL of the issuer.
function M.check_url(options, key)
  local url = options[key]
  if type(url) ~= "string" then fail("%s: expected an http or https URL, got %s", key, type(url)) end
  if url:find "^https?://" then
    local expected = issuer.url(url)
    if expected then fail("%s: expected %s, got another text", key, expected) end
    return
  end
  local shown = url:match "^[%w.:/_-]+$" and #url <= 100 and url -- nothing that a password could stand in
  if not shown then fail("%s: expected a URL that begins with https:// or http://, got another text", key) end
  local meant = not url:find("://", 1, true) and url:find "^[%w-]+[.:]" and (' (did you mean "https://%s"?)'):format(url) or ""
  fail('%s: expected a URL that begins with https:// or http://, got "%s"%s', key, shown, meant)
end

--- What is a function of the key is checked for each key, when it is there.
local function check(grant, options)
  local fixed = function(...) return family.is_fixed(options, ...) end
  if fixed "token_url" then M.check_url(options, "token_url") end
  if fixed("token_url", "client_id", "client_secret", "assertion", "tls") then authentication.check(options, grant.anonymous) end
  local tls = options.tls
  if not fixed "tls" then tls = nil end
  issuer.check_way({ tls = tls, http2 = options.http2, proxy = options.proxy }, options.token_url)
  if fixed "scope" then M.check_strings(options, "scope") end
  if fixed "audience" then M.check_strings(options, "audience") end
  if options.extra ~= nil and fixed "extra" then check_extra(options.extra, grant) end
  if grant.check then grant.check(options, fixed) end
  if fixed "lifetime" and options.lifetime ~= nil and type(options.lifetime) ~= "number" then
    fail("lifetime: expected seconds as a number, got %s", type(options.lifetime))
  end
  if type(options.lifetime) == "number" and options.lifetime <= 0 then fail "lifetime: expected seconds above 0" end
end

local owners = {} -- by path: whose login is kept there

--- Two tokens may share a login. Two logins in one file would each present the other's refresh token to its own issuer.
local function check_owner(options)
  if type(options.path) ~= "string" or type(options.token_url) ~= "string" or type(options.client_id) ~= "string" then return end
  local owner = options.token_url .. " " .. options.client_id
  if (owners[options.path] or owner) ~= owner then fail "path: another token keeps the login of another client or issuer there: give each its own" end
  owners[options.path] = owner
end

local function check_all(grant, options)
  if type(options) ~= "table" then fail("expected a table of options, got %s", type(options)) end
  check_keys(options, grant.own)
  authentication.check_method(options.auth)
  if options.dpop ~= nil then options.dpop = dpop.check(options.dpop) end
  check(grant, options)
  family.check(options, grant)
  if grant.login then check_owner(options) end
end

--- What is wrong and yet no reason to refuse the policy, or nil. A file that cannot be written is of use until the issuer rotates, and may be mended while the
--- program runs; after that the login is lost with the next restart.
local function doubt(grant, options)
  local constant = family.constant(options, grant.login)
  if constant then return constant .. ": the same for every key, so that all of them get one login" end
  if not grant.login or type(options.path) ~= "string" then return nil end
  local ok, why = jeton.file.writable(options.path)
  if ok then return nil end
  return ("path: %s: a new refresh token could not be saved, and a restart would be locked out"):format(why)
end

--- The options, with the whole name of the authentication method, and a function that gives those of a key. Raises with the policy's line for what is wrong with
--- them: to be called by what the policy calls.
function M.checked(grant, options)
  local made = options
  if type(options) == "table" then
    made = {}
    for key, value in pairs(options) do made[key] = value end
    made.auth = authentication.method(made, grant.anonymous)
  end
  local ok, why = pcall(check_all, grant, made)
  if not ok then error(("oauth2.%s: %s"):format(grant.name, why), 3) end
  local doubtful = doubt(grant, made)
  local _, place = pcall(error, "", 4) -- the policy's
  if doubtful then warn(("%soauth2.%s: %s"):format(place, grant.name, doubtful)) end
  return made, family.resolver(made, function(resolved) check(grant, resolved) end)
end

--- What the token is made of, by which a reload sees that it is another one: all but the keys that pass through. A credential counts by where it comes from, and
--- one that stands in the policy as a string comes from there.
local function version(grant, options)
  local made = {}
  for key, value in pairs(options) do made[key] = CREDENTIALS[key] and type(value) == "string" and "a string" or value end
  for _, key in ipairs(issuer.TOKEN_KEYS) do made[key] = nil end
  if options.dpop then made.dpop = options.dpop:identity() end
  return { grant.name, made, options.version }
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
function M.token(grant, options, fetch)
  local made = { fetch = fetch }
  for _, key in ipairs(issuer.TOKEN_KEYS) do made[key] = options[key] end
  made.version = version(grant, options)
  made.hosts = hosts(options)
  if options.dpop and made.reject_on == nil then made.reject_on = dpop.refuses end
  return made
end

return M
