"""hostile.py list | PROXY_PORT SERVER_PORT PID SLOW

A server of HTTP/2 (by prior knowledge) behind a proxy that answers as servers.py says, and a client of HTTP/1.1 in front of it: plays each case and prints "ok" or "no", a tab,
its name, a tab, why not. Behind each case the same client asks for /good, which is served as it should be: by another connection to the server, if the first has
gone.
"""
import socket
import sys
import threading
import time

import hpack

import servers
from verdicts import Wrong, want
from wire import *  # the names of frames, codes and settings


class Server:
    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.case, self.accepted = None, 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            sock, _ = self.listener.accept()
            self.accepted += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        p = Peer("127.0.0.1", sock=sock, timeout=10.0)
        try:
            while len(p.input) < len(PREFACE):
                piece = sock.recv(65536)
                if not piece:
                    return
                p.input += piece
            p.input = p.input[len(PREFACE):]
            window = self.case[4].get("window", 65535) if self.case else 65535
            p.send(settings((INITIAL_WINDOW_SIZE, window)))
            self.streams(p)
        except (OSError, hpack.HPACKError):
            pass
        finally:
            p.close()

    def streams(self, p):
        while True:
            f = p.next(60)
            if not isinstance(f, Frame):
                return
            if f.type == SETTINGS and not f.has(ACK):
                p.send(settings(ack=True))
            elif f.type == PING and not f.has(ACK):
                p.send(ping(f.payload, ack=True))
            elif f.type == DATA and f.payload:
                p.send(window_update(0, len(f.payload)))
            elif f.fields and f.type in (HEADERS, CONTINUATION):
                path = dict(x[:2] for x in f.fields).get(":path")
                say = servers.reply(servers.OK, b"good") if path == "/good" else self.case[2]
                say(p, f.stream)


def ask(port, path, request, seconds):
    """A request of HTTP/1.1 on a connection of its own; the reply, read up to the connection's end."""
    method, upload = request.get("method", "GET"), request.get("upload", 4 if request.get("method") == "POST" else 0)
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(seconds)
    raw, r = b"", dict(status=None, fields={}, body=b"", whole=False)
    try:
        head = "%s %s HTTP/1.1\r\nHost: spec.example\r\nConnection: close\r\n" % ("POST" if upload else method, path)
        sock.sendall((head + ("Content-Length: %d\r\n\r\n" % upload if upload else "\r\n")).encode())
        try:
            sock.sendall(b"x" * upload)
            if request.get("slow"):
                time.sleep(0.5)
        except OSError:
            pass
        while True:
            piece = sock.recv(65536)
            if not piece:
                break
            raw += piece
    except socket.timeout:
        raise Wrong("no end of the reply within %.0f s; so far %r" % (seconds, raw[:100]))
    except OSError:
        pass
    finally:
        sock.close()
    r["raw"] = raw
    parse(r, raw, method)
    return r


def parse(r, raw, method):
    head, found, body = raw.partition(b"\r\n\r\n")
    while found and head[9:10] == b"1":
        head, found, body = body.partition(b"\r\n\r\n")
    if not found:
        return
    first, *lines = head.decode("latin-1").split("\r\n")
    r["status"] = int(first.split(" ")[1])
    for line in lines:
        name, _, value = line.partition(":")
        r["fields"].setdefault(name.lower(), []).append(value.strip())
    if method == "HEAD" or r["status"] in (204, 304):
        r["whole"] = True
    elif "transfer-encoding" in r["fields"]:
        while True:
            size, found, body = body.partition(b"\r\n")
            if not found:
                return
            n = int(size, 16)
            if n == 0:
                r["whole"] = body.endswith(b"\r\n")
                return
            r["body"] += body[:n]
            body = body[n + 2:]
    elif "content-length" in r["fields"]:
        r["body"], r["whole"] = body, len(body) == int(r["fields"]["content-length"][0])
    else:
        r["body"], r["whole"] = body, True


def judge(expect, r):
    if callable(expect):
        return expect(r)
    seen = "status %s, %s" % (r["status"], "whole" if r["whole"] else "cut")
    if expect == servers.CUT:
        want(r["status"] is not None and not r["whole"], "%s", seen)
    elif expect == servers.FAILED:
        want(not r["whole"] or r["status"] >= 500, "%s", seen)
    else:
        want(r["status"] == expect and r["whole"], "%s", seen)


def memory(pid):
    with open("/proc/%d/statm" % pid) as f:
        _, resident, shared = f.read().split()[:3]
    return (int(resident) - int(shared)) * 4


def cpu(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def play(server, case, port, pid, slow):
    server.case = case
    before, spent = memory(pid), cpu(pid)
    judge(case[3], ask(port, "/case", case[4], 12 * slow))
    grown, spent = memory(pid) - before, cpu(pid) - spent
    want(grown < 4096, "memory grew by %d KB", grown)
    want(spent < 0.6 * slow, "%.2f s of the processor", spent)
    server.case = None
    good = ask(port, "/good", {}, 12 * slow)
    want(good["status"] == 200 and good["body"] == b"good" and good["whole"], "the next request: %s %r", good["status"], good["body"][:60])


def main(port, server_port=None, pid=None, slow="1"):
    cases = servers.CASES + servers.FLOODS
    names = ["%s %s: %s" % ("reply" if c in servers.CASES else "flood", c[1], c[0]) for c in cases]
    if port == "list":
        print("\n".join(names))
        return
    server = Server(int(server_port))
    for name, case in zip(names, cases):
        try:
            play(server, case, int(port), int(pid), float(slow))
            print("ok\t%s\t" % name, flush=True)
        except Exception as e:
            print("no\t%s\t%s" % (name, (str(e) or repr(e)).replace("\n", " ")), flush=True)


main(*sys.argv[1:])
