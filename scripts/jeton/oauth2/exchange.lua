--- Token exchange (RFC 8693): a token of somebody who calls becomes one for another place, in his name. A part of jeton.oauth2: a grant (see options.lua).
---
--- Whose token it is mostly comes with the request. So a family's token is fetched with what the request has said: tokens.NAME:of(key, { subject = secret }), where
--- the key tells the callers apart, and may be that same secret.

local issuer = require "jeton.issuer"

local TYPE = "urn:ietf:params:oauth:token-type:" -- RFC 8693 section 3
local SHORT = { access_token = true, refresh_token = true, id_token = true, saml1 = true, saml2 = true, jwt = true }

local function fail(text, ...) error(text:format(...), 0) end

local is_secret = issuer.is_secret

local function type_of(name)
  if SHORT[name] then return TYPE .. name end
  return name
end

local function check_type(options, key)
  local value = options[key]
  if value == nil or SHORT[value] then return end
  if type(value) ~= "string" or not value:find(":", 1, true) then
    local got = type(value) == "string" and ("%q"):format(value) or type(value)
    fail('%s: expected "access_token", "refresh_token", "id_token", "saml1", "saml2", "jwt" or a URI, got %s', key, got)
  end
end

local function check_token(options, key)
  if not is_secret(options[key]) then fail('%s: expected a secret such as jeton.secret.file "PATH", got %s', key, type(options[key])) end
end

--- Does the request bring the subject?
local function by_request(options) return options.family ~= nil and options.family ~= false and options.subject == nil end

local function check(options, fixed)
  for _, key in ipairs { "subject_type", "actor_type", "requested" } do check_type(options, key) end
  if options.subject == nil and not by_request(options) then
    fail "subject: is needed, the token to exchange: a secret, or family = true and tokens.NAME:of(key, { subject = … }) in on_request"
  end
  if options.subject ~= nil and fixed "subject" then check_token(options, "subject") end
  if options.actor ~= nil and fixed "actor" then check_token(options, "actor") end
  if options.actor == nil and options.actor_type ~= nil and not by_request(options) then fail "actor_type: has no use without actor" end
  local resource = options.resource
  if resource ~= nil and fixed "resource" and type(resource) ~= "string" and type(resource) ~= "table" then
    fail("resource: expected a URI or a list of them, got %s", type(resource))
  end
end

local function form(options, ctx)
  local data = ctx.data or {}
  local subject = options.subject or data.subject
  if subject == nil then return nil, "the request gave no subject to exchange: write tokens.NAME:of(key, { subject = … }) in on_request" end
  local actor = options.actor or data.actor
  return {
    grant_type = "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token = subject,
    subject_token_type = type_of(options.subject_type or "access_token"),
    actor_token = actor,
    actor_token_type = actor and type_of(options.actor_type or "access_token"),
    requested_token_type = type_of(options.requested),
    resource = options.resource,
  }
end

return {
  name = "token_exchange",
  own = { subject = true, subject_type = true, actor = true, actor_type = true, requested = true, resource = true },
  writes = {
    subject_token = true, subject_token_type = true, actor_token = true, actor_token_type = true, requested_token_type = true, resource = true,
  },
  types = { n_a = true }, -- what has come is none for APIs, as an ID token (RFC 8693 section 2.2.1)
  anonymous = true,
  data = by_request,
  check = check,
  form = form,
}
