"""HTTP/2 on the wire, as a client or server that may do anything: raw frames out, frames in, nothing checked on the way.

A Peer is one connection. What it sends is bytes that the caller composes with the functions below; what it hears are Frames, or one of the ends CLOSED (the other
side has ended its side cleanly), RESET and SILENT (nothing for `timeout` seconds). Field blocks are made with python3-hpack, or byte by byte by the caller.
"""
import select
import socket
import ssl
import struct
import time

import hpack

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
NAMES = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"]
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIO = 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL = 1, 2, 3, 4, 5, 6, 8
(NO_ERROR, PROTOCOL, INTERNAL, FLOW_CONTROL, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION, CONNECT, CALM, INADEQUATE,
 HTTP_1_1) = range(14)
CODES = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL",
         "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 65535
CLOSED, RESET, SILENT = "the end of the connection", "a reset of the connection", "silence"


def code_name(code):
    return CODES[code] if code < len(CODES) else "%#x" % code


class Frame:
    """What came; `fields` are those of a block that ends with this frame."""
    __slots__ = ("type", "flags", "stream", "payload", "fields")

    def __init__(self, kind, flags, stream, payload):
        self.type, self.flags, self.stream, self.payload, self.fields = kind, flags, stream, payload, None

    @property
    def code(self):
        """The error code of a RST_STREAM or GOAWAY."""
        return struct.unpack(">I", self.payload[:4] if self.type == RST_STREAM else self.payload[4:8])[0]

    def has(self, flag):
        return self.flags & flag != 0

    def __str__(self):
        name = NAMES[self.type] if self.type < len(NAMES) else "frame of type %#x" % self.type
        what = "" if self.type not in (RST_STREAM, GOAWAY) else ", " + code_name(self.code)
        return "%s (%d bytes, flags %#x, stream %d%s)" % (name, len(self.payload), self.flags, self.stream, what)


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """One frame; `length` is what its header claims where that is not the truth."""
    n = min(len(payload) if length is None else length, 0xffffff)
    return struct.pack(">BHBBI", n >> 16, n & 0xffff, kind, flags, stream) + payload


def data(stream, body=b"test", end=False, pad=None):
    flags = END_STREAM if end else 0
    if pad is not None:
        flags, body = flags | PADDED, bytes([pad]) + body + bytes(pad)
    return frame(DATA, flags, stream, body)


def headers(stream, block, end=True, done=True, pad=None, priority=None):
    """HEADERS; priority: (dependency, exclusive, weight)."""
    flags = (END_STREAM if end else 0) | (END_HEADERS if done else 0)
    if priority:
        flags, block = flags | PRIO, priority_of(*priority) + block
    if pad is not None:
        flags, block = flags | PADDED, bytes([pad]) + block + bytes(pad)
    return frame(HEADERS, flags, stream, block)


def priority_of(dependency=0, exclusive=False, weight=255):
    return struct.pack(">IB", dependency | (0x80000000 if exclusive else 0), weight)


def continuation(stream, block, done=True):
    return frame(CONTINUATION, END_HEADERS if done else 0, stream, block)


def priority(stream, dependency=0, exclusive=False, weight=255):
    return frame(PRIORITY, 0, stream, priority_of(dependency, exclusive, weight))


def rst(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def settings(*pairs, ack=False):
    return frame(SETTINGS, ACK if ack else 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in pairs))


def ping(payload=b"\0" * 8, ack=False):
    return frame(PING, ACK if ack else 0, 0, payload)


def goaway(last=0, code=NO_ERROR, debug=b""):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)


def window_update(stream, n):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", n))


def integer(value, bits, first=0):
    """An HPACK integer (RFC 7541 section 5.1) with a prefix of `bits`, whose other bits are `first`'s."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out = [first | most]
    value -= most
    while value >= 128:
        out.append(0x80 | value & 0x7f)
        value >>= 7
    return bytes(out + [value])


def literal(name, value, first=0x00):
    """A field with its name and value in full, without Huffman coding; first: 0x00 not indexed, 0x10 never, 0x40 indexed."""
    return bytes([first]) + integer(len(name), 7) + name + integer(len(value), 7) + value


class Peer:
    """One connection to (host, port), or one that was accepted. tls: an SSLContext, or None."""

    def __init__(self, host, port=None, tls=None, timeout=2.0, sock=None):
        self.timeout, self.authority = timeout, "%s:%d" % (host, port) if port else host
        self.scheme = "https" if tls else "http"
        self.sock = sock or socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls and not sock:
            self.sock = tls.wrap_socket(self.sock, server_hostname=host, suppress_ragged_eofs=False)
            if self.sock.selected_alpn_protocol() != "h2":
                raise OSError("the server does not choose h2")
        self.input, self.ended, self.settings = b"", None, {}
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 24
        self.part = b""  # of a field block that goes on
        self.window = WINDOW  # of the connection, behind the handshake
        self.pause = 0  # seconds behind each write

    def send(self, *parts):
        """Sends each part in a write of its own. Whoever has closed does not hear it: what comes of that is for `next` to tell."""
        for part in parts:
            try:
                self.sock.settimeout(self.timeout)
                self.sock.sendall(part)
            except OSError:
                return False
            if self.pause:
                time.sleep(self.pause)
        return True

    def take(self):
        """A whole frame of what has come, or None."""
        if len(self.input) < 9:
            return None
        high, low, kind, flags, stream = struct.unpack(">BHBBI", self.input[:9])
        length = high << 16 | low
        if len(self.input) < 9 + length:
            return None
        f = Frame(kind, flags, stream & 0x7fffffff, self.input[9:9 + length])
        self.input = self.input[9 + length:]
        return f

    def next(self, timeout=None):
        """The next frame, or how the connection ended; SILENT when nothing comes."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            f = self.take()
            if f:
                if f.type in (HEADERS, CONTINUATION):
                    self.decode(f)
                return f
            if self.ended:
                return self.ended
            left = deadline - time.monotonic()
            if left <= 0 and timeout != 0:
                return SILENT
            try:
                self.sock.settimeout(max(left, 0.001))
                piece = self.sock.recv(1 << 16)
            except (socket.timeout, ssl.SSLWantReadError, BlockingIOError):
                return SILENT
            except ssl.SSLEOFError:
                piece, self.ended = b"", RESET  # without close_notify
            except OSError:
                piece, self.ended = b"", RESET
            if not piece and not self.ended:
                self.ended = CLOSED if not self.input else RESET
            self.input += piece

    def readable(self):
        return bool(self.input) or bool(getattr(self.sock, "pending", lambda: 0)()) or bool(select.select([self.sock], [], [], 0)[0])

    def handshake(self, *pairs):
        """Preface and settings both ways, as RFC 9113 section 3.4 has them."""
        self.send(PREFACE + settings(*(pairs or ((INITIAL_WINDOW_SIZE, WINDOW),))))
        acked = told = False
        while not (acked and told):
            f = self.next()
            if not isinstance(f, Frame):
                raise OSError("%s within the handshake" % f)
            if f.type == WINDOW_UPDATE and f.stream == 0:
                self.window += struct.unpack(">I", f.payload)[0]
            if f.type != SETTINGS:
                continue
            if f.has(ACK):
                acked = True
            else:
                told = True
                for at in range(0, len(f.payload), 6):
                    k, v = struct.unpack(">HI", f.payload[at:at + 6])
                    self.settings[k] = v
                self.send(settings(ack=True))
        return self

    def request(self, method="GET", path="/", more=(), authority=None, scheme=None):
        """The list of fields of a request."""
        return [(":method", method), (":scheme", scheme or self.scheme), (":path", path), (":authority", authority or self.authority), *more]

    def block(self, fields=None, **how):
        """A field block by this connection's own encoder, whose table it changes."""
        return self.encoder.encode(self.request(**how) if fields is None else fields)

    def open(self, stream=1, end=True, **how):
        """HEADERS that open a stream with a request."""
        self.send(headers(stream, self.block(**how), end))

    def decode(self, f):
        """Every block is decoded when it comes: the tables depend on it."""
        block = f.payload
        if f.type == HEADERS and f.has(PADDED):
            block = block[1:len(block) - block[0]]
        if f.type == HEADERS and f.has(PRIO):
            block = block[5:]
        self.part += block
        if f.has(END_HEADERS):
            f.fields, self.part = self.decoder.decode(self.part), b""

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass


def tls_client():
    """A context that trusts everybody and offers h2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context
