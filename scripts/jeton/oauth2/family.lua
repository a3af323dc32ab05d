--- A family of tokens whose options depend on the key: `path = function(key) return … end`. A part of jeton.oauth2, whose options these are.
---
--- A family is one token a key, and keys are mostly tenants. Options that are the same for all keys get all of them the same token, which is the one thing that a
--- family must not do: so something has to be a function of the key, and of a login that is kept (refresh tokens) everything that says which login it is.

local M = {}

--- Which of them may be functions.
local PER_KEY = {
  "token_url", "client_id", "client_secret", "assertion", "scope", "audience", "extra", "tls", "lifetime", "refresh_token", "path", "username", "password",
  "jwt", "subject", "actor", "resource",
}
--- Which of them make one key's token another than the next one's.
local TELLING = {
  "scope", "audience", "extra", "client_id", "client_secret", "assertion", "token_url", "tls", "username", "jwt", "subject", "resource",
}

local PATHS_MAX = 100000

local function fail(text, ...) error(text:format(...), 0) end
local function is_function(options, key) return type(options[key]) == "function" end

local function any(options, keys)
  for _, key in ipairs(keys) do
    if is_function(options, key) then return key end
  end
end

--- Is the option there as it stands, and not made for each key?
function M.is_fixed(options, ...)
  for _, key in ipairs { ... } do
    if is_function(options, key) then return false end
  end
  return true
end

--- Raises for what gives several keys one token. Of a grant that is a login that is kept, and of one whose requests bring what it is made of: see options.lua.
function M.check(options, grant)
  local key, refreshes = any(options, PER_KEY), grant.login
  if grant.data and grant.data(options) then return end
  if not options.family then
    if key then fail("%s: a function of the key is for a token with family = true", key) end
  elseif not refreshes then
    if any(options, TELLING) then return end
    fail("family = true, and no option is a function of the key: every key would get the same token. Write for example "
      .. "scope = function(key) return \"tenant:\" .. key end, or make client_id, client_secret, audience or extra such a function")
  else
    if options.path == nil then fail("path: a family needs one for each key, where its refresh token is kept: path = function(key) return … end") end
    if not is_function(options, "path") then
      fail("path: with family = true every key would get the same login: write path = function(key) return %q .. key end", options.path .. ".")
    end
    if options.refresh_token ~= nil and not is_function(options, "refresh_token") then
      fail("refresh_token: with family = true every key would get the same login: leave it out, or write refresh_token = function(key) return … end")
    end
  end
end

--- The name of an option that is a function, and yet the same for two keys, if all such options are; or nil. Functions that do not like keys that there are
--- not, or that want to wait, are none of these.
function M.constant(options, refreshes)
  if not options.family then return nil end
  local found
  for _, key in ipairs(refreshes and { "path" } or TELLING) do
    if is_function(options, key) then
      local good, one = pcall(options[key], "one-key")
      local good_too, two = pcall(options[key], "another-key")
      if not (good and good_too and type(one) == "string" and one == two) then return nil end
      found = key
    end
  end
  return found
end

--- A key comes from a request: it must not lead out of the directory that the function means, nor into the file of another.
local function check_path(paths, path, key)
  if type(path) ~= "string" or path == "" then fail("path: expected the path of a file for this key, got %s", path == "" and "an empty string" or type(path)) end
  if path:find "%z" or ("/" .. path .. "/"):find("/../", 1, true) then fail "path: it has a '..' or a NUL byte for this key, which is refused" end
  local owner = paths.by_path[path]
  if owner ~= nil and owner ~= key then fail "path: another key has the same one, and would get the same login" end
  if owner ~= nil then return end
  if paths.n >= PATHS_MAX then paths.by_path, paths.n = {}, 0 end
  paths.by_path[path], paths.n = key, paths.n + 1
end

--- A function that gives the options of a key, checked by check(options); or nil, message.
function M.resolver(options, check)
  if not any(options, PER_KEY) then return function() return options end end
  local paths = { by_path = {}, n = 0 }
  return function(key)
    local made = {}
    for name, value in pairs(options) do made[name] = value end
    for _, name in ipairs(PER_KEY) do
      if is_function(options, name) then made[name] = options[name](key) end
    end
    local good, why = pcall(function()
      if is_function(options, "path") then check_path(paths, made.path, key) end
      check(made)
    end)
    if not good then return nil, why end
    return made
  end
end

return M
