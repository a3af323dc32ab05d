--- Scripts that close, cancel and call in depth: the C stack holds, in the program that serves and in the one that checks.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local process = require "spec.support.process"

--- 100 suspended coroutines: the variable of each goes 150 callbacks of gsub deep and closes the next.
local COROUTINES = [[
local function bomb()
  local first
  for _ = 1, 100 do
    local next = first
    local function go(n)
      if n > 0 then return ("x"):gsub(".", function() go(n - 1) end) end
      if next then coroutine.close(next) end
    end
    first = coroutine.create(function()
      local _ <close> = setmetatable({}, { __close = function() go(150) end })
      coroutine.yield()
    end)
    coroutine.resume(first)
  end
  return coroutine.close(first)
end
]]

describe("a script that", function()
  it("closes coroutines in depth gets an error, and the process lives", function()
    local p = jeton.start(COROUTINES .. [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", limits = { script_time = "10s" }, on_request = function(req)
      if req.path == "/bad" then local ok, why = bomb() req:respond(200, {}, tostring(ok) .. " " .. tostring(why)) else req:respond(200, {}, "fine") end
    end }]])
    for _ = 1, 3 do assert.equal(200, http.get(p.port, "/bad").status) end
    assert.equal("fine", http.get(p.port, "/good").body)
    p:finish()
  end)

  it("closes coroutines in depth while its file loads is checked to the end, whatever the limit on stacks", function()
    local path = process.write_file(process.temp_dir() .. "/policy.lua", COROUTINES .. 'bomb()\nreturn { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1" }')
    for _, limit in ipairs { "8192", "512", "unlimited" } do
      local code, out, err = process.run { "sh", "-c", 'ulimit -S -s "$0"; exec "$1" check "$2"', limit, jeton.binary, path }
      assert.equal(0, code, limit .. "\n" .. out .. err)
    end
  end)

  it("cancels a row of tasks of which each cancels the next ends all of them", function()
    local p = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", limits = { memory = "1g", script_time = "20s" },
      on_request = function(req)
        local N, handles, closed = 14000, {}, 0
        for i = 1, N do
          handles[i] = jeton.spawn(function()
            local _ <close> = setmetatable({}, { __close = function()
              closed = closed + 1
              if handles[i + 1] then handles[i + 1]:cancel() end
            end })
            jeton.sleep(1000)
          end)
        end
        handles[1]:cancel()
        req:respond(200, {}, tostring(closed))
      end }]]
    assert.equal("14000", http.request(p.port, "GET", "/", nil, nil, 60).body)
    p:finish()
  end)
end)
