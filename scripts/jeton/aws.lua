--- AWS's credentials, and Signature Version 4.
--
--   tokens  = { aws = aws.imds() },                                         -- an instance of EC2; or one of the others below
--   on_send = function(req, tokens) aws.sign(req, tokens.aws, { service = "s3", region = "eu-west-1" }) end,
--
-- A token's value is the secret access key; its fields are `access_key_id` and, for credentials that end, `session_token`. Sources: "AWS SDKs and Tools Reference
-- Guide" (standardized credential providers), and the pages of EC2 and STS.

local issuer = require "jeton.issuer"
local names = require "jeton.names"
local signing = require "jeton.aws.sign"
local sources = require "jeton.aws.sources"
local sts = require "jeton.aws.sts"

local M = {}

M.sign = signing.sign

-- refusals ------------------------------------------------------------------------------------------------------------------------------------

--- What AWS says of credentials that are over or gone, in x-amzn-errortype ("Common errors" of its API references). A 403 by itself is mostly a permission that
--- the role has not, which other credentials of the same role have not either.
local GONE = {
  ExpiredToken = true, ExpiredTokenException = true, InvalidClientTokenId = true, UnrecognizedClientException = true, InvalidAccessKeyId = true,
  InvalidToken = true, TokenRefreshRequired = true,
}

local function refused(res)
  if res.status == 401 then return true end
  if res.status ~= 400 and res.status ~= 403 then return false end
  local kind = res.headers["x-amzn-errortype"]
  return kind ~= nil and GONE[kind:match "^([^:]*)":match "[^#]*$"] == true
end

--- issuer.new, with what all of AWS's have in common.
local function new(kind)
  kind.token = function(token)
    if token.reject_on == nil then token.reject_on = refused end
  end
  return issuer.new(kind)
end

--- Options that may be left out as a whole.
local function optional(made)
  return function(options) return made(options == nil and {} or options) end
end

local function seconds_of_role(value)
  return (math.type(value) ~= "integer" or value < 900 or value > 43200) and "whole seconds from 900 to 43200" or nil
end

local function region(value)
  return (type(value) ~= "string" or not value:find "^[%w-]+$") and 'the name of a region, such as "eu-west-1"' or nil
end

-- where credentials are -----------------------------------------------------------------------------------------------------------------------

--- Keys that are written down somewhere.
---@param options jeton.aws.static
---@return jeton.token_options
M.static = new {
  name = "aws.static",
  options = {
    access_key_id = { issuer.credential, needed = true, by_key = true },
    secret_access_key = { issuer.secret, needed = true, by_key = true },
    session_token = { issuer.secret, by_key = true },
  },
  fetch = sources.static,
}

--- AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where it is set, AWS_SESSION_TOKEN.
---@param options? jeton.token_options
---@return jeton.token_options
M.environment = optional(new {
  name = "aws.environment",
  options = {},
  check = function(options)
    local made, why = sources.of_environment()
    if not made then error(why, 0) end
    options.made = made
  end,
  fetch = function(options) return sources.static(options.made) end,
})

local function home() return jeton.env.HOME or "" end

--- A profile of ~/.aws/credentials and ~/.aws/config: its keys, its credential_process, or its role.
---@param options? jeton.aws.profile
---@return jeton.token_options
M.profile = optional(new {
  name = "aws.profile",
  options = {
    name = { issuer.text, default = jeton.env.AWS_PROFILE or "default", by_key = true },
    credentials = { issuer.path, default = jeton.env.AWS_SHARED_CREDENTIALS_FILE or home() .. "/.aws/credentials" },
    config = { issuer.path, default = jeton.env.AWS_CONFIG_FILE or home() .. "/.aws/config" },
    region = { region },
    sts_url = { issuer.url, base = true },
    imds_url = { issuer.url, base = true, default = "http://169.254.169.254" },
  },
  fetch = sources.profile,
})

local function command(value)
  if type(value) == "string" and value:find "%S" then return nil end
  return issuer.texts(value) and 'a program and its arguments, such as { "aws-login", "--json" }' or nil
end

--- A program that prints credentials (credential_process), without a shell.
---@param options jeton.aws.process
---@return jeton.token_options
M.process = new {
  name = "aws.process",
  options = { command = { command, needed = true, by_key = true } },
  fetch = sources.process,
}

--- The role of the instance of EC2 that this runs on, from its metadata service (version 2).
---@param options? jeton.aws.imds
---@return jeton.token_options
M.imds = optional(new {
  name = "aws.imds",
  options = {
    role = { issuer.text },
    url = { issuer.url, base = true, default = jeton.env.AWS_EC2_METADATA_SERVICE_ENDPOINT or "http://169.254.169.254" },
  },
  fetch = sources.imds,
})

local function check_container(options)
  for key, value in pairs(sources.of_container()) do
    if options[key] == nil then options[key] = value end
  end
  if not options.url then
    error("url: is needed where the environment has neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor AWS_CONTAINER_CREDENTIALS_FULL_URI", 0)
  end
  local wrong = sources.wrong_container(options.url)
  if wrong then error("url: " .. wrong, 0) end
end

--- The role of the task or pod that this runs in (ECS, EKS Pod Identity), from what its agent has put into the environment.
---@param options? jeton.aws.ecs
---@return jeton.token_options
M.ecs = optional(new {
  name = "aws.ecs",
  options = { url = { issuer.url }, authorization = { issuer.secret } },
  check = check_container,
  fetch = sources.ecs,
})

-- roles ---------------------------------------------------------------------------------------------------------------------------------------

local function role_arn(value)
  return (type(value) ~= "string" or not value:find "^arn:") and 'the ARN of a role, such as "arn:aws:iam::123456789012:role/reports"' or nil
end

local function role_options(more)
  local options = {
    role_arn = { role_arn, needed = true, by_key = true },
    session_name = { issuer.text, default = "jeton", by_key = true },
    duration = { seconds_of_role },
    policy = { issuer.text, by_key = true },
    region = { region },
    url = { issuer.url, base = true },
  }
  for key, option in pairs(more) do options[key] = option end
  return options
end

local function check_role(options) options.region = sts.region(options) end

local web_identity = new {
  name = "aws.web_identity",
  options = role_options { token = { issuer.secret, needed = true } },
  check = check_role,
  fetch = sts.web_identity,
}

--- A role, for the token of an identity provider in a file (EKS service accounts, CI). What is left out is taken from AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE and
--- AWS_ROLE_SESSION_NAME.
---@param options? jeton.aws.web_identity
---@return jeton.token_options
function M.web_identity(options)
  local made = {}
  if options ~= nil and type(options) ~= "table" then return web_identity(options) end
  for key, value in pairs(options or {}) do made[key] = value end
  for key, value in pairs(sources.of_pod()) do
    if made[key] == nil then made[key] = value end
  end
  local good, token = pcall(web_identity, made)
  if not good then error(token:gsub("^[^:]+:%d+: ", ""), 2) end
  return token
end

local function credentials(value)
  return (type(value) ~= "table" or type(value.fetch) ~= "function") and "credentials that may assume the role, such as aws.imds()" or nil
end

--- A role, assumed with other credentials: `from` is what the functions above give.
---@param options jeton.aws.assume_role
---@return jeton.token_options
M.assume_role = new {
  name = "aws.assume_role",
  options = role_options { from = { credentials, needed = true }, external_id = { issuer.text, by_key = true } },
  check = check_role,
  fetch = function(options, ctx)
    local source, why, how = options.from.fetch(ctx)
    if not source then return nil, why, how end
    return sts.assume_role(options, source)
  end,
}

return names.strict("jeton.aws", M)
