-- Actors in Sync, the second store: as the first one, but while the owner fetches, an interim task goes on offering the old token.
--
--   jeton demo examples/actors-in-sync/2-interim.lua
--
-- Nobody waits any more. But there are two owners now for a while, and they have to hand over.

local issuer = require "issuer"

local period = jeton.env.PERIOD or "2s"

local tokens = jeton.channel "tokens"
local refresh = jeton.channel "refresh"
local stop = jeton.channel "stop"

-- Luck that can be had again: the test of this file finds a seed with which it goes wrong.
if jeton.env.SEED then jeton.select.seed(math.tointeger(jeton.env.SEED)) end

local function fetch()
  local res, problem = issuer.ask()
  if not res or res.status ~= 200 then return nil, problem or res.status end
  return jeton.secret.value(res:json().access_token)
end

local function interim(old)
  local running = true
  while running do
    jeton.select {
      -- Here it may go wrong: when a request waits for a token and the owner says stop, both can go on, and select tosses a coin. As often as
      -- it falls this way up, the old token goes out, with the new one in the owner's hand. Nothing ends that but luck, and the old
      -- token's end does not either: nobody here knows when that is.
      tokens:on_send(old),
      stop:on_recv(function() running = false end),
    }
  end
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
            jeton.spawn(interim, token)
            token = fetch() or token
            stop:send(true) -- waits until the interim has heard it: from then on there is one owner again
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
