"""Replies of a server of HTTP/1.1 and what a client of HTTP/2 may see of them: (name, rule, the reply, what must come of it).

The reply is bytes, or a list of pieces and of what happens between them: a number (seconds), or CLOSE, or RESET. What must come of it is called with the reply as the client
read it: status, fields (lists by name), body, ended (END_STREAM has come), reset (a code, or None), interim (statuses), trailers.
"""
from verdicts import want
from wire import NO_ERROR, PROTOCOL, code_name

CLOSE, ABORT = object(), object()
CASES = []


def case(rule, name, reply, expect, **request):
    CASES.append((name, rule, reply if isinstance(reply, list) else [reply], expect, request))


def whole(status=200, body=None, trailers=None, **fields):
    def judge(r):
        want(r["reset"] in (None, NO_ERROR), "a reset, %s", code_name(r["reset"] or 0))
        want(r["ended"], "the reply does not end")
        want(r["status"] == status, "status %s", r["status"])
        want(body is None or r["body"] == body, "the body is %r", r["body"][:60])
        want(trailers is None or r["trailers"] == trailers, "the trailers are %r", r["trailers"])
        for k, v in fields.items():
            got = r["fields"].get(k.replace("_", "-"), [])
            want(got == (v if isinstance(v, list) else [] if v is None else [v]), "%s came as %r", k, got)
    return judge


def cut(r):
    """The client sees that its reply is not whole."""
    want(not r["ended"], "it looks like a whole reply of %d bytes", len(r["body"]))
    want(r["reset"] not in (None, NO_ERROR), "no reset")


def cut_or_502(r):
    return whole(502)(r) if r["status"] == 502 else cut(r)


OK = b"HTTP/1.1 200 OK\r\n"
case("9112 6", "a reply with its length", OK + b"Content-Length: 4\r\n\r\ntest", whole(body=b"test", content_length="4"))
case("9112 6", "a reply in chunks", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nte\r\n2\r\nst\r\n0\r\n\r\n", whole(body=b"test", transfer_encoding=None))
case("9112 6", "a reply that its connection's end ends", [OK + b"\r\ntest", CLOSE], whole(body=b"test"))
case("9112 6", "an empty reply", OK + b"Content-Length: 0\r\n\r\n", whole(body=b"", content_length="0"))
case("9113 8.1", "trailers", OK + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\ntest\r\n0\r\nX-Sum: 42\r\n\r\n", whole(body=b"test", trailers={"x-sum": ["42"]}))
case("9113 8.1", "trailers that nothing announced", OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\ntest\r\n0\r\nX-Sum: 42\r\n\r\n", whole(body=b"test", trailers={"x-sum": ["42"]}))
case("9110 6.5.1", "trailers that frame are not passed on", OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\ntest\r\n0\r\nSet-Cookie: a=b\r\nX-Sum: 42\r\n\r\n", lambda r: (
    whole(body=b"test")(r), want("content-length" not in r["trailers"], "trailers %s", r["trailers"])))
case("9110 9.3.2", "a reply to HEAD has a length and no body", OK + b"Content-Length: 1234\r\n\r\n", whole(body=b"", content_length="1234"), method="HEAD")
case("9110 15.3.5", "204", b"HTTP/1.1 204 No Content\r\n\r\n", whole(204, body=b"", content_length=None))
case("9110 15.4.5", "304 with a length", b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 1234\r\n\r\n", whole(304, body=b"", etag='"a"'))
case("9110 15.2", "103 before the final reply", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 4\r\n\r\ntest", lambda r: (
    whole(body=b"test", link=None)(r), want(r["interim"] in ([], [103]), "interim %s", r["interim"])))
case("9110 15.2", "100 that nobody asked for", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 4\r\n\r\ntest", lambda r: (
    whole(body=b"test")(r), want(r["interim"] in ([], [100]), "interim %s", r["interim"])))
case("9113 8.2.2", "fields of the connection are not passed on", OK + b"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nContent-Length: 4\r\n\r\ntest",
     whole(body=b"test", connection=None, x_hop=None, keep_alive=None, proxy_connection=None))
case("9113 8.2.2", "an Upgrade that is offered is not passed on", OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\ntest", whole(body=b"test", connection=None, upgrade=None))
case("9113 8.2", "names become lower case", OK + b"X-UPPER: Value\r\nContent-Length: 4\r\n\r\ntest", whole(body=b"test", x_upper="Value"))
case("9113 8.2.1", "white space around a value goes", OK + b"X-V: \t v \t \r\nContent-Length: 4\r\n\r\ntest", whole(body=b"test", x_v="v"))
case("9110 5.3", "two Set-Cookies stay two", OK + b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 4\r\n\r\ntest", whole(body=b"test", set_cookie=["a=b", "c=d"]))
case("9110 5.5", "bytes from 0x80 on in a value", OK + b"X-V: \xc3\xbc\r\nContent-Length: 4\r\n\r\ntest", whole(body=b"test", x_v="\xfc"))
case("9112 4", "a status with another reason", b"HTTP/1.1 299 Whatever it is\r\nContent-Length: 4\r\n\r\ntest", whole(299, body=b"test"))
case("9112 2.3", "a reply of HTTP/1.0", [b"HTTP/1.0 200 OK\r\n\r\ntest", CLOSE], whole(body=b"test"))
case("9112 8", "a body shorter than its length is cut", [OK + b"Content-Length: 100\r\n\r\ntest", CLOSE], cut)
case("9112 8", "chunks without an end are cut", [OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\ntest\r\n", CLOSE], cut)
case("9112 8", "a chunk without its end is cut", [OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\ntest", CLOSE], cut)
case("9112 8", "a body whose connection is reset is cut", [OK + b"Content-Length: 100\r\n\r\ntest", 0.05, ABORT], cut)
case("9112 8", "a body without a length whose connection is reset is cut", [OK + b"\r\ntest", 0.05, ABORT], cut)
case("9112 7.1", "a chunk size that is none is cut", [OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\ntest\r\nxyz\r\n", 0.05, CLOSE], cut_or_502)
case("9112 8", "a head without an end", [OK + b"X-V: 1\r\n", CLOSE], whole(502))
case("9112 8", "no reply at all", [CLOSE], whole(502), method="POST")
for name, head in (("two lengths that differ", OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\ntest"), ("a length and chunks", OK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                   ("a status of two digits", b"HTTP/1.1 20 OK\r\n\r\n"), ("a folded line", OK + b"X-V: 1\r\n 2\r\nContent-Length: 0\r\n\r\n"),
                   ("a NUL in a value", OK + b"X-V: a\x00b\r\nContent-Length: 0\r\n\r\n"), ("101 that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
                   ("bytes that are no HTTP", b"hello\r\n\r\n"), ("HTTP/2's own preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")):
    case("9112", name + " is a 502", [head, 0.05, CLOSE], whole(502))
case("9113 8.1", "a reply before the request's body has come", OK + b"Connection: close\r\nContent-Length: 4\r\n\r\ntest", whole(body=b"test"), method="POST", end=False, early=True)
case("9113 8.1", "a refusal before the request's body has come", b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\ntest", whole(413, body=b"test"), method="POST", end=False, early=True)
case("9112 9.2", "bytes behind a reply are not the next one", OK + b"Content-Length: 4\r\n\r\ntestHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nevil!", whole(body=b"test"))
case("9113 8.1", "a reply of a megabyte", OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000000, whole(body=b"x" * 1000000))
case("9113 8.1", "a reply of a megabyte in small chunks", OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"\r\n64\r\n".join([b"x" * 100] * 10000) + b"\r\n0\r\n\r\n", whole(body=b"x" * 1000000))
