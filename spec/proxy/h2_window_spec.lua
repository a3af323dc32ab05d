--- The window of a whole connection of HTTP/2, as jeton grants it: bodies that are too short for their own windows to grow must not wait for each other.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local h2 = require "spec.support.h2"
local process = require "spec.support.process"

local WINDOW_UPDATE, FIRST, A_PATH = 8, 65535, 625000 -- bytes; a path of 100 Mbit/s and 50 ms holds as many

--- What the first bytes of a peer grant the connection.
local function granted(bytes)
  local window, at = FIRST, 1
  while #bytes - at + 1 >= 9 do
    local n, kind, _, stream = (">I3BBI4"):unpack(bytes, at)
    if #bytes - at + 1 < 9 + n then break end
    if kind == WINDOW_UPDATE and stream == 0 then window = window + (">I4"):unpack(bytes, at + 9) end
    at = at + 9 + n
  end
  return window
end

local policy = [[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:1", http2 = true }, log = { access = false } }]]

describe("the window of a connection", function()
  after_each(process.clean)

  it("is wide for a client from the beginning", function()
    local p = jeton.start(policy)
    local c = http.connect(p.port)
    c:send(h2.PREFACE .. h2.frame(h2.FRAMES.SETTINGS, 0, 0, ""))
    local bytes = c:read_all(0.5)
    c:close()
    assert.is_true(granted(bytes) >= 2 * A_PATH, granted(bytes) .. " bytes")
    p:finish()
  end)
end)
