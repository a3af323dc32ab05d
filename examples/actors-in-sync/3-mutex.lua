-- Actors in Sync, the third store: the token is a variable behind a lock. In jeton that is the slot: what stands under `tokens`.
--
--   jeton demo examples/actors-in-sync/3-mutex.lua
--
-- Its author wrote a package for it, longer than the two stores before, and right. Here it is in the program (core/token/slot.c), and what a
-- policy has to say is what to fetch, and when.

local issuer = require "issuer"

return {
  listen = "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or jeton.env.JETON_DEMO_UPSTREAM,
  log = { access = false },

  tokens = {
    api = {
      -- The lock is not held while this runs. It is taken to put the new value in place of the old one, which is one pointer; so
      -- requests read the old value until there is a new one, and nobody has to be told to stop.
      fetch = function()
        local res = assert(issuer.ask())
        assert(res.status == 200, "the issuer answered " .. res.status)
        local body = assert(res:json())
        return { value = body.access_token, expires_in = body.expires_in } -- the value and its end go together
      end,
      refresh_at = jeton.env.REFRESH_AT or "1s", -- before its end, as the two others do
      reject_on = {}, -- and as they do, it shows a refusal instead of fetching and asking again
      wait = "10s",
    },
  },

  on_request = function(req, tokens)
    -- A handle. The value is read when the request is written, and only if it has not ended by then: there is no moment at which a script
    -- holds a token that may be old.
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
