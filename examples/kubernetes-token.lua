-- A service of the cluster that asks who calls: the API makes a token of the account "reports" for that service alone (TokenRequest).

local kubernetes = require "jeton.kubernetes"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://billing.internal.svc",
  tokens = {
    billing = kubernetes.token_request {
      service_account = "reports",
      namespace = "default", -- the pod's own, if it is left out
      audience = "https://billing.internal.svc",
      url = jeton.env.API or "https://kubernetes.default.svc", -- the pod is told where it is, if it is left out
      token = jeton.secret.file(jeton.env.TOKEN_FILE or jeton.env.SECRET_FILE or "/var/run/secrets/kubernetes.io/serviceaccount/token"),
    },
  },
  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.billing end,
}
