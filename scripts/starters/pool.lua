-- A jeton policy for one API with several keys, each with a limit of its own.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local pool = require "jeton.pool"

local keys = pool.new { tokens = { "one", "two" } } -- in turn; choose = "least_used" is another way

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given the keys.
  upstream = "https://api.example.com",

  tokens = {
    one = jeton.secret.file "/run/secrets/key-one",
    two = jeton.secret.file "/run/secrets/key-two",
  },

  on_send = function(req, tokens)
    local key = keys:choose(req, tokens)
    if key then req.headers["authorization"] = "Bearer " .. key end -- nil: all of them rest, and the client has been told
  end,
  on_response = function(res, req)
    keys:answered(res, req) -- a 429 lets this key rest, and the request goes again with another
  end,
}
