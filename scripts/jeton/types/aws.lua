---@meta jeton.aws
-- luacheck: ignore
-- Types of jeton.aws's options for editors with the Lua language server. Not loaded by jeton.

---@class jeton.aws.sign
---@field service string the name that AWS signs with: "s3", "dynamodb", "execute-api", …
---@field region string
---@field payload? "hash"|"unsigned"|"client" what of the body is signed; default: its hash
---@field query? boolean the signature goes into the query
---@field expires? integer seconds that a signature in the query is good; default 300
---@field headers? string[] further fields that are signed
---@field algorithm? "AWS4-HMAC-SHA256"
---@field time? integer seconds since the epoch; default: now

-- With family = true one option that tells keys apart is a function of the key.
---@class jeton.aws.static : jeton.token_options
---@field access_key_id string|jeton.secret|fun(key: string): string|jeton.secret
---@field secret_access_key jeton.secret|fun(key: string): jeton.secret
---@field session_token? jeton.secret|fun(key: string): jeton.secret

---@class jeton.aws.profile : jeton.token_options
---@field name? string|fun(key: string): string default: AWS_PROFILE, or "default"
---@field credentials? string path; default: AWS_SHARED_CREDENTIALS_FILE, or ~/.aws/credentials
---@field config? string path; default: AWS_CONFIG_FILE, or ~/.aws/config
---@field region? string of STS, for a profile with a role
---@field sts_url? string
---@field imds_url? string

---@class jeton.aws.process : jeton.token_options
---@field command string|string[]|fun(key: string): string|string[]

---@class jeton.aws.imds : jeton.token_options
---@field role? string default: the instance's
---@field url? string

---@class jeton.aws.ecs : jeton.token_options
---@field url? string default: what the environment says
---@field authorization? jeton.secret default: what the environment says

---@class jeton.aws.role : jeton.token_options
---@field session_name? string|fun(key: string): string default "jeton"
---@field duration? integer seconds, 900 to 43200
---@field policy? string|fun(key: string): string a session policy in JSON
---@field region? string of STS; default: AWS_REGION, AWS_DEFAULT_REGION, or us-east-1
---@field url? string of STS
---@field tls? jeton.tls
---@field http2? boolean|"auto"
---@field proxy? string|jeton.proxy|false

---@class jeton.aws.web_identity : jeton.aws.role
---@field role_arn? string|fun(key: string): string default: AWS_ROLE_ARN
---@field token? jeton.secret default: the file of AWS_WEB_IDENTITY_TOKEN_FILE

---@class jeton.aws.assume_role : jeton.aws.role
---@field role_arn string|fun(key: string): string
---@field from jeton.token_options what may assume it: aws.imds() and the like
---@field external_id? string|fun(key: string): string
