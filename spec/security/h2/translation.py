"""translation.py list | PROXY_PORT SERVER_PORT

A client of HTTP/2 on one side of a proxy and a server of HTTP/1.1 on the other: plays requests.py and replies.py, one after the other. Prints a line a case: "ok" or "no",
a tab, its name, a tab, why not, a tab, how many whole requests the server should have seen ("1", "2", "1-2"), a tab, and the bytes that it saw in hexadecimal, by
connection. A further request follows each case on the same connection (/after): it lives on, and nothing was left behind.
"""
import socket
import struct
import sys
import threading
import time

import hpack

import replies
import requests
from verdicts import Wrong, want
from wire import *  # the names of frames, codes and settings


class Server:
    """HTTP/1.1, read in the plainest way: what it read is judged elsewhere."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.lock, self.connections = threading.Lock(), []
        self.begin()
        threading.Thread(target=self.accept, daemon=True).start()

    def begin(self, script=None, early=False):
        with self.lock:
            self.script, self.early, self.requests = script, early, []
            for c in self.connections:
                c["bytes"] = b""

    def accept(self):
        while True:
            sock, _ = self.listener.accept()
            c = dict(sock=sock, bytes=b"")
            with self.lock:
                self.connections.append(c)
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        c["input"] = b""
        try:
            while True:
                request = self.read(c)
                with self.lock:
                    self.requests.append(request)
                    script, self.script = (self.script, None) if request["target"] != "/after" else (None, self.script)
                if not script:
                    body = b"" if request["method"] == "HEAD" else b"ok"
                    script = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body]
                for step in script:
                    if isinstance(step, bytes):
                        c["sock"].sendall(step)
                    elif step is replies.CLOSE:
                        raise EOFError
                    elif step is replies.ABORT:
                        c["sock"].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        raise EOFError
                    else:
                        time.sleep(step)
        except (EOFError, OSError, ValueError):
            pass
        with self.lock:
            if c in self.connections and not c["bytes"]:
                self.connections.remove(c)
        c["sock"].close()

    def more(self, c):
        piece = c["sock"].recv(1 << 16)
        if not piece:
            raise EOFError
        with self.lock:
            c["bytes"] += piece
        c["input"] += piece

    def until(self, c, what):
        while what not in c["input"]:
            self.more(c)
        head, _, c["input"] = c["input"].partition(what)
        return head

    def exactly(self, c, n):
        while len(c["input"]) < n:
            self.more(c)
        body, c["input"] = c["input"][:n], c["input"][n:]
        return body

    def fields(self, lines):
        out = {}
        for line in lines:
            name, _, value = line.partition(":")
            out.setdefault(name.lower(), []).append(value.strip(" \t"))
        return out

    def read(self, c):
        first, *lines = self.until(c, b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        fields, body, trailers = self.fields(lines), b"", {}
        if "100-continue" in fields.get("expect", []):
            c["sock"].sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.early and target != "/after":
            pass
        elif "transfer-encoding" in fields:
            while True:
                n = int(self.until(c, b"\r\n"), 16)
                if n == 0:
                    break
                body += self.exactly(c, n)
                self.exactly(c, 2)
            while True:
                line = self.until(c, b"\r\n").decode("latin-1")
                if not line:
                    break
                for k, v in self.fields([line]).items():
                    trailers.setdefault(k, []).extend(v)
        elif "content-length" in fields:
            body = self.exactly(c, int(fields["content-length"][0]))
        return dict(method=method, target=target, fields=fields, body=body, trailers=trailers)


def encoded(fields):
    return b"".join(literal(*[x if isinstance(x, bytes) else x.encode() for x in f]) for f in fields)


def block_frames(stream, fields, end):
    """HEADERS, and CONTINUATION where they are too large for one frame."""
    block = encoded(fields)
    parts = [block[at:at + 16000] for at in range(0, len(block), 16000)] or [b""]
    out = headers(stream, parts[0], end, len(parts) == 1)
    for i, part in enumerate(parts[1:], 2):
        out += continuation(stream, part, i == len(parts))
    return out


class Client:
    def __init__(self, port):
        self.p = Peer("127.0.0.1", port, timeout=5.0).handshake()

    def say(self, stream, r):
        """A whole request (see requests.py), within the windows: nothing here is larger than these are from the start, but for a body of a megabyte."""
        body, last = r.get("body"), r.get("end", True)
        trailers_come = r.get("trailers") is not None
        self.p.send(block_frames(stream, r["fields"], last and body is None and not trailers_come))
        for i, piece in enumerate(body or []):
            piece, pad = piece if isinstance(piece, tuple) else (piece, None)
            self.credit(stream, len(piece))
            self.p.send(data(stream, piece, last and not trailers_come and i == len(body) - 1, pad))
        if trailers_come:
            self.p.send(block_frames(stream, r["trailers"], last))

    def credit(self, stream, n):
        """Waits until n bytes may be sent."""
        w = self.windows = getattr(self, "windows", None) or {0: self.p.window}
        w.setdefault(stream, self.p.settings.get(INITIAL_WINDOW_SIZE, 65535))
        self.early = getattr(self, "early", [])
        while min(w[0], w[stream]) < n:
            f = self.p.next()
            want(isinstance(f, Frame), "%s in the middle of a body", f)
            if f.type == WINDOW_UPDATE:
                w[f.stream] = w.get(f.stream, 65535) + struct.unpack(">I", f.payload)[0]
            elif f.type in (HEADERS, DATA, RST_STREAM, GOAWAY):
                self.early.append(f)
                if f.type != HEADERS:
                    return
        w[0] -= n
        w[stream] -= n

    def hear(self, stream):
        """The reply, up to its end or its reset."""
        r = dict(status=None, fields={}, body=b"", ended=False, reset=None, interim=[], trailers={})
        early = getattr(self, "early", [])
        while not r["ended"] and r["reset"] is None:
            f = early.pop(0) if early else self.p.next()
            want(isinstance(f, Frame), "%s; the reply so far: %s", f, {k: v for k, v in r.items() if k != "body"})
            want(f.type != GOAWAY, "%s", f)
            if f.stream != stream or f.type not in (HEADERS, CONTINUATION, DATA, RST_STREAM):
                continue
            if f.type == RST_STREAM:
                r["reset"] = f.code
            elif f.type == DATA:
                r["body"] += f.payload
                if f.payload and not f.has(END_STREAM):
                    self.p.send(window_update(0, len(f.payload)) + window_update(stream, len(f.payload)))
                elif f.payload:
                    self.p.send(window_update(0, len(f.payload)))
                r["ended"] = f.has(END_STREAM)
            else:
                self.head(r, f)
        return r

    def head(self, r, f):
        got = {}
        for name, value in f.fields or []:
            want(name == name.lower() and (name[0] != ":" or name == ":status"), "the field %r", name)
            got.setdefault(name, []).append(value)
        if r["status"] is None:
            status = int(got.pop(":status")[0])
            if status < 200:
                want(not f.has(END_STREAM), "an interim reply that ends the stream")
                r["interim"].append(status)
                return
            r["status"], r["fields"] = status, got
        else:
            r["trailers"] = got
        r["ended"] = f.has(END_STREAM)


def alive(client, stream=1001):
    """The connection serves one more, and what the server sees of it is not spoilt by what came before."""
    client.say(stream, dict(fields=requests.pseudo(path="/after", authority="after.example")))
    r = client.hear(stream)
    want(r["status"] == 200 and r["body"] == b"ok" and r["ended"], "the next request was answered %s %r", r["status"], r["body"][:60])


def play_request(server, port, r, expect):
    server.begin()
    client = Client(port)
    try:
        client.say(1, r)
        reply = client.hear(1)
        alive(client)
        with server.lock:
            whole = [q for q in server.requests if q["target"] != "/after"]
        if callable(expect):
            want(len(whole) == 1, "%d requests arrived; %s", len(whole), reply)
            expect(whole[0], reply)
            return "2"
        refused = reply["reset"] == PROTOCOL or reply["status"] is not None and 400 <= reply["status"] <= 505
        if expect is not requests.MALFORMED and not whole:
            want(refused or expect is requests.CLEAR and reply["status"], "not refused: %s", reply)
        if expect is requests.MALFORMED:
            want(reply["reset"] == PROTOCOL and reply["status"] is None, "not reset by PROTOCOL_ERROR: %s", {k: reply[k] for k in ("status", "reset")})
        if expect is not requests.CLEAR:
            want(not whole, "it arrived: %s", whole)
        # What is CLEAR may also be on its way to the server still, on a connection of its own.
        return "1-2" if whole or expect is requests.CLEAR else "1"
    finally:
        client.p.close()


def play_reply(server, port, script, expect, request):
    server.begin(script, request.get("early"))
    client = Client(port)
    try:
        client.say(1, dict(fields=requests.pseudo(request.get("method", "GET")), end=request.get("end", True)))
        expect(client.hear(1))
        alive(client)
        return "1-4"  # a GET whose connection has died may be tried again
    finally:
        client.p.close()


def names():
    return ["request (%s): %s" % (c[1], c[0]) for c in requests.CASES] + ["reply (%s): %s" % (c[1], c[0]) for c in replies.CASES]


def main(port, server_port=None):
    if port == "list":
        print("\n".join(n.encode("unicode_escape").decode() for n in names()))
        return
    server, port = Server(int(server_port)), int(port)
    plays = [lambda c=c: play_request(server, port, c[2], c[3]) for c in requests.CASES]
    plays += [lambda c=c: play_reply(server, port, c[2], c[3], c[4]) for c in replies.CASES]
    for name, play in zip(names(), plays):
        count, why = "1", ""
        try:
            count = play()
        except (Wrong, OSError, hpack.HPACKError) as e:
            why = str(e) or repr(e)
        time.sleep(0.002)
        with server.lock:
            saw = ",".join(c["bytes"].hex() for c in server.connections if c["bytes"])
        print("\t".join(("no" if why else "ok", name.encode("unicode_escape").decode(), why.encode("unicode_escape").decode()[:300], count, saw)), flush=True)


main(*sys.argv[1:])
