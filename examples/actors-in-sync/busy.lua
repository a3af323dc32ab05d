-- Any of the three stores on a machine that is too busy at the wrong moment:
--
--   STORE=2-interim jeton demo examples/actors-in-sync/busy.lua
--
-- When the third token has been asked for, something else keeps the thread of owner, interim and fetch for a second and a half. Meanwhile the
-- issuer's answer comes in and the second token ends. In the first ten seconds the visitors say what came of
-- it: how many were refused, and how long the others waited.

local store = assert(jeton.env.STORE, "STORE: which one? 1-channels, 2-interim or 3-mutex")
local asked = jeton.channel("asked", 1)

local issuer = require "issuer"
local ask, n = issuer.ask, 0
function issuer.ask()
  n = n + 1
  if n == 3 then asked:try_send(true) end
  return ask()
end

local policy = require(store)

policy.limits = { script_time = "5s" } -- else jeton would end such a task after 50 ms
policy.tasks = policy.tasks or {}

function policy.tasks.busy()
  asked:recv()
  jeton.sleep "100ms" -- the question is on its way
  local over = jeton.now() + 1.5
  while jeton.now() < over do end
end

return policy
