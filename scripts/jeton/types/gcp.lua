---@meta jeton.gcp
-- luacheck: ignore
-- Types of jeton.gcp's options for editors with the Lua language server. Not loaded by jeton.

---@class jeton.gcp.options : jeton.issuer.options
---@field scope? string|string[]|fun(key: string): string|string[] an access token; not with audience
---@field audience? string|fun(key: string): string an ID token

---@class jeton.gcp.metadata : jeton.gcp.options
---@field account? string
---@field url? string

---@class jeton.gcp.key_file : jeton.gcp.options
---@field path string|fun(key: string): string
---@field subject? string|fun(key: string): string
---@field token_url? string

---@class jeton.gcp.workload_identity : jeton.gcp.options
---@field provider string
---@field token jeton.secret
---@field token_type? string
---@field service_account? string|fun(key: string): string
---@field lifetime? integer seconds
---@field delegates? string[]
---@field sts_url? string
---@field iam_url? string

---@class jeton.gcp.impersonate : jeton.gcp.options
---@field from jeton.token_options
---@field service_account string|fun(key: string): string
---@field lifetime? integer seconds
---@field delegates? string[]
---@field url? string
