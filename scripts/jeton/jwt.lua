--- Signed JSON Web Tokens (RFC 7519) in the compact form of RFC 7515 section 7.1, made with opaque keys.
--
--   local token = assert(jwt.sign({ iss = "reports", exp = math.floor(jeton.now()) + 60 }, { alg = "ES256", key = jeton.secret.file "reports.key" }))
--
-- What is signed is a credential for as long as its `exp` lets it be, so it comes back as an opaque secret: good for a header, a form or JSON value, or the
-- value of a fetch, and never seen by a log. Claims may be secrets, too. It goes where its key and claims may go, and no longer than they: a token among them has
-- to be the one that goes out beside it.

local names = require "jeton.names"

local M = {}

--- RFC 7518 section 3.1: the hashes of the symmetric algorithms; of the others jeton.crypto knows everything.
local HMAC = { HS256 = "sha256", HS384 = "sha384", HS512 = "sha512" }
local ASYMMETRIC = { RS256 = true, RS384 = true, RS512 = true, PS256 = true, ES256 = true, ES384 = true }
local ALGORITHMS = [["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "HS256", "HS384" or "HS512"]]

local OPTIONS = { alg = true, key = true, kid = true, header = true }

local function fail(text, ...) error("jwt.sign: " .. text:format(...), 0) end

local function check_header(header)
  if type(header) ~= "table" then fail("header: expected a table, got %s", type(header)) end
  for _, name in ipairs { "alg", "kid" } do
    if header[name] ~= nil then fail("header.%s: expected beside header, as %s = …", name, name) end
  end
end

local function check(claims, options)
  if type(claims) ~= "table" then fail("claims: expected a table, got %s", type(claims)) end
  if type(options) ~= "table" then fail("expected a table of options { alg, key, … }, got %s", type(options)) end
  names.check(OPTIONS, options, fail)
  if not (HMAC[options.alg] or ASYMMETRIC[options.alg]) then
    fail("alg: expected %s, got %s", ALGORITHMS, type(options.alg) == "string" and ("%q"):format(options.alg) or type(options.alg))
  end
  local kind = getmetatable(options.key)
  if kind ~= "secret" and kind ~= "token" then
    fail("key: expected an opaque secret such as jeton.secret.file \"reports.key\", got %s", type(options.key))
  end
  if options.kid ~= nil and type(options.kid) ~= "string" then fail("kid: expected a string, got %s", type(options.kid)) end
  if options.header ~= nil then check_header(options.header) end
end

local function header_of(options)
  local header = { typ = "JWT" }
  for name, value in pairs(options.header or {}) do header[name] = value end
  header.alg, header.kid = options.alg, options.kid
  return header
end

--- base64url of the value as JSON: a string, or a secret if one is in it; or nil, message, code.
local function encode(value)
  local text, why, code = jeton.json.encode(value)
  if not text then return nil, why, code end
  return jeton.base64.encode_url(text)
end

local function signature_of(options, input)
  local hash = HMAC[options.alg]
  if hash then return jeton.crypto.hmac(hash, options.key, input) end
  return jeton.crypto.sign(options.alg, options.key, input)
end

--- Signs the claims. Returns an opaque secret; or nil, message, code when the key is of no use (the wrong kind, encrypted, not there yet) or JSON cannot
--- hold a claim. Misuse raises with the caller's line. Time is the caller's: `exp`, `iat` and `nbf` are whole seconds since the epoch.
---@param claims table<string, any>
---@param options jeton.jwt.options
---@return jeton.secret? token, string? message, string? code
function M.sign(claims, options)
  local good, wrong = pcall(check, claims, options)
  if not good then error(wrong, 2) end
  local header, payload, signature, why, code
  header, why, code = encode(header_of(options))
  if not header then return nil, "the header: " .. why, code end
  payload, why, code = encode(claims)
  if not payload then return nil, "the claims: " .. why, code end
  local input
  input, why, code = jeton.secret.value(header .. "." .. payload) -- the bytes of now, whatever becomes of a file or token among the claims
  if not input then return nil, "the claims: " .. why, code end
  signature, why, code = signature_of(options, input)
  if not signature then return nil, ("%s cannot sign %s: %s"):format(options.key, options.alg, why), code end
  return input .. "." .. jeton.base64.encode_url(signature)
end

--- The claims of a token as they stand there. Nothing is verified: this is for reading the `exp` of a token that its issuer has just handed over, not
--- for believing one that somebody sends. Returns nil, message, code for what is not a JWT.
---@param token string
---@return table<string, any>? claims, string? message, string? code
function M.claims(token)
  if type(token) ~= "string" then error("jwt.claims: expected a string, got " .. type(token), 2) end
  local payload = token:match "^[%w_-]+=*%.([%w_-]+)=*%.[%w_-]*=*$" -- some pad it
  local text = payload and jeton.base64.decode_url(payload)
  local claims = text and jeton.json.decode(text)
  if type(claims) ~= "table" then return nil, "not a JSON Web Token", "EINVAL" end
  return claims
end

return names.strict("jeton.jwt", M)
