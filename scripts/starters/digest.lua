-- A jeton policy for a server with Digest authentication (RFC 7616), as many cameras and appliances have it.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local digest = require "jeton.digest"

local login = digest.login { username = "admin" }

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given a proof of the password.
  upstream = "http://camera.example.com",

  tokens = {
    -- A 401 is a part of this login, and no reason to read the file again.
    password = { secret = jeton.secret.file "/run/secrets/camera", reject_on = {} },
  },

  on_send = function(req, tokens)
    login.sign(req, tokens.password)
  end,
  on_response = function(res, req)
    login.answer(res, req) -- the first 401 brings a nonce, and the request goes again
  end,
}
