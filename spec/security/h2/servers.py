"""What a hostile or broken server of HTTP/2 may answer, and what a client of HTTP/1.1 behind a proxy may see of it.

CASES: (name, rule, what is said when a request has come: a function of the Peer and the stream, what must come of it, the request). What must come of it: a status; CUT (a
reply that the client sees is not whole); FAILED (a status from 500 on, or CUT); a function of the reply. FLOODS: the same for what may not cost much, with FAILED or a status; the
connection must be ended, or the cost bounded.
"""
import time

from verdicts import Wrong, want
from wire import *  # the names of frames, codes and settings

CUT, FAILED = "cut", "failed"
CASES, FLOODS = [], []


def case(rule, name, say, expect, **request):
    CASES.append((name, rule, say, expect, request))


def flood(name, say, expect=FAILED, **request):
    FLOODS.append((name, "9113 10.5", say, expect, request))


def encoded(fields):
    return b"".join(literal(*[x if isinstance(x, bytes) else x.encode() for x in f]) for f in fields)


OK = [(":status", "200")]


def reply(fields, *bodies, trailers=None, end=True):
    """HEADERS, DATA, and trailers."""
    def say(p, stream):
        last = end and trailers is None
        out = headers(stream, encoded(fields), last and not bodies)
        for i, body in enumerate(bodies):
            out += data(stream, body, last and i == len(bodies) - 1)
        if trailers is not None:
            out += headers(stream, encoded(trailers), end)
        p.send(out)
    return say


def frames(make):
    return lambda p, stream: p.send(make(stream))


def whole(status=200, body=None, **fields):
    def judge(r):
        want(r["status"] == status and r["whole"], "status %s, %s", r["status"], "whole" if r["whole"] else "cut")
        want(body is None or r["body"] == body, "the body is %r", r["body"][:60])
        for k, v in fields.items():
            got = r["fields"].get(k.replace("_", "-"), [])
            want(got == (v if isinstance(v, list) else [] if v is None else [v]), "%s came as %r", k, got)
    return judge


case("8.1", "a reply", reply(OK, b"test"), whole(body=b"test"))
case("8.1", "a reply with its length", reply(OK + [("content-length", "4")], b"te", b"st"), whole(body=b"test", content_length="4"))
case("8.1", "an empty reply", reply(OK), whole(body=b""))
case("8.1", "a reply whose last DATA is empty", reply(OK, b"test", b""), whole(body=b"test"))
case("8.1", "trailers", reply(OK, b"test", trailers=[("x-sum", "42")]), whole(body=b"test"))
case("8.1", "204", reply([(":status", "204")]), whole(204, body=b""))
case("8.1", "a reply to HEAD with a length", reply(OK + [("content-length", "1234")]), whole(body=b"", content_length="1234"), method="HEAD")
case("8.1", "103 before the reply", frames(lambda s: headers(s, encoded([(":status", "103"), ("link", "</a>")]), False) + headers(s, encoded(OK), False) + data(s, end=True)), whole(body=b"test"))
case("8.1", "RST_STREAM(NO_ERROR) behind a whole reply", frames(lambda s: headers(s, encoded(OK), False) + data(s, end=True) + rst(s, NO_ERROR)), whole(body=b"test"))
case("8.2", "two Set-Cookies", reply(OK + [("set-cookie", "a=b"), ("set-cookie", "c=d")], b"test"), whole(set_cookie=["a=b", "c=d"]))
case("6.2", "padding and priority", frames(lambda s: headers(s, encoded(OK), False, pad=9, priority=(0, False, 3)) + data(s, end=True, pad=200)), whole(body=b"test"))
case("6.10", "a head in CONTINUATION", frames(lambda s: headers(s, encoded(OK)[:3], False, done=False) + continuation(s, encoded(OK)[3:]) + data(s, end=True)), whole(body=b"test"))
case("6.8", "GOAWAY behind the reply", frames(lambda s: headers(s, encoded(OK), False) + goaway(s) + data(s, end=True)), whole(body=b"test"))

# --- Heads that are none (RFC 9113 section 8)
for name, fields in (("no :status", [("x-a", "1")]), ("two :status", OK + OK), ("an empty :status", [(":status", "")]), (":status 20", [(":status", "20")]),
                     (":status 2000", [(":status", "2000")]), (":status abc", [(":status", "abc")]), (":status 099", [(":status", "099")]), (":status +20", [(":status", "+20")]),
                     (":status 101", [(":status", "101")]), (":status 600", [(":status", "600")]), ("a pseudo-field of requests", OK + [(":path", "/")]), ("an unknown pseudo-field", OK + [(":x", "1")]),
                     (":status behind a field", [("x-a", "1")] + OK), ("upper case in a name", OK + [("X-A", "1")]), ("an empty name", OK + [("", "1")]),
                     ("a space in a name", OK + [("a b", "1")]), ("a colon in a name", OK + [("a:b", "1")]), ("CR LF in a name", OK + [("a\r\nb", "1")]),
                     ("CR in a value", OK + [("a", "1\r2")]), ("LF in a value", OK + [("a", "1\n2")]), ("NUL in a value", OK + [("a", "1\0002")]),
                     ("CR LF and a field in a value", OK + [("a", "1\r\nset-cookie: evil=1")]), ("white space before a value", OK + [("a", " 1")]), ("white space behind a value", OK + [("a", "1 ")]),
                     ("Connection", OK + [("connection", "close")]), ("Transfer-Encoding", OK + [("transfer-encoding", "chunked")]), ("Keep-Alive", OK + [("keep-alive", "timeout=5")]),
                     ("Upgrade", OK + [("upgrade", "h2c")]), ("Proxy-Connection", OK + [("proxy-connection", "close")]),
                     ("two lengths that differ", OK + [("content-length", "4"), ("content-length", "5")]), ("a length that is none", OK + [("content-length", "+4")]),
                     ("an empty length", OK + [("content-length", "")]), ("a length of 2^64", OK + [("content-length", "18446744073709551616")])):
    case("8.3.2" if "tatus" in name else "8.2", "malformed: " + name, reply(fields, b"test"), 502)
case("8.1.1", "malformed: a length where HEADERS ends the reply", reply(OK + [("content-length", "4")]), FAILED)
case("8.1.1", "malformed: DATA longer than its length", reply(OK + [("content-length", "2")], b"test"), FAILED)
case("8.1.1", "malformed: DATA shorter than its length", reply(OK + [("content-length", "8")], b"test"), FAILED)
case("8.1.1", "malformed: trailers behind too little DATA", reply(OK + [("content-length", "8")], b"test", trailers=[("x-a", "1")]), FAILED)
case("8.1", "malformed: an interim reply that ends the stream", reply([(":status", "103")]), 502)
case("8.1", "malformed: DATA before HEADERS", frames(lambda s: data(s, end=True)), 502)
case("8.1", "malformed: DATA behind an interim reply", frames(lambda s: headers(s, encoded([(":status", "103")]), False) + data(s, end=True)), 502)
case("8.1", "malformed: a pseudo-field in trailers", reply(OK, b"test", trailers=[(":status", "200")]), FAILED)
case("8.1", "malformed: trailers that do not end the stream", reply(OK, b"test", trailers=[("x-a", "1")], end=False), FAILED)
case("8.1", "malformed: 204 with DATA", reply([(":status", "204")], b"test"), lambda r: want(b"test" not in r["raw"], "its body came"))
case("8.1", "malformed: 304 with DATA", reply([(":status", "304")], b"test"), lambda r: want(b"test" not in r["raw"], "its body came"))
case("8.1", "malformed: a reply to HEAD with DATA", reply(OK + [("content-length", "4")], b"test"), lambda r: want(b"test" not in r["raw"], "its body came"), method="HEAD")

# --- Streams and connections that end
for code in (NO_ERROR, PROTOCOL, INTERNAL, CANCEL, CALM, 0xff):
    case("5.4.2", "RST_STREAM(%s) in the place of a reply" % code_name(code), frames(lambda s, c=code: rst(s, c)), 502, method="POST")
    case("5.4.2", "RST_STREAM(%s) in the middle of a reply" % code_name(code), frames(lambda s, c=code: headers(s, encoded(OK), False) + data(s) + rst(s, c)), FAILED)
case("5.4.2", "RST_STREAM(CANCEL) in the middle of a reply with a length", frames(lambda s: headers(s, encoded(OK + [("content-length", "100")]), False) + data(s) + rst(s)), FAILED)
case("8.1", "a connection that ends in the middle of a reply", lambda p, s: (reply(OK, b"test", end=False)(p, s), time.sleep(0.05), p.close()), CUT)
case("8.1", "a connection that ends in the place of a reply", lambda p, s: p.close(), 502, method="POST")
case("8.4", "PUSH_PROMISE, which we have forbidden", frames(lambda s: frame(PUSH_PROMISE, END_HEADERS, s, b"\0\0\0\2" + encoded(OK))), FAILED, method="POST")
case("5.1.1", "HEADERS on a stream that nobody opened", frames(lambda s: headers(s + 2, encoded(OK))), FAILED, method="POST")
case("5.1.1", "HEADERS on an even stream", frames(lambda s: headers(2, encoded(OK))), FAILED, method="POST")
case("5.1", "DATA on stream 0", frames(lambda s: data(0)), FAILED, method="POST")
case("5.1", "DATA behind the end of a reply harms no other", frames(lambda s: headers(s, encoded(OK), False) + data(s, end=True) + data(s)), whole(body=b"test"))
case("4.2", "a frame above MAX_FRAME_SIZE", frames(lambda s: headers(s, encoded(OK), False) + data(s, bytes(16385))), FAILED)
case("4.3", "a block that cannot be decoded", frames(lambda s: headers(s, b"\xff\xff\xff\xff\xff\xff")), FAILED, method="POST")
case("6.9", "more DATA than the windows let through", lambda p, s: (p.send(headers(s, encoded(OK), False)), [p.send(data(s, bytes(16384))) for _ in range(1000)]), FAILED, slow=True)
case("6.9.1", "a window that overflows", frames(lambda s: window_update(0, 0x7fffffff) * 2), FAILED, method="POST")
case("6.9", "WINDOW_UPDATE of 0", frames(lambda s: window_update(s, 0)), FAILED, method="POST")
case("6.5.2", "a setting out of its range", frames(lambda s: settings((MAX_FRAME_SIZE, 1))), FAILED, method="POST")
case("6.5.2", "ENABLE_PUSH from a server", frames(lambda s: settings((ENABLE_PUSH, 1))), FAILED, method="POST")


# --- What may not cost much
def on_and_on(one, total=30000, first=b""):
    def say(p, stream):
        p.send(first)
        for _ in range(0, total, 500):
            if not p.send(one * 500):
                return
            while p.readable() and p.ended is None:
                p.next(0.001)
            time.sleep(0.002)
    return say


def stream_and_on(first, one, total=30000):
    return lambda p, s: on_and_on(one(s), total, first(s))(p, s)


flood("PING", on_and_on(ping()))
flood("SETTINGS", on_and_on(settings((MAX_CONCURRENT_STREAMS, 100))))
flood("SETTINGS that change the table's size", on_and_on(settings((HEADER_TABLE_SIZE, 0), (HEADER_TABLE_SIZE, 4096))))
flood("unknown frames", on_and_on(frame(0xbb)))
flood("PRIORITY", on_and_on(priority(1)))
flood("interim replies without end", stream_and_on(lambda s: b"", lambda s: headers(s, encoded([(":status", "103"), ("link", "</a>")]), False)))
flood("empty DATA", stream_and_on(lambda s: headers(s, encoded(OK), False), lambda s: data(s, b"")))
flood("CONTINUATION without end and without content", stream_and_on(lambda s: headers(s, b"", done=False), lambda s: continuation(s, b"", False)))
flood("CONTINUATION without end, full of fields", lambda p, s: on_and_on(continuation(s, literal(b"x-a", b"b" * 100) * 10, False), 10000, headers(s, encoded(OK), done=False))(p, s))
flood("an HPACK bomb", frames(lambda s: headers(s, encoded(OK) + literal(b"x-bomb", b"b" * 4000, 0x40) + b"\xbe" * 12000)), 502)
flood("an HPACK bomb of Set-Cookie", frames(lambda s: headers(s, encoded(OK) + literal(b"set-cookie", b"", 0x40) + b"\xbe" * 16000)), 502)
flood("an HPACK bomb in trailers", frames(lambda s: headers(s, encoded(OK), False) + data(s) + headers(s, literal(b"x-bomb", b"b" * 4000, 0x40) + b"\xbe" * 12000)))
flood("a field block that never ends", lambda p, s: drip(p, s), 504)
flood("a reply that never comes", lambda p, s: None, 504)
flood("a reply that stops in the middle", lambda p, s: reply(OK, b"test", end=False)(p, s), CUT)
flood("a window that stays shut for an upload", lambda p, s: None, FAILED, upload=200000, window=0)


def drip(p, stream):
    """HEADERS, and then a CONTINUATION every 500 ms, no more of them than libraries let pass."""
    p.send(headers(stream, encoded(OK), done=False))
    block = literal(b"x-a", b"b" * 100)
    for i in range(7):
        time.sleep(0.5)
        if not p.send(continuation(stream, block[i:i + 1], False)):
            return
