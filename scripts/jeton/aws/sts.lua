--- AWS's Security Token Service (its API reference: AssumeRole, AssumeRoleWithWebIdentity). A part of jeton.aws.

local reply = require "jeton.oauth2.reply"
local v4 = require "jeton.aws.v4"

local M = {}

local VERSION = "2011-06-15"
local FORM = "application/x-www-form-urlencoded"

--- The endpoint of a region: of China's under another domain.
function M.url(options)
  if options.url then return options.url end
  return ("https://sts.%s.amazonaws.com%s"):format(options.region, options.region:find "^cn%-" and ".cn" or "")
end

--- The region that AWS's own tools would take.
function M.region(options) return options.region or jeton.env.AWS_REGION or jeton.env.AWS_DEFAULT_REGION or "us-east-1" end

local ENTITIES = { ["&lt;"] = "<", ["&gt;"] = ">", ["&quot;"] = '"', ["&apos;"] = "'", ["&amp;"] = "&" }

--- The text of the one element of that name, which has no elements in it, or nil.
local function element(xml, name)
  local text = xml:match("<" .. name .. ">([^<]*)</" .. name .. ">")
  return text and (text:gsub("&%a+;", ENTITIES))
end

local function refusal(res)
  local code, words = element(res.body, "Code"), element(res.body, "Message")
  return reply.refusal(res, code and { error = code, error_description = words } or nil, "STS")
end

--- What its reply says, as a fetch's result; or nil, message, how.
local function credentials_of(res)
  if res.status ~= 200 then return nil, refusal(res) end
  local id, secret, session = element(res.body, "AccessKeyId"), element(res.body, "SecretAccessKey"), element(res.body, "SessionToken")
  if not (id and secret and session) then return nil, "STS's reply has no credentials" end
  return { value = secret, expires_at = element(res.body, "Expiration"), fields = { access_key_id = id, session_token = session } }
end

local function parameters(action, options)
  return {
    Action = action,
    Version = VERSION,
    RoleArn = options.role_arn,
    RoleSessionName = options.session_name,
    DurationSeconds = options.duration and ("%d"):format(options.duration),
    Policy = options.policy,
  }
end

local function ask(options, request)
  request.method, request.url = "POST", M.url(options) .. "/"
  request.timeout, request.tls, request.proxy, request.http2 = options.timeout, options.tls, options.proxy, options.http2
  local res, why = jeton.http.request(request)
  if not res then return nil, why end
  return credentials_of(res)
end

--- With a token of an identity provider, which is the proof: nothing is signed.
---@async
function M.web_identity(options)
  local form = parameters("AssumeRoleWithWebIdentity", options)
  form.WebIdentityToken = options.token
  return ask(options, { form = form })
end

--- The header fields of a request to STS, signed with credentials as a fetch's result has them; or nil, message.
local function signed(url, region, body, credentials)
  local date, day = v4.stamp(jeton.now() // 1 | 0)
  local place = jeton.url.parse(url)
  local default = place.port == (place.scheme == "https" and 443 or 80)
  local session = credentials.fields.session_token
  local values = {
    ["content-type"] = FORM,
    host = default and place.host or ("%s:%d"):format(place.host, place.port),
    ["x-amz-date"] = date,
    ["x-amz-security-token"] = session,
  }
  local list = { "content-type", "host", "x-amz-date", session and "x-amz-security-token" or nil }
  local key, signature, why
  key, why = v4.key(credentials.value, day, region, "sts")
  if not key then return nil, why end
  local what = { method = "POST", path = "/", query = "", names = list, values = values, signed = table.concat(list, ";"), date = date,
    payload = jeton.crypto.hex(jeton.crypto.hash("sha256", body)), scope = v4.scope(day, region, "sts") }
  signature, why = v4.signature(key, what)
  if not signature then return nil, why end
  local named = ("/%s, SignedHeaders=%s, Signature="):format(what.scope, what.signed)
  values.authorization = v4.ALGORITHM .. " Credential=" .. credentials.fields.access_key_id .. named .. signature
  return values
end

--- As another role, with credentials that may assume it.
---@async
function M.assume_role(options, credentials)
  local form = parameters("AssumeRole", options)
  form.ExternalId = options.external_id
  local body = jeton.url.query(form)
  local headers, why = signed(M.url(options) .. "/", options.region, body, credentials)
  if not headers then return nil, why end
  return ask(options, { headers = headers, body = body })
end

return M
