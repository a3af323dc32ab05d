--- What the modules for issuers share: options that are checked at the policy's line, what a token is made of, and a call of an issuer's API.
-- Every such module is a list of options and a fetch; this is the rest, so that all of them behave alike. Nothing here but jeton's public API.
--
--   M.app = issuer.new {
--     name = "github.app",
--     options = { app_id = { issuer.text, needed = true }, installation = { issuer.text, by_key = true }, … },
--     fetch = function(mine, ctx) … return { value = …, expires_at = … } end,   -- or nil, message, { retry_after = …, permanent = … }
--   }
--
-- `by_key`: with family = true it may be a function of the key, and one such option has to be, since every key would get the same token otherwise. What is a
-- function is checked when there is a key.

local names = require "jeton.names"
local reply = require "jeton.oauth2.reply"

local M = {}

--- Keys of a policy's token, passed through as they are.
M.TOKEN_KEYS = {
  "refresh_at", "jitter", "leeway", "wait", "missing", "reject_on", "hosts", "reveal", "timeout", "backoff", "family", "max", "idle",
  "rotates", "ready", "version", "release",
}

--- How the issuer is reached, of every module.
local WAY_KEYS = { "tls", "http2", "proxy" }

local BODY_MAX = "256k"

local function fail(text, ...) error(text:format(...), 0) end

-- kinds of options: a function that gives nil for a good value, else what was expected ---------------------------------------------------------

--- What is opaque: a secret, or a token's handle.
function M.is_secret(value) return getmetatable(value) == "secret" or getmetatable(value) == "token" end
local is_secret = M.is_secret

function M.text(value) return (type(value) ~= "string" or value == "") and "a string" or nil end

--- A string, or a number as ids are written.
function M.id(value) return math.type(value) ~= "integer" and M.text(value) and "a string or a whole number" or nil end

--- A string or a list of strings.
function M.texts(value)
  if type(value) == "string" and value ~= "" then return nil end
  local good = type(value) == "table" and #value > 0
  for _, part in ipairs(good and value or {}) do good = good and type(part) == "string" end
  return not good and "a string or a list of strings" or nil
end

function M.list(value) return (type(value) ~= "table" or M.texts(value)) and "a list of strings" or nil end

--- Such a value as one text: scopes are written with blanks between them (RFC 6749 section 3.3).
function M.joined(value) return type(value) == "table" and table.concat(value, " ") or value end

--- What has to be opaque, as a private key.
function M.secret(value) return not is_secret(value) and 'a secret such as jeton.secret.file "PATH"' or nil end

--- A string or a secret.
function M.credential(value) return not is_secret(value) and (type(value) ~= "string" or value == "") and "a string or a secret" or nil end

function M.path(value) return (type(value) ~= "string" or value == "" or value:find "%z") and "the path of a file" or nil end
function M.seconds(value) return not (type(value) == "number" and value > 0) and "seconds as a number, above 0" or nil end
function M.whole_seconds(value) return not (math.type(value) == "integer" and value > 0) and "whole seconds, above 0" or nil end
function M.flag(value) return type(value) ~= "boolean" and "true or false" or nil end
function M.map(value) return type(value) ~= "table" and "a table" or nil end

--- A URL that jeton.http takes. With `base = true` in the option paths are put behind it, and a slash at its end goes.
function M.url(value)
  local parts = type(value) == "string" and value:find "^https?://" and jeton.url.parse(value)
  if not parts then return 'a URL such as "https://host"' end
  return parts.userinfo and 'a URL without a name or password before an @, which logs would show, such as "https://host"' or nil
end

--- One of some words: issuer.one_of { "a", "b" }.
function M.one_of(words)
  local shown = {}
  for i, word in ipairs(words) do shown[i] = ("%q"):format(word) end
  local expected = "one of " .. table.concat(shown, ", ")
  return function(value)
    for _, word in ipairs(words) do
      if value == word then return nil end
    end
    return expected
  end
end

-- options -------------------------------------------------------------------------------------------------------------------------------------

--- Opens the files: the first fetch would tell what is wrong with them, and jeton check would not.
local function check_tls(tls)
  if type(tls) ~= "table" then fail("tls: expected a table, got %s", type(tls)) end
  local good, why = pcall(jeton.http.tls, tls)
  if not good then fail("tls: %s", (why:gsub("^.-jeton%.http[.:] ?tls: ", ""))) end
end

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

--- How the issuer is reached: `tls`, `http2` and `proxy`. Raises. url: what it is reached at, if that is one.
function M.check_way(options, url)
  if options.tls ~= nil then check_tls(options.tls) end
  if options.http2 ~= nil then check_http2(options.http2, url) end
  if options.proxy ~= nil then check_proxy(options.proxy) end
end

--- Signs once, so that a key of the wrong kind is told when the policy is loaded. What is not there yet (a command's output) is not wrong.
function M.check_key(name, key, alg)
  local signed, why, code = jeton.crypto.sign(alg, key, "")
  if not signed and code == "EINVAL" then fail("%s: %s cannot sign %s: %s", name, key, alg, why) end
end

--- How a wrong value may be shown: what could be a credential is not.
local function shown(value)
  if type(value) == "string" then return value == "" and "an empty string" or "another string" end
  return is_secret(value) and "a secret" or type(value)
end

local function check_value(key, option, value)
  if value == nil then
    if option.needed then fail("%s: is needed, and is %s", key, option[1](nil)) end
    return
  end
  local expected = option[1](value)
  if expected then fail("%s: expected %s, got %s", key, expected, shown(value)) end
end

--- The names of a kind's options in order, so that of several faults the same one is told.
local function in_order(kind)
  local list = {}
  for key in pairs(kind.options) do list[#list + 1] = key end
  table.sort(list)
  return list
end

--- All that is there as it stands. Raises.
local function check_values(kind, made)
  for _, key in ipairs(in_order(kind)) do
    local option = kind.options[key]
    if type(made[key]) ~= "function" or not option.by_key then check_value(key, option, made[key]) end
  end
end

local function by_key(kind, made)
  for _, key in ipairs(in_order(kind)) do
    if kind.options[key].by_key and type(made[key]) == "function" then return key end
  end
end

local function check_family(kind, made)
  local key = by_key(kind, made)
  if not made.family then
    if key then fail("%s: a function of the key is for a token with family = true", key) end
    return
  end
  if key then return end
  local keys, example = {}, nil
  for _, name in ipairs(in_order(kind)) do
    if kind.options[name].by_key then keys[name], example = true, example or name end
  end
  if not example then fail "family: every key would get the same token here: leave family out" end
  fail("family = true, and no option is a function of the key: every key would get the same token. Write for example %s = function(key) return key end (%s)",
    example, names.known(keys))
end

--- How the issuer is reached; of one that is no server (calls = false) there is nothing to say.
local function way_keys(kind) return kind.calls == false and {} or WAY_KEYS end

local function check_known(kind, options)
  local known = {}
  for _, list in ipairs { M.TOKEN_KEYS, way_keys(kind) } do
    for _, key in ipairs(list) do known[key] = true end
  end
  for key in pairs(kind.options) do known[key] = true end
  names.check(known, options, fail)
end

local function strip_bases(kind, made)
  for key, option in pairs(kind.options) do
    if option.base and made[key] then made[key] = made[key]:gsub("/+$", "") end
  end
end

--- A copy of the options with the defaults in it. Raises for what is wrong with them.
local function check(kind, options)
  if type(options) ~= "table" then fail("expected a table of options, got %s", type(options)) end
  check_known(kind, options)
  local made = {}
  for key, option in pairs(kind.options) do made[key] = option.default end
  for key, value in pairs(options) do made[key] = value end
  if kind.calls ~= false then M.check_way(made, made.url) end
  check_values(kind, made)
  strip_bases(kind, made)
  check_family(kind, made)
  if kind.check and not by_key(kind, made) then kind.check(made) end
  return made
end

--- The options for a key; or nil, message.
local function resolve(kind, made, key)
  if not by_key(kind, made) then return made end
  local mine = {}
  for name, value in pairs(made) do
    local option = kind.options[name]
    if option and option.by_key and type(value) == "function" then value = value(key) end
    mine[name] = value
  end
  local good, why = pcall(function()
    for name, option in pairs(kind.options) do check_value(name, option, mine[name]) end
    if kind.check then kind.check(mine) end
  end)
  if not good then return nil, why end
  return mine
end

-- the token -----------------------------------------------------------------------------------------------------------------------------------

--- What it is made of, by which a reload sees that it is another one. A credential counts by where it comes from, and one that is written into the policy comes from
--- there.
local function version(kind, made)
  local parts = {}
  for key, option in pairs(kind.options) do
    local value = made[key]
    parts[key] = option[1] == M.credential and type(value) == "string" and "a string" or value
  end
  for _, key in ipairs(way_keys(kind)) do parts[key] = made[key] end
  return { kind.name, parts, made.version }
end

--- A function for policies: options in, a token's table out. kind: name; options; fetch(options, ctx); and, where they are of use, check(options), which raises a
--- sentence, token(token, options), which adds keys to the token's table, release(options, ctx), and calls = false where no server is asked by the token itself.
---@return fun(options: table): jeton.token_options
function M.new(kind)
  return function(options)
    local good, made = pcall(check, kind, options)
    if not good then error(("%s: %s"):format(kind.name, made), 2) end
    local token = {}
    for _, key in ipairs(M.TOKEN_KEYS) do token[key] = made[key] end
    token.version = version(kind, made)
    token.fetch = function(ctx)
      local mine, wrong = resolve(kind, made, ctx.key)
      if not mine then return nil, wrong end
      return kind.fetch(mine, ctx)
    end
    if kind.release then
      token.release = function(ctx)
        local mine, wrong = resolve(kind, made, ctx.key)
        if not mine then return nil, wrong end
        return kind.release(mine, ctx)
      end
    end
    if kind.token then kind.token(token, made) end
    return token
  end
end

-- calls ---------------------------------------------------------------------------------------------------------------------------------------

--- Asks an issuer. who: how messages call it ("GitHub"); request: as of jeton.http.request, with `method` and `url`. Returns a reply of success; or nil, message,
--- how the next attempt is to be made (nil, or { retry_after = seconds }), the reply if there was one.
---@async
function M.call(options, who, request)
  request.timeout = request.timeout or options.timeout
  for _, key in ipairs(WAY_KEYS) do
    if request[key] == nil then request[key] = options[key] end
  end
  request.limits = request.limits or { body = BODY_MAX }
  local res, why = jeton.http.request(request)
  if not res then return nil, why end
  if res.status >= 200 and res.status <= 299 then return res end
  local body = res:json()
  local message, how = reply.refusal(res, type(body) == "table" and body or nil, who)
  return nil, message, how, res
end

--- As M.call, of an issuer that answers in JSON: returns the reply's table and the reply.
---@async
function M.ask(options, who, request)
  request.headers = request.headers or {}
  if request.headers.accept == nil then request.headers.accept = "application/json" end
  local res, why, how, refusal = M.call(options, who, request)
  if not res then return nil, why, how, refusal end
  if res.status == 204 then return {}, res end
  local body, not_json = res:json()
  if type(body) ~= "table" then return nil, ("%s's reply is %s"):format(who, not_json or "not a JSON object"), nil, res end
  return body, res
end

--- A string that the reply has to have, or nil, message.
function M.string_of(body, key, who)
  local value = body[key]
  if type(value) == "string" and value ~= "" then return value end
  return nil, ("%s's reply has no %s"):format(who, key)
end

return M
