--- Request signatures with a shared key, as exchanges and webhooks want them: an HMAC over parts of the request, in a field or a parameter.
--
--   local sign = hmac.signer {                                               -- GitHub's, Slack's, an exchange's: what is signed, in which order
--     message = "{timestamp}{method}{target}{body}", encoding = "base64",
--     headers = { ["cb-access-timestamp"] = "{timestamp}", ["cb-access-sign"] = "{signature}" },
--   }
--   on_send = function(req, tokens) sign(req, tokens.api) end
--
-- Texts with parts in braces are read when the policy is loaded. What does not hold {signature} is set before the message is made, so that a part of it may be what
-- was set (a time stamp in the query that is signed); what holds it, behind.

local names = require "jeton.names"

local M = {}

local crypto = jeton.crypto

local OPTIONS = {
  message = true, hash = true, encoding = true, key = true, headers = true, query = true, timestamp = true,
}
local HASHES = { md5 = true, sha1 = true, sha256 = true, sha384 = true, sha512 = true }

local function fail(text, ...) error("hmac.signer: " .. text:format(...), 0) end

-- the parts -----------------------------------------------------------------------------------------------------------------------------------

local function stamp(format)
  local now = jeton.now()
  if type(format) == "function" then return tostring(format()) end
  if format == "ms" then return ("%d"):format(now * 1000 // 1) end
  if format == "iso8601" then return os.date("!%Y-%m-%dT%H:%M:%SZ", now // 1 | 0) end
  if format == "http" then return os.date("!%a, %d %b %Y %H:%M:%S GMT", now // 1 | 0) end
  return ("%d"):format(now // 1)
end

--- A body that cannot be had is no request that can be signed.
local function body_of(run)
  local body, why, code = run.req:body()
  if body then return body end
  if code == "LIMIT" then error("hmac.signer: the body is larger than limits.script_body, so it cannot be signed: raise that, or sign without {body}", 0) end
  error("hmac.signer: the body: " .. why, 0)
end

local function query_of(run) return run.req.target.query or "" end
local function digest_of(hash, encode)
  return function(run) return encode(assert(crypto.hash(hash, run.part.body(run)))) end
end

--- Each is made once for a request, and only where it is asked for, but for the query, which may have changed.
local PARTS = {
  method = function(run) return run.req.method end,
  scheme = function(run) return run.req.target.scheme end,
  host = function(run) return run.req.target.host end,
  authority = function(run) return run.req.target.authority end,
  path = function(run) return run.req.target.path end,
  query = query_of,
  target = function(run)
    local target = run.req.target
    return target.query and target.path .. "?" .. target.query or target.path
  end,
  body = body_of,
  body_md5_base64 = digest_of("md5", jeton.base64.encode),
  body_sha256 = digest_of("sha256", crypto.hex),
  body_sha256_base64 = digest_of("sha256", jeton.base64.encode),
  body_sha512 = digest_of("sha512", crypto.hex),
  timestamp = function(run) return stamp(run.options.timestamp) end,
  nonce = function() return crypto.hex(crypto.random(16)) end,
  signature = function(run) return run.signature end,
}
local CHANGES = { query = true, target = true, signature = true }

local function of_header(name)
  return function(run)
    local value = run.req.headers[name]
    if value == nil then error(("hmac.signer: the request has no %s, which is signed"):format(name), 0) end
    return value
  end
end

local function of_field(name)
  return function(run)
    if getmetatable(run.key) ~= "token" then error(("hmac.signer: {field:%s} is of a token, and the key is none"):format(name), 0) end
    return run.key:field(name)
  end
end

local function part_of(key, name)
  local kind, argument = name:match "^(%l+):(.+)$"
  if kind == "header" then return of_header(argument:lower()) end
  if kind == "field" then return of_field(argument) end
  local make = PARTS[name]
  if not make then
    fail("%s: there is no {%s}: %s, {header:NAME} and {field:NAME}", key, name, names.known(PARTS))
  end
  if CHANGES[name] then return make end
  return function(run)
    local made = run.made[name]
    if made == nil then
      made = make(run)
      run.made[name] = made
    end
    return made
  end
end

--- "v0:{timestamp}" as a function of a run, which gives a text or a secret; and whether it holds {signature}.
local function template(key, text)
  if type(text) ~= "string" then fail("%s: expected a text with parts such as {timestamp}, got %s", key, type(text)) end
  if text:gsub("{[^{}]*}", ""):find "[{}]" then fail("%s: a brace without its other one", key) end
  local parts, signs, at = {}, false, 1
  for before, name, behind in text:gmatch "([^{}]*){([^{}]*)}()" do
    if before ~= "" then parts[#parts + 1] = before end
    parts[#parts + 1] = part_of(key, name)
    signs, at = signs or name == "signature", behind
  end
  local rest = text:sub(at)
  if rest ~= "" then parts[#parts + 1] = rest end
  return function(run)
    local whole = ""
    for _, part in ipairs(parts) do
      local made = type(part) == "string" and part or part(run)
      whole = whole == "" and made or whole .. made
    end
    return whole
  end, signs
end

-- options -------------------------------------------------------------------------------------------------------------------------------------

local ENCODINGS = {
  hex = crypto.hex,
  base64 = jeton.base64.encode,
  base64url = jeton.base64.encode_url,
}

local DECODINGS = {
  base64 = jeton.base64.decode,
  base64url = jeton.base64.decode_url,
}

local TIMES = { s = true, ms = true, iso8601 = true, http = true }

local function check_word(key, value, set, default)
  if value == nil then return default end
  if type(value) ~= "string" or not set[value] then fail("%s: %s", key, names.known(set)) end
  return value
end

--- What is set: { name, template } in the order of names; before and behind the signature.
local function settings(key, given, before, behind, set)
  if given == nil then return end
  if type(given) ~= "table" then fail('%s: expected a table such as { ["x-signature"] = "{signature}" }, got %s', key, type(given)) end
  local order = {}
  for name in pairs(given) do
    if type(name) ~= "string" then fail("%s: expected name = text", key) end
    order[#order + 1] = name
  end
  table.sort(order)
  for _, name in ipairs(order) do
    local make, signs = template(("%s.%s"):format(key, name), given[name])
    local list = signs and behind or before
    list[#list + 1] = { name = name, make = make, set = set }
  end
end

local function set_header(req, name, value) req.headers[name] = value end
local function set_query(req, name, value) req:set_query(name, value) end

local function message_of(options)
  local message = options.message
  if type(message) == "function" then return message end
  if message == nil then fail 'message: is needed, what is signed, such as "{timestamp}{method}{target}{body}"' end
  local make, signs = template("message", message)
  if signs then fail "message: {signature} is made of it" end
  return function(_, _, run) return make(run) end
end

local function check(options)
  if type(options) ~= "table" then fail("expected a table of options, got %s", type(options)) end
  names.check(OPTIONS, options, fail)
  local made = { timestamp = options.timestamp, message = message_of(options), before = {}, behind = {} }
  made.hash = check_word("hash", options.hash, HASHES, "sha256")
  made.encode = ENCODINGS[check_word("encoding", options.encoding, ENCODINGS, "hex")]
  made.written = check_word("key", options.key, DECODINGS)
  made.decode = DECODINGS[made.written]
  if type(made.timestamp) ~= "function" then check_word("timestamp", made.timestamp, TIMES) end
  settings("headers", options.headers, made.before, made.behind, set_header)
  settings("query", options.query, made.before, made.behind, set_query)
  if #made.behind == 0 then fail 'headers: no text holds {signature}: say where it goes, such as headers = { ["x-signature"] = "{signature}" }' end
  return made
end

-- signing -------------------------------------------------------------------------------------------------------------------------------------

--- What a function of the message gets: each part by its name, made when it is read.
local function parts_of(run)
  return setmetatable({}, {
    __index = function(_, name)
      if type(name) ~= "string" or not (PARTS[name] or name:find ":") then
        error(("hmac.signer: there is no part '%s': %s"):format(tostring(name), names.known(PARTS)), 0)
      end
      return part_of("message", name)(run)
    end,
  })
end

local function sign(made, req, key)
  local run = { req = req, key = key, options = made, made = {}, part = PARTS }
  for _, setting in ipairs(made.before) do setting.set(req, setting.name, setting.make(run)) end
  local message = made.message(req, parts_of(run), run)
  local why, code
  if made.decode then
    key, why, code = made.decode(key)
    if code == "EINVAL" then error(("hmac.signer: the key is not %s, as `key` says: %s"):format(made.written, why), 0) end
    if not key then return nil, why, code end
  end
  local signature
  signature, why, code = crypto.hmac(made.hash, key, message)
  if not signature then return nil, why, code end
  run.signature = made.encode(signature)
  for _, setting in ipairs(made.behind) do setting.set(req, setting.name, setting.make(run)) end
  return true
end

--- A function that signs a request in on_send: sign(req, key), where the key is a token or another secret. It returns true; or nil, message, code where the token
--- has no valid value and says missing = "pass". Raises for misuse.
---@param options jeton.hmac.options
---@return fun(req: jeton.request, key: jeton.secret): true?, string?, string?
function M.signer(options)
  local good, made = pcall(check, options)
  if not good then error(made, 2) end
  return function(req, key)
    if getmetatable(key) ~= "token" and getmetatable(key) ~= "secret" then
      error(("hmac.signer: expected req and a key such as tokens.api, got %s"):format(type(key)), 2)
    end
    local fine, done, why, code = pcall(sign, made, req, key)
    if fine then return done, why, code end
    error(done, type(done) == "string" and done:find "^hmac%.signer: " and 2 or 0)
  end
end

return names.strict("jeton.hmac", M)
