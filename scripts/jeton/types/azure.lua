---@meta jeton.azure
-- luacheck: ignore
-- Types of jeton.azure's options for editors with the Lua language server. Not loaded by jeton.

---@class jeton.azure.client : jeton.issuer.options
---@field tenant string|fun(key: string): string
---@field client_id string|fun(key: string): string
---@field scope string|fun(key: string): string ends in "/.default"
---@field authority? string

---@class jeton.azure.client_secret : jeton.azure.client
---@field client_secret string|jeton.secret|fun(key: string): string|jeton.secret

---@class jeton.azure.certificate : jeton.azure.client
---@field cert string|fun(key: string): string
---@field key jeton.secret|fun(key: string): jeton.secret

---@class jeton.azure.workload_identity : jeton.issuer.options
---@field scope string|fun(key: string): string ends in "/.default"
---@field tenant? string|fun(key: string): string
---@field client_id? string|fun(key: string): string
---@field token? jeton.secret|fun(key: string): jeton.secret
---@field authority? string

---@class jeton.azure.managed_identity : jeton.issuer.options
---@field resource string|fun(key: string): string without "/.default"
---@field client_id? string|fun(key: string): string
---@field identity? string|fun(key: string): string
---@field url? string
