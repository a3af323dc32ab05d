"""Cases by section of RFC 9113 and RFC 7541: what a client sends behind the handshake, and what a server must do (verdicts.py).

CASES holds (section, name, steps, verdict). Steps are bytes, each sent in a write of its own, or functions of the Peer. They say what RFC 9113 asks for where that
differs from RFC 7540; `bare`: no handshake comes before. The last part, MORE, has what servers are seldom asked.
"""
from verdicts import (Wrong, acked, alive, answered, closed, connection_error, ended, gone, one_byte, ponged, ponged_or_closed, reply_over, silent_rest, stream_error,
                      until, want)
from wire import *  # the names of frames, codes and settings

CASES = []
BARE = set()


def case(section, name, verdict, *steps, bare=False):
    CASES.append((section, name, steps, verdict))
    if bare:
        BARE.add((section, name))


def dummy(n=1):
    return [("x-dummy%d" % i, "x" * 4000) for i in range(n)]


def get(stream=1, end=True, **how):
    return lambda p: p.open(stream, end, **how)


def post(stream=1, end=False, more=()):
    return get(stream, end, method="POST", more=more)


def with_fields(make, end=True, method="GET"):
    """A request whose list of fields `make` changes."""
    return lambda p: p.send(headers(1, p.block(make(p.request(method=method))), end))


def behind(tail, before=b""):
    """A request with bytes behind (or before) its block."""
    return lambda p: p.send(headers(1, before + p.block() + tail))


def trailers(fields, stream=1, end=True):
    return lambda p: p.send(headers(stream, p.block(list(fields)), end))


def dummy_continuation(stream=1, done=True):
    return lambda p: p.send(continuation(stream, p.block(dummy()), done))


def unfinished(stream=1, end=True, method="GET"):
    return lambda p: p.send(headers(stream, p.block(method=method), end, done=False))


def opened_only(p, strict):
    """The first frame is the server's SETTINGS."""
    f = p.next()
    want(isinstance(f, Frame) and f.type == SETTINGS and not f.has(ACK), "%s", f)


def after(judge):
    return lambda p: judge(p, True)


UNKNOWN = frame(0x16, payload=bytes(8))
GREETING = PREFACE + settings((INITIAL_WINDOW_SIZE, WINDOW))
PONG = b"h2 case\0"

# --- What every endpoint accepts
case("3.4", "a preface is answered by SETTINGS first", opened_only, PREFACE, settings((INITIAL_WINDOW_SIZE, WINDOW)), bare=True)
case("5.1", "PRIORITY on an idle stream is accepted", ponged(), priority(1), ping())
case("5.1", "WINDOW_UPDATE on a half-closed stream is accepted", one_byte, settings((INITIAL_WINDOW_SIZE, 0)), get(), window_update(1, 1))
case("5.1", "PRIORITY on a half-closed stream is accepted", one_byte, settings((INITIAL_WINDOW_SIZE, 0)), get(), priority(1), window_update(1, 1))
case("5.1", "RST_STREAM on a half-closed stream is accepted", ponged(), get(), rst(1), ping())
case("5.1", "PRIORITY on a closed stream is accepted", ponged(), get(), reply_over, priority(1), ping())
case("6.1", "DATA is accepted", answered(), post(), data(1, end=True))
case("6.1", "several DATA are accepted", answered(), post(), data(1), data(1, end=True))
case("6.1", "padded DATA is accepted", answered(), post(), data(1, end=True, pad=6))
case("6.2", "HEADERS is accepted", answered(), get())
case("6.2", "padded HEADERS is accepted", answered(), lambda p: p.send(headers(1, p.block(), pad=8)))
case("6.2", "HEADERS with a priority is accepted", answered(), lambda p: p.send(headers(1, p.block(), priority=(0, False, 255))))
case("6.3", "PRIORITY with the weight 1 is accepted", answered(), priority(1, weight=0), get())
case("6.3", "PRIORITY with the weight 256 is accepted", answered(), priority(1, weight=255), get())
case("6.3", "PRIORITY with a dependency is accepted", answered(), priority(3, 1, weight=0), get())
case("6.3", "an exclusive PRIORITY is accepted", answered(), priority(1, exclusive=True, weight=0), get())
case("6.3", "PRIORITY on a higher idle stream leaves the lower one idle", answered(), priority(3), get())
case("6.4", "RST_STREAM is accepted", ponged_or_closed(bytes(8)), get(end=False), rst(1), ping())
case("6.5", "SETTINGS is accepted", acked, settings((HEADER_TABLE_SIZE, 4096), (ENABLE_PUSH, 1), (MAX_CONCURRENT_STREAMS, 100), (INITIAL_WINDOW_SIZE, 65535),
                                                    (MAX_FRAME_SIZE, 16384), (MAX_HEADER_LIST_SIZE, 100)))
case("6.7", "PING is accepted", ponged(PONG), ping(PONG))
case("6.8", "GOAWAY is accepted", ponged_or_closed(PONG), goaway(debug=b"going"), ping(PONG))
case("6.9", "WINDOW_UPDATE of the connection is accepted", ponged(), window_update(0, 1), ping())
case("6.9", "WINDOW_UPDATE of a stream is accepted", answered(), get(), window_update(1, 1))
case("6.10", "CONTINUATION is accepted", answered(), lambda p: cut(p, 5))
case("6.10", "several CONTINUATION are accepted", answered(), lambda p: cut(p, 5, 10))
case("8.1", "a GET is answered", answered(), get())
case("8.1", "a HEAD is answered", answered(), get(method="HEAD"))
case("8.1", "a POST is answered", answered(), post(), data(1, end=True))
case("8.1", "a POST with trailers is answered", answered(), post(more=[("trailer", "x-test")]), data(1), trailers([("x-test", "ok")]))


def cut(p, *at):
    """A request whose block is cut at these bytes."""
    block, at = p.block(), (*at, None)
    p.send(headers(1, block[:at[0]], done=False))
    for i in range(len(at) - 1):
        p.send(continuation(1, block[at[i]:at[i + 1]], at[i + 1] is None))


# A name that the static table has, and one that it has not; with and without Huffman coding
AGENT, TEST = b"\x0auser-agent\x06probes", b"\x06x-test\x06probes"
AGENT_HUFFMAN = b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4"
TEST_HUFFMAN = b"\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4"
case("7541 6.1", "an indexed field is accepted", answered(), behind(b"\xba"))
for kind, first in (("with incremental indexing", b"\x40"), ("without indexing", b"\x00"), ("never indexed", b"\x10")):
    where = {"with": "7541 6.2.1", "without": "7541 6.2.2", "never": "7541 6.2.3"}[kind.split()[0]]
    for what, rest in (("known", AGENT), ("known, in Huffman code", AGENT_HUFFMAN), ("new", TEST), ("new, in Huffman code", TEST_HUFFMAN)):
        case(where, "a literal %s is accepted, its name %s" % (kind, what), answered(), behind(first + rest))
case("7541 6.3", "a size update is accepted", answered(), lambda p: resized(p, 128))
case("7541 4.2", "two size updates are accepted", answered(), lambda p: resized(p, 128, 4096))


def resized(p, *sizes):
    p.send(headers(1, b"".join(integer(n, 5, 0x20) for n in sizes) + hpack_plain(p.request())))


def hpack_plain(fields):
    """A block that uses no table."""
    return b"".join(literal(n.encode() if isinstance(n, str) else n, v.encode() if isinstance(v, str) else v) for n, v in fields)


# --- Starting (section 3)
case("3.4", "the server's preface is the first that it sends", opened_only, PREFACE, settings((INITIAL_WINDOW_SIZE, WINDOW)), bare=True)
case("3.4", "an invalid preface ends the connection", lambda p, strict: preface_refused(p, strict), b"INVALID CONNECTION PREFACE\r\n\r\n", bare=True)


def preface_refused(p, strict):
    """A GOAWAY or nothing at all before the end: what comes is read as frames. A reply of HTTP/1.1 would be a frame of megabytes."""
    while True:
        f = p.next()
        if f is CLOSED:
            return
        want(isinstance(f, Frame), "%s, and %s of bytes that are no frame" % (f, p.input[:20]))
        if f.type == GOAWAY and f.code == PROTOCOL and not strict:
            return


# --- Frames (section 4)
case("4.1", "a frame of an unknown type is ignored", ponged(), UNKNOWN, ping())
case("4.1", "undefined flags are ignored", ponged(), frame(PING, 0x16, 0, bytes(8)))
case("4.1", "the reserved bit is ignored", ponged(), frame(PING, 0x16, 0x80000000, bytes(8)))
case("4.2", "DATA of 2^14 bytes is accepted", answered(), post(), lambda p: p.send(data(1, b"x" * p.settings.get(MAX_FRAME_SIZE, 16384), True)))
case("4.2", "DATA above MAX_FRAME_SIZE is FRAME_SIZE_ERROR", stream_error(FRAME_SIZE), post(),
     lambda p: p.send(data(1, b"x" * (p.settings.get(MAX_FRAME_SIZE, 16384) + 1), True)))
case("4.2", "HEADERS above MAX_FRAME_SIZE is FRAME_SIZE_ERROR", connection_error(FRAME_SIZE),
     lambda p: p.send(headers(1, hpack_plain(p.request() + dummy(1 + p.settings.get(MAX_FRAME_SIZE, 16384) // 4000)))))
case("4.3", "a field block cut short is COMPRESSION_ERROR", connection_error(COMPRESSION), headers(1, b"\x40"))
case("4.3", "PRIORITY within a field block is PROTOCOL_ERROR", connection_error(PROTOCOL), unfinished(end=False), priority(1), dummy_continuation())
case("4.3", "another stream's HEADERS within a field block is PROTOCOL_ERROR", connection_error(PROTOCOL), unfinished(end=False), get(3), dummy_continuation())

# --- States of streams (section 5.1)
case("5.1", "idle: DATA is PROTOCOL_ERROR", connection_error(PROTOCOL), data(1, end=True))
case("5.1", "idle: RST_STREAM is PROTOCOL_ERROR", connection_error(PROTOCOL), rst(1))
case("5.1", "idle: WINDOW_UPDATE is PROTOCOL_ERROR", connection_error(PROTOCOL), window_update(1, 100))
case("5.1", "idle: CONTINUATION is PROTOCOL_ERROR", connection_error(PROTOCOL), lambda p: p.send(continuation(1, p.block())))
case("5.1", "half-closed: DATA is STREAM_CLOSED", stream_error(STREAM_CLOSED), get(), data(1, end=True))
case("5.1", "half-closed: HEADERS is STREAM_CLOSED", stream_error(STREAM_CLOSED), get(), get())
case("5.1", "half-closed: CONTINUATION is an error", stream_error(STREAM_CLOSED, PROTOCOL), get(), lambda p: p.send(continuation(1, p.block())))
case("5.1", "reset by us: DATA is STREAM_CLOSED", stream_error(STREAM_CLOSED), get(end=False), rst(1), data(1, end=True))
case("5.1", "reset by us: HEADERS is STREAM_CLOSED", stream_error(STREAM_CLOSED), get(end=False), rst(1), get())
case("5.1", "reset by us: CONTINUATION is an error", stream_error(STREAM_CLOSED, PROTOCOL), get(end=False), rst(1), dummy_continuation())
case("5.1", "closed: DATA is STREAM_CLOSED", stream_error(STREAM_CLOSED), get(), reply_over, data(1, end=True))
case("5.1", "closed: HEADERS is STREAM_CLOSED", connection_error(STREAM_CLOSED), lambda p: twice(p))
case("5.1", "closed: CONTINUATION is an error", connection_error(STREAM_CLOSED, PROTOCOL), get(), reply_over, dummy_continuation())


def twice(p):
    """The same HEADERS again, byte for byte, when their stream has come to its end."""
    request = headers(1, p.block())
    p.send(request)
    reply_over(p)
    p.send(request)


case("5.1.1", "an even stream is PROTOCOL_ERROR", connection_error(PROTOCOL), get(2))
case("5.1.1", "a stream lower than the last one is PROTOCOL_ERROR", connection_error(PROTOCOL), get(5), get(3))


def too_many(p):
    want(MAX_CONCURRENT_STREAMS in p.settings, "streams without limit")
    p.send(settings((INITIAL_WINDOW_SIZE, 0)))
    block = p.block()
    for i in range(p.settings[MAX_CONCURRENT_STREAMS] + 1):
        p.send(headers(1 + 2 * i, block))


def refused_last(p, strict):
    last = 1 + 2 * p.settings[MAX_CONCURRENT_STREAMS]
    stream_error(PROTOCOL, REFUSED, stream=last)(p, strict)


case("5.1.2", "a stream more than MAX_CONCURRENT_STREAMS is refused", refused_last, too_many)
case("5.3.1", "HEADERS that depend on their own stream are an error", stream_error(PROTOCOL), lambda p: p.send(headers(1, p.block(), priority=(1, False, 255))))
case("5.3.1", "PRIORITY that depends on its own stream is an error", stream_error(PROTOCOL), priority(1, 1))
case("5.4.1", "an error of the connection ends TCP", closed, frame(PING, 0, 3, bytes(8)))
case("5.4.1", "an error of the connection is told by GOAWAY", lambda p, strict: until(p, GOAWAY), frame(PING, 0, 3, bytes(8)))
case("5.5", "an unknown frame is ignored", ponged(), UNKNOWN, ping())
case("5.5", "an unknown frame within a field block is PROTOCOL_ERROR", connection_error(PROTOCOL), unfinished(), UNKNOWN)

# --- Kinds of frames (section 6)
case("6.1", "DATA on stream 0 is PROTOCOL_ERROR", connection_error(PROTOCOL), data(0, end=True))
case("6.1", "DATA on a half-closed stream is STREAM_CLOSED", stream_error(STREAM_CLOSED), post(end=True), data(1, end=True))
case("6.1", "DATA with more padding than payload is PROTOCOL_ERROR", connection_error(PROTOCOL), post(more=[("content-length", "4")]),
     frame(DATA, PADDED | END_STREAM, 1, b"\x06test"))
case("6.2", "PRIORITY behind HEADERS without END_HEADERS is PROTOCOL_ERROR", connection_error(PROTOCOL), unfinished(end=False), priority(1), dummy_continuation())
case("6.2", "another HEADERS behind HEADERS without END_HEADERS is PROTOCOL_ERROR", connection_error(PROTOCOL), unfinished(end=False), get(3), dummy_continuation())
case("6.2", "HEADERS on stream 0 is PROTOCOL_ERROR", connection_error(PROTOCOL), get(0))


def padded_beyond(p):
    block = p.block()
    p.send(frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, bytes([len(block) + 2]) + block))


case("6.2", "HEADERS with more padding than payload is PROTOCOL_ERROR", stream_error(PROTOCOL), padded_beyond)
case("6.3", "PRIORITY on stream 0 is PROTOCOL_ERROR", connection_error(PROTOCOL), priority(0))
case("6.3", "PRIORITY of 4 bytes is FRAME_SIZE_ERROR", stream_error(FRAME_SIZE), get(), frame(PRIORITY, 0, 1, b"\x80\0\0\1"))
case("6.4", "RST_STREAM on stream 0 is PROTOCOL_ERROR", connection_error(PROTOCOL), rst(0))
case("6.4", "RST_STREAM on an idle stream is PROTOCOL_ERROR", connection_error(PROTOCOL), rst(1))
case("6.4", "RST_STREAM of 3 bytes is FRAME_SIZE_ERROR", stream_error(FRAME_SIZE), get(), frame(RST_STREAM, 0, 1, bytes(3)))
case("6.5", "SETTINGS with ACK and payload is FRAME_SIZE_ERROR", connection_error(FRAME_SIZE), frame(SETTINGS, ACK, 0, b"\0"))
case("6.5", "SETTINGS on a stream is PROTOCOL_ERROR", connection_error(PROTOCOL), frame(SETTINGS, 0, 1, settings((3, 100))[9:]))
case("6.5", "SETTINGS of 3 bytes is an error", stream_error(PROTOCOL, FRAME_SIZE), frame(SETTINGS, 0, 0, b"\0\3\0"))
case("6.5.2", "ENABLE_PUSH of 2 is PROTOCOL_ERROR", connection_error(PROTOCOL), settings((ENABLE_PUSH, 2)))
case("6.5.2", "INITIAL_WINDOW_SIZE of 2^31 is FLOW_CONTROL_ERROR", connection_error(FLOW_CONTROL), settings((INITIAL_WINDOW_SIZE, 1 << 31)))
case("6.5.2", "MAX_FRAME_SIZE below 2^14 is PROTOCOL_ERROR", connection_error(PROTOCOL), settings((MAX_FRAME_SIZE, 16383)))
case("6.5.2", "MAX_FRAME_SIZE of 2^24 is PROTOCOL_ERROR", connection_error(PROTOCOL), settings((MAX_FRAME_SIZE, 1 << 24)))
case("6.5.2", "an unknown setting is ignored", ponged(), settings((0xff, 1)), ping())
case("6.5.3", "settings are taken in their order", one_byte, settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)), after(acked), get())
case("6.5.3", "SETTINGS is acknowledged at once", acked, settings((ENABLE_PUSH, 0)))
case("6.7", "PING is answered with its payload", ponged(PONG), ping(PONG))
case("6.7", "PING with ACK is not answered", ponged(PONG), ping(b"unwanted", ack=True), ping(PONG))
case("6.7", "PING on a stream is PROTOCOL_ERROR", connection_error(PROTOCOL), frame(PING, 0, 1, bytes(8)))
case("6.7", "PING of 6 bytes is FRAME_SIZE_ERROR", connection_error(FRAME_SIZE), frame(PING, 0, 0, bytes(6)))
case("6.8", "GOAWAY on a stream is PROTOCOL_ERROR", connection_error(PROTOCOL), frame(GOAWAY, 0, 1, bytes(8)))
case("6.9", "WINDOW_UPDATE of 0 is PROTOCOL_ERROR", connection_error(PROTOCOL), window_update(0, 0))
case("6.9", "WINDOW_UPDATE of 0 on a stream is PROTOCOL_ERROR", stream_error(PROTOCOL), get(end=False), window_update(1, 0))
case("6.9", "WINDOW_UPDATE of 3 bytes is FRAME_SIZE_ERROR", connection_error(FRAME_SIZE), frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"))
case("6.9.1", "a window of 1 gets one byte", one_byte, settings((INITIAL_WINDOW_SIZE, 1)), after(acked), get())


def overflow_told(p, strict):
    f = until(p, GOAWAY)
    want(f.code == FLOW_CONTROL, "%s", f)


def overflow_reset(p, strict):
    f = until(p, RST_STREAM)
    want(f.code == FLOW_CONTROL and f.stream == 1, "%s", f)
    if strict:
        alive(p)


MOST = (1 << 31) - 1
case("6.9.1", "a connection's window above 2^31-1 is FLOW_CONTROL_ERROR", overflow_told, window_update(0, MOST), window_update(0, MOST))
case("6.9.1", "a stream's window above 2^31-1 is FLOW_CONTROL_ERROR", overflow_reset, get(end=False), window_update(1, MOST), window_update(1, MOST))
case("6.9.2", "a change of INITIAL_WINDOW_SIZE opens the window of a stream", one_byte, settings((INITIAL_WINDOW_SIZE, 0)), after(acked), get(), settings((INITIAL_WINDOW_SIZE, 1)))
case("6.9.2", "a window may be below 0", one_byte, settings((INITIAL_WINDOW_SIZE, 3)), after(acked), get(), lambda p: until(p, DATA), settings((INITIAL_WINDOW_SIZE, 2)),
     after(acked), window_update(1, 2))
case("6.9.2", "INITIAL_WINDOW_SIZE above 2^31-1 is FLOW_CONTROL_ERROR", connection_error(FLOW_CONTROL), settings((INITIAL_WINDOW_SIZE, 1 << 31)))
case("6.10", "CONTINUATION with large fields are accepted", answered(), unfinished(), dummy_continuation(done=False), dummy_continuation())
case("6.10", "DATA behind CONTINUATION without END_HEADERS is PROTOCOL_ERROR", connection_error(PROTOCOL), unfinished(end=False, method="POST"), dummy_continuation(done=False),
     data(1, end=True))
case("6.10", "CONTINUATION on stream 0 is PROTOCOL_ERROR", connection_error(PROTOCOL), unfinished(), dummy_continuation(0))
case("6.10", "CONTINUATION behind HEADERS with END_HEADERS is PROTOCOL_ERROR", connection_error(PROTOCOL), get(), dummy_continuation())
case("6.10", "CONTINUATION behind CONTINUATION with END_HEADERS is PROTOCOL_ERROR", connection_error(PROTOCOL), unfinished(), dummy_continuation(), dummy_continuation())
case("6.10", "CONTINUATION behind DATA is PROTOCOL_ERROR", connection_error(PROTOCOL), unfinished(end=False, method="POST"), data(1, end=True), dummy_continuation(done=False),
     dummy_continuation(0))
case("7", "GOAWAY with an unknown code is no error", ponged_or_closed(PONG), goaway(code=0xff), ping(PONG))
case("7", "RST_STREAM with an unknown code is no error", ponged(), post(), rst(1, 0xff), ping())

# --- Messages (section 8)
case("8.1", "a second HEADERS without END_STREAM is malformed", stream_error(PROTOCOL), post(), data(1), trailers([("x-test", "ok")], end=False))
for section, name, make in (
    ("8.2", "upper case in a name", lambda f: f + [("X-TEST", "ok")]),
    ("8.3", "an unknown pseudo-field", lambda f: f + [(":test", "ok")]),
    ("8.3", "a pseudo-field of replies", lambda f: f + [(":status", "200")]),
    ("8.3", "a pseudo-field behind a field", lambda f: [("x-test", "ok")] + f),
    ("8.2.2", "Connection", lambda f: f + [("connection", "keep-alive")]),
    ("8.2.2", "TE other than trailers", lambda f: f + [("trailers", "test"), ("te", "trailers, deflate")]),
    ("8.3.1", "an empty :path", lambda f: f[:2] + [(":path", "")] + f[3:]),
    ("8.3.1", "no :method", lambda f: f[2:]),
    ("8.3.1", "no :scheme", lambda f: f[:1] + f[2:]),
    ("8.3.1", "no :path", lambda f: f[:2] + f[3:]),
    ("8.3.1", "two :method", lambda f: f + f[:1]),
    ("8.3.1", "two :scheme", lambda f: f + f[1:2]),
    ("8.3.1", "two :path", lambda f: f + f[2:3]),
):
    case(section, "malformed: " + name, stream_error(PROTOCOL), with_fields(make))
case("8.3", "malformed: a pseudo-field in trailers", stream_error(PROTOCOL), post(), data(1), trailers([(":method", "POST")], end=False))
case("8.1.1", "malformed: DATA longer than Content-Length", stream_error(PROTOCOL), post(more=[("content-length", "1")]), data(1, end=True))
case("8.1.1", "malformed: several DATA longer than Content-Length", stream_error(PROTOCOL), post(more=[("content-length", "1")]), data(1), data(1, end=True))
case("8.4", "PUSH_PROMISE from a client is PROTOCOL_ERROR", connection_error(PROTOCOL),
     lambda p: p.send(frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\3" + p.block())))

# --- HPACK (RFC 7541)
case("7541 2.3.3", "an index beyond both tables is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\xc6"))
case("7541 2.3.3", "a name's index beyond both tables is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\x7f\x07\x00"))
case("7541 4.2", "a size update at the end of a block is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\x21"))
case("7541 5.2", "Huffman padding of more than 7 bits is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\0\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"))
case("7541 5.2", "Huffman padding of zeros is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\0\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"))
case("7541 5.2", "Huffman's end of string in a string is COMPRESSION_ERROR", connection_error(COMPRESSION),
     behind(b"\0\x85\xf2\xb2\x4a\x87\xff\xff\xff\xfd\x25\x42\x7f"))
case("7541 6.1", "index 0 is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\x80"))
case("7541 6.3", "a size update above HEADER_TABLE_SIZE is COMPRESSION_ERROR", connection_error(COMPRESSION),
     lambda p: p.send(headers(1, integer(p.settings.get(HEADER_TABLE_SIZE, 4096) + 1, 5, 0x20) + p.block())))

COMMON = len(CASES)
