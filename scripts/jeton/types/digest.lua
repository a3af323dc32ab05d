---@meta jeton.digest
-- luacheck: ignore
-- Types of jeton.digest for editors with the Lua language server. Not loaded by jeton.

---@class jeton.digest.options
---@field username string|jeton.secret
---@field prefer? "auth"|"auth-int" where the server takes both; default "auth"

---@class jeton.digest.login
---@field sign fun(req: jeton.request, password: jeton.secret): true?, string?, string? for on_send
---@field answer fun(res: jeton.response, req: jeton.request): true?, string?, string? for on_response
