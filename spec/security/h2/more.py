"""Further cases by section, in the form of cases.py: what servers are seldom asked, and where libraries are known to be lenient."""
from cases import after, behind, dummy, get, hpack_plain, post, trailers, with_fields
from verdicts import acked, alive, answered, closed, connection_error, ended, ponged, reply_over, silent_rest, stream_error, until, want
from wire import *  # the names of frames, codes and settings

CASES = []


def case(section, name, verdict, *steps):
    CASES.append((section, name, steps, verdict))


def told(check, text):
    return lambda p, strict: want(check(p.settings), "%s: %s", text, p.settings)


def quiet(p, strict=True):
    alive(p)


# --- What the server says of itself
case("6.5.2", "the server says how many streams it takes", told(lambda s: 0 < s.get(MAX_CONCURRENT_STREAMS, 0) <= 1000, "MAX_CONCURRENT_STREAMS"))
case("6.5.2", "the server does not say that it takes pushes", told(lambda s: s.get(ENABLE_PUSH, 0) == 0, "ENABLE_PUSH"))
case("8441 3", "the server does not offer extended CONNECT", told(lambda s: s.get(ENABLE_CONNECT_PROTOCOL, 0) == 0, "ENABLE_CONNECT_PROTOCOL"))
case("6.5.2", "the server's frames and windows are what RFC 9113 allows", told(
    lambda s: 16384 <= s.get(MAX_FRAME_SIZE, 16384) < 1 << 24 and s.get(INITIAL_WINDOW_SIZE, 65535) < 1 << 31, "settings"))


# --- Streams and their identifiers
def low_while_open(p):
    p.open(7, end=False)
    p.open(5)


def many_then(stream):
    def steps(p):
        for i in range(5):
            p.open(3 + 4 * i)
            reply_over(p)
        p.open(stream)
    return steps


case("5.1.1", "a lower stream that was never opened, while a higher one is open", connection_error(PROTOCOL), low_while_open)
case("5.1.1", "a stream between closed ones that was never opened", connection_error(PROTOCOL), many_then(9))
case("5.1.1", "the lowest stream when later ones are closed", connection_error(PROTOCOL), many_then(1))
case("5.1.1", "DATA on a lower stream that was never opened", stream_error(PROTOCOL, STREAM_CLOSED, stream=3), get(5), reply_over, data(3))
case("5.1.1", "the last of all streams is served", answered(0x7fffffff), get(0x7fffffff))
case("5.1.1", "a stream far above the last one is served", answered(1000001), get(1), reply_over, get(1000001))
case("5.1.1", "DATA on an even stream is PROTOCOL_ERROR", connection_error(PROTOCOL), data(2))
case("5.1.1", "WINDOW_UPDATE on an even stream is PROTOCOL_ERROR", connection_error(PROTOCOL), window_update(2, 1))


def reset_by_server(p):
    """Opens stream 1 with a malformed request, so that the server resets it."""
    p.send(headers(1, p.block(p.request(method="POST") + [("X-UPPER", "1")]), end=False))
    f = until(p, RST_STREAM)
    want(f.stream == 1, "%s", f)


def usable(stream=3):
    """The connection serves a request on a further stream."""
    return lambda p, strict: (p.open(stream), answered(stream)(p, strict))


for what, late in (("DATA", data(1)), ("DATA with END_STREAM", data(1, end=True)), ("WINDOW_UPDATE", window_update(1, 5)), ("RST_STREAM", rst(1)),
                   ("PRIORITY", priority(1)), ("all of them", data(1) + window_update(1, 5) + data(1, end=True) + rst(1))):
    case("5.1", "late %s of a stream that the server reset is no error" % what, usable(), reset_by_server, late)


def late_trailers(p):
    reset_by_server(p)
    p.send(data(1), headers(1, p.block([("x-late", "into the table")])))
    block = p.block(p.request() + [("x-late", "into the table")])
    want(b"into the table" not in block and len(block) < 40, "the encoder does not refer to its table")
    p.send(headers(3, block))


case("5.1", "late trailers of a stream that the server reset are no error, and change the tables", answered(3), late_trailers)
for what, first in (("RST_STREAM", rst(1)), ("END_STREAM", data(1, end=True))):
    for late, f in (("DATA", data(1)), ("HEADERS", lambda p: p.open(1))):
        case("5.1", "%s behind our own %s is STREAM_CLOSED, whoever has reset the stream" % (late, what), connection_error(STREAM_CLOSED), reset_by_server, first, f)
case("8.1", "late HEADERS that do not end their stream are malformed, whoever has reset it", connection_error(PROTOCOL), reset_by_server, data(1), trailers([("x-test", "ok")], end=False))
case("5.1", "WINDOW_UPDATE on a closed stream is no error", ponged(), get(), reply_over, window_update(1, 10), ping())
case("5.1", "RST_STREAM on a closed stream is no error", ponged(), get(), reply_over, rst(1), ping())
case("5.1", "DATA behind trailers is STREAM_CLOSED", stream_error(STREAM_CLOSED), post(), data(1), trailers([("x-test", "ok")]), data(1))
case("5.1", "a second trailers section is STREAM_CLOSED", stream_error(STREAM_CLOSED), post(), data(1), trailers([("x-test", "ok")]), trailers([("x-test", "ok")]))
case("5.1", "a stream reset by us is not answered, and the next one is", answered(3), get(end=False), rst(1), get(3))


# --- Frames
for name, f in (("ALTSVC", frame(0xa, 0, 0, b"\0\0")), ("ORIGIN", frame(0xc, 0, 0, b"\0\0")), ("PRIORITY_UPDATE of an idle stream", frame(0x10, 0, 0, b"\0\0\0\1u=1")),
                ("a type in use nowhere, on a stream", frame(0xbb, 0xff, 1, bytes(100))), ("an empty unknown frame", frame(0xbb))):
    case("5.5", name + " is ignored", usable(1), f)
case("4.1", "undefined flags of HEADERS and DATA are ignored", answered(),
     lambda p: p.send(frame(HEADERS, END_HEADERS | 0xd2, 1, p.block(method="POST")), frame(DATA, END_STREAM | 0xf6, 1, b"test")))
case("4.1", "the reserved bit of a stream is ignored", answered(), lambda p: p.send(frame(HEADERS, END_HEADERS | END_STREAM, 0x80000001, p.block())))
case("4.2", "an unknown frame above MAX_FRAME_SIZE is FRAME_SIZE_ERROR", connection_error(FRAME_SIZE),
     lambda p: p.send(frame(0xbb, 0, 0, bytes(p.settings.get(MAX_FRAME_SIZE, 16384) + 1))))
case("4.2", "CONTINUATION above MAX_FRAME_SIZE is FRAME_SIZE_ERROR", connection_error(FRAME_SIZE),
     lambda p: p.send(headers(1, p.block(), done=False), continuation(1, hpack_plain(dummy(1 + p.settings.get(MAX_FRAME_SIZE, 16384) // 4000)))))
case("6.1", "DATA that is all padding", answered(), post(), data(1, b"", pad=255), data(1, b"", pad=0), data(1, b"", end=True, pad=9))
case("6.1", "DATA whose padding is its whole payload is PROTOCOL_ERROR", connection_error(PROTOCOL), post(), frame(DATA, PADDED, 1, b"\x01"))
case("6.1", "padded DATA without a length is an error", connection_error(FRAME_SIZE, PROTOCOL), post(), frame(DATA, PADDED, 1, b""))
case("6.2", "HEADERS with padding and priority", answered(), lambda p: p.send(headers(1, p.block(), pad=200, priority=(0, True, 7))))
case("6.2", "HEADERS too short for its priority is an error", connection_error(FRAME_SIZE, PROTOCOL), frame(HEADERS, END_HEADERS | PRIO, 1, b"\0\0\0"))
case("6.5", "an empty SETTINGS is acknowledged", acked, settings())
case("6.5.2", "MAX_CONCURRENT_STREAMS of 0 stops pushes alone", answered(), settings((MAX_CONCURRENT_STREAMS, 0)), get())
case("6.5.2", "MAX_FRAME_SIZE of 2^24-1 is accepted", answered(), settings((MAX_FRAME_SIZE, 0xffffff)), get())
case("6.5.2", "HEADER_TABLE_SIZE of 0 is kept", answered(), settings((HEADER_TABLE_SIZE, 0)), after(acked), lambda p: limit_table(p), get())
case("6.5.2", "HEADER_TABLE_SIZE of 2^32-1 is accepted", answered(), settings((HEADER_TABLE_SIZE, 0xffffffff)), lambda p: limit_table(p, 1 << 20), get())
case("6.5.2", "ENABLE_CONNECT_PROTOCOL from a client is no harm", answered(), settings((ENABLE_CONNECT_PROTOCOL, 1)), get())
case("6.8", "GOAWAY of 7 bytes is FRAME_SIZE_ERROR", connection_error(FRAME_SIZE), frame(GOAWAY, 0, 0, bytes(7)))
case("6.8", "a request under way is answered behind our GOAWAY", lambda p, strict: ended(p, 1), get(), goaway())
case("6.9", "WINDOW_UPDATE with its reserved bit", answered(), get(), frame(WINDOW_UPDATE, 0, 0, b"\x80\0\0\1"))


def limit_table(p, size=0):
    """What the server encodes may use no more than this (the decoder refuses more)."""
    p.decoder.max_allowed_table_size = size


def big(p):
    p.open(1, path="/big")


def whole_window(n, stream=1):
    """DATA of a large reply fill a window of n bytes (but for a rest that is no whole frame), and go not one byte beyond."""
    def judge(p, strict):
        got = 0
        while got <= n - 16384:
            got += len(until(p, DATA).payload)
        f = p.next(0.3)
        while isinstance(f, Frame):
            got += len(f.payload) if f.type == DATA else 0
            f = p.next(0.3)
        want(got <= n, "%d bytes in a window of %d", got, n)
        alive(p)
    return judge


case("6.9.1", "the connection's window holds, whatever the streams' windows are", whole_window(65535), settings((INITIAL_WINDOW_SIZE, 1 << 30)), after(acked), big)
case("6.9.1", "the connection's window holds over several streams", whole_window(65535), big, lambda p: p.open(3, path="/big"), lambda p: p.open(5, path="/big"))
case("6.9.1", "a stream's window holds, whatever the connection's is", whole_window(65535), window_update(0, 1 << 30), big)
case("6.9.2", "a window of 0 holds DATA, and no HEADERS", lambda p, strict: (until(p, HEADERS), silent_rest(p), alive(p)), settings((INITIAL_WINDOW_SIZE, 0)), after(acked), get())
case("6.9.2", "INITIAL_WINDOW_SIZE does not open the connection's window", whole_window(65535), big, settings((INITIAL_WINDOW_SIZE, 1 << 30)))
case("6.9.2", "INITIAL_WINDOW_SIZE that overflows an open stream's window is FLOW_CONTROL_ERROR", stream_error(FLOW_CONTROL), post(),
     window_update(1, 0x7fffffff - WINDOW), settings((INITIAL_WINDOW_SIZE, WINDOW + 1)))
case("4.2", "DATA are no larger than MAX_FRAME_SIZE", lambda p, strict: largest(p), window_update(0, 1 << 20), settings((INITIAL_WINDOW_SIZE, 1 << 20), (MAX_FRAME_SIZE, 16384)),
     after(acked), big)


def largest(p):
    f = until(p, DATA)
    while not f.has(END_STREAM):
        want(len(f.payload) <= 16384, "%s", f)
        f = until(p, DATA)


# --- HPACK
def size_update(n):
    return integer(n, 5, 0x20)


def evicted(p):
    """Refers to an entry that a size update has evicted."""
    p.send(headers(1, p.block(more=[("x-kept", "v")])))
    reply_over(p)
    p.send(headers(3, size_update(0) + size_update(4096) + hpack_plain(p.request()) + integer(62, 7, 0x80)))


def large_entry(p):
    """An entry larger than the table empties it: no error, and what was there is gone."""
    p.send(headers(1, hpack_plain(p.request()) + literal(b"x-a", b"b", 0x40) + literal(b"x-large", b"v" * 5000, 0x40)))
    answered(1)(p, True)
    p.send(headers(3, hpack_plain(p.request()) + integer(62, 7, 0x80)))


OVERFLOW = b"\xff" * 20
case("7541 5.1", "an integer without end is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\x7f" + OVERFLOW + b"\x7f"))
case("7541 5.1", "a string's length above 2^32 is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\0\x01a\x7f\xff\xff\xff\xff\x7f"))
case("7541 5.1", "an integer with leading zeros is an error or served", lambda p, strict: either(p), behind(b"\0\x7f\x81\x80\x80\0" + b"a" * 0x80 + b"\x01b"))
case("7541 5.2", "a string that ends behind its block is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\0\x05name"))
case("7541 5.2", "a string cut by its length is COMPRESSION_ERROR", connection_error(COMPRESSION), behind(b"\0\x01a\x04bcd"))
case("7541 4.1", "a reference to an evicted entry is COMPRESSION_ERROR", connection_error(COMPRESSION), evicted)
case("7541 4.4", "an entry larger than the table empties it", connection_error(COMPRESSION), large_entry)
case("7541 4.2", "a size update between fields is COMPRESSION_ERROR", connection_error(COMPRESSION), lambda p: p.send(headers(1, hpack_plain(p.request()) + size_update(100) + b"\0\1a\1b")))
case("7541 6.3", "size updates down and up at the start", answered(), lambda p: p.send(headers(1, size_update(0) + size_update(4096) + p.block())))
case("7541 2.3.2", "entries of one stream serve the next", answered(3), lambda p: p.open(1, more=[("x-kept", "v" * 100)]), reply_over,
     lambda p: p.open(3, more=[("x-kept", "v" * 100)]))
case("8.2", "a block of trailers is part of the tables", answered(3), post(), data(1), trailers([("x-in-trailers", "v" * 100)]), reply_over,
     lambda p: p.send(headers(3, p.block(more=[("x-in-trailers", "v" * 100)]))))


def either(p):
    f = p.next()
    while isinstance(f, Frame) and not (f.type == GOAWAY and f.code == COMPRESSION) and not (f.type in (HEADERS, RST_STREAM)):
        f = p.next()
    want(isinstance(f, Frame), "%s", f)


# --- The preface and what follows
def no_settings(p):
    """A PING in the place of the client's first SETTINGS. (A connection of its own, since this one has said them.)"""
    q = Peer(p.authority.rsplit(":", 1)[0], int(p.authority.rsplit(":", 1)[1]), tls_client() if p.scheme == "https" else None)
    try:
        q.send(PREFACE + ping())
        connection_error(PROTOCOL)(q, False)  # a GOAWAY may be left out here
    finally:
        q.close()


case("3.4", "a preface without SETTINGS behind it is PROTOCOL_ERROR", quiet, no_settings)


def split(p):
    """A connection whose every byte comes in a packet of its own."""
    q = Peer(p.authority.rsplit(":", 1)[0], int(p.authority.rsplit(":", 1)[1]), tls_client() if p.scheme == "https" else None)
    try:
        request = PREFACE + settings((INITIAL_WINDOW_SIZE, WINDOW)) + headers(1, q.block(more=[("x-test", "byte by byte")]))
        q.send(*[request[i:i + 1] for i in range(len(request))])
        ended(q, 1)
    finally:
        q.close()


case("3.4", "a preface and a request byte by byte", quiet, split)
case("3.4", "a second preface is an error", connection_error(PROTOCOL, FRAME_SIZE), PREFACE)
