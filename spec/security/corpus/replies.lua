--- What an upstream answers. A reply that may be read in two ways is a 502, one that is cut is seen to be cut, and odd but right ones arrive.
local w = require "spec.security.corpus.words"
local all = w.all

local F, B, S = "RFC 9112 section 6.3", "RFC 9112 section 2.2", "RFC 9112 section 4"
local request = w.get "X: y"
local function ok(fields, body) return "HTTP/1.1 200 OK\r\n" .. fields .. "\r\n\r\n" .. (body or "") end
local function length(value, body) return ok("Content-Length:" .. value, body or "hello") end
local function coding(value, body) return ok("Transfer-Encoding:" .. value, body or w.hello) end
local function field(line) return ok("Content-Length: 5\r\n" .. line, "hello") end

--- { name, reply, rule, … } with the same request for all.
local function replies(expect, status, list)
  for _, c in ipairs(list) do
    c.reply, c[2] = c[2], c.bytes or request
    c.bytes = nil
  end
  return all(expect, status, list)
end

local doubted = replies("doubted", "502", {
  { "a length with a plus sign", length " +5", F },
  { "a negative length", length " -5", F },
  { "a hexadecimal length", length " 0x5", F },
  { "a length with an underscore", length(" 1_0", "helloworld"), F },
  { "a length with letters behind it", length " 5a", F },
  { "a length in quotes", length ' "5"', F },
  { "an empty length", length "", F },
  { "a length of 2^63, which is negative to some", length " 9223372036854775808", F },
  { "a length of 2^64 + 5", length " 18446744073709551621", F },
  { "a length with a vertical tab before it", length " \v5", F },
  { "a length with a no-break space behind it", length " 5\xa0", F },
  { "a list of two lengths", length " 5, 6", F },
  { "the same length twice", ok("Content-Length: 5\r\nContent-Length: 5", "hello"), F },
  { "a list of the same length twice", length " 5, 5", F },
  { "a length with a parameter", length " 5;a", F },
  { "two lengths", ok("Content-Length: 5\r\nContent-Length: 6", "hello!"), F },
  { "a length and chunked", ok("Content-Length: 5\r\nTransfer-Encoding: chunked", w.hello), F },
  { "chunked and a length", ok("Transfer-Encoding: chunked\r\nContent-Length: 5", w.hello), F },
  { "chunked and a length of zero, to HEAD", ok("Transfer-Encoding: chunked\r\nContent-Length: 0"), F, bytes = w.head("HEAD /corpus HTTP/1.1", "Host: example.com") },
  { "xchunked", coding " xchunked", F },
  { "chunked twice", coding " chunked, chunked", F },
  { "chunked before identity", coding " chunked, identity", F },
  { "identity", coding(" identity", "hello"), F, reply_ends = true },
  { "an empty coding", coding("", "hello"), F, reply_ends = true },
  { "chunked with a parameter", coding " chunked;a", F },
  { "chunked behind a vertical tab", coding " \vchunked", F },
  { "chunked behind a no-break space", coding " \xa0chunked", F },
  { "chunked on HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" .. w.hello, F },
  { "a space before a colon", field "X : y", "RFC 9112 section 5.1" },
  { "a space before the length's colon", ok("Content-Length : 5", "hello"), "RFC 9112 section 5.1" },
  { "a folded line", field "X: y\r\n z", "RFC 9112 section 5.2" },
  { "white space before the first field", "HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 5\r\n\r\nhello", B },
  { "a bare LF", field "X: y\nZ: z", B },
  { "bare LFs everywhere", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", B },
  { "a bare CR", field "X: y\rZ: z", B },
  { "a NUL in a value", field "X: y\0z", "RFC 9110 section 5.5" },
  { "a control byte in a value", field "X: y\1z", "RFC 9110 section 5.5" },
  { "a line without a colon", field "Nothing", "RFC 9112 section 5" },
  { "an empty name", field ": y", "RFC 9110 section 5.1" },
  { "an 8-bit byte in a name", field "X\xe9: y", "RFC 9110 section 5.1" },
  { "a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", S },
  { "a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", S },
  { "a status of letters", "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n", S },
  { "a status of 999", "HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", S },
  { "two spaces before the status", "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", S },
  { "a control byte in the reason", "HTTP/1.1 200 O\1K\r\nContent-Length: 0\r\n\r\n", S },
  { "HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", S },
  { "HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", S },
  { "http/1.1", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", S },
  { "an empty line before the reply", "\r\n" .. length " 5", S },
  { "no reply line", "<html>hello</html>\r\n\r\n", S, reply_ends = true },
  { "a bare CR behind the status line", "HTTP/1.1 200 OK\rContent-Length: 0\r\n\r\n", B },
  { "CR CR LF behind a field", field "X: y\r", B },
  { "a vertical tab in a value", field "X: y\vz", "RFC 9110 section 5.5" },
  { "103 whose fields frame a body in two ways", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" .. length " 5", F },
  { "100 and then an end", "HTTP/1.1 100 Continue\r\n\r\n", "RFC 9112 section 8", reply_ends = true },
  { "101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "RFC 9110 section 15.2.2" },
  { "nothing but an end", "", "RFC 9112 section 8", reply_ends = true },
  { "half a head", "HTTP/1.1 200 OK\r\nContent-Le", "RFC 9112 section 8", reply_ends = true },
})

local function chunks(name, body) return { name, coding(" chunked", body), "RFC 9112 section 7.1", reply_ends = true } end
--- What is wrong in the packet that the reply begins in is known before anything of it has gone on.
local function at_once(name, body)
  local case = chunks(name, body)
  case.status = "502"
  return case
end
local broken = replies("broken", nil, {
  { "a body shorter than its length", length(" 10", "hello"), "RFC 9112 section 8", reply_ends = true },
  chunks("chunks without a last one", "5\r\nhello\r\n"),
  chunks("half a chunk", "5\r\nhel"),
  chunks("a last chunk without its end", "5\r\nhello\r\n0\r\n"),
  at_once("a size with 0x before it", "0x5\r\nhello\r\n0\r\n\r\n"),
  at_once("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
  at_once("a size with a space behind it", "5 \r\nhello\r\n0\r\n\r\n"),
  at_once("a size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
  at_once("a size of 2^64 - 1, which is -1 to some", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
  at_once("a size of 2^64 + 5", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
  at_once("an empty size", "\r\nhello\r\n0\r\n\r\n"),
  at_once("a bare LF behind the size", "5\nhello\r\n0\r\n\r\n"),
  at_once("a bare LF behind the data", "5\r\nhello\n0\r\n\r\n"),
  at_once("no CRLF behind the data", "5\r\nhello0\r\n\r\n"),
  at_once("a bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
  at_once("a bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
  at_once("a bare LF at the end", "5\r\nhello\r\n0\r\n\n"),
  at_once("a Content-Length in the trailers", "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n"),
  at_once("a folded trailer", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"),
  at_once("a trailer without a colon", "5\r\nhello\r\n0\r\nNothing\r\n\r\n"),
})

local function body_is(text)
  return function(_, answers)
    local last = answers[#answers]
    assert(last.body == text, ("the body arrived as %q"):format(last.body))
    assert(last.by.date, "no Date (RFC 9110 section 6.6.1)")
  end
end
local hello = body_is "hello"
local head_request = w.head("HEAD /corpus HTTP/1.1", "Host: example.com")
local served = replies("served", "200", {
  { "a length", length " 5", F, check = hello },
  { "a length with leading zeros", length " 005", F, check = hello },
  { "a length without white space", length "5", F, check = hello },
  { "a length between tabs", length "\t5\t", F, check = hello },
  { "chunks", coding " chunked", F, check = hello },
  { "CHUNKED", coding " CHUNKED", F, check = hello },
  { "chunks with extensions and a trailer", coding(" chunked", '5;a="b"\r\nhello\r\n0;c\r\nX: y\r\n\r\n'), F, check = hello },
  { "neither length nor coding", "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello", F, reply_ends = true, check = hello },
  { "HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhello", F, reply_ends = true, check = hello },
  { "HTTP/1.0 with keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", F, check = hello },
  { "no reason", "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", S, check = hello },
  { "no reason and no space", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", S, check = hello },
  { "a reason in UTF-8", "HTTP/1.1 200 Gr\xc3\xbc\xc3\x9fe\r\nContent-Length: 5\r\n\r\nhello", S, check = hello },
  { "every byte of obs-text in a value", field("X: \x80\x85\xa0\xff"), "RFC 9110 section 5.5", check = hello },
  { "an empty value", field "X:", "RFC 9110 section 5.5", check = hello },
  { "100 before it", "HTTP/1.1 100 Continue\r\n\r\n" .. length " 5", "RFC 9110 section 15.2", check = hello },
  { "103 before it", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" .. length " 5", "RFC 9110 section 15.2", check = hello },
  { "102 before it", "HTTP/1.1 102 Processing\r\n\r\n" .. length " 5", "RFC 9110 section 15.2", check = function(_, answers)
    assert(#answers == 2 and answers[1].status == 102, "102 did not arrive")
  end },
  { "103 before it, to a client that cannot know it", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" .. length " 5", "RFC 9110 section 15.2", closes = true,
    bytes = w.head("GET /corpus HTTP/1.0", "Connection: close"), check = function(_, answers) assert(#answers == 1, "103 arrived") end },
  { "chunks, to a client that cannot know them", coding " chunked", "RFC 9112 section 6.1", bytes = w.head("GET /corpus HTTP/1.0", "Connection: keep-alive"), check = hello },
  { "two Set-Cookies", field "Set-Cookie: a=b\r\nSet-Cookie: c=d", "RFC 6265 section 3", check = function(_, answers)
    assert(#answers[1].by["set-cookie"] == 2, "a cookie is lost")
  end },
  { "Connection: close", field "Connection: close", "RFC 9112 section 9.6", reply_ends = true, check = hello },
  { "a field that Connection names", field "Connection: X-Hop\r\nX-Hop: y", "RFC 9110 section 7.6.1", check = function(_, answers)
    assert(not answers[1].by["x-hop"], "X-Hop arrived")
  end },
  { "a length to HEAD", ok "Content-Length: 5", "RFC 9110 section 8.6", bytes = head_request, check = function(_, answers)
    assert(answers[1].by["content-length"][1] == "5", "the length is lost")
  end },
  { "chunked to HEAD", ok "Transfer-Encoding: chunked", "RFC 9110 section 9.3.2", bytes = head_request },
  { "its pieces in packets of their own", { "HTTP/1.1 2", "00 OK\r\nContent-Len", "gth: 5\r\n\r", "\nhel", "lo" }, F, check = hello },
  { "chunks cut in the middle of everything", { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5", "\r", "\nhel", "lo", "\r\n0\r", "\n\r", "\n" }, F, check = hello },
})

local function status(text, fields) return "HTTP/1.1 " .. text .. "\r\n" .. fields .. "\r\n" end
local bodiless = replies("served", "[23]%d%d", {
  { "204", status("204 No Content", ""), "RFC 9110 section 8.6" },
  { "204 with a length, which does not go on", status("204 No Content", "Content-Length: 5\r\n"), "RFC 9110 section 8.6" },
  { "304 with a length of what it stands for", status("304 Not Modified", "Content-Length: 500\r\nETag: \"a\"\r\n"), "RFC 9110 section 8.6" },
  { "304 with chunked", status("304 Not Modified", "Transfer-Encoding: chunked\r\n"), "RFC 9112 section 6.1" },
  { "205", status("205 Reset Content", "Content-Length: 0\r\n"), "RFC 9110 section 15.3.6" },
  { "a redirect", status("302 Found", "Location: /a\r\nContent-Length: 0\r\n"), "RFC 9110 section 15.4.3" },
})

--- Statuses whose fields mean something, which arrive.
local function fields_are(name, ...)
  local wanted = table.concat({ ... }, "|")
  return function(_, answers)
    local got = table.concat(answers[1].by[name] or {}, "|")
    assert(got == wanted, ("%s arrived as %q"):format(name, got))
  end
end
local told = replies("served", nil, {
  { "206 with its range", status("206 Partial Content", "Content-Range: bytes 0-1/5\r\nContent-Length: 2\r\n") .. "he", "RFC 9110 section 15.3.7", check = fields_are("content-range", "bytes 0-1/5") },
  { "304 with its validators", status("304 Not Modified", "ETag: W/\"a\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "RFC 9110 section 15.4.5", check = fields_are("etag", 'W/"a"') },
  { "401 with two challenges, in order", status("401 Unauthorized", "WWW-Authenticate: Bearer\r\nWWW-Authenticate: Basic realm=\"a\"\r\nContent-Length: 0\r\n"), "RFC 9110 section 11.6.1",
    check = fields_are("www-authenticate", "Bearer", 'Basic realm="a"') },
  { "405 with its methods", status("405 Method Not Allowed", "Allow: GET, HEAD\r\nContent-Length: 0\r\n"), "RFC 9110 section 15.5.6", check = fields_are("allow", "GET, HEAD") },
  { "416 with its length", status("416 Range Not Satisfiable", "Content-Range: bytes */5\r\nContent-Length: 0\r\n"), "RFC 9110 section 15.5.17", check = fields_are("content-range", "bytes */5") },
  { "426 with what to upgrade to", status("426 Upgrade Required", "Upgrade: HTTP/3.0\r\nConnection: upgrade\r\nContent-Length: 0\r\n"), "RFC 9110 section 15.5.22", check = fields_are("upgrade", "HTTP/3.0") },
  { "503 with when to try again", status("503 Service Unavailable", "Retry-After: 120\r\nContent-Length: 0\r\n"), "RFC 9110 section 10.2.3", check = fields_are("retry-after", "120") },
  { "a status that nobody knows", status("299 Fine", "Content-Length: 0\r\n"), "RFC 9110 section 15", status = "299" },
})

--- Two requests, and an upstream that says more than it was asked: the second one is answered by its own reply.
local two = w.head("GET /1 HTTP/1.1", "Host: example.com") .. w.head("GET /2 HTTP/1.1", "Host: example.com", "Content-Length: 3") .. "two"
local poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
local function more(name, reply, behind) return { name, reply, "RFC 9112 section 9.2", bytes = two, requests = 2, behind = behind, check = body_is "two" } end
local left_over = replies("served", "[23]%d%d", {
  more("a second reply behind the first one", length " 5" .. poison),
  more("a second reply behind chunks", coding " chunked" .. poison),
  more("a last chunk behind a 204", status("204 No Content", "Transfer-Encoding: chunked\r\n") .. w.last),
  more("a second reply behind a 204", status("204 No Content", "") .. poison),
  more("a body behind a 304", status("304 Not Modified", "Content-Length: 45\r\n") .. poison),
  more("a body longer than its length", length(" 5", "hello!")),
  -- Between the two requests it could not be told from an answer to the second one, if that is on its way.
  more("a third reply behind the second one", length " 5", poison),
})

return w.join(doubted, broken, served, bodiless, told, left_over)
