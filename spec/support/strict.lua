--- A strict reader of HTTP/1.1, for specs that judge what a proxy wrote: it takes what RFC 9112 lets a sender generate and nothing that a recipient may forgive.
--- Written from the grammar, on purpose not like the parser under test: a whole stream in, messages out, no state in between.
local M = {}

local TOKEN = "^[%w!#$%%&'*+%-.^_`|~]+$"
local VALUE = "^[\t\x20-\x7e\x80-\xff]*$" -- RFC 9110 section 5.5: HTAB, SP, visible, obs-text

local function broken(text, ...) error({ fault = text:format(...) }, 0) end

--- A name as the most forgiving reader might take it: "_" for "-", several for one, nothing but letters.
local function squashed(name) return (name:lower():gsub("[%s%c_-]+", "-")) end
local FRAMING = { ["content-length"] = true, ["transfer-encoding"] = true }

--- The line from `at` on without its CRLF, and where the next one begins; nil when it is not all there.
local function line_at(bytes, at)
  local lf = bytes:find("\n", at, true)
  if not lf then
    if bytes:find("\r[^\n]", at) then broken "a bare CR" end
    return nil
  end
  local line = bytes:sub(at, lf - 1)
  if line:sub(-1) ~= "\r" then broken("a bare LF behind %q", line:sub(1, 60)) end
  line = line:sub(1, -2)
  if line:find("\r", 1, true) then broken("a bare CR in %q", line:sub(1, 60)) end
  return line, lf + 1
end

--- Field lines up to the empty one: a list of { name, value }, `by` (lower-case name to values), and where the section ends.
local function section_at(bytes, at)
  local fields, by = {}, {}
  while true do
    local line, after = line_at(bytes, at)
    if not line then return nil end
    at = after
    if line == "" then return fields, by, at end
    local name, value = line:match "^([^:]*):[ \t]*(.-)[ \t]*$"
    if not name then broken("no colon in %q", line:sub(1, 60)) end
    if not name:find(TOKEN) then broken("not a field name: %q", name:sub(1, 60)) end
    if not value:find(VALUE) then broken("a control byte in the value of %s", name) end
    local low = name:lower()
    if FRAMING[squashed(name)] and not FRAMING[low] then broken("a field that looks like framing: %q", name) end
    fields[#fields + 1] = { name, value }
    by[low] = by[low] or {}
    table.insert(by[low], value)
  end
end

local function sole(by, name)
  local values = by[name]
  if values and #values > 1 then broken("%d fields %s", #values, name) end
  return values and values[1]
end

--- "length" and how many bytes, "chunked", or nil (RFC 9112 section 6.3).
local function framing_of(by, version)
  local coding, length = sole(by, "transfer-encoding"), sole(by, "content-length")
  if coding then
    if length then broken "Transfer-Encoding and Content-Length" end
    if version ~= "1.1" then broken("Transfer-Encoding in HTTP/%s", version) end
    if coding:lower() ~= "chunked" then broken("Transfer-Encoding: %s", coding) end
    return "chunked"
  end
  if not length then return nil end
  if not length:find "^%d+$" or #length > 18 then broken("Content-Length: %s", length) end
  return "length", tonumber(length)
end

--- A chunked body from `at` on: the data, its trailers, and where it ends; nil when it is not all there.
local function chunks_at(bytes, at)
  local parts = {}
  while true do
    local line, after = line_at(bytes, at)
    if not line then return nil end
    local size, rest = line:match "^(%x+)(.*)$"
    if not size or #size > 15 then broken("a chunk's size: %q", line:sub(1, 60)) end
    if rest ~= "" then broken("behind a chunk's size: %q", rest:sub(1, 60)) end
    local n = tonumber(size, 16)
    if n == 0 then
      local _, by, ended = section_at(bytes, after)
      if not by then return nil end
      for name in pairs(by) do
        if FRAMING[name] or name == "host" then broken("%s in the trailers", name) end
      end
      return table.concat(parts), by, ended
    end
    if after + n + 1 > #bytes then
      local data_end = bytes:sub(after + n, after + n + 1)
      if #data_end > 0 and data_end:sub(1, 1) ~= "\r" then broken "no CRLF behind a chunk's data" end
      return nil
    end
    if bytes:sub(after + n, after + n + 1) ~= "\r\n" then broken "no CRLF behind a chunk's data" end
    parts[#parts + 1] = bytes:sub(after, after + n - 1)
    at = after + n + 2
  end
end

local function check_host(host)
  local name, port = host:match "^(%[[%x:.]+%])(.*)$"
  if not name then name, port = host:match "^([%w%-._~!$&'()*+;=%%]+)(.*)$" end
  if not name or not (port == "" or port:find "^:%d*$") then broken("Host: %q", host) end
end

local function check_target(method, target)
  if not target:find "^[\x21-\x7e]+$" or target:find("#", 1, true) then broken("the target %q", target:sub(1, 60)) end
  if target == "*" then
    if method ~= "OPTIONS" then broken("%s *", method) end
  elseif method == "CONNECT" then
    if not target:find "^[^/@?]+:%d+$" then broken("CONNECT %s", target:sub(1, 60)) end
  elseif target:sub(1, 1) ~= "/" and not target:lower():find "^https?://[^/?@]+" then
    broken("the target %q", target:sub(1, 60))
  end
end

--- The body from `at` on by its framing: data, trailers, where it ends; nil when it is not all there.
local function body_at(bytes, at, kind, n)
  if kind == "chunked" then return chunks_at(bytes, at) end
  if kind == "length" then
    if at + n - 1 > #bytes then return nil end
    return bytes:sub(at, at + n - 1), nil, at + n
  end
  return "", nil, at
end

local function request_at(bytes, at)
  local line, after = line_at(bytes, at)
  if not line then return nil end
  local method, target, version = line:match "^(%S+) (%S+) HTTP/(1%.[01])$"
  if not method or not method:find(TOKEN) then broken("a request line: %q", line:sub(1, 60)) end
  check_target(method, target)
  local fields, by, body = section_at(bytes, after)
  if not fields then return nil end
  local host = sole(by, "host")
  if host then check_host(host) elseif version == "1.1" then broken "no Host" end
  local r = { method = method, target = target, version = version, fields = fields, by = by, head = bytes:sub(at, body - 1) }
  r.kind, r.length = framing_of(by, version)
  local ended
  r.body, r.trailers, ended = body_at(bytes, body, r.kind, r.length)
  if not r.body then return nil, r end
  return r, nil, ended
end

local function stream(bytes, message_at)
  local all = { at = 1 }
  local ok, err = pcall(function()
    while all.at <= #bytes do
      local m, begun, ended = message_at(bytes, all.at, #all + 1)
      if not m then
        all.begun, all.incomplete = begun, bytes:sub(all.at)
        return
      end
      all[#all + 1], all.at = m, ended
    end
  end)
  if not ok then
    if type(err) ~= "table" then error(err, 0) end
    all.fault = err.fault
  end
  return all
end

--- Reads everything that came on a connection. Returns the list of whole requests ({ method, target, version, fields, by, head, kind, body, trailers }), with
--- .fault (text: why the stream is not clear), or .incomplete (the bytes of a last request that is not whole) and .begun (its head, if that is).
function M.requests(bytes) return stream(bytes, request_at) end

local function response_at(bytes, at, method, closed)
  local line, after = line_at(bytes, at)
  if not line then return nil end
  local version, status = line:match "^HTTP/(1%.[01]) ([1-5]%d%d) [\t\x20-\x7e\x80-\xff]*$"
  if not version then broken("a status line: %q", line:sub(1, 60)) end
  local fields, by, body = section_at(bytes, after)
  if not fields then return nil end
  local r = { status = tonumber(status), version = version, fields = fields, by = by, head = bytes:sub(at, body - 1) }
  r.kind, r.length = framing_of(by, version)
  if r.status < 200 or r.status == 204 then
    if r.kind then broken("%d with a framing field", r.status) end
  end
  if method == "HEAD" or r.status < 200 or r.status == 204 or r.status == 304 then
    r.body = ""
    return r, nil, body
  end
  local ended
  if not r.kind then
    if not closed then return nil, r end
    r.body, ended = bytes:sub(body), #bytes + 1
  else
    r.body, r.trailers, ended = body_at(bytes, body, r.kind, r.length)
  end
  if not r.body then return nil, r end
  return r, nil, ended
end

--- The same for what came back: methods[i] is that of the request which the i-th final response answers; 1xx count for none. closed: the peer has ended.
function M.responses(bytes, methods, closed)
  local final = 0
  local all = stream(bytes, function(b, at)
    local r, begun, ended = response_at(b, at, methods[final + 1], closed)
    if r and r.status >= 200 then final = final + 1 end
    return r, begun, ended
  end)
  return all
end

return M
