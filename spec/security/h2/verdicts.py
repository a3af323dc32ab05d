"""What a server must do, as functions of a Peer that raise Wrong when it does something else.

Each has two strengths. The strict one is what jeton is held to: an error of the connection is a GOAWAY with its code and then the end of TCP; an error of a stream is
a RST_STREAM, and the connection lives on; a reply is read to its end, is a 200, and the connection lives on. The loose one is what a public suite of such cases takes
from any server (a bare end of TCP for every error, the first frame of a kind for a reply): with it the cases can be run against other servers to see that the cases
are right.
"""
from wire import (ACK, CLOSED, DATA, END_STREAM, GOAWAY, HEADERS, NO_ERROR, PING, RESET, RST_STREAM, SETTINGS, SILENT, Frame, code_name, ping)


class Wrong(Exception):
    pass


def want(fine, text, *args):
    if not fine:
        raise Wrong(text % args)


def alternatives(codes):
    return " or ".join(code_name(c) for c in codes)


def until(p, kind, stream=None):
    """The next frame of a kind, on `stream` if that is given. Whatever else comes is passed over."""
    last = None
    while True:
        f = p.next()
        if isinstance(f, Frame):
            if f.type == kind and stream in (None, f.stream):
                return f
        else:
            raise Wrong("%s, the last frame was %s" % (f, last) if last else f)
        last = f


def alive(p):
    """A PING is answered, and nothing but what belongs to streams comes before."""
    p.send(ping(b"alive?!!"))
    f = until(p, PING)
    want(f.has(ACK) and f.payload == b"alive?!!", "%s", f)


def gone(p):
    """The connection ends, and cleanly."""
    while True:
        f = p.next()
        if not isinstance(f, Frame):
            want(f is not SILENT, "the connection is not closed")
            return f


def connection_error(*codes):
    def judge(p, strict):
        told, last = None, None
        while True:
            f = p.next()
            if f is CLOSED:
                want(told or not strict, "closed without a GOAWAY")
                return
            if f is RESET:
                want(told and strict, "a reset, no GOAWAY")
                return
            want(f is not SILENT, "%s", "not closed behind its GOAWAY" if told else "silence; the last frame was %s" % last)
            last = f
            if f.type == GOAWAY and (f.code in codes or strict):
                want(f.code in codes, "%s instead of %s", f, alternatives(codes))
                if not strict:
                    return
                told = f
    return judge


def stream_error(*codes, stream=1):
    def judge(p, strict):
        last, told = None, None
        while True:
            f = p.next()
            if f is CLOSED and (told or not strict):
                return
            want(isinstance(f, Frame), "%s; the last frame was %s", f, last)
            last = f
            if f.type == RST_STREAM and f.code in codes and (f.stream == stream or not strict):
                if strict:
                    alive(p)
                return
            if f.type == GOAWAY and f.code in codes:
                if not strict:
                    return
                told = f
            want(not (strict and f.type in (RST_STREAM, GOAWAY) and f is not told), "%s instead of %s", f, alternatives(codes))
    return judge


def answered(stream=1, status="200"):
    def judge(p, strict):
        f = until(p, HEADERS)
        want(f.stream == stream, "%s", f)
        if not strict:
            return
        want(f.fields[0][:2] == (":status", status), "%s: %s", *f.fields[0][:2])
        ended(p, stream, f)
        alive(p)
    return judge


def ended(p, stream, f=None):
    """The reply on a stream comes to its end. f: a frame of it that has come."""
    while not (f and f.stream == stream and f.type in (HEADERS, DATA) and f.has(END_STREAM)):
        f = p.next()
        want(isinstance(f, Frame), "%s before the reply's end", f)
        want(not (f.stream == stream and f.type == RST_STREAM), "%s", f)


def reply_over(p):
    """Waits for the end of the reply on any stream, in the terms of the loose rules."""
    while True:
        f = p.next()
        want(isinstance(f, Frame), "%s before the reply's end", f)
        if f.type in (HEADERS, DATA) and f.has(END_STREAM) or f.type == RST_STREAM and f.code == NO_ERROR:
            return


def ponged(payload=b"\0" * 8):
    """The first PING that comes is the answer to ours."""
    def judge(p, strict):
        f = until(p, PING)
        want(f.has(ACK) and f.payload == payload, "%s with %s", f, f.payload)
        if strict:
            alive(p)
    return judge


def ponged_or_closed(payload):
    def judge(p, strict):
        while True:
            f = p.next()
            if f is CLOSED:
                return
            want(isinstance(f, Frame), "%s", f)
            if f.type == PING:
                want(f.has(ACK) and f.payload == payload, "%s", f)
                return
            want(not (strict and f.type == GOAWAY and f.code != NO_ERROR), "%s", f)
    return judge


def acked(p, strict=True):
    f = until(p, SETTINGS)
    want(f.has(ACK), "%s", f)


def closed(p, strict):
    f = gone(p)
    want(f is CLOSED, "%s", f)


def one_byte(p, strict):
    """The first DATA has one byte and does not end the stream."""
    f = until(p, DATA)
    want(len(f.payload) == 1 and not (strict and f.has(END_STREAM)), "%s", f)


def silent_rest(p):
    """Nothing of a body comes any more."""
    while True:
        f = p.next(0.3)
        if not isinstance(f, Frame):
            want(f is SILENT, "%s", f)
            return
        want(f.type != DATA, "%s", f)
