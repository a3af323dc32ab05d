--- Versions, methods, limits, expectations, upgrades, and what a reply must carry.
local w = require "spec.security.corpus.words"
local head, get, post, all = w.head, w.get, w.post, w.all

local V, R, M = "RFC 9112 section 2.3", "RFC 9112 section 3", "RFC 9110 section 9.1"
local function line(text) return head(text, "Host: example.com") end

local versions = all("refused", "[45]0[05]", {
  { "HTTP/0.9 without a version", "GET /corpus\r\n", V, status = "400" },
  { "HTTP/0.9 without a version, with fields", "GET /corpus\r\nHost: example.com\r\n\r\n", V, status = "400" },
  { "HTTP/0.9 by name", line "GET /corpus HTTP/0.9", V },
  { "HTTP/0.9 with a length", post("Content-Length: 5", "hello"):gsub("1%.1", "0.9", 1), V },
  { "HTTP/1.2", line "GET /corpus HTTP/1.2", V },
  { "HTTP/2.0", line "GET /corpus HTTP/2.0", V },
  { "HTTP/3.0", line "GET /corpus HTTP/3.0", V },
  { "HTTP/9.9", line "GET /corpus HTTP/9.9", V },
  { "HTTP/1", line "GET /corpus HTTP/1", V, status = "400" },
  { "HTTP/1.", line "GET /corpus HTTP/1.", V, status = "400" },
  { "HTTP/.1", line "GET /corpus HTTP/.1", V, status = "400" },
  { "HTTP/11", line "GET /corpus HTTP/11", V, status = "400" },
  { "HTTP/1.10", line "GET /corpus HTTP/1.10", V, status = "400" },
  { "HTTP/1.1.1", line "GET /corpus HTTP/1.1.1", V, status = "400" },
  { "HTTP/01.1", line "GET /corpus HTTP/01.1", V, status = "400" },
  { "HTTP/01.01", line "GET /corpus HTTP/01.01", V, status = "400" },
  { "HTTP/1,1", line "GET /corpus HTTP/1,1", V, status = "400" },
  { "HTTP/1.1x", line "GET /corpus HTTP/1.1x", V, status = "400" },
  { "HTTP/+1.1", line "GET /corpus HTTP/+1.1", V, status = "400" },
  { "HTTP/-1.1", line "GET /corpus HTTP/-1.1", V, status = "400" },
  { "HTTP/a.b", line "GET /corpus HTTP/a.b", V, status = "400" },
  { "HTTP/ 1.1", line "GET /corpus HTTP/ 1.1", V, status = "400" },
  { "HTTP /1.1", line "GET /corpus HTTP /1.1", V, status = "400" },
  { "HTTP 1.1", line "GET /corpus HTTP 1.1", V, status = "400" },
  { "http/1.1", line "GET /corpus http/1.1", V, status = "400" },
  { "Http/1.1", line "GET /corpus Http/1.1", V, status = "400" },
  { "HTTPS/1.1", line "GET /corpus HTTPS/1.1", V, status = "400" },
  { "HTTTP/1.1", line "GET /corpus HTTTP/1.1", V, status = "400" },
  { "XHTTP/1.1", line "GET /corpus XHTTP/1.1", V, status = "400" },
  { "HTTP/4294967295.255", line "GET /corpus HTTP/4294967295.255", V, status = "400" },
  { "CR CR in a version", line "GET /corpus HTTP/\r\r1.1", V, status = "400" },
  { "dots and digits for a version", line "GET /corpus HTTP/............0596.7407.", V, status = "400" },
  { "a version twice", line "GET /corpus HTTP/1.1 HTTP/1.1", V, status = "400" },
  { "ICE/1.0", line "SOURCE /corpus ICE/1.0", V },
  { "RTSP/1.0", line "DESCRIBE /corpus RTSP/1.0", V },
  { "SIP/2.0", line "INVITE sip:a@b SIP/2.0", V },
  { "a version in full-width digits", line "GET /corpus HTTP/\xef\xbc\x91.1", V, status = "400" },
})

local lines = all("refused", "400", {
  { "two spaces behind the method", line "GET  /corpus HTTP/1.1", R },
  { "two spaces behind the target", line "GET /corpus  HTTP/1.1", R },
  { "a space behind the version", line "GET /corpus HTTP/1.1 ", R },
  { "a tab behind the version", line "GET /corpus HTTP/1.1\t", R },
  { "a tab behind the method", line "GET\t/corpus HTTP/1.1", R },
  { "a tab behind the target", line "GET /corpus\tHTTP/1.1", R },
  { "a vertical tab behind the method", line "GET\v/corpus HTTP/1.1", R },
  { "a form feed behind the target", line "GET /corpus\fHTTP/1.1", R },
  { "a no-break space behind the method", line "GET\xa0/corpus HTTP/1.1", R },
  { "a NUL behind the method", line "GET\0 /corpus HTTP/1.1", R },
  { "a control byte in the method", line "GE\1T /corpus HTTP/1.1", R },
  { "a method that ends in a control byte", line "bad_method\1 /corpus HTTP/1.1", R },
  { "a method with a colon", line "GET: /corpus HTTP/1.1", R },
  { "a method with a bracket", line "GE(T /corpus HTTP/1.1", R },
  { "a method in quotes", line '"GET" /corpus HTTP/1.1', R },
  { "a method with an 8-bit byte", line "G\xc9T /corpus HTTP/1.1", R },
  { "a method in UTF-8", line "\xce\x93ET /corpus HTTP/1.1", R },
  { "a method with every separator", line 'G=":<>(e),[T];?" /corpus HTTP/1.1', R },
  { "an LF for a space", line "GET /corpus\nHTTP/1.1", R },
  { "no method", line " /corpus HTTP/1.1", R },
  { "a field before the request line", "Host: example.com\r\nGET /corpus HTTP/1.1\r\n\r\n", R },
  { "a reply for a request", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", R },
})

local methods = all("refused", "501", {
  { "a method that nobody knows", line "FOOBAR /corpus HTTP/1.1", M },
  { "get in small letters", line "get /corpus HTTP/1.1", M },
  { "Get with one capital", line "Get /corpus HTTP/1.1", M },
  { "XGET", line "XGET /corpus HTTP/1.1", M },
  { "GETX", line "GETX /corpus HTTP/1.1", M },
})

local others = all("refused", nil, {
  { "CONNECT", head("CONNECT example.com:443 HTTP/1.1", "Host: example.com:443"), "RFC 9110 section 9.3.6", status = "405", check = function(_, replies)
    assert(replies[1].by.allow, "405 without Allow (RFC 9110 section 15.5.6)")
  end },
  { "TRACE, whose reply would hold the token", line "TRACE /corpus HTTP/1.1", "RFC 9110 section 9.3.8", status = "405" },
  { "a method of 100 KB", line(("A"):rep(100000) .. " /corpus HTTP/1.1"), R, status = "[45]%d%d" },
  { "a target of 100 KB", line("GET /" .. ("A"):rep(100000) .. " HTTP/1.1"), R, status = "414" },
  { "a value of 100 KB", get("X-Big: " .. ("B"):rep(100000)), "RFC 6585 section 5", status = "431" },
  { "a name of 100 KB", get(("A"):rep(100000) .. ": v"), "RFC 6585 section 5", status = "431" },
  { "10,000 fields", get(("X-H: value\r\n"):rep(10000) .. "X: y"), "RFC 6585 section 5", status = "431" },
  { "a Cookie of 100 KB", get("Cookie: a=" .. ("b"):rep(100000)), "RFC 6585 section 5", status = "431" },
  { "an expectation that nobody knows", get "Expect: 200-ok", "RFC 9110 section 10.1.1", status = "417" },
  { "an expectation beside 100-continue", post({ "Expect: 100-continue, tea", "Content-Length: 5" }, "hello"), "RFC 9110 section 10.1.1", status = "417" },
})

--- Every reply of ours says how long it is, when it was made, and that the connection ends (RFC 9110 section 6.6.1, RFC 9112 section 9.6).
local function complete(_, replies)
  local r = assert(replies[1], "no reply")
  assert(#replies == 1, "more than one reply")
  assert(r.by["content-length"], "no Content-Length")
  assert(r.by.date and r.by.date[1]:find "^%u%l%l, %d%d %u%l%l %d%d%d%d %d%d:%d%d:%d%d GMT$", "no Date, or not in its form")
  assert(r.by.connection and r.by.connection[1]:lower() == "close", "no Connection: close")
end
local replies = all("refused", nil, {
  { "a bad request, and the form of its reply", line "GET  /corpus HTTP/1.1", "RFC 9112 section 9.6", status = "400", check = complete },
  { "a method that is not known, and the form of its reply", line "BREW /corpus HTTP/1.1", "RFC 9112 section 9.6", status = "501", check = complete },
  { "a head that is too large, and the form of its reply", get("X: " .. ("a"):rep(100000)), "RFC 9112 section 9.6", status = "431", check = complete },
  { "a version that is not served, and the form of its reply", line "GET /corpus HTTP/2.0", "RFC 9112 section 9.6", status = "505", check = complete },
  { "a bad HEAD, whose reply may have no body", head("HEAD /corpus HTTP/1.1", "Host: a", "Host: b"), "RFC 9110 section 9.3.2", status = "400" },
})

--- Upgrades that must never reach an upstream as such.
local function no_upgrade(seen)
  for _, r in ipairs(seen) do
    assert(not r.by.upgrade and not r.by["http2-settings"], "an upgrade arrived")
    assert(not (r.by.connection and r.by.connection[1]:lower():find("upgrade", 1, true)), "Connection: upgrade arrived")
  end
end
local upgrades = all("clear", nil, {
  { "an upgrade to h2c", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), "RFC 9113 section 3.1", check = no_upgrade },
  { "an upgrade to h2c that names HTTP2-Settings nowhere", get("Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), "RFC 9113 section 3.1", check = no_upgrade },
  { "an upgrade to H2C", get("Connection: upgrade", "Upgrade: H2C"), "RFC 9113 section 3.1", check = no_upgrade },
  { "an upgrade to h2c among others", get("Connection: upgrade", "Upgrade: websocket, h2c"), "RFC 9113 section 3.1", check = no_upgrade },
  { "an Upgrade without Connection", get "Upgrade: websocket", "RFC 9110 section 7.8", check = no_upgrade },
  { "an upgrade on HTTP/1.0", head("GET /corpus HTTP/1.0", "Host: example.com", "Connection: Upgrade", "Upgrade: websocket"), "RFC 9110 section 7.8", check = no_upgrade },
  { "an upgrade of a POST with a body", post({ "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5" }, "hello"), "RFC 6455 section 4.1", check = no_upgrade },
})

local function names_gone(...)
  local names = { ... }
  return function(seen)
    for _, n in ipairs(names) do assert(not (seen[1] and seen[1].by[n]), n .. " arrived") end
  end
end
local hops = all("served", "200", {
  { "fields that Connection names end here", get("Connection: X-Hop, close", "X-Hop: y", "Keep-Alive: timeout=5"), "RFC 9110 section 7.6.1", check = names_gone("x-hop", "keep-alive"), closes = true },
  { "Proxy-Connection ends here", get "Proxy-Connection: keep-alive", "RFC 9110 section 7.6.1", check = names_gone "proxy-connection" },
  { "TE other than trailers ends here", get "TE: gzip, deflate", "RFC 9110 section 10.1.4", check = function(seen)
    local te = seen[1].by.te
    assert(not te or te[1] == "trailers", "TE arrived")
  end },
  { "Connection cannot remove Host", get "Connection: Host", "RFC 9110 section 7.6.1", check = function(seen) assert(seen[1].by.host, "no Host") end },
  { "Connection cannot remove the length", post({ "Connection: Content-Length", "Content-Length: 5" }, "hello"), "RFC 9110 section 7.6.1", check = function(seen)
    assert(seen[1].body == "hello", "the body did not arrive")
  end },
  { "Connection cannot remove the coding", post({ "Connection: Transfer-Encoding", "Transfer-Encoding: chunked" }, w.hello), "RFC 9110 section 7.6.1", check = function(seen)
    assert(seen[1].body == "hello", "the body did not arrive")
  end },
  { "Connection: close is honoured", get "Connection: close", "RFC 9112 section 9.6", closes = true },
  { "Connection: CLOSE among others is honoured", get "Connection: keep-alive, CLOSE", "RFC 9112 section 9.6", closes = true },
  { "HTTP/1.0 ends behind the reply", head("GET /corpus HTTP/1.0", "Host: example.com"), "RFC 9112 section 9.3", closes = true },
  { "HTTP/1.0 without Host", head "GET /corpus HTTP/1.0", "RFC 9112 section 3.2", closes = true },
  { "HTTP/1.0 with a body", head("POST /corpus HTTP/1.0", "Host: example.com", "Content-Length: 5") .. "hello", "RFC 9112 section 6", closes = true },
  { "HTTP/1.0 gets no 1xx", head("POST /corpus HTTP/1.0", "Host: example.com", "Expect: 100-continue", "Content-Length: 5") .. "hello", "RFC 9110 section 10.1.1", closes = true },
  { "HTTP/1.0 with keep-alive", head("GET /corpus HTTP/1.0", "Host: example.com", "Connection: keep-alive"), "RFC 9112 section 9.3" },
})

--- TRACE and OPTIONS count their hops (RFC 9110 section 7.6.2).
local hop_count = all("served", "[24]%d%d", {
  { "Max-Forwards of an OPTIONS is counted down", head("OPTIONS /corpus HTTP/1.1", "Host: example.com", "Max-Forwards: 3"), "RFC 9110 section 7.6.2", check = function(seen)
    assert(seen[1].by["max-forwards"][1] == "2", "it arrived as " .. seen[1].by["max-forwards"][1])
  end },
  { "Max-Forwards of an OPTIONS * is counted down, too", head("OPTIONS * HTTP/1.1", "Host: example.com", "Max-Forwards: 1"), "RFC 9110 section 7.6.2", check = function(seen)
    assert(seen[1].by["max-forwards"][1] == "0", "it arrived as " .. seen[1].by["max-forwards"][1])
  end },
  { "Max-Forwards that is no number is left alone", head("OPTIONS /corpus HTTP/1.1", "Host: example.com", "Max-Forwards: some"), "RFC 9110 section 7.6.2" },
  { "Max-Forwards of a GET is left alone", get "Max-Forwards: 3", "RFC 9110 section 7.6.2", check = function(seen)
    assert(seen[1].by["max-forwards"][1] == "3", "it arrived as " .. seen[1].by["max-forwards"][1])
  end },
})

local last_hop = all("answered", "200", {
  { "an OPTIONS whose last hop this is ends here", head("OPTIONS /corpus HTTP/1.1", "Host: example.com", "Max-Forwards: 0"), "RFC 9110 section 7.6.2", check = function(_, answers)
    assert(answers[1].by.allow, "no Allow")
  end },
})

return w.join(versions, lines, methods, others, replies, upgrades, hops, hop_count, last_hop)
