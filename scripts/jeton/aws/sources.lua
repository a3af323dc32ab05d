--- Where AWS's credentials come from. Each is a function of options that gives a fetch's result: the value is the secret access key, the fields are
-- access_key_id and, for credentials that end, session_token; or nil, message, how. A part of jeton.aws.
--
-- Credentials without an end are looked at again after a while, since files and programs are where keys are rotated.

local issuer = require "jeton.issuer"
local ini = require "jeton.aws.ini"
local program = require "jeton.program"
local sts = require "jeton.aws.sts"

local M = {}

local DAY, HOUR, QUARTER = 86400, 3600, 900

--- As AWS's endpoints and programs print them in JSON (the process provider's format; the metadata services say Token for SessionToken).
local function of_json(body, who, life)
  local secret, why = issuer.string_of(body, "SecretAccessKey", who)
  if not secret then return nil, why end
  local id
  id, why = issuer.string_of(body, "AccessKeyId", who)
  if not id then return nil, why end
  local session, ends = body.SessionToken or body.Token, body.Expiration
  if type(session) ~= "string" or session == "" then session = nil end
  if type(ends) ~= "string" then ends = nil end
  return { value = secret, expires_at = ends, expires_in = not ends and life or nil, fields = { access_key_id = id, session_token = session } }
end

function M.static(options)
  return { value = options.secret_access_key, expires_in = DAY, fields = { access_key_id = options.access_key_id, session_token = options.session_token } }
end

-- a program -----------------------------------------------------------------------------------------------------------------------------------

--- The words of a command line as credential_process has it: split at spaces, unless they are in quotes.
local function words_of(line)
  local words, word, at = {}, nil, 1
  while at <= #line do
    local behind, quote = line:match("^%s+()", at), line:match("^[\"']", at)
    if behind then
      words[#words + 1], word, at = word, nil, behind
    elseif quote then
      local close = line:find(quote, at + 1, true) or #line + 1
      word, at = (word or "") .. line:sub(at + 1, close - 1), close + 1
    else
      local text = line:match("^[^%s\"']+", at)
      word, at = (word or "") .. text, at + #text
    end
  end
  words[#words + 1] = word
  return words
end

---@async
function M.process(options)
  local command = type(options.command) == "string" and words_of(options.command) or options.command
  local body, why = program.run_json({ timeout = options.timeout }, command)
  if not body then return nil, why end
  if body.Version ~= 1 then return nil, ("%s printed no credentials of Version 1"):format(command[1]) end
  return of_json(body, command[1], HOUR)
end

-- metadata services ---------------------------------------------------------------------------------------------------------------------------

local IMDS = "the instance's metadata service"

--- A session first (version 2 of the service), which a request that somebody made this machine forward does not have.
---@async
local function session_of(options)
  local headers = { ["x-aws-ec2-metadata-token-ttl-seconds"] = "300" }
  local res, why, how = issuer.call(options, IMDS .. ", asked for a session,", { method = "PUT", url = options.url .. "/latest/api/token", headers = headers })
  if not res then return nil, why, how end
  return { ["x-aws-ec2-metadata-token"] = jeton.secret.value(res.body:match "^%s*(.-)%s*$") }
end

---@async
local function role_of(options, url, headers)
  if options.role then return options.role end
  local res, why, how, refusal = issuer.call(options, IMDS .. ", asked for the role's name,", { url = url, headers = headers })
  if not res then
    if refusal and refusal.status == 404 then return nil, "the instance has no role: attach an instance profile to it" end
    return nil, why, how
  end
  local role = res.body:match "^%s*([%w+=,.@_-]+)%s*$" -- the letters of a role's name in IAM
  if not role then return nil, IMDS .. "'s reply to the request for the role's name is no name" end
  return role
end

---@async
function M.imds(options)
  local headers, role, why, how, body
  headers, why, how = session_of(options)
  if not headers then return nil, why, how end
  local url = options.url .. "/latest/meta-data/iam/security-credentials/"
  role, why, how = role_of(options, url, headers)
  if not role then return nil, why, how end
  body, why, how = issuer.ask(options, IMDS, { url = url .. role, headers = headers })
  if not body then return nil, why, how end
  if body.Code ~= nil and body.Code ~= "Success" then return nil, ("%s says %s"):format(IMDS, tostring(body.Code)) end
  return of_json(body, IMDS, HOUR)
end

---@async
function M.ecs(options)
  local body, why, how = issuer.ask(options, "the container's credential service", { url = options.url, headers = { authorization = options.authorization } })
  if not body then return nil, why, how end
  return of_json(body, "the container's credential service", HOUR)
end

-- the environment -----------------------------------------------------------------------------------------------------------------------------

--- Options of M.static, from what AWS's own tools read; or nil, message.
function M.of_environment()
  local env = jeton.env
  for _, name in ipairs { "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY" } do
    if (env[name] or "") == "" then return nil, name .. " is not set in the environment" end
  end
  local secret = jeton.secret.env
  return {
    access_key_id = secret "AWS_ACCESS_KEY_ID",
    secret_access_key = secret "AWS_SECRET_ACCESS_KEY",
    session_token = (env.AWS_SESSION_TOKEN or "") ~= "" and secret "AWS_SESSION_TOKEN" or nil,
  }
end

local CONTAINER = "http://169.254.170.2"
--- Where credentials may be asked for without TLS: the loopback, and the addresses of ECS's and EKS's agents.
local PLAIN = { ["127.0.0.1"] = true, ["::1"] = true, localhost = true, ["169.254.170.2"] = true, ["169.254.170.23"] = true, ["fd00:ec2::23"] = true }

--- Does the URL of a container's service say who may read it? Or a sentence.
function M.wrong_container(url)
  local place = jeton.url.parse(url)
  if not place then return 'expected a URL such as "http://169.254.170.2/…"' end
  if place.scheme == "https" or PLAIN[place.host] then return nil end
  return "without TLS it is the loopback, 169.254.170.2, 169.254.170.23 or [fd00:ec2::23]: say https://"
end

--- Options of M.ecs, from what the agents of ECS and EKS put into a container's environment.
function M.of_container()
  local env, made = jeton.env, {}
  local relative, full, file = env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, env.AWS_CONTAINER_CREDENTIALS_FULL_URI, env.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
  made.url = relative and CONTAINER .. relative or full
  if file then
    made.authorization = jeton.secret.file(file)
  elseif env.AWS_CONTAINER_AUTHORIZATION_TOKEN then
    made.authorization = jeton.secret.env "AWS_CONTAINER_AUTHORIZATION_TOKEN"
  end
  return made
end

--- Options of sts.web_identity that EKS puts into a pod's environment.
function M.of_pod()
  local file = jeton.env.AWS_WEB_IDENTITY_TOKEN_FILE
  return { role_arn = jeton.env.AWS_ROLE_ARN, session_name = jeton.env.AWS_ROLE_SESSION_NAME, token = file and jeton.secret.file(file) or nil }
end

-- profiles ------------------------------------------------------------------------------------------------------------------------------------

local DEPTH_MAX = 5
local SESSION = "jeton"

local of_profile

local function keys_of(profile)
  local fields = { access_key_id = profile.aws_access_key_id, session_token = profile.aws_session_token }
  return { value = profile.aws_secret_access_key, expires_in = QUARTER, fields = fields }
end

local NAMED = {
  Environment = function()
    local made, why = M.of_environment()
    if not made then return nil, why end
    return M.static(made)
  end,
  Ec2InstanceMetadata = function(options) return M.imds { url = options.imds_url, timeout = options.timeout } end,
  EcsContainer = function(options)
    local made = M.of_container()
    if not made.url then return nil, "the environment has no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" end
    made.timeout = options.timeout
    return M.ecs(made)
  end,
}

--- What a role is assumed with.
---@async
local function source_of(options, profiles, name, depth)
  local profile = profiles[name]
  local source, named = profile.source_profile, profile.credential_source
  if source == name and profile.aws_secret_access_key then return keys_of(profile) end
  if source then return of_profile(options, profiles, source, depth + 1) end
  if not named then return nil, ("profile %s: has a role_arn, and neither source_profile nor credential_source"):format(name) end
  if not NAMED[named] then
    return nil, ("profile %s: credential_source %q is not known: Environment, Ec2InstanceMetadata and EcsContainer are"):format(name, named)
  end
  return NAMED[named](options)
end

local function role(options, profile)
  return {
    role_arn = profile.role_arn, session_name = profile.role_session_name or SESSION, external_id = profile.external_id,
    duration = math.tointeger(tonumber(profile.duration_seconds)), region = options.region or profile.region or sts.region {}, url = options.sts_url,
    timeout = options.timeout, tls = options.tls, proxy = options.proxy, http2 = options.http2,
  }
end

---@async
local function of_role(options, profiles, name, depth)
  local profile = profiles[name]
  if profile.mfa_serial then return nil, ("profile %s: has an mfa_serial, and nobody is here to type its code"):format(name) end
  local mine = role(options, profile)
  if profile.web_identity_token_file then
    local good, token = pcall(jeton.secret.file, profile.web_identity_token_file)
    if not good then return nil, token end
    mine.token = token
    return sts.web_identity(mine)
  end
  local source, why, how = source_of(options, profiles, name, depth)
  if not source then return nil, why, how end
  return sts.assume_role(mine, source)
end

---@async
function of_profile(options, profiles, name, depth)
  local profile = profiles[name]
  if not profile then return nil, ("there is no profile %s in %s and %s"):format(name, options.credentials, options.config) end
  if depth > DEPTH_MAX then return nil, ("profile %s: its source_profile leads in a circle, or further than %d"):format(name, DEPTH_MAX) end
  if profile.role_arn then return of_role(options, profiles, name, depth) end
  if profile.aws_access_key_id and profile.aws_secret_access_key then return keys_of(profile) end
  if profile.credential_process then return M.process { command = profile.credential_process, timeout = options.timeout } end
  if profile.sso_session or profile.sso_start_url then
    return nil, ("profile %s: is a login by SSO, which a browser does: use aws.process { command = %q }"):format(name,
      ("aws configure export-credentials --profile %s --format process"):format(name))
  end
  return nil, ("profile %s: has no credentials"):format(name)
end

---@async
function M.profile(options)
  local profiles, why = ini.profiles(options.credentials, options.config)
  if not profiles then return nil, why end
  return of_profile(options, profiles, options.name, 1)
end

return M
