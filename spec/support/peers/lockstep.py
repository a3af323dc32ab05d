"""lockstep.py: an upstream and clients that send a message piece by piece, each piece only when the other side has told that it has the one before.

    lockstep.py server CERT KEY                           prints the ports: plain, TLS, control
    lockstep.py client CONTROL CA BASE... HOW...          runs each HOW against each BASE of a proxy; prints "ok HOW BASE" or "FAILED HOW BASE: why"

What one side has is told over the control connection, beside the proxy. So a byte that waits somewhere for the next one stops the message for good, and no
clock is needed to see it. HOW is a word of parts: reply or request; its framing; and the size of a piece, or "drip" for single bytes.
"""
import http.client
import json
import socket
import ssl
import sys
import threading
import urllib.parse

import requests

PIECES, PATIENCE = 4, 60


def piece_of(size, i):
    return (b"%d" % i) * size


class Steps:
    """What the other side has said: how many pieces it has of the message of that name."""

    def __init__(self):
        self.seen, self.changed = {}, threading.Condition()

    def told(self, name, n):
        with self.changed:
            self.seen[name] = max(n, self.seen.get(name, 0))
            self.changed.notify_all()

    def wait(self, name, n):
        with self.changed:
            if not self.changed.wait_for(lambda: self.seen.get(name, 0) >= n, PATIENCE):
                raise TimeoutError(f"{name}: piece {n} did not arrive before the next one was sent")


class Control:
    """Both sides' end of the control connection: a line "NAME N" each way."""

    def __init__(self, sock):
        self.sock, self.steps = sock, Steps()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.sock.makefile("r"):
            name, n = line.split()
            self.steps.told(name, int(n))

    def tell(self, name, n):
        self.sock.sendall(f"{name} {n}\n".encode())


# --- the upstream ---

control = None


def read_head(file):
    lines = []
    while True:
        line = file.readline().strip()
        if not line:
            return lines
        lines.append(line.decode())


def send_reply(sock, name, framing, size):
    drip = size == "drip"
    size = 5 if drip else int(size)
    head = {
        "length": f"Content-Length: {size * PIECES}",
        "chunked": "Transfer-Encoding: chunked",
        "events": "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked",
        "close": "Connection: close",
    }[framing]
    sock.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
    got = 0
    for i in range(PIECES):
        data = piece_of(size, i)
        if framing == "events":
            data = b"data: " + data + b"\n\n"
        line = b"%x\r\n" % len(data) if framing in ("chunked", "events") else b""
        if not drip:
            sock.sendall(line + data + (b"\r\n" if line else b""))
            control.steps.wait(name, i + 1)
            continue
        for byte in line:
            sock.sendall(bytes([byte]))
        for byte in data:
            sock.sendall(bytes([byte]))
            got += 1
            control.steps.wait(name, got)
        for byte in b"\r\n" if line else b"":
            sock.sendall(bytes([byte]))
    if framing in ("chunked", "events"):
        sock.sendall(b"0\r\n\r\n")
    if framing != "close":
        control.steps.wait(name, 1000)  # the end arrives while the connection is open


def take_request(sock, file, name, framing, size):
    drip = size == "drip"
    size = 5 if drip else int(size)
    got, whole = 0, b""
    while framing == "chunked":  # line by line, as Werkzeug and many others do
        n = int(file.readline(), 16)
        data, crlf = file.read(n), file.readline()
        assert crlf == b"\r\n", crlf
        if n == 0:
            break
        whole += data
        got += n
        control.tell(name, got if drip else got // size)
    while framing == "length" and got < size * PIECES:
        data = file.read(1 if drip else size)
        whole += data
        got += len(data)
        control.tell(name, got if drip else got // size)
    right = whole == b"".join(piece_of(size, i) for i in range(PIECES))
    sock.sendall(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % (b"200 OK" if right else b"500 Wrong bytes"))


def serve(sock, context):
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True)
        with sock.makefile("rb") as file:
            while True:
                head = read_head(file)
                if not head:
                    return
                _, name = head[0].split()[1].rsplit("/", 1)
                kind, framing, size = name.split(".")[:3]
                if kind == "reply":
                    send_reply(sock, name, framing, size)
                else:
                    take_request(sock, file, name, framing, size)
                if framing == "close":
                    if context is not None:
                        sock.unwrap()  # close_notify: the body's end is meant
                    return
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
    finally:
        sock.close()


def listen(context):
    server = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            threading.Thread(target=serve, args=(server.accept()[0], context), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server.getsockname()[1]


def run_server(cert, key):
    global control
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    server = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"plain": listen(None), "tls": listen(context), "control": server.getsockname()[1]}), flush=True)
    while True:
        control = Control(server.accept()[0])
        control.tell("ready", 1)


# --- the clients ---


def take_reply(session, base, name, framing, size):
    """By requests where it can read a piece of that framing at once, else by the http.client below it, as HTTP/1.0 for a body that ends with the connection."""
    drip = size == "drip"
    size = 5 if drip else int(size)
    whole, got = b"", 0
    if drip or framing == "close":
        reply = plain_request(base, name, "GET", 10 if framing == "close" else 11)
        pieces = iter(lambda: reply.read(1 if drip else size), b"")
    else:
        reply = session.get(f"{base}/{name}", stream=True, timeout=PATIENCE)
        pieces = reply.iter_content(size if framing == "length" else None)
    if framing == "events":
        pieces = (line.removeprefix(b"data: ") for line in reply.iter_lines() if line)
    for data in pieces:
        whole += data
        got += len(data)
        control.tell(name, got if drip else got // size)
    control.tell(name, 1000)
    assert whole == b"".join(piece_of(size, i) for i in range(PIECES)), "other bytes"


def connection(base):
    url = urllib.parse.urlsplit(base)
    if url.scheme == "https":
        return http.client.HTTPSConnection(url.hostname, url.port, timeout=PATIENCE, context=ssl.create_default_context(cafile=authority)), url.path
    return http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE), url.path


def plain_request(base, name, method, version):
    c, path = connection(base)
    c._http_vsn, c._http_vsn_str = version, f"HTTP/1.{version - 10}"
    c.request(method, f"{path}/{name}")
    return c.getresponse()


def send_request(session, base, name, framing, size):
    """By requests, whose chunks leave in three writes each; with a length by http.client, since requests knows no stream of a length."""
    drip = size == "drip"
    size = 5 if drip else int(size)

    def pieces():
        sent = 0
        for i in range(PIECES):
            data = piece_of(size, i)
            for part in (bytes([b]) for b in data) if drip else (data,):
                yield part
                sent += 1
                control.steps.wait(name, sent)

    if framing == "chunked":
        status = session.post(f"{base}/{name}", data=pieces(), timeout=PATIENCE).status_code
    else:
        c, path = connection(base)
        c.putrequest("POST", f"{path}/{name}")
        c.putheader("Content-Length", str(size * PIECES))
        c.endheaders()
        for part in pieces():
            c.send(part)
        status = c.getresponse().status
    assert status == 200, status


def run_client(port, ca, rest):
    global control, authority
    control, authority = Control(socket.create_connection(("127.0.0.1", int(port)))), ca
    control.steps.wait("ready", 1)  # from here on it is this client that is told
    session = requests.Session()
    session.verify = ca
    session.trust_env = False
    for base in [word for word in rest if "://" in word]:
        for number, how in enumerate(word for word in rest if "://" not in word):
            kind, framing, size = how.split(".")
            name = f"{how}.{number}.{base.encode().hex()}"
            try:
                (take_reply if kind == "reply" else send_request)(session, base, name, framing, size)
                print(f"ok {how} {base}", flush=True)
            except Exception as error:
                print(f"FAILED {how} {base}: {error!r}", flush=True)


if sys.argv[1] == "server":
    run_server(*sys.argv[2:])
else:
    run_client(sys.argv[2], sys.argv[3], sys.argv[4:])
