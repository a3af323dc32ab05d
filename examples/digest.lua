-- A device that asks for Digest authentication (cameras, printers, old servers).

local digest = require "jeton.digest"

local login = digest.login { username = jeton.env.USERNAME or "admin" }

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "http://camera.example.com",
  tokens = { password = { secret = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/camera"), reject_on = {} } }, -- the 401 is answered below
  on_send = function(req, tokens) login.sign(req, tokens.password) end,
  on_response = function(res, req) login.answer(res, req) end,
}
