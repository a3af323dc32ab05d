-- An exchange that wants requests signed: with a time stamp, in base64, by a key that is base64 itself.

local hmac = require "jeton.hmac"

local sign = hmac.signer {
  message = "{timestamp}{method}{target}{body}", key = "base64", encoding = "base64",
  headers = { ["cb-access-key"] = jeton.env.KEY_ID or "reports", ["cb-access-timestamp"] = "{timestamp}", ["cb-access-sign"] = "{signature}" },
}

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.exchange.coinbase.com",
  tokens = { key = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/exchange") },
  on_send = function(req, tokens) sign(req, tokens.key) end,
}
