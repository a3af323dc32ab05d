---@meta jeton.vault
-- luacheck: ignore
-- Types of jeton.vault's options for editors with the Lua language server. Not loaded by jeton.

-- With family = true each option that may differ from key to key may be a function of it, and one has to be.
---@class jeton.vault.login : jeton.token_options
---@field url string Vault
---@field namespace? string
---@field increment? integer seconds that a renewal asks for
---@field tls? jeton.tls
---@field http2? boolean|"auto"
---@field proxy? string|jeton.proxy|false

---@class jeton.vault.approle : jeton.vault.login
---@field role_id string|jeton.secret|fun(key: string): string|jeton.secret
---@field secret_id? jeton.secret|fun(key: string): jeton.secret
---@field mount? string "approle" unless it is given

---@class jeton.vault.kubernetes : jeton.vault.login
---@field role string|fun(key: string): string
---@field token? jeton.secret|fun(key: string): jeton.secret the mounted one of the pod unless it is given
---@field mount? string "kubernetes" unless it is given

---@class jeton.vault.jwt : jeton.vault.login
---@field role string|fun(key: string): string
---@field token jeton.secret|fun(key: string): jeton.secret
---@field mount? string "jwt" unless it is given

---@class jeton.vault.token : jeton.vault.login
---@field token jeton.secret|fun(key: string): jeton.secret

---@class jeton.vault.secret : jeton.token_options
---@field login jeton.token_options what vault.approle and the like give
---@field path string|fun(key: string): string
---@field value string|fun(key: string): string the key of the secret that is the token's value
---@field fields? string[]|table<string, string>|fun(key: string): table { "username" }, or { name = "key of the secret" }
---@field lifetime? number seconds, where nothing tells an end

---@class jeton.vault.dynamic : jeton.vault.secret
---@field data? table|fun(key: string): table sent with POST
---@field increment? integer seconds that a renewal asks for

---@class jeton.vault.kv : jeton.vault.secret
---@field mount? string "secret" unless it is given
---@field engine? 1|2 KV's version; 2 unless it is given
