--- Credentials from programs that have logged in already, in the forms that such programs speak. Each runs without a shell, in the background,
--- on the keeper's thread.
--
--   tokens = { api = exec_credential.kubernetes { command = { "aws-iam-authenticator", "token", "-i", "production" } } }
--   tokens = { repo = exec_credential.git { url = "https://git.example.com" } }                        -- tokens.repo:field "authorization"
--   tokens = { aws = exec_credential.credential_process { command = { "/opt/bin/aws-credentials" } } } -- as of jeton.aws
--   tokens = { api = exec_credential.gcloud() }
--   tokens = { api = exec_credential.az { resource = "https://vault.azure.net" } }
--
-- What a program prints on standard output is the credential, and is shown nowhere. What it says on standard error, when it fails, is in the log.
-- Sources: "client-go credential plugins" of the Kubernetes documentation, git-credential(1) and gitcredentials(7), "Sourcing credentials with
-- an external process" of the AWS SDKs' guide, and the references of `gcloud config config-helper`,
-- `gcloud auth print-identity-token` and `az account get-access-token`.

local issuer = require "jeton.issuer"
local jwt = require "jeton.jwt"
local names = require "jeton.names"
local program = require "jeton.program"

local M = {}

local LIFETIME = 3600 -- seconds: when a program tells no end, it is asked again after these
local run, run_json = program.run, program.run_json

-- kinds of options ----------------------------------------------------------------------------------------------------------------------------

--- A program and its arguments. One text would ask for a shell's rules of quoting.
local function command(value)
  local good = type(value) == "table" and #value > 0
  for key, part in pairs(good and value or {}) do
    good = good and math.type(key) == "integer" and key <= #value and type(part) == "string" and not part:find "%z"
  end
  return not good and 'a list such as { "program", "argument" }' or nil
end

local function line(value) return (type(value) ~= "string" or value == "" or value:find "[%c]") and "a string of one line" or nil end
local function absolute(value) return (type(value) ~= "string" or value:sub(1, 1) ~= "/") and 'a path from the root such as "/usr/bin/git"' or nil end

--- Options of each of them: what the program finds in its environment, its directory, and how long a credential without an end is used.
local function options_of(more)
  more.env = { issuer.map, by_key = true }
  more.cwd = { issuer.path }
  more.lifetime = { issuer.seconds }
  return more
end

-- results -------------------------------------------------------------------------------------------------------------------------------------

--- A result of a fetch. told: when it ends, as of jeton.time.parse or in seconds since the epoch; nil: what it says itself, if it is a JWT, else `lifetime`.
local function made(options, value, told, fields)
  if told == jeton.json.null then told = nil end
  local claims = not told and jwt.claims(value)
  told = told or claims and claims.exp
  if not told then return { value = value, expires_in = options.lifetime or LIFETIME, fields = fields } end
  return { value = value, expires_at = told, fields = fields }
end

local function text_of(value) return type(value) == "string" and value ~= "" and value or nil end

-- kubectl's plugins ---------------------------------------------------------------------------------------------------------------------------

local KUBERNETES = { "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1" }

--- What a plugin is told of who asks. It cannot ask back: nobody sits before a proxy.
local function exec_info(options)
  return jeton.json.encode {
    apiVersion = options.api_version, kind = "ExecCredential", spec = { interactive = false, cluster = options.cluster },
  }
end

---@async
local function fetch_kubernetes(options)
  local who = options.command[1]
  local body, why = run_json(options, options.command, { KUBERNETES_EXEC_INFO = exec_info(options) })
  if not body then return nil, why end
  if body.kind ~= "ExecCredential" then return nil, who .. " printed no ExecCredential" end
  if body.apiVersion ~= options.api_version then
    local other = body.apiVersion == KUBERNETES[1] and KUBERNETES[1] or body.apiVersion == KUBERNETES[2] and KUBERNETES[2]
    return nil, ("%s speaks another version than %s%s"):format(who, options.api_version, other and (': write api_version = "%s"'):format(other) or "")
  end
  local status = type(body.status) == "table" and body.status or {}
  local token = text_of(status.token)
  if token then return made(options, token, status.expirationTimestamp) end
  if text_of(status.clientCertificateData) then
    return nil, who .. " gave a client certificate and no token: a certificate goes into the upstream's tls = { cert =, key = }"
  end
  return nil, who .. "'s ExecCredential has no token"
end

--- A plugin as kubectl has them: `users[].user.exec` of a kubeconfig. The token's value is what stands behind "Bearer ".
---@param options jeton.exec_credential.kubernetes
---@return jeton.token_options
M.kubernetes = issuer.new {
  name = "exec_credential.kubernetes",
  calls = false,
  options = options_of {
    command = { command, needed = true, by_key = true },
    api_version = { issuer.one_of(KUBERNETES), default = KUBERNETES[1] },
    cluster = { issuer.map, by_key = true }, -- what kubectl tells with provideClusterInfo
  },
  fetch = fetch_kubernetes,
}

-- git -----------------------------------------------------------------------------------------------------------------------------------------

--- What git is asked, a key on each line. `path` counts where the user's credential.useHttpPath says so.
local function git_question(options, url)
  local lines = { "capability[]=authtype", "protocol=" .. url.scheme }
  local default = url.scheme == "https" and 443 or 80
  local host = url.host:find(":", 1, true) and "[" .. url.host .. "]" or url.host
  lines[#lines + 1] = "host=" .. host .. (url.port ~= default and ":" .. math.tointeger(url.port) or "")
  if #url.path > 1 then lines[#lines + 1] = "path=" .. url.path:sub(2) end
  if options.username then lines[#lines + 1] = "username=" .. options.username end
  return table.concat(lines, "\n") .. "\n"
end

--- `git credential VERB`, with the helpers of its configuration or with one alone.
local function git_command(options, verb)
  local argv = { options.program }
  if options.helper then
    for _, part in ipairs { "-c", "credential.helper=", "-c", "credential.helper=" .. options.helper } do argv[#argv + 1] = part end
  end
  argv[#argv + 1], argv[#argv + 2] = "credential", verb
  return argv
end

--- Without these git asks whoever sits at the terminal, or opens a window. An empty GIT_ASKPASS keeps it from core.askPass and SSH_ASKPASS, too.
local GIT_QUIET = { GIT_TERMINAL_PROMPT = "0", GIT_ASKPASS = "", GCM_INTERACTIVE = "never" }

local function read_lines(text)
  local body = {}
  for key, value in text:gmatch "([^\n=]+)=([^\n]*)" do body[key] = body[key] or value:gsub("\r$", "") end
  return body
end

--- Tells the helpers that what they gave is no good, as git does after a 401: what keeps it forgets it, and the next answer is another one.
---@async
local function git_reject(options, ctx, question)
  local previous = ctx.previous
  local password, username = previous and previous:field(), previous and previous:field "username"
  if not password or not username then return end
  local _, why = run(options, git_command(options, "reject"), GIT_QUIET, question .. "username=" .. username .. "\npassword=" .. password .. "\n")
  if why then jeton.log.warn("git could not be told that a credential was refused", { reason = why }) end
end

---@async
local function fetch_git(options, ctx)
  local url, bad = jeton.url.parse(options.url)
  if not url then return nil, "url: " .. bad end
  local question = git_question(options, url)
  if options.reject and ctx.reason == "rejected" then git_reject(options, ctx, question) end
  local text, why = run(options, git_command(options, "fill"), GIT_QUIET, question)
  if not text then return nil, why end
  local body = read_lines(text)
  local expiry = tonumber(body.password_expiry_utc)
  if text_of(body.credential) and text_of(body.authtype) then
    return made(options, body.credential, expiry, { authorization = body.authtype .. " " .. body.credential })
  end
  if not text_of(body.password) then return nil, "git has no password for this url: is there a credential.helper that does?" end
  local username = body.username or ""
  return made(options, body.password, expiry, { username = username, authorization = "Basic " .. jeton.base64.encode(username .. ":" .. body.password) })
end

local function check_git(options)
  local url, bad = jeton.url.parse(options.url)
  if not url then error("url: " .. bad, 0) end
  if url.path:find "[%c]" then error("url: expected no control characters", 0) end
end

--- What `git credential fill` gives for a URL. The token's value is the password, its fields `username`, and `authorization`: all that belongs into that header.
---@param options jeton.exec_credential.git
---@return jeton.token_options
M.git = issuer.new {
  name = "exec_credential.git",
  calls = false,
  options = options_of {
    url = { issuer.url, needed = true, by_key = true },
    username = { line, by_key = true },
    helper = { line, by_key = true },
    program = { absolute, default = "/usr/bin/git" },
    reject = { issuer.flag, default = false },
  },
  check = check_git,
  fetch = fetch_git,
  token = function(token, options) -- what it rejects goes to that program's standard input, and for this the token has to know it
    if not options.reject then return end
    token.hosts = { table.unpack(token.hosts or {}) }
    token.hosts[#token.hosts + 1] = "exec:" .. options.program
  end,
}

-- AWS -----------------------------------------------------------------------------------------------------------------------------------------

---@async
local function fetch_process(options)
  local body, why = run_json(options, options.command)
  if not body then return nil, why end
  local who = options.command[1]
  if body.Version ~= 1 then return nil, who .. " printed no credentials of Version 1" end
  local id, key = text_of(body.AccessKeyId), text_of(body.SecretAccessKey)
  if not id or not key then return nil, ("%s's credentials have no %s"):format(who, id and "SecretAccessKey" or "AccessKeyId") end
  return made(options, key, body.Expiration, { access_key_id = id, session_token = text_of(body.SessionToken) })
end

--- `credential_process` of an AWS profile. As in jeton.aws the token's value is the secret access key, and its fields are `access_key_id` and `session_token`.
---@param options jeton.exec_credential.credential_process
---@return jeton.token_options
M.credential_process = issuer.new {
  name = "exec_credential.credential_process",
  calls = false,
  options = options_of { command = { command, needed = true, by_key = true } },
  fetch = fetch_process,
}

-- gcloud --------------------------------------------------------------------------------------------------------------------------------------

--- gcloud gives out what it has kept for as long as that lives. What is asked for lives longer than a refresh at 0.8 of an hour leaves it.
local MIN_EXPIRY = "15m"

local function gcloud_command(options)
  local argv = { options.program }
  local function add(...)
    for _, part in ipairs { ... } do argv[#argv + 1] = part end
  end
  if options.audience then
    add("auth", "print-identity-token", "--audiences=" .. options.audience)
  else
    add("config", "config-helper", "--format=json", "--min-expiry=" .. MIN_EXPIRY)
  end
  if options.account then add("--account=" .. options.account) end
  if options.impersonate then add("--impersonate-service-account=" .. options.impersonate) end
  return argv
end

---@async
local function fetch_gcloud(options)
  local argv, quiet = gcloud_command(options), { CLOUDSDK_CORE_DISABLE_PROMPTS = "1" }
  if options.audience then
    local text, why = run(options, argv, quiet)
    local token = text and text:match "^%s*(%S+)%s*$"
    if not token then return nil, why or "gcloud printed no token" end
    return made(options, token)
  end
  local body, why = run_json(options, argv, quiet)
  if not body then return nil, why end
  local credential = type(body.credential) == "table" and body.credential or {}
  if not text_of(credential.access_token) then return nil, "gcloud printed no credential.access_token" end
  return made(options, credential.access_token, credential.token_expiry)
end

local gcloud = issuer.new {
  name = "exec_credential.gcloud",
  calls = false,
  options = options_of {
    audience = { line, by_key = true },
    account = { line, by_key = true },
    impersonate = { line, by_key = true },
    program = { issuer.path, default = "gcloud" },
  },
  fetch = fetch_gcloud,
}
--- The access token of whoever has logged in with `gcloud auth login`; with `audience` an ID token.
---@param options? jeton.exec_credential.gcloud
---@return jeton.token_options
function M.gcloud(options) return gcloud(options == nil and {} or options) end

-- az ------------------------------------------------------------------------------------------------------------------------------------------

--- az gives out what it has kept until five minutes before its end: asked earlier, it would print the same again.
local AZ_REFRESH_AT = "4m"

local function az_command(options)
  local argv = { options.program, "account", "get-access-token", "--output", "json" }
  for _, key in ipairs { "resource", "scope", "tenant", "subscription" } do
    if options[key] then argv[#argv + 1], argv[#argv + 2] = "--" .. key, options[key] end
  end
  return argv
end

---@async
local function fetch_az(options)
  local body, why = run_json(options, az_command(options), { AZURE_CORE_NO_COLOR = "1", AZURE_CORE_ONLY_SHOW_ERRORS = "1" })
  if not body then return nil, why end
  local token = text_of(body.accessToken)
  if not token then return nil, "az printed no accessToken" end
  -- `expiresOn` is local time without a zone. Before az 2.54 there is no other, and then the token itself tells.
  return made(options, token, body.expires_on)
end

local function check_az(options)
  if options.resource ~= nil and options.scope ~= nil then error("scope: resource says already what the token is for: leave one of the two out", 0) end
  if options.tenant ~= nil and options.subscription ~= nil then error("subscription: has a tenant already: leave one of the two out", 0) end
end

local az = issuer.new {
  name = "exec_credential.az",
  calls = false,
  options = options_of {
    resource = { line, by_key = true },
    scope = { line, by_key = true },
    tenant = { line, by_key = true },
    subscription = { line, by_key = true },
    program = { issuer.path, default = "az" },
  },
  check = check_az,
  fetch = fetch_az,
  token = function(token) token.refresh_at = token.refresh_at or AZ_REFRESH_AT end,
}
--- The access token of whoever has logged in with `az login`, for Azure's management or what `resource` or `scope` names.
---@param options? jeton.exec_credential.az
---@return jeton.token_options
function M.az(options) return az(options == nil and {} or options) end

return names.strict("jeton.exec_credential", M)
