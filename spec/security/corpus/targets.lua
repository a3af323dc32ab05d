--- Who a request is for: targets and Host (RFC 9112 section 3.2, RFC 9110 section 7.2).
local w = require "spec.security.corpus.words"
local head, all = w.head, w.all

local T, H, A = "RFC 9112 section 3.2", "RFC 9112 section 3.2", "RFC 9112 section 3.2.2"
local function target(t, method) return head((method or "GET") .. " " .. t .. " HTTP/1.1", "Host: example.com") end
local function host(...) return head("GET /corpus HTTP/1.1", ...) end

local targets = all("refused", "400", {
  { "an empty target", "GET  HTTP/1.1\r\nHost: example.com\r\n\r\n", T },
  { "no target", "GET HTTP/1.1\r\nHost: example.com\r\n\r\n", T },
  { "a space in a target", target "/a b", T },
  { "a tab in a target", target "/a\tb", T },
  { "a tab and a version in a target", target "/a\tHTTP/1.1", T },
  { "a NUL in a target", target "/a\0b", T },
  { "a NUL before a target", target "\0/a", T },
  { "a control byte in a target", target "/a\1HTTP/1.1", T },
  { "a DEL in a target", target "/a\127", T },
  { "a bare CR in a target", target "/a\rHTTP/1.1", T },
  { "a bare LF in a target", target "/a\nHTTP/1.1", T },
  { "a request in a target behind tabs", target "/a\tHTTP/1.1\r\nHost: example.com\r\n\r\nGET\t/b\t", T },
  { "UTF-8 in a target", target "/caf\xc3\xa9", T },
  { "an overlong dot in a target", target "/\xc0\xae\xc0\xae/", T },
  { "an 8-bit byte in a target", target "/\xe9", T },
  { "a fragment", target "/a#b", T },
  { "a fragment in an absolute target", target "http://example.com/a#b", T },
  { "a target without a slash", target "corpus", T },
  { "a target of an exclamation mark", target "!", T },
  { "a target of a query", target "?a", T },
  { "a backslash for a slash", target "\\corpus", T },
  { "GET *", target "*", "RFC 9112 section 3.2.4" },
  { "POST *", target("*", "POST"), "RFC 9112 section 3.2.4" },
  { "OPTIONS *x", target("*x", "OPTIONS"), "RFC 9112 section 3.2.4" },
  { "OPTIONS */", target("*/", "OPTIONS"), "RFC 9112 section 3.2.4" },
  { "a user in an absolute target", target "http://user@example.com/", "RFC 9110 section 4.2.4" },
  { "a user and a password in an absolute target", target "http://user:pass@example.com/", "RFC 9110 section 4.2.4" },
  { "an absolute target without a host", target "http:///a", A },
  { "an absolute target with a bad port", target "http://example.com:a/", A },
  { "an absolute target of another scheme", target "ftp://example.com/", A },
  { "an absolute target without slashes", target "http:example.com", A },
  { "an absolute target with a backslash", target "http://example.com\\@evil/", A },
  { "CONNECT with a path", target("/a", "CONNECT"), "RFC 9112 section 3.2.3" },
  { "CONNECT with an empty port", target("example.com:", "CONNECT"), "RFC 9112 section 3.2.3" },
  { "CONNECT with a port of 0", target("example.com:0", "CONNECT"), "RFC 9112 section 3.2.3" },
  { "CONNECT with a user", target("user@example.com:443", "CONNECT"), "RFC 9112 section 3.2.3" },
  { "CONNECT with a URL", target("http://example.com:443", "CONNECT"), "RFC 9112 section 3.2.3" },
  { "CONNECT without a port", target("example.com", "CONNECT"), "RFC 9112 section 3.2.3" },
})

local hosts = all("refused", "400", {
  { "no Host", host "X: y", H },
  { "no field at all", "GET /corpus HTTP/1.1\r\n\r\n", H },
  { "an empty Host", host "Host:", H },
  { "a Host of white space", host "Host: \t ", H },
  { "two Hosts", host("Host: example.com", "Host: evil.example"), H },
  { "the same Host twice", host("Host: example.com", "Host: example.com"), H },
  { "two Hosts of different case", host("Host: example.com", "HOST: example.com"), H },
  { "two Hosts, the first one empty", host("Host:", "Host: example.com"), H },
  { "a list of Hosts", host "Host: example.com, evil.example", H },
  { "a Host with a space", host "Host: example.com evil.example", H },
  { "a Host with a tab", host "Host: example.com\tevil", H },
  { "a Host with a user", host "Host: user@example.com", H },
  { "a Host with a path", host "Host: example.com/path", H },
  { "a Host with a query", host "Host: example.com?a", H },
  { "a Host with a fragment", host "Host: example.com#a", H },
  { "a Host with a scheme", host "Host: http://example.com", H },
  { "a Host with a bad port", host "Host: example.com:http", H },
  { "a Host with a port of 70000", host "Host: example.com:70000", H },
  { "a Host with a negative port", host "Host: example.com:-80", H },
  { "a Host with two ports", host "Host: example.com:80:81", H },
  { "a Host with an open bracket", host "Host: [::1", H },
  { "a Host with bytes behind its bracket", host "Host: [::1]evil", H },
  { "a Host with a NUL", host "Host: example.com\0.evil", "RFC 9110 section 5.5" },
  { "a Host with 8-bit bytes", host "Host: ex\xc3\xa4mple.com", H },
  { "a Host with a space before its colon", host "Host : example.com", "RFC 9112 section 5.1" },
  { "a Host behind white space, and another", host("X: y", " Host: evil.example", "Host: example.com"), "RFC 9112 section 5.2" },
  { "two Hosts with an absolute target", head("GET http://example.com/ HTTP/1.1", "Host: example.com", "Host: evil.example"), H },
  { "two Hosts on HTTP/1.0", head("GET /corpus HTTP/1.0", "Host: example.com", "Host: evil.example"), H },
})

local function sees(line_target, not_host)
  return function(seen)
    assert(#seen == 1, "it did not arrive")
    local got = seen[1].target:gsub("^https?://[^/]+", "")
    assert(got == line_target, "the target arrived as " .. seen[1].target)
    if not_host then assert(seen[1].by.host[1] ~= not_host, "the Host is " .. seen[1].by.host[1]) end
  end
end
local function same(path) return { path, target(path), T, check = sees(path) } end
local served = all("served", "200", {
  same "/", same "/corpus?a=b&c", same "/?", same "//a//b", same "/a/../b/./c", same "/%00", same "/%2e%2e%2f", same "/a%0d%0aX:%20y",
  same "/a%20b", same "/a%09b", same "/%c0%ae", same "/%", same "/%zz", same "/a;b=c,d", same "/a|b", same "/a\\b", same "/{a}", same '/"a"', same "/<a>",
  same "/^a`", same "/a?b?c", same "/http://example.com/", same "/*", same "/:80",
  { "a target of 7,900 bytes", target("/" .. ("a"):rep(7900)), "RFC 9112 section 3", check = sees("/" .. ("a"):rep(7900)) },
  { "an absolute target", target "http://example.com/a?b", A, check = sees "/a?b" },
  { "an absolute target in capitals", target "HTTP://EXAMPLE.COM/", A, check = sees "/" },
  { "an absolute target without a path", target "http://example.com", A, check = sees "/" },
  { "an absolute target with a query and no path", target "http://example.com?a", A, check = sees "/?a" },
  { "OPTIONS *", target("*", "OPTIONS"), "RFC 9112 section 3.2.4", check = sees "*" },
  { "OPTIONS of a whole server in absolute form", target("http://example.com", "OPTIONS"), "RFC 9112 section 3.2.4", check = sees "*" },
  { "OPTIONS of a server's root in absolute form", target("http://example.com/", "OPTIONS"), "RFC 9112 section 3.2.4", check = sees "/" },
  { "OPTIONS in absolute form with a query alone", target("http://example.com?a", "OPTIONS"), "RFC 9112 section 3.2.4", check = sees "/?a" },
  { "a Host with a port", host "Host: example.com:8080", H },
  { "a Host with an empty port", host "Host: example.com:", H },
  { "a Host that is an IPv4 address", host "Host: 127.0.0.1", H },
  { "a Host that is an IPv6 address", host "Host: [::1]", H },
  { "a Host that is an IPv6 address with a port", host "Host: [2001:db8::1]:443", H },
  { "a Host with a dot at its end", host "Host: example.com.", H },
  { "a Host with an underscore", host "Host: a_b.example.com", H },
  { "a Host in capitals", host "HOST: EXAMPLE.COM", H },
  { "a Host without white space behind its colon", host "Host:example.com", H },
  { "a Host between tabs", host "Host:\texample.com\t", H },
})

local other = all("clear", nil, {
  { "an absolute target and another Host", head("GET http://target.example/ HTTP/1.1", "Host: evil.example"), A, check = function(seen)
    assert(not seen[1] or seen[1].by.host[1] ~= "evil.example", "the Host that lost arrived")
  end },
  { "an absolute https target", target "https://example.com/", A },
})

return w.join(targets, hosts, served, other)
