---@meta jeton.exec_credential
-- luacheck: ignore
-- Types of jeton.exec_credential's options for editors with the Lua language server. Not loaded by jeton.

-- With family = true each option that may differ from key to key may be a function of it, and one has to be.
---@class jeton.exec_credential.options : jeton.token_options
---@field env? table<string, string|jeton.secret|false>|fun(key: string): table<string, string|jeton.secret|false> on top of jeton's environment
---@field cwd? string the program's directory
---@field lifetime? number seconds, when the program tells no end; 3600 unless it is given

---@class jeton.exec_credential.kubernetes : jeton.exec_credential.options
---@field command string[]|fun(key: string): string[] { "program", "argument" }
---@field api_version? "client.authentication.k8s.io/v1"|"client.authentication.k8s.io/v1beta1"
---@field cluster? table|fun(key: string): table what kubectl tells with provideClusterInfo

---@class jeton.exec_credential.git : jeton.exec_credential.options
---@field url string|fun(key: string): string
---@field username? string|fun(key: string): string
---@field helper? string|fun(key: string): string instead of those of git's configuration
---@field program? string "/usr/bin/git" unless it is given
---@field reject? boolean after a refusal git's helpers are told to forget what they gave

---@class jeton.exec_credential.credential_process : jeton.exec_credential.options
---@field command string[]|fun(key: string): string[] { "program", "argument" }

---@class jeton.exec_credential.gcloud : jeton.exec_credential.options
---@field audience? string|fun(key: string): string makes an ID token
---@field account? string|fun(key: string): string
---@field impersonate? string|fun(key: string): string a service account
---@field program? string "gcloud" unless it is given

---@class jeton.exec_credential.az : jeton.exec_credential.options
---@field resource? string|fun(key: string): string
---@field scope? string|fun(key: string): string
---@field tenant? string|fun(key: string): string
---@field subscription? string|fun(key: string): string
---@field program? string "az" unless it is given
