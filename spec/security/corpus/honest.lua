--- What honest clients send, in the form in which they send it: none of it may be refused, and all of it arrives.
local w = require "spec.security.corpus.words"
local head, all = w.head, w.all

local R = "RFC 9110"
local function request(method, path, ...) return head(method .. " " .. path .. " HTTP/1.1", ...) end
local function arrives(method, path, body)
  return function(seen)
    assert(#seen == 1, ("%d requests arrived"):format(#seen))
    assert(seen[1].method == method and seen[1].target == path, ("%s %s arrived"):format(seen[1].method, seen[1].target))
    assert(seen[1].body == (body or ""), "the body arrived otherwise")
  end
end

local form = "------Boundary7MA4YWxkTrZu0gW\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\nx\r\n------Boundary7MA4YWxkTrZu0gW--\r\n"

local clients = {
  { "curl", request("GET", "/", "Host: localhost:8080", "User-Agent: curl/8.5.0", "Accept: */*"), R, check = arrives("GET", "/") },
  { "curl with a form", request("POST", "/form", "Host: localhost:8080", "User-Agent: curl/8.5.0", "Accept: */*", "Content-Length: 7", "Content-Type: application/x-www-form-urlencoded") .. "a=b&c=d",
    R, check = arrives("POST", "/form", "a=b&c=d") },
  { "curl with a large upload", { request("PUT", "/upload", "Host: localhost:8080", "User-Agent: curl/7.88.1", "Accept: */*", "Content-Length: 2000000", "Expect: 100-continue"), ("u"):rep(2000000) },
    R, check = arrives("PUT", "/upload", ("u"):rep(2000000)) },
  { "curl that offers HTTP/2", request("GET", "/", "Host: localhost:8080", "User-Agent: curl/7.74.0", "Accept: */*", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    R, check = arrives("GET", "/") },
  { "Firefox", request("GET", "/page?q=a+b&lang=de", "Host: example.com", "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "Accept-Language: de,en-US;q=0.7,en;q=0.3", "Accept-Encoding: gzip, deflate, br, zstd", "DNT: 1",
    "Connection: keep-alive", "Cookie: session=0123456789abcdef; theme=dark; _ga=GA1.2.3.4", "Upgrade-Insecure-Requests: 1", "Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: none", "Sec-Fetch-User: ?1", "Priority: u=0, i", "Pragma: no-cache", "Cache-Control: no-cache"), R, check = arrives("GET", "/page?q=a+b&lang=de") },
  { "Chrome", request("GET", "/app.js?v=1.2.3", "Host: example.com:8443", "Connection: keep-alive", 'sec-ch-ua: "Not)A;Brand";v="99", "Chromium";v="127"', "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"', "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/127.0.0.0 Safari/537.36", "Accept: */*", "Referer: https://example.com:8443/?a=%20b",
    "Accept-Encoding: gzip, deflate, br, zstd", "Accept-Language: en-US,en;q=0.9", 'If-None-Match: W/"5e-18a"', "If-Modified-Since: Wed, 21 Oct 2015 07:28:00 GMT"), R, check = arrives("GET", "/app.js?v=1.2.3") },
  { "a browser's preflight", request("OPTIONS", "/api", "Host: api.example.com", "Accept: */*", "Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: authorization,content-type",
    "Origin: https://example.com", "Sec-Fetch-Mode: cors"), R, check = arrives("OPTIONS", "/api") },
  { "a browser's form with a file", request("POST", "/up", "Host: example.com", "Content-Type: multipart/form-data; boundary=----Boundary7MA4YWxkTrZu0gW", "Content-Length: " .. #form, "Origin: null") .. form,
    R, check = arrives("POST", "/up", form) },
  { "a browser's empty POST", request("POST", "/beacon", "Host: example.com", "Content-Length: 0", "Origin: https://example.com", "Connection: keep-alive"), R, check = arrives("POST", "/beacon") },
  { "Go's client", request("GET", "/", "Host: 127.0.0.1:8080", "User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"), R, check = arrives("GET", "/") },
  { "Go's client with a stream", request("POST", "/s", "Host: 127.0.0.1:8080", "User-Agent: Go-http-client/1.1", "Transfer-Encoding: chunked", "Trailer: X-Sum", "Accept-Encoding: gzip") ..
    "7\r\n{\"a\":1}\r\n1\r\n\n\r\n0\r\nX-Sum: abc\r\n\r\n", R, check = arrives("POST", "/s", '{"a":1}\n') },
  { "Python's requests", request("GET", "/v1/items/%C3%BC", "Host: example.com", "User-Agent: python-requests/2.31.0", "Accept-Encoding: gzip, deflate", "Accept: */*", "Connection: keep-alive"), R,
    check = arrives("GET", "/v1/items/%C3%BC") },
  { "Python's http.client, which adds Accept-Encoding: identity", request("PUT", "/x", "Host: example.com", "Accept-Encoding: identity", "Content-Length: 2") .. "{}", R, check = arrives("PUT", "/x", "{}") },
  { "Java's client", request("POST", "/soap", "Content-Type: text/xml; charset=utf-8", 'SOAPAction: "urn:x#y"', "User-Agent: Java/17.0.9", "Host: example.com", "Accept: text/html, image/gif, image/jpeg, */*; q=0.2",
    "Connection: keep-alive", "Content-Length: 4") .. "<a/>", R, check = arrives("POST", "/soap", "<a/>") },
  { "Java's new client, which offers h2c", request("GET", "/", "Connection: Upgrade, HTTP2-Settings", "Content-Length: 0", "Host: example.com", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    "Upgrade: h2c", "User-Agent: Java-http-client/21"), R, check = arrives("GET", "/") },
  { "Node's client", request("GET", "/", "Host: localhost:3000", "Connection: close"), R, closes = true, check = arrives("GET", "/") },
  { "undici with small letters", request("GET", "/", "host: localhost:3000", "connection: keep-alive", "accept: */*", "accept-language: *", "sec-fetch-mode: cors", "user-agent: node", "accept-encoding: gzip, deflate"), R },
  { "wget", request("GET", "/file.tar.gz", "Host: example.com", "User-Agent: Wget/1.21.3", "Accept: */*", "Accept-Encoding: identity", "Connection: Keep-Alive", "Range: bytes=100-"), R },
  { "ab, which speaks HTTP/1.0", head("GET /ab HTTP/1.0", "Connection: Keep-Alive", "Host: example.com", "User-Agent: ApacheBench/2.3", "Accept: */*"), R, check = arrives("GET", "/ab") },
  { "a health check with HTTP/1.0 and nothing else", "GET /health HTTP/1.0\r\n\r\n", R, closes = true, check = arrives("GET", "/health") },
  { "gRPC-Web", request("POST", "/pkg.Service/Method", "Host: example.com", "Content-Type: application/grpc-web+proto", "X-Grpc-Web: 1", "TE: trailers", "Connection: TE", "Content-Length: 5") .. "\0\0\0\0\0", R,
    check = arrives("POST", "/pkg.Service/Method", "\0\0\0\0\0") },
  { "a tracer's fields", request("GET", "/t", "Host: example.com", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=b,c=d@e", "b3: 0", "X-Request-ID: 7f", "baggage: k=v;p"), R },
  { "a proxy before this one", request("GET", "/p", "Host: example.com", "X-Forwarded-For: 192.0.2.1, 198.51.100.2", "X-Forwarded-Proto: https", "X-Real-IP: 192.0.2.1", "Via: 1.1 cache (x/1)",
    'Forwarded: for="[2001:db8::1]:4711";proto=https'), R, check = arrives("GET", "/p") },
  { "credentials of every kind", request("GET", "/a", "Host: example.com", "Authorization: Basic dXNlcjpwYXNz", "X-Api-Key: k", "Cookie: a=b"), R, check = arrives("GET", "/a") },
  { "a target in absolute form, as sent to a proxy", request("GET", "http://example.com:80/abs?x", "Host: example.com:80", "Proxy-Connection: Keep-Alive", "User-Agent: x"), "RFC 9112 section 3.2.2" },
  { "a conditional upload", request("PUT", "/c", "Host: example.com", 'If-Match: "a", "b"', "Content-Length: 1", "Content-MD5: x") .. "1", R, check = arrives("PUT", "/c", "1") },
  { "a GET that expects 100-continue and has no body", request("GET", "/e", "Host: example.com", "Expect: 100-continue"), "RFC 9110 section 10.1.1", check = arrives("GET", "/e") },
  { "a POST that expects 100-continue and has an empty body", request("POST", "/e", "Host: example.com", "Expect: 100-Continue", "Content-Length: 0"), "RFC 9110 section 10.1.1", check = arrives("POST", "/e") },
  { "a long token and sixty cookies", request("GET", "/j", "Host: example.com", "Authorization: Bearer " .. ("eyJhbGciOi"):rep(400), "Cookie: " .. ("name=0123456789abcdef; "):rep(59) .. "last=1"), R,
    check = arrives("GET", "/j") },
  { "an event stream", request("GET", "/events", "Host: example.com", "Accept: text/event-stream", "Last-Event-ID: 42", "Cache-Control: no-store"), R, check = arrives("GET", "/events") },
  { "a browser's WebSocket, which this upstream does not take", request("GET", "/ws", "Host: example.com", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "Origin: https://example.com"), "RFC 6455 section 4.1", check = arrives("GET", "/ws") },
  { "a stream of 1-byte chunks", request("POST", "/drip", "Host: example.com", "Transfer-Encoding: chunked") .. ("1\r\nx\r\n"):rep(2000) .. w.last, R, check = arrives("POST", "/drip", ("x"):rep(2000)) },
  { "chunks that are signed", request("PUT", "/signed", "Host: example.com", "Transfer-Encoding: chunked") .. ("400;chunk-signature=" .. ("0123456789abcdef"):rep(4) .. "\r\n" .. ("d"):rep(1024) .. "\r\n"):rep(40) ..
    "0;chunk-signature=" .. ("0"):rep(64) .. "\r\n\r\n", R, check = arrives("PUT", "/signed", ("d"):rep(1024 * 40)) },
  { "a HEAD", request("HEAD", "/h", "Host: example.com"), R, check = function(_, replies)
    assert(replies[1].body == "" and #replies == 1, "its reply has a body")
  end },
  { "a head in three packets", { "GET /three HTTP/1.1\r\nHo", "st: example.com\r\nX: y\r", "\n\r\n" }, R, check = arrives("GET", "/three") },
  { "a body in three packets", { request("POST", "/three", "Host: example.com", "Content-Length: 9") .. "abc", "def", "ghi" }, R, check = arrives("POST", "/three", "abcdefghi") },
}

--- Every method of the registry that is not another protocol's, TRACE and CONNECT aside (RFC 9110 section 16.1.1, RFC 3253, 3648, 4437, 4791, 5842 …), and those of caches,
--- UPnP and Vault.
local methods = {}
for method in ([[GET POST PUT DELETE OPTIONS PATCH ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL
MKREDIRECTREF MKWORKSPACE MOVE ORDERPATCH PROPFIND PROPPATCH QUERY REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF
VERSION-CONTROL PURGE BAN LIST NOTIFY SUBSCRIBE UNSUBSCRIBE M-SEARCH]]):gmatch "%S+" do
  methods[#methods + 1] = { method .. " with a body", request(method, "/dav/x", "Host: example.com", "Depth: 1", "Content-Length: 4") .. "<x/>", "RFC 9110 section 16.1", check = arrives(method, "/dav/x", "<x/>") }
end

return w.join(all("served", "200", clients), all("served", "200", methods))
