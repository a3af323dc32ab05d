"""Requests of HTTP/2 and what a server of HTTP/1.1 may see of them: a table (RFC 9113 section 8, RFC 9110, RFC 9112).

Each case is (name, rule, what is sent, what must come of it). What is sent is a dict: `fields` (of HEADERS), `body` (DATA frames: a list of bytes), `trailers`, `end`
(False: END_STREAM never comes). What must come of it:
  MALFORMED   RST_STREAM(PROTOCOL_ERROR); the server behind has seen no whole request
  REFUSED     that, or a status from 400 to 505; the server has seen no whole request
  CLEAR       REFUSED, or served in a form that can be read in one way only
  a function  it was served: called with (the request as the server read it, the reply as the client did), raises Wrong
In every case the connection lives on.
"""
from verdicts import Wrong, want

MALFORMED, REFUSED, CLEAR = "malformed", "refused", "clear"
CASES = []
HOST = "spec.example"


def pseudo(method="GET", path="/", scheme="http", authority=HOST):
    return [(n, v) for n, v in ((":method", method), (":scheme", scheme), (":path", path), (":authority", authority)) if v is not None]


def case(rule, name, expect, fields=None, more=(), body=None, trailers=None, end=True, **how):
    CASES.append((name, rule, dict(fields=(pseudo(**how) if fields is None else fields) + list(more), body=body, trailers=trailers, end=end), expect))


def shown(value):
    return repr(value)[1:] if isinstance(value, bytes) else repr(value)


def served(check=None, **wanted):
    """Served with 200; `wanted`: method, target, body, and fields by name with _ for - (None: absent, a list: all of that name)."""
    def judge(request, reply):
        want(request, "no request arrived")
        want(reply["status"] == 200, "status %s", reply["status"])
        for k, v in wanted.items():
            if k in ("method", "target", "body"):
                want(request[k] == v, "%s is %r", k, request[k])
            else:
                got = request["fields"].get(k.replace("_", "-"), [])
                want(got == (v if isinstance(v, list) else [] if v is None else [v]), "%s arrived as %r", k, got)
        if check:
            check(request, reply)
    return judge


def only(name, value):
    return lambda request, reply: want(request["fields"].get(name, []) == [value], "%s arrived as %r", name, request["fields"].get(name))


# --- What is right arrives
case("8.3.1", "a GET", served(method="GET", target="/", host=HOST, body=b"", content_length=None, transfer_encoding=None))
case("8.3.1", "a path with a query", served(target="/a/b?c=d&e=%20"), path="/a/b?c=d&e=%20")
case("8.3.1", "a path of 8,000 bytes", served(target="/" + "p" * 7999), path="/" + "p" * 7999)
case("8.3.1", "OPTIONS *", served(method="OPTIONS", target="*"), method="OPTIONS", path="*")
case("8.3.1", "Host in the place of :authority", served(host="other.example:8080"), authority=None, more=[("host", "other.example:8080")])
case("8.3.1", "Host that is the same as :authority", served(host=HOST), more=[("host", HOST)])
case("8.3.1", "an :authority with a port", served(host="spec.example:81"), authority="spec.example:81")
case("8.3.1", "an :authority in brackets", served(host="[2001:db8::1]:81"), authority="[2001:db8::1]:81")
case("8.2.3", "cookies in crumbs become one", served(cookie="a=b; c=d; e=f"), more=[("cookie", "a=b"), ("cookie", "c=d"), ("cookie", "e=f")])
case("8.2.3", "crumbs between other fields become one", served(cookie="a=b; c=d", x_a="1"), more=[("cookie", "a=b"), ("x-a", "1"), ("cookie", "c=d")])
case("8.2.3", "a cookie in one piece stays as it is", served(cookie="a=b;c=d ;e"), more=[("cookie", "a=b;c=d ;e")])
case("8.2.2", "TE: trailers", served(), more=[("te", "trailers")])
case("8.2.1", "every visible character in a value", served(x_v="".join(map(chr, range(0x21, 0x7f)))), more=[("x-v", "".join(map(chr, range(0x21, 0x7f))))])
case("8.2.1", "bytes from 0x80 on in a value", served(x_v="\x80\xff"), more=[(b"x-v", b"\x80\xff")])
case("8.2.1", "tabs and spaces within a value", served(x_v="a \t b"), more=[("x-v", "a \t b")])
case("8.2.1", "an empty value", served(x_v=""), more=[("x-v", "")])
case("8.2.1", "every character of a token in a name", served(only("!#$%&'*+-.^_`|~09az", "v")), more=[("!#$%&'*+-.^_`|~09az", "v")])
case("8.2", "the same name three times, in order", served(x_v=["1", "2", "3"]), more=[("x-v", "1"), ("x-v", "2"), ("x-v", "3")])
case("8.1", "a POST with its length", served(method="POST", body=b"test", content_length="4", transfer_encoding=None), method="POST", more=[("content-length", "4")], body=[b"test"])
case("8.1", "a POST without a length", served(method="POST", body=b"testtest", transfer_encoding="chunked", content_length=None), method="POST", body=[b"test", b"test"])
case("8.1", "a POST with a length of 0", served(method="POST", body=b"", content_length="0"), method="POST", more=[("content-length", "0")])
case("8.1", "a POST whose empty body ends by DATA", served(method="POST", body=b""), method="POST", body=[b""])
case("8.1", "a POST of nothing", served(method="POST", body=b""), method="POST")
case("8.1", "a GET with a body", served(method="GET", body=b"test"), body=[b"test"])
case("8.1", "a body of a megabyte", served(body=b"x" * 1000000), method="POST", body=[b"x" * 10000] * 100)
case("8.1", "trailers behind a body", served(lambda q, r: want(q["trailers"].get("x-sum", []) == ["42"], "trailers %s", q["trailers"]), body=b"test"), method="POST",
     body=[b"test"], trailers=[("x-sum", "42")])
case("8.1", "trailers behind a body with a length", served(body=b"test"), method="POST", more=[("content-length", "4")], body=[b"test"], trailers=[("x-sum", "42")])
case("8.1", "trailers behind no body", served(body=b""), method="POST", body=[], trailers=[("x-sum", "42")])
case("9110 6.5.1", "trailers that authenticate are not passed on", served(
    lambda q, r: want(set(q["trailers"]) <= {"x-b"} and "authorization" not in q["fields"] and "cookie" not in q["fields"], "trailers %s", q["trailers"]), body=b"test"),
     method="POST", body=[b"test"], trailers=[("authorization", "x"), ("cookie", "a=b"), ("x-b", "1")])
for name in ("content-length", "host", "content-type", "trailer", "expect", "range", "te", "if-match", "proxy-authorization"):
    case("9110 6.5.1", "%s in trailers" % name, CLEAR, method="POST", body=[b"test"], trailers=[(name, "4")])
case("9110 10.1.1", "Expect: 100-continue", served(body=b"test"), method="POST", more=[("expect", "100-continue")], body=[b"test"])
case("8.1", "padded DATA", served(body=b"testtest"), method="POST", body=[(b"test", 100), (b"", 255), (b"test", 0)])
for method in ("PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PROPFIND"):
    case("8.3.1", "the method " + method, served(method=method), method=method)

# --- Pseudo-fields
for missing in ("method", "scheme", "path"):
    case("8.3.1", "no :" + missing, MALFORMED, **{missing: None})
    case("8.3.1", "an empty :" + missing, MALFORMED, **{missing: ""})
for name, value in pseudo():
    case("8.3", "two " + name, MALFORMED, more=[(name, value)])
    case("8.3", name + " behind a field", MALFORMED, fields=[f for f in pseudo() if f[0] != name] + [("x-a", "1"), (name, value)])
    case("8.1", name + " in trailers", MALFORMED, method="POST", body=[b"test"], trailers=[(name, value)])
for name in (":foo", ":status", ":", ":Method", "::method", ":protocol", ":method "):
    case("8.3", "the pseudo-field %r" % name, MALFORMED, fields=pseudo() + [(name, "200")])
case("8.3.1", "no :authority and no Host", REFUSED, authority=None)
case("8.3.1", "an empty :authority", REFUSED, authority="")
case("8.3.1", "Host that differs from :authority", REFUSED, more=[("host", "other.example")])
case("8.3.1", "Host that differs from :authority in its port", REFUSED, more=[("host", HOST + ":81")])
case("8.3.1", "two Hosts", REFUSED, authority=None, more=[("host", HOST), ("host", HOST)])
case("8.3.1", "Host in another case than :authority", CLEAR, more=[("host", HOST.upper())])
for bad in ("user@spec.example", "spec.example/path", "spec.example, other", "spec example", "spec.example?", "spec.example#", "http://spec.example", "spec.example\\", "[::1",
            "spec.example:80:80", "spec.example:x", b"spec.example\r\nX-Injected: 1", b"spec.example\x00", b"\xc3\xbc.example"):
    case("8.3.1", ":authority %s" % shown(bad), REFUSED, authority=bad)
    case("9110 7.2", "Host %s" % shown(bad), REFUSED, authority=None, more=[("host", bad)])
for good in ("spec.example:", "SPEC.example", "spec.example:99999", "spec.example."):
    case("8.3.1", ":authority %r" % good, CLEAR, authority=good)

# --- Targets, methods, schemes
for bad in ("path", "http://spec.example/", "*", "/a b", "/a#b", "/a\tb", b"/a\r\nb", b"/a\x00b", b"/\x7f", b"/\xc3\xbc", " /", "/ ", "/a HTTP/1.1\r\nX-Injected: 1\r\n", "?x", "#", "."):
    case("8.3.1", ":path %s" % shown(bad), REFUSED, path=bad)
for odd in ("//a", "/../a", "/%2e%2e/a", "/%00", "/\\a", "/<a>", "/a;b", "/a?b?c", "/%"):
    case("8.3.1", ":path %r" % odd, CLEAR, path=odd)
case("9112 3", "a path of 20,000 bytes is too long", REFUSED, path="/" + "p" * 20000)
for bad in ("get", "GET ", " GET", "GE T", "G\tT", b"GET\r\nX: 1", b"G\x00T", "GET/", "G:T", "PRI", "(GET)", "G\xe9T".encode("latin-1"), "SOURCE", "DESCRIBE"):
    case("8.3.1", ":method %s" % shown(bad), REFUSED, method=bad)
case("8.3.1", "OPTIONS with a path that is none", REFUSED, method="OPTIONS", path="x")
for bad in ("ftp", "ht tp", "http:", "http://x", b"http\r\nx", "1http", "javascript", b"http\x00"):
    case("8.3.1", ":scheme %s" % shown(bad), REFUSED, scheme=bad)
for odd in ("https", "HTTP"):
    case("8.3.1", ":scheme %r on a plain connection" % odd, CLEAR, scheme=odd)
case("8.5", "CONNECT with :scheme and :path", MALFORMED, method="CONNECT")
case("8.5", "CONNECT with :path", MALFORMED, method="CONNECT", scheme=None)
case("8.5", "CONNECT without :authority", MALFORMED, method="CONNECT", scheme=None, path=None, authority=None, end=False)
for bad in ("spec.example", "spec.example:", "spec.example:x", "u@spec.example:80", ":80", "spec.example:80/x"):
    case("8.5", "CONNECT to %r" % bad, REFUSED, method="CONNECT", scheme=None, path=None, authority=bad, end=False)
case("8.5", "CONNECT where there are no forward targets", REFUSED, method="CONNECT", scheme=None, path=None, authority="spec.example:443", end=False)
case("8441 4", "extended CONNECT, which is not offered", REFUSED, method="CONNECT", more=[(":protocol", "websocket")], end=False)

# --- Fields
for name, value in (("connection", "close"), ("connection", "x-a"), ("connection", ""), ("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive"), ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "identity"), ("transfer-encoding", ""), ("upgrade", "websocket"), ("te", "gzip"), ("te", "trailers, gzip"), ("te", "")):
    case("8.2.2", "%s: %s" % (name, value), MALFORMED, more=[(name, value)])
    case("8.2.2", "%s: %s, with a body" % (name, value), MALFORMED, method="POST", more=[(name, value)], body=[b"test"])
for name in ("X-Upper", "xX", "CONTENT-LENGTH", "Transfer-Encoding"):
    case("8.2.1", "the name %s" % name, MALFORMED, more=[(name, "1")])
for name in (b"", b"a b", b" a", b"a ", b"a\tb", b"a:b", b"a:", b"a\r\nb", b"a\rb", b"a\nb", b"a\x00b", b"\x00", b"a\x7fb", b"\xc3\xbc", b"a\x80", b"a\x01b", b"a(b", b"a,b", b"a/b",
             b"a\r\ntransfer-encoding: chunked\r\nx", b"x: 1\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\nx"):
    case("8.2.1", "the name %s" % shown(name), MALFORMED, more=[(name, b"v")])
for value in (b"a\rb", b"a\nb", b"a\r\nb", b"a\x00b", b"\x00", b"\r\n", b" a", b"a ", b"\ta", b"a\t", b" ", b"a\r\nx-injected: 1", b"v\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"):
    case("8.2.1", "the value %s" % shown(value), MALFORMED, more=[(b"x-v", value)])
    case("8.2.1", "a cookie %s" % shown(value), MALFORMED, more=[(b"cookie", value)])
    case("8.2.1", "the value %s in trailers" % shown(value), MALFORMED, method="POST", body=[b"test"], trailers=[(b"x-v", value)])
for value in (b"a\x01b", b"a\x1fb", b"a\x7fb", b"\x0b", b"\x0c"):
    case("9110 5.5", "the value %s" % shown(value), REFUSED, more=[(b"x-v", value)])
case("8.2.1", "upper case in the name of a trailer", MALFORMED, method="POST", body=[b"test"], trailers=[("X-Sum", "1")])
case("8.2.2", "transfer-encoding in trailers", CLEAR, method="POST", body=[b"test"], trailers=[("transfer-encoding", "chunked")])
for name in ("transfer_encoding", "content_length", "transfer.encoding"):
    case("9112 11.2", "%s, which some read as framing" % name, CLEAR, method="POST", more=[(name, "chunked")], body=[b"test"])
case("6.5.2", "129 fields are too many", REFUSED, more=[("x-%d" % i, "v") for i in range(130)])
case("6.5.2", "crumbs count as fields", REFUSED, more=[("cookie", "a=b")] * 3000)
case("6.5.2", "a head above limits.head is too large", REFUSED, more=[("x-%d" % i, "v" * 1000) for i in range(70)])
case("6.5.2", "a field above limits.head is too large", REFUSED, more=[("x-v", "v" * 65480)])

# --- Lengths
for value in ("+4", "-4", "0x4", "4.0", "4 4", "4,4", "", "four", "18446744073709551616", "4\x00", "04 "):
    case("8.1.1", "content-length: %r" % value, REFUSED, method="POST", more=[("content-length", value)], body=[b"test"])
case("8.1.1", "two lengths that differ", REFUSED, method="POST", more=[("content-length", "4"), ("content-length", "5")], body=[b"test"])
case("8.1.1", "the same length twice", CLEAR, method="POST", more=[("content-length", "4"), ("content-length", "4")], body=[b"test"])
case("8.1.1", "a body longer than its length", MALFORMED, method="POST", more=[("content-length", "2")], body=[b"test"])
# Whoever passes a body on as it comes learns too late that more of it follows: what has gone is a request that can be read in one way only, and the rest goes nowhere.
case("8.1.1", "a body that goes on behind its length", CLEAR, method="POST", more=[("content-length", "2")], body=[b"te"] + [b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"] * 10)
case("8.1.1", "a body shorter than its length", MALFORMED, method="POST", more=[("content-length", "8")], body=[b"test"])
case("8.1.1", "a body shorter than its length, which trailers end", MALFORMED, method="POST", more=[("content-length", "8")], body=[b"test"], trailers=[("x-sum", "1")])
case("8.1.1", "a length where HEADERS ends the stream", MALFORMED, method="POST", more=[("content-length", "4")])
case("8.1.1", "a length on a GET that HEADERS ends", MALFORMED, more=[("content-length", "4")])
case("8.1.1", "a body where the length is 0", CLEAR, method="POST", more=[("content-length", "0")], body=[b"test"])
