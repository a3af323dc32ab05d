--- HTTP/2 frames for the benchmark's own clients (RFC 9113, RFC 7541): as much as a request without a body needs. What goes out depends on nothing but the
--- requests, so that instructions can be counted; and it is what browsers and libraries send: fields go into the peer's table with the first request, and by
--- their number from then on.
local integer = require "spec.support.hpack".integer

local M = {}

M.HEADERS, M.RST_STREAM, M.SETTINGS, M.PING, M.GOAWAY, M.WINDOW_UPDATE = 1, 3, 4, 6, 7, 8
M.END_STREAM, M.ACK, M.END_HEADERS = 1, 1, 4
local TABLE_SIZE = 4096 -- of the peer's table of fields, until it says another one
local STATIC = 61       -- entries of the static table
local WINDOW = 0x7fffffff

function M.frame(kind, flags, stream, payload) return (">I3BBI4"):pack(#payload, kind, flags, stream) .. payload end

--- The connection preface, windows that no reply of a measurement fills, no push.
function M.preface()
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" .. M.frame(M.SETTINGS, 0, 0, (">I2I4I2I4"):pack(2, 0, 4, WINDOW))
    .. M.frame(M.WINDOW_UPDATE, 0, 0, (">I4"):pack(WINDOW - 65535))
end

local function text(s) return integer(#s, 7, 0) .. s end

--- Makes field blocks of one connection: block { { name, value }, … }.
function M.encoder()
  local count, size, known = 0, 0, {}
  return function(fields)
    local out = {}
    for _, field in ipairs(fields) do
      local name, value = field[1], field[2]
      local key = name .. "\0" .. value
      if known[key] then
        out[#out + 1] = integer(STATIC + 1 + count - known[key], 7, 0x80)
      else
        size = size + #name + #value + 32
        if size > TABLE_SIZE then error("these fields do not fit into the peer's table", 0) end
        count = count + 1
        known[key] = count
        out[#out + 1] = "\x40" .. text(name) .. text(value)
      end
    end
    return table.concat(out)
  end
end

--- The frames that are whole at the beginning of `data`: a list of { kind, flags, stream, payload }, and the rest.
function M.frames(data)
  local out, at = {}, 1
  while #data - at + 1 >= 9 do
    local n, kind, flags, stream = (">I3BBI4"):unpack(data, at)
    if #data - at + 1 < 9 + n then break end
    out[#out + 1] = { kind = kind, flags = flags, stream = stream, payload = data:sub(at + 9, at + 8 + n) }
    at = at + 9 + n
  end
  return out, data:sub(at)
end

--- What has to be answered to a frame: the acknowledgement of settings and pings; else "". A GOAWAY with an error is one here.
function M.answer(frame)
  if frame.kind == M.SETTINGS and frame.flags & M.ACK == 0 then return M.frame(M.SETTINGS, M.ACK, 0, "") end
  if frame.kind == M.PING and frame.flags & M.ACK == 0 then return M.frame(M.PING, M.ACK, 0, frame.payload) end
  if frame.kind == M.GOAWAY and (">I4"):unpack(frame.payload, 5) ~= 0 then
    error(("the peer ended the connection with error %d %s"):format((">I4"):unpack(frame.payload, 5), frame.payload:sub(9)), 0)
  end
  return ""
end

return M
