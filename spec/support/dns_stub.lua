--- A name server and an upstream for specs, in namespaces of their own: lua5.4 spec/support/dns_stub.lua. Prints "ready".
--- It answers A queries on 127.0.0.1:53 by the name's first label: `never…` not at all, `slowN…` after N ms, `fail…` with SERVFAIL, all others with
--- 127.0.0.1 at once; AAAA queries get an empty answer in the same manner. The upstream on 127.0.0.1:8000 answers every request with "fine".
local uv = require "luv"

local FINE = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
local udp = uv.new_udp()
assert(udp:bind("127.0.0.1", 53))

local function answer(query, kind, code)
  local question = query:match("^[^\0]*\0....", 13)
  local has = kind == 1 and code == 0
  local reply = query:sub(1, 2) .. string.char(0x81, 0x80 | code) .. "\0\1" .. (has and "\0\1" or "\0\0") .. "\0\0\0\0" .. question
  if has then reply = reply .. "\xc0\x0c\0\1\0\1\0\0\0\1\0\4\127\0\0\1" end
  return reply
end

udp:recv_start(function(_, query, from)
  if not query then return end
  local label = query:sub(14, 13 + query:byte(13))
  local kind = string.unpack(">I2", query:match("^[^\0]*\0(..)", 13))
  if label:match "^never" then return end
  local reply = answer(query, kind, label:match "^fail" and 2 or 0)
  local delay = tonumber(label:match "^slow(%d+)") or 0
  local timer = uv.new_timer()
  timer:start(delay, 0, function()
    timer:close()
    udp:send(reply, from.ip, from.port)
  end)
end)

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", 8000))
server:listen(128, function()
  local tcp = uv.new_tcp()
  server:accept(tcp)
  local input = ""
  tcp:read_start(function(_, data)
    if not data then return tcp:close() end
    input = input .. data
    local n
    input, n = input:gsub("^.-\r\n\r\n", "")
    if n > 0 then tcp:write(FINE) end
  end)
end)
print "ready"
io.stdout:flush()
uv.run()
