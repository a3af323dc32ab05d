--- A name server and an upstream for specs, in namespaces of their own: lua5.4 spec/support/dns_stub.lua DIR. Prints "ready".
--- It answers A queries on 127.0.0.1:53 by the name's first label: `never…` not at all, `lost6…` for A only, `slowN…` after N ms, `fail…` with SERVFAIL, `at-4HEX-6HEX…` with these
--- addresses (A and AAAA), `from-NAME…` as the label in DIR/name-NAME says, all others with 127.0.0.1 at once; AAAA queries get an empty answer in the same manner. The upstream on port 8000 answers every
--- request with "fine", or with the address that it came to when that is not 127.0.0.1. So does one on port 8001 of 127.0.0.2 alone.
local uv = require "luv"

local udp = uv.new_udp()
assert(udp:bind("127.0.0.1", 53))

local A, AAAA = 1, 28

--- The addresses of a name, as bytes.
local function addresses(label, kind)
  local list = {}
  if not label:match "^at%-" then return { kind == A and "\127\0\0\1" or nil } end
  for family, hex in label:gmatch "%-([46])(%x+)" do
    if kind == (family == "4" and A or AAAA) then
      list[#list + 1] = hex:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)
    end
  end
  return list
end

local function answer(query, label, kind, code)
  local question = query:match("^[^\0]*\0....", 13)
  local list = code == 0 and addresses(label, kind) or {}
  local reply = query:sub(1, 2) .. string.char(0x81, 0x80 | code) .. "\0\1" .. string.pack(">I2", #list) .. "\0\0\0\0" .. question
  for _, address in ipairs(list) do reply = reply .. "\xc0\x0c" .. string.pack(">I2I2I4s2", kind, 1, 1, address) end
  return reply
end

--- What DIR says of it now.
local function from_file(name)
  local f = assert(io.open(arg[1] .. "/name-" .. name))
  local label = f:read "a"
  f:close()
  return label
end

udp:recv_start(function(_, query, from)
  if not query then return end
  local label = query:sub(14, 13 + query:byte(13))
  label = label:match "^from%-" and from_file(label:sub(6)) or label
  local kind = string.unpack(">I2", query:match("^[^\0]*\0(..)", 13))
  if label:match "^never" or (label:match "^lost6" and kind == AAAA) then return end
  local reply = answer(query, label, kind, label:match "^fail" and 2 or 0)
  local delay = tonumber(label:match "^slow(%d+)") or 0
  local timer = uv.new_timer()
  timer:start(delay, 0, function()
    timer:close()
    udp:send(reply, from.ip, from.port)
  end)
end)

local function serve(ip, port)
  local server = uv.new_tcp()
  assert(server:bind(ip, port))
  server:listen(128, function()
    local tcp = uv.new_tcp()
    server:accept(tcp)
    local at = tcp:getsockname().ip:gsub("^::ffff:", "")
    local body = at == "127.0.0.1" and "fine" or at
    local input = ""
    tcp:read_start(function(_, data)
      if not data then return tcp:close() end
      input = input .. data
      local n
      input, n = input:gsub("^.-\r\n\r\n", "")
      if n > 0 then tcp:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body)) end
    end)
  end)
end
serve("::", 8000)
serve("127.0.0.2", 8001)
print "ready"
io.stdout:flush()
uv.run()
