---@meta jeton.issuer
-- luacheck: ignore
-- Types of what all modules for issuers take, for editors with the Lua language server. Not loaded by jeton.

---@class jeton.issuer.options : jeton.token_options
---@field fetch nil made by the module
---@field tls? jeton.tls how the issuer is reached
---@field http2? boolean|"auto"
---@field proxy? string|jeton.proxy|false
