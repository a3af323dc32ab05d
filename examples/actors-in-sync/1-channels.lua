-- Actors in Sync, the first store: one task owns the token and offers it on a channel. Another tells it when to fetch a new one.
--
--   jeton demo examples/actors-in-sync/1-channels.lua
--
-- It is short, and no two requests can ever see it half done. But its owner does one thing at a time.

local issuer = require "issuer"

local period = jeton.env.PERIOD or "2s" -- a token lives three seconds: the new one is there half a second before the old one ends

local tokens = jeton.channel "tokens" -- no capacity: whoever receives takes the token from the owner's hand, at that moment
local refresh = jeton.channel "refresh"

local function fetch()
  local res, problem = issuer.ask()
  if not res or res.status ~= 200 then return nil, problem or res.status end
  return jeton.secret.value(res:json().access_token)
end

return {
  listen = "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or jeton.env.JETON_DEMO_UPSTREAM,
  log = { access = false },

  tasks = {
    owner = function()
      local token = assert(fetch())
      while true do
        jeton.select {
          tokens:on_send(token),
          refresh:on_recv(function()
            -- Here it goes wrong: as long as this fetch takes, the owner is not in its select, and offers nothing. Every request that comes
            -- meanwhile waits, although what `token` holds is valid for another second.
            token = fetch() or token
          end),
        }
      end
    end,

    clock = function()
      while true do
        jeton.sleep(period)
        refresh:send(true)
      end
    end,
  },

  on_request = function(req)
    local token = tokens:recv "10s"
    if not token then return req:respond(503, { ["retry-after"] = "1" }, "no token\n") end
    req.headers["authorization"] = "Bearer " .. token
  end,
}
