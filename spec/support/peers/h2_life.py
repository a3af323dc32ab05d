"""h2_life.py: what becomes of HTTP/2 connections in the life of a proxy, frame by frame, by python3-h2.

    h2_life.py SCENARIO PORT WORD...     plays it and prints what it saw as JSON: see the functions below
    h2_life.py server FILE               an upstream by prior knowledge: prints its port, and writes what it sees to FILE, a line of JSON each
    h2_life.py relay PORT                a relay to that port that can be told to lose packets: prints its port; SIGUSR1: what is open now is silent from here on
"""
import json
import os
import selectors
import signal
import socket
import ssl
import sys
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

PATIENCE = 20
ALL = 2**31 - 1


class Frames:
    """h2 does no more once a GOAWAY has come, and yet streams go on behind one: it is taken out of what h2 reads, and noted."""

    def __init__(self, preface=0):
        self.rest, self.preface, self.goaways = b"", preface, []

    def pass_on(self, data):
        passed, self.preface, data = data[:self.preface], self.preface - len(data[:self.preface]), data[self.preface:]
        self.rest += data
        while len(self.rest) >= 9:
            size = 9 + int.from_bytes(self.rest[:3], "big")
            if len(self.rest) < size:
                break
            frame, self.rest = self.rest[:size], self.rest[size:]
            if frame[3] == 7:
                self.goaways.append([int.from_bytes(frame[9:13], "big") & ALL, int.from_bytes(frame[13:17], "big")])
            else:
                passed += frame
        return passed


class Client:
    """One connection. What has come is in `streams` (by number), `goaways` and `closed`; only `until` and `quiet` read."""

    def __init__(self, port, ca=None, window=None, hold=0):
        self.sock = socket.create_connection(("localhost", int(port)), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ca:
            context = ssl.create_default_context(cafile=ca)
            context.set_alpn_protocols(["h2"])
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
            self.certificate = self.sock.getpeercert()["serialNumber"]
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.streams, self.closed, self.pongs, self.settled = {}, None, 0, False
        self.frames = Frames()
        self.goaways = self.frames.goaways
        self.on_goaway = None  # the first has come, and nothing behind it has been answered
        self.consume = True  # opens the windows as bytes come
        self.agreed = False
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.held = b""
        if hold:
            first = self.h2.data_to_send()
            self.sock.sendall(first[:hold])
            self.held = first[hold:]
        if not hold:
            self.flush()
        if window is not None:
            self.until(lambda: self.agreed, what="the window's size to be known")

    def flush(self):
        data = self.held + self.h2.data_to_send()
        self.held = b""
        if data:
            try:
                self.sock.sendall(data)
            except OSError as e:
                self.closed = self.closed or type(e).__name__

    def open(self, path, method="GET", end=True, fields=()):
        stream = self.h2.get_next_available_stream_id()
        self.streams[stream] = {"status": None, "body": b"", "ended": False, "reset": None, "interim": []}
        self.h2.send_headers(stream, [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path), *fields], end_stream=end)
        self.flush()
        return stream

    def send(self, stream, data, end=False):
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    def take(self, event):
        s = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ResponseReceived):
            s["status"] = int(dict(event.headers)[":status"])
            s["headers"] = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            s["body"] += event.data
            if self.consume and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            s["ended"] = True
        elif isinstance(event, h2.events.StreamReset):
            s["reset"] = int(event.error_code)
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self.settled = True
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.agreed = self.agreed or h2.settings.SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings

    def read(self, seconds):
        if self.closed:
            time.sleep(min(seconds, 0.05))
            return
        self.sock.settimeout(max(seconds, 0.001))
        try:
            data = self.sock.recv(65536)
        except (socket.timeout, ssl.SSLWantReadError):
            return
        except OSError as e:
            self.closed = type(e).__name__
            return
        if not data:
            self.closed = "FIN"
            return
        before = len(self.goaways)
        passed = self.frames.pass_on(data)
        if len(self.goaways) > before and before == 0 and self.on_goaway:
            self.on_goaway()
        for event in self.h2.receive_data(passed):
            self.take(event)
        self.sock.settimeout(PATIENCE)
        self.flush()

    def until(self, probe, seconds=PATIENCE, what=""):
        end = time.time() + seconds
        while not probe():
            if time.time() > end:
                raise SystemExit("not within %g s: %s; %s" % (seconds, what, json.dumps(self.told())))
            self.read(0.05)

    def quiet(self, seconds):
        end = time.time() + seconds
        while time.time() < end:
            self.read(end - time.time())

    def over(self, stream):
        s = self.streams[stream]
        return s["ended"] or s["reset"] is not None

    def done(self, *streams):
        self.until(lambda: all(self.over(s) for s in streams), what="streams to end")
        return [self.said(s) for s in streams]

    def said(self, stream):
        s = self.streams[stream]
        return {"status": s["status"], "body": s["body"].decode("latin1") if len(s["body"]) < 100 else len(s["body"]), "ended": s["ended"], "reset": s["reset"]}

    def get(self, path, **how):
        return self.done(self.open(path, **how))[0]

    def ping(self):
        before = self.pongs
        self.h2.ping(b"12345678")
        self.flush()
        self.until(lambda: self.pongs > before, what="a pong")

    def told(self):
        return {"goaways": self.goaways, "closed": self.closed, "streams": {s: self.said(s) for s in self.streams}}


def control(path, method, target):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(("%s %s HTTP/1.1\r\nHost: jeton\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % (method, target)).encode())
    reply = b""
    while True:
        data = s.recv(65536)
        if not data:
            return int(reply.split(b" ")[1])
        reply += data


# --- scenarios: a client's connection ---

def drain(port, pid, count, ms, ca=None):
    """`count` streams of `ms` each; the proxy is told to end; a stream more is on its way while the first GOAWAY is, and all end."""
    c = Client(port, ca)
    late = []
    c.on_goaway = lambda: late.append(c.open("/late"))  # in front of the answer to the PING that follows
    streams = [c.open("/wait/" + ms) for _ in range(int(count))]
    c.ping()
    os.kill(int(pid), signal.SIGTERM)
    c.until(lambda: c.goaways, what="a GOAWAY")
    got = c.done(*streams)
    after = c.done(*late)[0]
    c.until(lambda: c.closed, what="the connection's end")
    return {"first": c.goaways[0], "last": c.goaways[-1], "ngoaways": len(c.goaways), "last_stream": late[0], "got": got, "late": after, "closed": c.closed}


def drain_idle(port, pid):
    c = Client(port)
    c.get("/one")
    os.kill(int(pid), signal.SIGTERM)
    c.until(lambda: c.closed, what="the connection's end")
    return {"goaways": c.goaways, "closed": c.closed}


def drain_preface(port, pid):
    """A connection whose preface is half there when the drain begins."""
    c = Client(port, hold=2)  # which is when it cannot be told from HTTP/1
    time.sleep(0.1)
    os.kill(int(pid), signal.SIGTERM)
    while True:  # the drain has begun when nobody listens any more
        try:
            socket.create_connection(("localhost", int(port)), PATIENCE).close()
        except OSError:
            break
        time.sleep(0.02)
    said = c.get("/one")
    c.until(lambda: c.closed, what="the connection's end")
    return {"said": said, "goaways": c.goaways, "closed": c.closed}


def drain_deadline(port, pid):
    """A stream that does not end."""
    c = Client(port)
    stream = c.open("/patient/stall")
    c.until(lambda: c.streams[stream]["body"], what="a part of the reply")
    began = time.time()
    os.kill(int(pid), signal.SIGTERM)
    c.until(lambda: c.closed, what="the connection's end")
    return {"said": c.said(stream), "goaways": c.goaways, "closed": c.closed, "ms": (time.time() - began) * 1000}


def idle(port):
    """Nothing but PINGs behind a request."""
    c = Client(port)
    said = c.get("/one")
    began = time.time()
    while not c.closed and time.time() - began < PATIENCE:
        if not c.goaways:
            c.h2.ping(b"12345678")
            c.flush()
        c.quiet(0.1)
    return {"said": said, "goaways": c.goaways, "closed": c.closed, "ms": (time.time() - began) * 1000}


def cancel(port):
    """Leaves in the middle of a request's body."""
    c = Client(port)
    stream = c.open("/upload", "POST", end=False)
    c.send(stream, b"half")
    c.ping()
    c.h2.reset_stream(stream, 8)
    c.flush()
    return {"again": c.get("/one"), "goaways": c.goaways, "closed": c.closed}


def reload(port, socket_path):
    """A stream that is under way, one behind the reload, on one connection."""
    c = Client(port)
    before = c.get("/policy")
    slow = c.open("/wait/700")
    c.ping()
    statuses = [control(socket_path, "POST", "/reload") for _ in range(3)]
    after = c.get("/policy")
    slow_said = c.done(slow)[0]
    c.quiet(0.3)
    return {"before": before, "after": after, "slow": slow_said, "reloads": statuses, "goaways": c.goaways, "closed": c.closed}


def shed(port):
    """Two places: a busy connection, which is the older one, and an idle one; then a third comes."""
    busy = Client(port)
    stream = busy.open("/wait/1500")
    busy.ping()
    idle = Client(port)
    idle.get("/one")
    third = Client(port)
    got = third.get("/two")
    idle.until(lambda: idle.closed, what="the idle one's end")
    return {"third": got, "idle": {"goaways": idle.goaways, "closed": idle.closed}, "busy": busy.done(stream)[0], "busy_goaways": busy.goaways}


def limits(port):
    """Streams that run into a limit of time each, and one that does not, on one connection. The body and the send one go by the client's doing."""
    c = Client(port)
    c.until(lambda: c.settled, what="settings")
    streams = {
        "first_byte": c.open("/mute"),
        "response": c.open("/stall"),
        "body": c.open("/body", "POST", end=False, fields=[("content-length", "10")]),
        "exchange": c.open("/whole/mute"),
        "fine": c.open("/wait/1500"),
    }
    c.send(streams["body"], b"x")
    said = dict(zip(streams, c.done(*streams.values())))
    again = c.get("/one")
    return {"said": said, "again": again, "goaways": c.goaways, "closed": c.closed}


def flood(port, socket_path):
    """Requests that wait, then PINGs until the connection is ended for them. The client stays, and goes on sending. How many of its streams are left then."""
    c = Client(port)
    for _ in range(10):
        c.open("/wait/20000")
    c.quiet(0.3)
    c.sock.sendall((b"\0\0\x08\6" + bytes(13)) * 3000)
    end, left = time.time() + 3, None
    while left != 0 and time.time() < end:
        time.sleep(0.1)
        try:
            c.sock.sendall(bytes(10))
        except OSError:
            return {"left": left, "gone": True}
        s = socket.socket(socket.AF_UNIX)
        s.connect(socket_path)
        s.sendall(b"GET /status HTTP/1.1\r\nHost: jeton\r\nConnection: close\r\n\r\n")
        with s.makefile("rb") as f:
            status = json.loads(f.read().partition(b"\r\n\r\n")[2])
        left = sum(w["streams"] for w in status["workers"])
    return {"left": left, "gone": False}


def stalled(port):
    """A stream whose window stays shut, beside others whose windows open."""
    c = Client(port, window=1000)
    c.h2.increment_flow_control_window(10_000_000)
    c.consume = False
    shut = c.open("/long")
    open_ = []
    began = time.time()
    c.until(lambda: c.streams[shut]["status"], what="a head")
    while not c.over(shut) and time.time() - began < PATIENCE:
        s = c.open("/one")
        open_.append(c.done(s)[0])
        c.quiet(0.1)
    return {"shut": c.said(shut), "after_ms": (time.time() - began) * 1000, "others": open_, "again": c.get("/one"), "goaways": c.goaways, "closed": c.closed}


def full(port):
    """By HTTP/1.1: a body that the server does not read, until nothing of it is taken any more, and a request beside it."""
    up = socket.create_connection(("localhost", int(port)), PATIENCE)
    up.sendall(b"POST /stall HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
    up.settimeout(0.5)
    sent = 0
    try:
        while True:
            sent += up.send(bytes(65536))
    except TimeoutError:
        pass
    began = time.time()
    c = socket.create_connection(("localhost", int(port)), PATIENCE)
    c.settimeout(5)
    c.sendall(b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    try:
        reply = c.recv(100).decode("latin-1")
    except TimeoutError:
        reply = "nothing"
    return {"sent": sent, "reply": reply.partition("\r\n")[0], "after_ms": (time.time() - began) * 1000}


def renewed(port, ca, cert, key, new_cert, new_key):
    """Its certificate is replaced while a stream runs."""
    c = Client(port, ca)
    before = c.get("/one")
    slow = c.open("/wait/1500")
    for new, old in ((new_cert, cert), (new_key, key)):
        with open(new, "rb") as f, open(old + ".new", "wb") as t:
            t.write(f.read())
        os.replace(old + ".new", old)
    end = time.time() + PATIENCE
    while True:
        d = Client(port, ca)
        if d.certificate != c.certificate or time.time() > end:
            break
        d.sock.close()
        time.sleep(0.1)
    got = c.done(slow)[0]
    c.quiet(0.5)
    again = None if c.closed or c.goaways else c.get("/two")
    return {"before": before, "slow": got, "changed": d.certificate != c.certificate, "new": d.get("/three"), "again": again, "goaways": c.goaways, "closed": c.closed}


# --- an upstream ---

def server(log_path):
    """Answers /wait/MS later, /upload when its body has come whole, each by the connection's number. Behind /stall it reads nothing any more."""
    log, lock = open(log_path, "w", buffering=1), threading.Lock()

    def note(**what):
        with lock:
            log.write(json.dumps(what) + "\n")

    def serve(sock, number):
        note(event="connection", number=number)
        told, uploads = 0, set()
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        own, frames = threading.RLock(), Frames(24)

        def flush():
            try:
                sock.sendall(conn.data_to_send())
            except OSError:
                pass

        def answer(stream, text):
            with own:
                try:
                    conn.send_headers(stream, [(":status", "200"), ("content-length", str(len(text)))])
                    conn.send_data(stream, text, end_stream=True)
                except h2.exceptions.ProtocolError:
                    return
                flush()

        with own:
            conn.initiate_connection()
            flush()
        while True:
            try:
                data = sock.recv(65536)
            except OSError as e:
                note(event="error", number=number, what=type(e).__name__)
                return
            if not data:
                note(event="end", number=number)
                return
            with own:
                passed, said = frames.pass_on(data), len(frames.goaways)
                for last, code in frames.goaways[told:]:
                    note(event="goaway", number=number, last=last, code=code)
                told = said
                for event in conn.receive_data(passed):
                    if isinstance(event, h2.events.RequestReceived):
                        path = dict(event.headers)[":path"]
                        note(event="request", number=number, stream=event.stream_id, path=path)
                        text = b"%d" % number
                        if path == "/upload":
                            uploads.add(event.stream_id)
                        elif path.startswith("/wait/"):
                            threading.Timer(int(path[6:]) / 1000, answer, (event.stream_id, text)).start()
                        elif path == "/stall":
                            conn.increment_flow_control_window(1 << 30)
                            conn.increment_flow_control_window(1 << 30, event.stream_id)
                            flush()
                            time.sleep(10 * PATIENCE)
                        else:
                            answer(event.stream_id, text)
                    elif isinstance(event, h2.events.DataReceived):
                        conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded) and event.stream_id in uploads:
                        note(event="whole", number=number, stream=event.stream_id)
                        answer(event.stream_id, text)
                    elif isinstance(event, h2.events.PingReceived):
                        note(event="ping", number=number)
                    elif isinstance(event, h2.events.StreamReset):
                        note(event="reset", number=number, stream=event.stream_id, code=int(event.error_code))
                flush()

    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    number = 0
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number += 1
        threading.Thread(target=serve, args=(sock, number), daemon=True).start()


def relay(port):
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    selector, peer = selectors.DefaultSelector(), {}
    selector.register(listener, selectors.EVENT_READ)

    def lose(*_):
        for s in list(peer):
            selector.unregister(s)
            lost.append(s)
        peer.clear()

    lost = []
    signal.signal(signal.SIGUSR1, lose)
    print(listener.getsockname()[1], flush=True)
    while True:
        for key, _ in selector.select(0.1):
            s = key.fileobj
            if s is listener:
                a, _ = s.accept()
                b = socket.create_connection(("127.0.0.1", int(port)))
                for x, y in ((a, b), (b, a)):
                    x.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    peer[x] = y
                    selector.register(x, selectors.EVENT_READ)
                continue
            if s not in peer:
                continue
            try:
                data = s.recv(65536)
            except OSError:
                data = b""
            if data:
                peer[s].sendall(data)
                continue
            for x in (s, peer[s]):
                selector.unregister(x)
                peer.pop(x)
                x.close()


if __name__ == "__main__":
    name, *words = sys.argv[1:]
    result = {"drain": drain, "drain_idle": drain_idle, "drain_preface": drain_preface, "drain_deadline": drain_deadline, "idle": idle, "cancel": cancel, "reload": reload, "shed": shed, "limits": limits, "stalled": stalled, "full": full, "flood": flood, "renewed": renewed,
              "server": server, "relay": relay}[name](*words)
    print(json.dumps(result))
