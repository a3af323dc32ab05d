--- Several requests on one connection: each must be framed by its own head, and nothing left over may become a request of somebody else.
local w = require "spec.security.corpus.words"
local head, get, post, all, inner, last = w.head, w.get, w.post, w.all, w.inner, w.last

local D, P = "RFC 9112 section 11.2", "RFC 9112 section 9.3.2"
local half = "GET /smuggled HTTP/1.1\r\nHost: example.com\r\nX"
local after = get "X-After: y"

local refused = all("refused", "400", {
  { "CL.TE with a byte behind the last chunk", post({ "Content-Length: 6", "Transfer-Encoding: chunked" }, last .. "X") .. after, D },
  { "CL.TE with a request behind the last chunk", post({ "Content-Length: 50", "Transfer-Encoding: chunked" }, last .. inner), D },
  { "CL.TE with a HEAD behind the last chunk", post({ "Content-Length: 50", "Transfer-Encoding: chunked" }, last .. inner:gsub("GET", "HEAD")), D },
  { "TE.CL with a request in a chunk", post({ "Transfer-Encoding: chunked", "Content-Length: 4" }, w.inner_size .. "\r\n" .. inner .. "\r\n0\r\n\r\n"), D },
  { "TE.CL with a byte behind the last chunk", post({ "Transfer-Encoding: chunked", "Content-Length: 30" }, last .. "X") .. after, D },
  { "TE.TE with a second coding that some ignore", post({ "Transfer-Encoding: chunked", "Transfer-encoding: cow", "Content-Length: 4" }, w.inner_size .. "\r\n" .. inner .. "\r\n0\r\n\r\n"), D },
  { "CL.CL with a request in the longer one", post({ "Content-Length: 4", "Content-Length: 49" }, "PING" .. inner), D },
  { "a length in hexadecimal with a request in the longer reading", post("Content-Length: 0x31", "PING" .. inner), D },
  { "a folded coding with a request behind the last chunk", post({ "Transfer-Encoding:\r\n chunked", "Content-Length: 50" }, last .. inner), D },
  { "a coding behind a vertical tab with a request behind the last chunk", post({ "Transfer-Encoding:\vchunked", "Content-Length: 50" }, last .. inner), D },
  { "an empty coding member with a request behind the last chunk", post({ "Transfer-Encoding: , chunked", "Content-Length: 50" }, last .. inner), D },
  { "a chunk size in doubt with a request in it", w.chunked("0x" .. w.inner_size .. "\r\n" .. inner .. "\r\n0\r\n\r\n"), D },
  { "a chunk extension with a bare LF that hides a request", w.chunked("2;\nxx\r\n0\r\n\r\n" .. inner), D },
  { "a bare LF behind the data that hides a request", w.chunked("1\r\nx\n0\r\n\r\n" .. inner), D },
})

local function order(...)
  local paths = { ... }
  return function(seen)
    assert(#seen == #paths, ("%d requests arrived"):format(#seen))
    for i, path in ipairs(paths) do assert(seen[i].target == path, ("the %d. is %s"):format(i, seen[i].target)) end
  end
end
--- The same, and nobody was told to go on who had begun to send.
local function no_interim(...)
  local in_order = order(...)
  return function(seen, replies)
    in_order(seen)
    for _, r in ipairs(replies) do assert(r.status >= 200, "the client got " .. r.status) end
  end
end
local function one(path, ...) return head("GET " .. path .. " HTTP/1.1", "Host: example.com", ...) end

local served = all("served", "200", {
  { "two requests in one packet", one "/1" .. one "/2", P, requests = 2, check = order("/1", "/2") },
  { "ten requests in one packet", (function()
    local list = {}
    for i = 1, 10 do list[i] = one("/" .. i) end
    return table.concat(list)
  end)(), P, requests = 10, check = order("/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9", "/10") },
  { "a body with a length, then a request", post("Content-Length: 5", "hello") .. one "/2", P, requests = 2, check = order("/corpus", "/2") },
  { "chunks, then a request", w.chunked(w.hello) .. one "/2", P, requests = 2, check = order("/corpus", "/2") },
  { "a GET with a body that looks like a request, then a request", get "Content-Length: 45" .. inner .. one "/2", P, requests = 2, check = order("/corpus", "/2") },
  { "a body that is half a head, then the other half and a request", { get("Content-Length: " .. #half) .. half, one "/2" }, P, requests = 2, check = order("/corpus", "/2") },
  { "an OPTIONS with a body, then a request", head("OPTIONS /1 HTTP/1.1", "Host: example.com", "Content-Length: 5") .. "hello" .. one "/2", P, requests = 2, check = order("/1", "/2") },
  { "an empty line between two requests", one "/1" .. "\r\n" .. one "/2", "RFC 9112 section 2.2", requests = 2, check = order("/1", "/2") },
  { "an empty line behind a body", post("Content-Length: 5", "hello") .. "\r\n" .. one "/2", "RFC 9112 section 2.2", requests = 2, check = order("/corpus", "/2") },
  { "a request behind Connection: close is not read", one("/1", "Connection: close") .. one "/2", "RFC 9112 section 9.6", closes = true, check = order "/1" },
  { "a request behind a HTTP/1.0 one is not read", head("GET /1 HTTP/1.0", "Host: example.com") .. one "/2", "RFC 9112 section 9.3", closes = true, check = order "/1" },
  { "100-continue with the body at once, then a request", post({ "Expect: 100-continue", "Content-Length: 5" }, "hello") .. one "/2", "RFC 9110 section 10.1.1", requests = 2, check = no_interim("/corpus", "/2") },
  { "100-continue with a part of the body at once", { post({ "Expect: 100-continue", "Content-Length: 5" }, "he"), "llo" }, "RFC 9110 section 10.1.1", check = no_interim "/corpus" },
  { "100-continue with chunks at once", post({ "Expect: 100-continue", "Transfer-Encoding: chunked" }, w.hello), "RFC 9110 section 10.1.1", check = no_interim "/corpus" },
  { "an upgrade that is not taken, then a request", { get("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), one "/2" }, "RFC 9110 section 7.8", requests = 2, check = order("/corpus", "/2") },
  { "a request byte by byte", (function()
    local pieces = {}
    for byte in one "/1":gmatch "." do pieces[#pieces + 1] = byte end
    return pieces
  end)(), P, check = order "/1" },
})

--- The first one is right, what follows is not, or is one that nobody knows (XGET): the connection ends, or that one arrives as it is.
local function first_whole(seen) assert(not seen[2] or seen[2].target == "/2", "another one arrived than was sent") end
local clear = all("clear", nil, {
  { "a length of zero with bytes behind it", post("Content-Length: 0", "X") .. one "/2", D, requests = 2, check = first_whole },
  { "a body longer than its length", post("Content-Length: 3", "hello") .. one "/2", D, requests = 2, check = first_whole },
  { "bytes behind the last chunk", w.chunked("0\r\n\r\nX") .. one "/2", D, requests = 2, check = first_whole },
  { "a POST without a length and with a body", post("X: y", "hello\r\n\r\n") .. one "/2", D, requests = 2, check = first_whole },
  { "two empty lines before a request", "\r\n\r\n" .. one "/1", "RFC 9112 section 2.2" },
  { "a bare LF between two requests", one "/1" .. "\n" .. one "/2", "RFC 9112 section 2.2", requests = 2 },
  { "a NUL behind the last chunk", w.chunked("0\r\n\r\n\0"), D },
  { "a request that is none behind one that closes", one("/1", "Connection: close") .. "Invalid\r\n\r\n", D, closes = true },
  { "a TLS hello behind a request", one "/1" .. "\22\3\1\2\0\1", D },
})

return w.join(refused, served, clear)
