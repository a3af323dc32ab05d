-- At most so many requests a client and second, counted over all workers. The store is the process's: a reload does not set the counts back.
--
--   wrk -c 8 http://127.0.0.1:8080/

local rate = tonumber(jeton.env.RATE or 100)
local counts = jeton.shared("rate-limit", { max = "4m" }) -- some 30,000 clients; beyond, the ones not seen for longest are forgotten

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",

  on_request = function(req)
    -- One step, whatever other workers do: the first request of a client starts a count that ends a second later.
    if counts:incr(req.client.address, 1, "1s") > rate then
      req:respond(429, { ["retry-after"] = "1" }, "more than " .. rate .. " requests a second\n")
    end
  end,
}
