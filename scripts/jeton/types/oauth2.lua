---@meta jeton.oauth2
-- luacheck: ignore
-- Types of jeton.oauth2's options for editors with the Lua language server. Not loaded by jeton.

---@class jeton.oauth2.client_credentials : jeton.token_options
---@field token_url string
---@field client_id string|jeton.secret
---@field client_secret? string|jeton.secret
---@field auth? "basic"|"post"|"none"
---@field scope? string|string[]
---@field audience? string|string[]
---@field extra? table<string, string|number|boolean|jeton.secret>
---@field lifetime? number seconds, when the server tells none
---@field tls? jeton.tls

---@class jeton.oauth2.refresh_token : jeton.oauth2.client_credentials
---@field refresh_token? string|jeton.secret
---@field path? string where a new refresh token is saved
