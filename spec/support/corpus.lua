--- Runs the corpus of raw requests (spec/security/corpus) through any proxy and says what came of each.
---
--- Client and upstream live here, in one loop, so that every byte on both sides is at hand: the upstream reads with spec/support/strict.lua alone, answers each whole
--- request, and answers nothing else. Nothing waits for luck: a case is over when the proxy has closed, or has answered as often as it should and then saw our FIN.
local strict = require "spec.support.strict"
local uv = require "luv"

local M = {}

M.families = { "framing", "chunks", "bytes", "fields", "targets", "protocol", "desync", "honest", "replies" }

---@class Case
---@field name string
---@field bytes string|string[] pieces go out in packets of their own
---@field expect "refused"|"clear"|"served"|"answered"|"unfinished"|"doubted"|"broken" doubted: 502, or a reply that can be read in one way only; broken: the
--- client sees that its reply is not whole; answered: by the proxy itself; clear: refused, or forwarded in a form that can be read in one way only; unfinished: never a whole request upstream
---@field rule string the section that the expectation rests on
---@field status? string a pattern for the status of the (first) reply
---@field requests? integer how many requests a reader of the RFC may see in it (default 1)
---@field ends? boolean the client's FIN follows at once: what it sends is not whole
---@field reply? string|string[] what the upstream answers to the first request with, instead of 200 with its body; pieces go out in packets of their own
---@field reply_ends? boolean the upstream closes behind that
---@field behind? string what the upstream says behind its answer to the second request
---@field closes? boolean the proxy must close behind the reply
---@field check? fun(seen: table, replies: table) looks at what the upstream saw and the client got; raises
---@field family string set by load

--- The cases of the named families (default: all), in order.
function M.load(families)
  local all = {}
  for _, family in ipairs(families or M.families) do
    for _, case in ipairs(require("spec.security.corpus." .. family)) do
      case.family = family
      all[#all + 1] = case
    end
  end
  return all
end

---@class Upstream
local Upstream = {}
Upstream.__index = Upstream

local function answer(r)
  local body = r.method == "HEAD" and "" or r.body
  return ("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s"):format(#r.body, body)
end

--- Writes the pieces one by one, 10 ms apart; then calls done.
local function write_pieces(tcp, pieces, i, done)
  if tcp:is_closing() then return end
  if not pieces[i] then return done() end
  tcp:write(pieces[i])
  if not pieces[i + 1] then return done() end
  local timer = uv.new_timer()
  timer:start(10, 0, function()
    timer:close()
    write_pieces(tcp, pieces, i + 1, done)
  end)
end

local function pieces_of(bytes) return type(bytes) == "table" and bytes or { bytes } end

local function on_bytes(u, c, data)
  c.bytes = c.bytes .. data
  local seen = strict.requests(c.bytes)
  if seen.begun and seen.begun.by.expect and not c.continued then
    c.continued = true
    c.tcp:write "HTTP/1.1 100 Continue\r\n\r\n"
  end
  for i = c.answered + 1, #seen do
    c.answered = i
    local case = u.case
    if case and case.reply and not u.scripted then
      u.scripted = true
      write_pieces(c.tcp, pieces_of(case.reply), 1, function()
        if case.reply_ends then c.tcp:shutdown() end
      end)
    else
      c.tcp:write(answer(seen[i]))
      if case and case.behind then c.tcp:write(case.behind) end
    end
  end
end

local function on_connection(u)
  local tcp = uv.new_tcp()
  u.listener:accept(tcp)
  local c = { tcp = tcp, bytes = "", answered = 0 }
  u.connections[#u.connections + 1] = c
  tcp:read_start(function(_, data)
    if data then return on_bytes(u, c, data) end
    c.ended = true
    if not tcp:is_closing() then tcp:close() end
  end)
end

--- An upstream that reads strictly. .port; take() gives what came since the last take.
function M.upstream()
  local u = setmetatable({ listener = uv.new_tcp(), connections = {} }, Upstream)
  u.listener:bind("127.0.0.1", 0)
  u.listener:listen(128, function() on_connection(u) end)
  u.port = u.listener:getsockname().port
  return u
end

--- What arrived since the last call: { requests (whole ones, in order), faults (texts), partial (how many ended in the middle of a request) }.
--- A connection that is in the middle of something is closed; the others may serve the next case, as in life.
function Upstream:take()
  local seen, kept = { requests = {}, faults = {}, partial = 0 }, {}
  for _, c in ipairs(self.connections) do
    local all = strict.requests(c.bytes)
    for i = 1, #all do seen.requests[#seen.requests + 1] = all[i] end
    if all.fault then seen.faults[#seen.faults + 1] = all.fault end
    if all.incomplete then seen.partial = seen.partial + 1 end
    c.bytes, c.answered, c.continued = "", 0, nil
    if (all.fault or all.incomplete) and not c.tcp:is_closing() then c.tcp:close() end
    if not c.tcp:is_closing() then kept[#kept + 1] = c end
  end
  self.connections = kept
  return seen
end

function Upstream:close()
  for _, c in ipairs(self.connections) do
    if not c.tcp:is_closing() then c.tcp:close() end
  end
  self.listener:close()
  uv.run "nowait" -- handles end in the loop
end

local function methods_of(case)
  local bytes = table.concat(pieces_of(case.bytes))
  local methods = {}
  for method in bytes:gmatch "%f[%u](%u+) [^ \r\n]+ HTTP/1%.[01]\r\n" do methods[#methods + 1] = method end
  return methods
end

local function finals(replies)
  local n = 0
  for _, r in ipairs(replies) do
    if r.status >= 200 then n = n + 1 end
  end
  return n
end

local function on_reply_bytes(x, data)
  x.bytes = x.bytes .. data
  local replies = strict.responses(x.bytes, x.methods)
  if not x.finished and finals(replies) >= (x.case.requests or 1) and not x.case.closes then
    x.finished = true
    x.tcp:shutdown()
  end
end

--- One case against the proxy on `port` with `upstream` behind it. Returns { replies (strict.responses), seen (Upstream:take), closed }.
function M.run(case, port, upstream, seconds)
  upstream.case, upstream.scripted = case, false
  local x = { case = case, tcp = uv.new_tcp(), bytes = "", methods = methods_of(case), finished = case.ends }
  x.tcp:connect("127.0.0.1", port, function(err)
    if err then x.closed = true return end
    x.tcp:nodelay(true)
    x.tcp:read_start(function(_, data)
      if data then return on_reply_bytes(x, data) end
      x.closed = true
    end)
    write_pieces(x.tcp, pieces_of(case.bytes), 1, function()
      if case.ends then x.tcp:shutdown() end
    end)
  end)
  local deadline = uv.now() + (seconds or 5) * 1000
  local wake = uv.new_timer()
  wake:start(50, 50, function() end)
  while not x.closed and uv.now() < deadline do uv.run "once" end
  wake:close()
  if not x.tcp:is_closing() then x.tcp:close() end
  uv.run "nowait" -- what the proxy sent upstream before it closed is here by now
  return { replies = strict.responses(x.bytes, x.methods, true), raw = x.bytes, seen = upstream:take(), closed = x.closed }
end

local function final(run)
  for _, r in ipairs(run.replies) do
    if r.status >= 200 then return r end
  end
end

--- What a run amounts to: "refused", "served", "cut" (broken off towards the upstream: it saw no whole request), "incomplete" (neither answer nor request, and
--- the client had not said all), or what must not be: "unclear", "smuggled", "hung"; and a sentence.
function M.verdict(case, run)
  local seen, first = run.seen, final(run)
  if #seen.faults > 0 then return "unclear", "the upstream read: " .. seen.faults[1] end
  if #seen.requests > (case.requests or 1) then return "smuggled", ("%d requests arrived"):format(#seen.requests) end
  if run.replies.fault then return "unclear", "the client read: " .. run.replies.fault end
  if case.reply and not first and (run.replies.incomplete or run.closed) then return "broken", "the reply is not whole" end
  if not run.closed then return "hung", ("%d replies, then silence"):format(#run.replies) end
  if first and first.status == 502 then return "doubted", "502" end
  if #seen.requests > 0 then return "served", ("%d requests arrived"):format(#seen.requests) end
  if seen.partial > 0 then return "cut", "the upstream saw a part" end
  if first and first.status >= 400 then return "refused", tostring(first.status) end
  if not first and #run.raw == 0 then return case.ends and "incomplete" or "refused", "closed without a reply" end
  return "answered", first and tostring(first.status) or "something"
end

local FITS = {
  refused = { refused = true, cut = true },
  clear = { refused = true, cut = true, served = true, answered = true },
  served = { served = true },
  answered = { answered = true },
  broken = { broken = true, doubted = true },
  doubted = { doubted = true },
  unfinished = { refused = true, cut = true, incomplete = true },
}

--- Whether the run is what the case expects; and why not.
function M.fits(case, run)
  local verdict, why = M.verdict(case, run)
  if not FITS[case.expect][verdict] then return false, ("expected %s, was %s: %s"):format(case.expect, verdict, why) end
  local first = final(run)
  local status = first and tostring(first.status) or "none"
  if case.status and not status:find("^" .. case.status .. "$") then return false, ("expected status %s, got %s"):format(case.status, status) end
  if case.check then
    local ok, err = pcall(case.check, run.seen.requests, run.replies)
    if not ok then return false, tostring(err) end
  end
  return true, verdict .. ": " .. why
end

return M
