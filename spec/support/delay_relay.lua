--- A TCP relay before a port that holds each byte for MS milliseconds, in both directions: a path whose ends are far from each other; with MBIT so many Mbit/s go through it each way.
--- lua5.4 delay_relay.lua PORT MS [MBIT]; prints its own port.
local uv = require "luv"

local port, delay, mbit = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3] or math.huge)
uv.new_signal():start "sigpipe"
local MOST = 64 * 1024 * 1024 -- on the way at most: far more than what a path of this delay holds

local function close(tcp) if not tcp:is_closing() then tcp:close() end end

local function carry(from, to)
  local held, first, last, size = {}, 1, 0, 0
  local free_at = 0 -- when the last byte that has come so far has gone onto the path
  local timer = uv.new_timer()
  local function deliver()
    local now = uv.now()
    while first <= last and held[first].due <= now do
      local piece = held[first]
      held[first] = nil
      first = first + 1
      if piece.data and not to:is_closing() then
        size = size - #piece.data
        to:write(piece.data)
      elseif not piece.data then
        close(to)
        close(from)
      end
    end
    if first <= last then timer:start(math.max(1, held[first].due - now), 0, deliver) end
  end
  from:read_start(function(_, data)
    last = last + 1
    free_at = math.max(free_at, uv.now()) + (data and #data * 8 / (mbit * 1000) or 0)
    held[last] = { due = math.ceil(free_at) + delay, data = data }
    size = size + (data and #data or 0)
    assert(size < MOST)
    if first == last then timer:start(held[last].due - uv.now(), 0, deliver) end
  end)
end

local server = uv.new_tcp()
server:bind("127.0.0.1", 0)
server:listen(16, function()
  local client, onward = uv.new_tcp(), uv.new_tcp()
  server:accept(client)
  onward:connect("127.0.0.1", port, function(err)
    if err then return close(client) end
    client:nodelay(true)
    onward:nodelay(true)
    carry(client, onward)
    carry(onward, client)
  end)
end)
print(server:getsockname().port)
io.stdout:flush()
uv.run()
