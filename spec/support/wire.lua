--- What the specs of the wire share: a proxy before an upstream that records every byte, the release binary, and what the kernel says of a process.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local protocols = require "spec.support.protocols"
local busted = require "busted"
local socket = require "socket"
local uv = require "luv"

local M = {}

--- A policy of one upstream; `more` are further keys as Lua text.
function M.policy(url, more)
  if type(url) == "number" then url = "http://127.0.0.1:" .. url end
  return ("return { listen = '127.0.0.1:0', upstream = %q, %s }"):format(url, more or "")
end

--- Starts the proxy before something that has a port (or a URL); `more` are further keys of the policy.
function M.proxy(upstream, more, options)
  options = options or {}
  options.policy = M.policy(type(upstream) == "table" and upstream.port or upstream, more)
  return jeton.start(options)
end

--- The same with the release binary: a sanitized one says nothing about memory.
function M.release_proxy(upstream, more, options)
  local sanitized = jeton.binary
  jeton.binary = os.getenv "JETON_RELEASE" or jeton.root .. "/build/release/jeton"
  if not io.open(jeton.binary) then assert(os.execute "make -s >&2") end
  local ok, p = pcall(M.proxy, upstream, more, options)
  jeton.binary = sanitized
  return assert(ok and p, p)
end

--- An upstream that answers every request without a body with 200 and "fine".
M.fine = [[
  while true do
    if not c:read "head" then return c:close() end
    c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
  end]]

---@class Gate: a proxy whose upstream must see nothing of what is refused
local Gate = {}
Gate.__index = Gate

function M.gate(more)
  local upstream = peers.raw(M.fine)
  return setmetatable({ upstream = upstream, proxy = M.proxy(upstream, more) }, Gate)
end
--- Sends `bytes` (a string, or pieces for packets of their own): the reply must have a status that matches, be the only one, and end with the connection.
--- Over HTTP/2 it is the stream that is refused, by a reply or a reset; or its connection ends, where a head is too large to be worth another.
function Gate:refuses(bytes, status)
  if protocols.client == "h2" then return self:refuses_stream(bytes) end
  local before = self.upstream.received()
  local all, why = M.exchange(self.proxy.port, bytes, 5)
  local got = all:match "^HTTP/1%.1 (%d%d%d) "
  assert(got and got:match("^" .. (status or "[45]%d%d") .. "$"), ("expected status %s, got: %q"):format(status, all:sub(1, 200)))
  assert(got:match "^4" or got == "501" or got == "505", "not a refusal: " .. got)
  assert(not all:find("HTTP/1.1", 2, true), "a second reply: " .. all)
  assert(why == "closed", "the connection stayed open")
  assert(before == self.upstream.received(), "the upstream saw something")
end
function Gate:refuses_stream(bytes)
  local before = self.upstream.received()
  local c = http.connect(self.proxy.port)
  c:send(type(bytes) == "table" and table.concat(bytes) or bytes)
  local res = c:read_response("GET", process.stretched(5))
  local reset = c.exchanges[1].reset
  local refused = not res and (reset or c.ended) or res and (tostring(res.status):match "^4" or res.status == 501)
  assert(refused, ("not a refusal: %s, reset %s, ended %s"):format(res and res.status, reset, c.ended))
  c:close()
  assert(before == self.upstream.received(), "the upstream saw something")
end
--- The proxy still serves, and nothing came late: the upstream saw one more request since `refuses` was first called, no less and no more.
function Gate:ends()
  assert(http.get(self.proxy.port, "/the-only-one").body == "fine")
  local seen = self.upstream.received()
  local _, heads = seen:gsub("\r\n\r\n", "")
  assert(heads == 1 and seen:match "^GET /the%-only%-one ", "the upstream saw: " .. seen:sub(1, 2000))
  self.proxy:finish()
end

--- Describes refusals of one gate: cases are { what it is, bytes, status }, as Gate:refuses takes them.
function M.refusals(title, cases)
  busted.describe(title, function()
    local gate
    busted.setup(function() gate = M.gate() end)
    for _, case in ipairs(cases) do
      busted.it("is refused: " .. case[1], function() gate:refuses(case[2], case[3]) end)
    end
    busted.it("costs the next client nothing, and nothing of it arrives late", function() gate:ends() end)
  end)
end

--- Sends bytes, or pieces for packets of their own; returns all that came back until the peer closed or `seconds` passed, and which.
function M.exchange(target, bytes, seconds)
  local c = http.connect(target)
  if type(bytes) == "string" then bytes = { bytes } end
  for i, piece in ipairs(bytes) do
    if i > 1 then socket.sleep(0.005) end
    if not c:send(piece) then break end
  end
  local all, why = c:read_all(seconds or 5)
  c:close()
  return all, why
end

--- What each request head that an upstream received says: { line, fields = { lower-case name = value }, count = { name = how many } }.
function M.heads(text)
  local all = {}
  for head in text:gmatch "(%u+ [^\r\n]+ HTTP/1%.1\r\n.-\r\n)\r\n" do
    local h = { line = head:match "^(.-)\r\n", fields = {}, count = {} }
    for name, value in head:gmatch "\r\n([^:\r\n]+):[ \t]*([^\r\n]*)" do
      name = name:lower()
      h.fields[name] = value
      h.count[name] = (h.count[name] or 0) + 1
    end
    all[#all + 1] = h
  end
  return all
end

--- Resident memory in KiB.
function M.rss(p) return tonumber(process.read_file("/proc/" .. p.pid .. "/status"):match "VmRSS:%s+(%d+)") end
--- The same when it has come to rest: what its threads do then touches pages of its own, once.
function M.rss_at_rest(p)
  local last, steady = M.rss(p), 0
  process.poll(function()
    socket.sleep(0.2)
    local now = M.rss(p)
    last, steady = now, now == last and steady + 1 or 0
    return steady == 4
  end, 10, "its memory to be steady")
  return last
end
--- How many descriptors it has open, but for those that libuv keeps in reserve, which it opens with a loop's first connection.
function M.descriptors(p)
  local n = 0
  local dir = "/proc/" .. p.pid .. "/fd/"
  local scan = assert(uv.fs_scandir(dir))
  for name in uv.fs_scandir_next, scan do
    local to = uv.fs_readlink(dir .. name)
    if to ~= "/" and to ~= "/dev/null" then n = n + 1 end
  end
  return n
end
--- Processor time used so far, in seconds.
function M.cpu(p)
  local fields = {}
  for f in process.read_file("/proc/" .. p.pid .. "/stat"):match "%) (.*)":gmatch "%S+" do fields[#fields + 1] = f end
  return (tonumber(fields[12]) + tonumber(fields[13])) / 100
end
--- How long f takes, in seconds; then what it returns.
function M.timed(f)
  local t0 = socket.gettime()
  local result = f()
  return socket.gettime() - t0, result
end

return M
