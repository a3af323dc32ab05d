-- A Kubernetes API with the login that kubectl uses: the plugin of the kubeconfig (users[].user.exec) gives the token, here `aws eks get-token`.

local exec_credential = require "jeton.exec_credential"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = { jeton.env.UPSTREAM or "https://ABC.gr7.eu-west-1.eks.amazonaws.com" },
  tokens = {
    cluster = exec_credential.kubernetes {
      command = { jeton.env.TOKEN_COMMAND or "aws", "eks", "get-token", "--cluster-name", "production" },
      api_version = "client.authentication.k8s.io/v1beta1", -- as the kubeconfig says
    },
  },
  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.cluster end,
}
