--- How an OAuth client proves to the token endpoint who it is, by the names of RFC 8414 (token_endpoint_auth_methods_supported): with a secret
--- (RFC 6749 section 2.3.1), an assertion that it signs (RFC 7523 section 2.2), a certificate (RFC 8705 section 2), or not at all.
--- A part of jeton.oauth2; `options` are that module's.

local jwt = require "jeton.jwt"
local names = require "jeton.names"

local M = {}

local ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" -- RFC 7523 section 2.2
local ASSERTION_LIFE = 60 -- seconds: it is made for one request
local ASSERTION_KEYS = { key = true, alg = true, kid = true, audience = true, header = true }

local function fail(text, ...) error(text:format(...), 0) end

local function is_secret(value) return getmetatable(value) == "secret" or getmetatable(value) == "token" end

--- An option that may be a string or a secret. Raises.
function M.check_credential(options, key)
  local value = options[key]
  if not (is_secret(value) or (type(value) == "string" and value ~= "")) then
    fail("%s: expected a string or a secret, got %s", key, type(value))
  end
end

-- secrets ---------------------------------------------------------------------------------------------------------------------

local function check_secret(options) M.check_credential(options, "client_secret") end

local function add_id(options, request)
  request.form.client_id = options.client_id
  return true
end

local function add_basic(options, request)
  request.auth = { options.client_id, options.client_secret, form = true } -- form-encoded first
  return true
end

local function add_post(options, request)
  request.form.client_secret = options.client_secret
  return add_id(options, request)
end

-- assertions ------------------------------------------------------------------------------------------------------------------

--- The claims are those of RFC 7523 section 3. Returns an opaque secret, or nil, message, code.
local function assertion_of(options)
  local how = options.assertion or {}
  local now = math.floor(jeton.now())
  return jwt.sign({
    iss = options.client_id,
    sub = options.client_id,
    aud = how.audience or options.token_url,
    jti = jeton.base64.encode_url(jeton.crypto.random(16)),
    iat = now,
    exp = now + ASSERTION_LIFE,
  }, {
    alg = how.alg or (how.key and "RS256" or "HS256"),
    key = how.key or options.client_secret,
    kid = how.kid,
    header = how.header,
  })
end

--- The id stands in the assertion, too; beside it, it is optional (RFC 7521 section 4.2), and some servers want it.
local function add_assertion(options, request)
  local assertion, why = assertion_of(options)
  if not assertion then return nil, "client assertion: " .. why end
  request.form.client_assertion_type = ASSERTION_TYPE
  request.form.client_assertion = assertion
  return add_id(options, request)
end

local function check_assertion(options)
  if type(options.client_id) ~= "string" then fail("client_id: expected a string: with auth = %q it is signed over", options.auth) end
  local how = options.assertion or {}
  if type(how) ~= "table" then fail("assertion: expected a table { key, alg, kid, … }, got %s", type(how)) end
  for key in pairs(how) do
    if not ASSERTION_KEYS[key] then fail("unknown option 'assertion.%s': %s", tostring(key), names.meant(ASSERTION_KEYS, key)) end
  end
  if how.audience ~= nil and type(how.audience) ~= "string" and type(how.audience) ~= "table" then
    fail("assertion.audience: expected a string or a list, got %s", type(how.audience))
  end
end

--- Signs once, so that a key of the wrong kind is told when the policy is loaded. What is not there yet (a command's output) is not wrong.
local function try_signing(options)
  local good, outcome, why, code = pcall(assertion_of, options)
  if not good then fail("assertion: %s", (outcome:gsub("^.-jwt%.sign: ", ""))) end
  if code == "EINVAL" then fail("assertion: %s", why) end
end

local function is_symmetric(alg) return type(alg) == "string" and alg:find "^HS" ~= nil end

local function check_private_key(options)
  check_assertion(options)
  local how = options.assertion or {}
  if not is_secret(how.key) then
    fail("assertion.key: expected a private key such as jeton.secret.file \"client.key\", got %s", type(how.key))
  end
  if is_symmetric(how.alg) then fail("assertion.alg: %s signs with a secret, which is auth = \"client_secret_jwt\"", how.alg) end
  try_signing(options)
end

local function check_secret_jwt(options)
  check_assertion(options)
  if not is_secret(options.client_secret) then
    fail("client_secret: expected an opaque secret such as jeton.secret.file \"client.secret\", got %s", type(options.client_secret))
  end
  local how = options.assertion or {}
  if how.key ~= nil then fail("assertion.key: auth = \"client_secret_jwt\" signs with client_secret, leave it out") end
  if how.alg ~= nil and not is_symmetric(how.alg) then fail("assertion.alg: with auth = \"client_secret_jwt\" expected HS256, HS384 or HS512") end
  try_signing(options)
end

-- certificates ----------------------------------------------------------------------------------------------------------------

local function check_certificate(options)
  local tls = options.tls
  if type(tls) ~= "table" or type(tls.cert) ~= "string" or type(tls.key) ~= "string" then
    fail("tls: auth = %q needs the client's certificate: tls = { cert = \"client.pem\", key = \"client.key\" }", options.auth)
  end
  if not options.token_url:find "^https:" then fail("token_url: auth = %q needs https", options.auth) end
end

-- the methods -----------------------------------------------------------------------------------------------------------------

--- takes: which of client_secret and assertion it lives on; check(options) raises; add(options, request) gives true, or nil, message.
local METHODS = {
  client_secret_basic = { takes = { client_secret = true }, check = check_secret, add = add_basic },
  client_secret_post = { takes = { client_secret = true }, check = check_secret, add = add_post },
  client_secret_jwt = { takes = { client_secret = true, assertion = true }, check = check_secret_jwt, add = add_assertion },
  private_key_jwt = { takes = { assertion = true }, check = check_private_key, add = add_assertion },
  tls_client_auth = { takes = {}, check = check_certificate, add = add_id },
  self_signed_tls_client_auth = { takes = {}, check = check_certificate, add = add_id },
  none = { takes = {}, check = function() end, add = add_id },
}
local SHORT = { basic = "client_secret_basic", post = "client_secret_post" }
local NAMES = [["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth", ]]
  .. [["self_signed_tls_client_auth" or "none"]]

--- The method's whole name; "basic" and "post" are short for two of them.
function M.method(auth)
  if auth == nil then return "client_secret_basic" end
  return SHORT[auth] or auth
end

--- Raises for what is no method's whole name.
function M.check_method(auth)
  if not METHODS[auth] then fail("auth: expected %s", NAMES) end
end

--- Raises for what does not fit options.auth.
function M.check(options)
  local method = METHODS[options.auth]
  M.check_credential(options, "client_id")
  for _, key in ipairs { "client_secret", "assertion" } do
    if options[key] ~= nil and not method.takes[key] then fail("%s: has no use with auth = %q, leave it out", key, options.auth) end
  end
  method.check(options)
end

--- Writes the proof into the request. Returns true, or nil, message.
function M.add(options, request) return METHODS[options.auth].add(options, request) end

return M
