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

-- With family = true each option that may differ from key to key may be a function of it, and one has to be.
---@class jeton.oauth2.client_credentials : jeton.token_options
---@field token_url string|fun(key: string): string
---@field client_id string|jeton.secret|fun(key: string): string|jeton.secret
---@field client_secret? string|jeton.secret|fun(key: string): string|jeton.secret
---@field auth? jeton.oauth2.auth
---@field assertion? jeton.oauth2.assertion|fun(key: string): jeton.oauth2.assertion
---@field scope? string|string[]|fun(key: string): string|string[]
---@field audience? string|string[]|fun(key: string): string|string[]
---@field extra? table<string, string|number|boolean|jeton.secret>|fun(key: string): table<string, string|number|boolean|jeton.secret>
---@field lifetime? number|fun(key: string): number seconds, when the server tells none
---@field tls? jeton.tls|fun(key: string): jeton.tls
---@field http2? boolean|"auto"
---@field proxy? string|jeton.proxy|false between jeton and the token endpoint

---@class jeton.oauth2.refresh_token : jeton.oauth2.client_credentials
---@field refresh_token? string|jeton.secret|fun(key: string): string|jeton.secret
---@field path? string|fun(key: string): string where a new refresh token is saved
