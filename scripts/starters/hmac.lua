-- A jeton policy for an API that wants each request signed with a shared key.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local hmac = require "jeton.hmac"

-- What is signed, and where the signature goes: {method}, {target}, {body}, {timestamp}, {nonce} and others stand for what is sent.
local sign = hmac.signer {
  message = "{timestamp}{method}{target}{body}",
  headers = { ["x-timestamp"] = "{timestamp}", ["x-signature"] = "{signature}" },
  hash = "sha256", -- encoding = "hex"; "base64" is another
}

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given signatures.
  upstream = "https://api.example.com",

  tokens = { key = jeton.secret.file "/run/secrets/api-key" },

  -- Runs before each try, so the time stamp of a second one is its own.
  on_send = function(req, tokens)
    sign(req, tokens.key)
  end,
}
