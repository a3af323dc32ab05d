--- How an OAuth client proves to the token endpoint who it is, by the names of RFC 8414 (token_endpoint_auth_methods_supported): with a secret
--- (RFC 6749 section 2.3.1), an assertion that it signs (RFC 7523 section 2.2), a certificate (RFC 8705 section 2), or not at all.
--- A part of jeton.oauth2; `options` are that module's.

local assertion = require "jeton.oauth2.assertion"

local M = {}

local ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" -- RFC 7523 section 2.2

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

--- id and secret as they are (RFC 7617): not what RFC 6749 section 2.3.1 says, and what many servers want all the same. The two differ where one of them has a byte
--- that a form escapes.
local function add_raw(options, request)
  request.auth = { options.client_id, options.client_secret }
  return true
end

--- A colon ends the user's name (RFC 7617 section 2).
local function check_raw(options)
  check_secret(options)
  if type(options.client_id) == "string" and options.client_id:find(":", 1, true) then
    fail('client_id: it has a colon, which auth = "client_secret_basic_raw" cannot say: "client_secret_basic" encodes it')
  end
end

-- assertions ------------------------------------------------------------------------------------------------------------------

--- The id stands in the assertion, too; beside it, it is optional (RFC 7521 section 4.2), and some servers want it.
local function add_assertion(options, request)
  local made, why = assertion.of_client(options)
  if not made then return nil, "client assertion: " .. why end
  request.form.client_assertion_type = ASSERTION_TYPE
  request.form.client_assertion = made
  return add_id(options, request)
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
  client_secret_basic_raw = { takes = { client_secret = true }, check = check_raw, add = add_raw },
  client_secret_post = { takes = { client_secret = true }, check = check_secret, add = add_post },
  client_secret_jwt = { takes = { client_secret = true, assertion = true }, check = assertion.check_secret, add = add_assertion },
  private_key_jwt = { takes = { assertion = true }, check = assertion.check_private_key, add = add_assertion },
  tls_client_auth = { takes = {}, check = check_certificate, add = add_id },
  self_signed_tls_client_auth = { takes = {}, check = check_certificate, add = add_id },
  none = { takes = {}, check = function() end, add = add_id },
}
local SHORT = { basic = "client_secret_basic", post = "client_secret_post", basic_raw = "client_secret_basic_raw" }
local NAMES = [["client_secret_basic", "client_secret_basic_raw", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth", ]]
  .. [["self_signed_tls_client_auth" or "none"]]

--- The method's whole name; "basic", "basic_raw" and "post" are short. `anonymous`: a client that gives nothing to prove itself with does not.
function M.method(options, anonymous)
  if options.auth ~= nil then return SHORT[options.auth] or options.auth end
  if anonymous and options.client_secret == nil and options.assertion == nil then return "none" end
  return "client_secret_basic"
end

--- Raises for what is no method's whole name.
function M.check_method(auth)
  if not METHODS[auth] then fail("auth: expected %s", NAMES) end
end

--- Raises for what does not fit options.auth. `anonymous`: the client need not say who it is.
function M.check(options, anonymous)
  local method = METHODS[options.auth]
  if not (anonymous and options.auth == "none" and options.client_id == nil) then M.check_credential(options, "client_id") end
  for _, key in ipairs { "client_secret", "assertion" } do
    if options[key] ~= nil and not method.takes[key] then fail("%s: has no use with auth = %q, leave it out", key, options.auth) end
  end
  method.check(options)
end

--- Writes the proof into the request. Returns true, or nil, message.
function M.add(options, request) return METHODS[options.auth].add(options, request) end

return M
