-- A forward proxy: clients keep the real names of what they call, and jeton is their proxy. It reaches the hosts listed here and no others; to one of them it
-- adds a token.
--
--   GET https://api.example.com/v1/reports HTTP/1.1     the request's target is the URL: TLS and the token are jeton's
--   CONNECT files.example.net:443 HTTP/1.1              what curl -x does for https: a tunnel, in which jeton sees and adds nothing
--
--   curl -x http://reports:PASSWORD@127.0.0.1:3128 https://files.example.net/

local oauth2 = require "jeton.oauth2"

local api = jeton.env.API or "api.example.com"
local connect = jeton.env.CONNECT or "*.example.net" -- port 443, unless one is written behind it

-- Names in these lists may not lead to private addresses (127.0.0.1, 10.0.0.7, a cloud's metadata service), but for those in PRIVATE.
local private = jeton.env.PRIVATE and { jeton.env.PRIVATE } or nil

-- Who may use the proxy, "NAME:PASSWORD". The client's Proxy-Authorization stops here: it is never passed on.
local credentials = jeton.env.PROXY_CREDENTIALS and "Basic " .. jeton.base64.encode(jeton.secret.env "PROXY_CREDENTIALS")

return {
  listen = jeton.env.LISTEN or "127.0.0.1:3128",

  forward = {
    hosts = { api },
    connect = { connect },
    private = private,
    tls = jeton.env.CA and { ca = jeton.env.CA } or nil, -- for an API whose certificate is by an authority of your own
  },

  tokens = {
    api = oauth2.client_credentials {
      token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token",
      client_id = "reports",
      client_secret = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/reports"),
      hosts = { api }, -- bare: https alone. That a host may be reached does not mean that it may have the token
    },
  },

  on_request = function(req, tokens)
    if credentials and not jeton.crypto.equal(req.headers["proxy-authorization"] or "", credentials) then
      return req:respond(407, { ["proxy-authenticate"] = 'Basic realm="jeton"' }, "a name and a password, please\n")
    end
    if req.method ~= "CONNECT" and req.scheme == "https" and req.host:lower() == api then
      req.headers["authorization"] = "Bearer " .. tokens.api
    end
  end,
}
