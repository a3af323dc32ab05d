-- Credentials that Vault makes for this proxy alone: the lease is renewed while it serves, and revoked when the proxy ends.

local vault = require "jeton.vault"

local login = vault.approle {
  url = jeton.env.VAULT_ADDR or "https://vault.example.com:8200",
  role_id = jeton.env.ROLE_ID or "reports",
  secret_id = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/secret-id"),
}

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://clickhouse.example.com:8443",
  tokens = { db = vault.dynamic { login = login, path = "database/creds/reports", value = "password", fields = { "username" } } },
  on_request = function(req, tokens) req.headers["authorization"] = "Basic " .. jeton.base64.encode(tokens.db:field "username" .. ":" .. tokens.db) end,
}
