-- A jeton policy for services that ask for a Kubernetes service account's token.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local kubernetes = require "jeton.kubernetes"

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given the token.
  upstream = { "https://kubernetes.default.svc", tls = { ca = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt" } },

  tokens = {
    -- The token that the kubelet mounts and renews; path = "…" for another projected one.
    api = kubernetes.service_account(),

    -- One for another audience, made by the cluster's API:
    -- api = kubernetes.token_request { service_account = "reports", audience = "vault" },
  },

  on_request = function(req, tokens)
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
