---@meta jeton.jwt
-- luacheck: ignore
-- Types of jeton.jwt's options for editors with the Lua language server. Not loaded by jeton.

---@alias jeton.jwt.alg jeton.signature|"HS256"|"HS384"|"HS512"

---@class jeton.jwt.options
---@field alg jeton.jwt.alg
---@field key jeton.secret private key in PEM, or the shared secret of an HS algorithm
---@field kid? string
---@field header? table<string, any> further header parameters
