-- gRPC: a token on every call, whichever kind. Clients connect without TLS (prior knowledge) to this machine; the way to the server is TLS.
--
--   grpcurl -plaintext -d '{"name": "you"}' 127.0.0.1:8080 package.Service/Method       (or any client with insecure credentials)
--
-- What it promises: as client-credentials.lua. A call for which there is no token ends with 14 (UNAVAILABLE) and says when to come again; one that the
-- server refuses with 16 (UNAUTHENTICATED) is made again with a new token, once. A stream keeps the token that it began with; the next one has the next.

local oauth2 = require "jeton.oauth2"

-- true: HTTP/2 or nothing, which is what gRPC needs. For a server without TLS: "http://10.0.0.7:50051".
-- The times between messages are the callers' business, who set deadlines (grpc-timeout) and cancel: no limit from here.
local server = { jeton.env.UPSTREAM or "https://grpc.example.com", http2 = true, timeouts = { first_byte = 0, response = 0 } }

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = server,
  timeouts = { body = 0 }, -- nor for a client that is silent within its stream of messages

  tokens = {
    api = oauth2.client_credentials {
      token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token",
      client_id = jeton.env.CLIENT_ID or "reports",
      client_secret = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/reports"),
    },
  },

  on_request = function(req, tokens)
    -- req.path is "/package.Service/Method". A hook that refuses a call in gRPC's words:
    if req.path:find("^/grpc%.reflection%.") then
      return req:respond(200, { ["content-type"] = "application/grpc", ["grpc-status"] = 7, ["grpc-message"] = "no reflection from here" })
    end
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
