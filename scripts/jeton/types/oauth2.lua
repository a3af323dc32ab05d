---@meta jeton.oauth2
-- luacheck: ignore
-- Types of jeton.oauth2's options for editors with the Lua language server. Not loaded by jeton.

---@alias jeton.oauth2.auth
---| "client_secret_basic" id and secret in the header
---| "client_secret_post" id and secret in the body
---| "client_secret_jwt" an assertion signed with the secret
---| "private_key_jwt" an assertion signed with a private key
---| "tls_client_auth" a certificate
---| "self_signed_tls_client_auth" a certificate that the issuer knows by itself
---| "none" the id alone
---| "basic" client_secret_basic
---| "post" client_secret_post

---@class jeton.oauth2.assertion
---@field key? jeton.secret private key in PEM; not with client_secret_jwt
---@field alg? jeton.jwt.alg
---@field kid? string
---@field audience? string|string[] default: token_url
---@field header? table<string, any>

---@class jeton.oauth2.client_credentials : jeton.token_options
---@field token_url string
---@field client_id string|jeton.secret
---@field client_secret? string|jeton.secret
---@field auth? jeton.oauth2.auth
---@field assertion? jeton.oauth2.assertion
---@field scope? string|string[]
---@field audience? string|string[]
---@field extra? table<string, string|number|boolean|jeton.secret>
---@field lifetime? number seconds, when the server tells none
---@field tls? jeton.tls

---@class jeton.oauth2.refresh_token : jeton.oauth2.client_credentials
---@field refresh_token? string|jeton.secret
---@field path? string where a new refresh token is saved
