---@meta jeton.oauth2
-- luacheck: ignore
-- Types of jeton.oauth2's options for editors with the Lua language server. Not loaded by jeton.

---@alias jeton.oauth2.auth
---| "client_secret_basic" id and secret in the header
---| "client_secret_basic_raw" id and secret in the header, without form encoding
---| "client_secret_post" id and secret in the body
---| "client_secret_jwt" an assertion signed with the secret
---| "private_key_jwt" an assertion signed with a private key
---| "tls_client_auth" a certificate
---| "self_signed_tls_client_auth" a certificate that the issuer knows by itself
---| "none" the id alone
---| "basic" client_secret_basic
---| "basic_raw" client_secret_basic_raw
---| "post" client_secret_post

---@class jeton.oauth2.assertion
---@field key? jeton.secret private key in PEM; not with client_secret_jwt
---@field alg? jeton.jwt.alg
---@field kid? string
---@field audience? string|string[] default: token_url
---@field header? table<string, any>
---@field cert? string file, named in the header as x5t and x5t#S256
---@field lifetime? number seconds; 60 unless it is given
---@field skew? number seconds
---@field claims? table<string, any>
---@field token? jeton.secret instead of all these: signed by somebody else

---@class jeton.oauth2.jwt : jeton.oauth2.assertion
---@field issuer? string required, unless token
---@field subject? string

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
---@field dpop? jeton.oauth2.dpop|jeton.oauth2.dpop.options
---@field proxy? string|jeton.proxy|false between jeton and the token endpoint

---@class jeton.oauth2.refresh_token : jeton.oauth2.client_credentials
---@field refresh_token? string|jeton.secret|fun(key: string): string|jeton.secret
---@field path? string|fun(key: string): string where a new refresh token is saved

---@class jeton.oauth2.jwt_bearer : jeton.oauth2.client_credentials
---@field client_id? string|jeton.secret|fun(key: string): string|jeton.secret
---@field jwt jeton.oauth2.jwt|fun(key: string): jeton.oauth2.jwt

---@class jeton.oauth2.password : jeton.oauth2.client_credentials
---@field client_id? string|jeton.secret|fun(key: string): string|jeton.secret
---@field username string|jeton.secret|fun(key: string): string|jeton.secret
---@field password string|jeton.secret|fun(key: string): string|jeton.secret

---@alias jeton.oauth2.token_type "access_token"|"refresh_token"|"id_token"|"saml1"|"saml2"|"jwt"|string

---@class jeton.oauth2.token_exchange : jeton.oauth2.client_credentials
---@field client_id? string|jeton.secret|fun(key: string): string|jeton.secret
---@field subject? jeton.secret|fun(key: string): jeton.secret with family = true by default what the request gives
---@field subject_type? jeton.oauth2.token_type
---@field actor? jeton.secret|fun(key: string): jeton.secret
---@field actor_type? jeton.oauth2.token_type
---@field requested? jeton.oauth2.token_type
---@field resource? string|string[]|fun(key: string): string|string[]

---@class jeton.oauth2.device : jeton.oauth2.client_credentials
---@field device_url string
---@field path string|fun(key: string): string where the login is kept

---@class jeton.oauth2.authorization_code : jeton.oauth2.client_credentials
---@field authorize_url string
---@field redirect_url? string of this machine, with its port; any free one unless it is given
---@field authorize? table<string, string> further parameters of the address that is opened
---@field path string|fun(key: string): string where the login is kept

---@class jeton.oauth2.dpop.options
---@field key jeton.secret private key in PEM
---@field alg? jeton.signature ES256 unless it is given

---@class jeton.oauth2.dpop
local dpop = {}
--- In on_send: puts the token and its proof on the request.
---@param req jeton.request
---@param token jeton.secret
function dpop:sign(req, token) end
--- In on_response: keeps the server's nonce, and has a request that lacked it sent again: true then.
---@param res jeton.response
---@param req jeton.request
---@return boolean
function dpop:check(res, req) end
--- A proof for another request: an opaque secret, for a DPoP header.
---@param request { method: string, url: string, token: jeton.secret? }
---@return jeton.secret? proof, string? message, string? code
function dpop:proof(request) end
