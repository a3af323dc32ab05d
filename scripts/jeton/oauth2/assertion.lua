--- JSON Web Tokens by which a client says who it is (RFC 7523 section 2.2), or what it asks for (section 2.1): made and signed here, or somebody else's, from a
--- file that is rotated. A part of jeton.oauth2; `how` is the policy's table `assertion` or `jwt`.

local issuer = require "jeton.issuer"
local jwt = require "jeton.jwt"
local names = require "jeton.names"

local M = {}

local LIFE = 60 -- seconds: it is made for one request
local LIFE_MAX = 86400

local CLIENT_KEYS = {
  key = true, alg = true, kid = true, audience = true, header = true, cert = true, lifetime = true, skew = true, claims = true, token = true,
}
local GRANT_KEYS = { issuer = true, subject = true }
for key in pairs(CLIENT_KEYS) do GRANT_KEYS[key] = true end

--- What `claims` does not take: the option that says it, or nil.
local WRITTEN = { iss = "issuer", sub = "subject", aud = "audience", exp = "lifetime", iat = "skew", jti = false }

local function fail(text, ...) error(text:format(...), 0) end

local is_secret = issuer.is_secret

local function check_seconds(how, where, key, least)
  local value = how[key]
  if value == nil then return end
  if type(value) ~= "number" or value < least or value > LIFE_MAX then fail("%s.%s: expected seconds, %d to %d, as a number", where, key, least, LIFE_MAX) end
end

local function check_claims(claims, where, keys)
  if claims == nil then return end
  if type(claims) ~= "table" then fail("%s.claims: expected a table, got %s", where, type(claims)) end
  for name, option in pairs(WRITTEN) do
    if claims[name] ~= nil then
      option = keys[option] and ("give %s.%s"):format(where, option) or option and "it is client_id" or "it is random"
      fail("%s.claims: %s is written by jeton: %s", where, name, option)
    end
  end
end

--- A certificate is named in the header by its hashes, which are written here.
local function check_cert(how, where)
  if how.cert == nil then return end
  if type(how.cert) ~= "string" or how.cert == "" then fail("%s.cert: expected the path of a certificate in PEM, got %s", where, type(how.cert)) end
  for _, name in ipairs { "x5t", "x5t#S256" } do
    if type(how.header) == "table" and how.header[name] ~= nil then fail("%s.header: %s is made of %s.cert, leave one of them out", where, name, where) end
  end
end

--- The key's own certificate: any other would name a key that did not sign. What is wrong with the key is told beside this.
local function check_pair(how, where)
  if how.cert == nil then return end
  local good, public, why = pcall(function() return jeton.crypto.jwk(jeton.secret.file(how.cert)) end)
  if not good then fail("%s.cert: %s", where, (public:gsub("^.-: ", ""))) end
  if not public then fail("%s.cert: %s: %s", where, how.cert, why) end
  local private = jeton.crypto.jwk(how.key)
  if private and (private.x ~= public.x or private.n ~= public.n) then fail("%s.cert: %s is not the certificate of %s.key", where, how.cert, where) end
end

--- Someone else has signed: there is nothing to choose.
local function check_token(how, where)
  if not is_secret(how.token) then fail('%s.token: expected a secret such as jeton.secret.file "/var/run/secrets/token", got %s', where, type(how.token)) end
  for key in pairs(how) do
    if key ~= "token" then fail("%s.%s: has no use beside %s.token, which is signed already", where, key, where) end
  end
end

local function check(how, where, keys)
  if type(how) ~= "table" then fail("%s: expected a table { key, alg, kid, … }, got %s", where, type(how)) end
  names.check(keys, how, fail, where)
  if how.token ~= nil then return check_token(how, where) end
  if how.audience ~= nil and type(how.audience) ~= "string" and type(how.audience) ~= "table" then
    fail("%s.audience: expected a string or a list, got %s", where, type(how.audience))
  end
  check_seconds(how, where, "lifetime", 1)
  check_seconds(how, where, "skew", 0)
  check_claims(how.claims, where, keys)
  check_cert(how, where)
end

--- The hashes of the certificate's DER (RFC 7515 sections 4.1.7 and 4.1.8); or nil, message. The file is read for each, so it may be renewed.
---@async
local function add_cert(header, path)
  local text, why = jeton.file.read(path)
  if not text then return nil, why end
  local base64 = text:match "%-%-%-%-%-BEGIN CERTIFICATE%-%-%-%-%-%s*(.-)%s*%-%-%-%-%-END CERTIFICATE%-%-%-%-%-"
  local der = base64 and jeton.base64.decode((base64:gsub("%s", "")))
  if not der then return nil, path .. " has no certificate in PEM" end
  header.x5t = jeton.base64.encode_url(jeton.crypto.hash("sha1", der))
  header["x5t#S256"] = jeton.base64.encode_url(jeton.crypto.hash("sha256", der))
  return header
end

--- The claims of RFC 7523 section 3. `who`: { issuer =, subject =, audience = }.
local function claims_of(how, who)
  local now = math.floor(jeton.now())
  local claims = {}
  for name, value in pairs(how.claims or {}) do claims[name] = value end
  claims.iss, claims.sub, claims.aud = who.issuer, who.subject, how.audience or who.audience
  claims.jti = jeton.base64.encode_url(jeton.crypto.random(16))
  claims.iat = now - math.ceil(how.skew or 0)
  claims.exp = now + math.ceil(how.lifetime or LIFE)
  return claims
end

local function sign(how, who, header)
  return jwt.sign(claims_of(how, who), { alg = how.alg or (how.key and "RS256" or "HS256"), key = how.key or who.secret, kid = how.kid, header = header })
end

--- An opaque secret, or nil, message, code. who.secret: what signs where how.key does not.
---@async
local function make(how, who)
  if how.token then return how.token end
  local header = {}
  for name, value in pairs(how.header or {}) do header[name] = value end
  if how.cert then
    local ready, why = add_cert(header, how.cert)
    if not ready then return nil, why end
  end
  return sign(how, who, header)
end

--- Signs once, so that a key of the wrong kind is told when the policy is loaded. What is not there yet (a command's output) is not wrong.
local function try_signing(how, who, where)
  if how.token then return end
  local good, outcome, why, code = pcall(sign, how, who, how.header)
  if not good then fail("%s: %s", where, (outcome:gsub("^.-jwt%.sign: ", ""))) end
  if code == "EINVAL" then fail("%s: %s", where, why) end
end

local function check_key(how, where)
  if how.token ~= nil then return end
  if not is_secret(how.key) then
    fail("%s.key: expected a private key such as jeton.secret.file \"client.key\", got %s", where, type(how.key))
  end
end

-- of a client -----------------------------------------------------------------------------------------------------------------

local function client(options) return { issuer = options.client_id, subject = options.client_id, audience = options.token_url, secret = options.client_secret } end

--- What both methods with an assertion want. Raises.
local function check_client(options)
  local how = options.assertion or {}
  check(how, "assertion", CLIENT_KEYS)
  if not how.token and type(options.client_id) ~= "string" then fail("client_id: expected a string: with auth = %q it is signed over", options.auth) end
  return how
end

local function is_symmetric(alg) return type(alg) == "string" and alg:find "^HS" ~= nil end

--- private_key_jwt.
function M.check_private_key(options)
  local how = check_client(options)
  check_key(how, "assertion")
  if how.token == nil then check_pair(how, "assertion") end
  if is_symmetric(how.alg) then fail("assertion.alg: %s signs with a secret, which is auth = \"client_secret_jwt\"", how.alg) end
  try_signing(how, client(options), "assertion")
end

--- client_secret_jwt.
function M.check_secret(options)
  local how = check_client(options)
  if how.token ~= nil then fail "assertion.token: a token that somebody else has signed goes with auth = \"private_key_jwt\"" end
  if not is_secret(options.client_secret) then
    fail("client_secret: expected an opaque secret such as jeton.secret.file \"client.secret\", got %s", type(options.client_secret))
  end
  if how.key ~= nil then fail("assertion.key: auth = \"client_secret_jwt\" signs with client_secret, leave it out") end
  if how.cert ~= nil then fail("assertion.cert: auth = \"client_secret_jwt\" signs with client_secret, leave it out") end
  if how.alg ~= nil and not is_symmetric(how.alg) then fail("assertion.alg: with auth = \"client_secret_jwt\" expected HS256, HS384 or HS512") end
  try_signing(how, client(options), "assertion")
end

--- The client's assertion: an opaque secret, or nil, message.
---@async
function M.of_client(options) return make(options.assertion or {}, client(options)) end

-- of a grant ------------------------------------------------------------------------------------------------------------------

local function granted(how, token_url) return { issuer = how.issuer, subject = how.subject, audience = token_url } end

--- `jwt` of the JWT bearer grant. token_url: the audience, unless jwt.audience is. Raises.
function M.check_grant(how, token_url)
  if how == nil then
    fail "jwt: is needed: jwt = { issuer = \"…\", subject = \"…\", key = jeton.secret.file \"client.key\" }, or jwt = { token = jeton.secret.file \"…\" }"
  end
  check(how, "jwt", GRANT_KEYS)
  if how.token ~= nil then return end
  if type(how.issuer) ~= "string" then fail("jwt.issuer: expected a string, who signs, got %s", type(how.issuer)) end
  if how.subject ~= nil and type(how.subject) ~= "string" then fail("jwt.subject: expected a string, for whom the token is, got %s", type(how.subject)) end
  check_key(how, "jwt")
  check_pair(how, "jwt")
  if type(token_url) == "string" then try_signing(how, granted(how, token_url), "jwt") end
end

--- The JWT of the JWT bearer grant: an opaque secret, or nil, message.
---@async
function M.of_grant(how, token_url) return make(how, granted(how, token_url)) end

return M
