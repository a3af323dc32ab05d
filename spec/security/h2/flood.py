"""flood.py list | HOST PORT PID SLOW [NAME...]

Plays the attacks of attacks.py against the process PID that listens on PORT, one after the other, and beside each asks for /here on a connection of its own, as any other client
does. Prints a line an attack: "ok" or "no", a tab, its name, a tab, what was measured. SLOW stretches times (a sanitized binary, a busy machine).
"""
import multiprocessing
import os
import sys
import time

from attacks import ATTACKS
from wire import GOAWAY, HEADERS, RST_STREAM, Frame, Peer, code_name
from verdicts import ended

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE") // 1024
LATENCY, USUAL = 0.25, 0.05  # seconds that 99 of 100 requests of another client may take, and half of them


def memory(pid):
    """KB of the process that no other shares."""
    with open("/proc/%d/statm" % pid) as f:
        _, resident, shared = f.read().split()[:3]
    return (int(resident) - int(shared)) * PAGE


def cpu(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def taken(p):
    """Waits until the server has read all of it (the kernel tells), for a while: what lies in its socket it cannot have refused."""
    (_, ours), (_, its) = p.sock.getsockname()[:2], p.sock.getpeername()[:2]
    mark = ":%04X 0100007F:%04X 01 " % (its, ours)
    for _ in range(50):
        with open("/proc/net/tcp") as f:
            lines = [line for line in f if mark in line]
        if not lines or lines[0].split()[4].endswith(":00000000"):
            return True
        time.sleep(0.004)
    return False


def play(attack, host, port, tell):
    """One connection of the attack, in a process of its own. Tells how many frames went and how it ended."""
    told = dict(frames=0, ended=None, resets=0, replies=0, goaway=[])

    def note(f):
        if not isinstance(f, Frame):
            told["ended"] = f
        elif f.type == GOAWAY:
            told["goaway"].append(code_name(f.code))
        elif f.type == RST_STREAM:
            told["resets"] += 1
        elif f.type == HEADERS:
            told["replies"] += 1

    try:
        p, watched = Peer(host, port, timeout=2.0).handshake(), attack["ends"]
        for blob, frames in attack["make"](p):
            if not p.send(blob):
                told["ended"] = "a write that fails"
                break
            told["frames"] += frames
            watched = watched and taken(p)
            while attack["reads"] and not told["ended"] and (p.input or p.readable()):
                f = p.next(0.001)
                if f == "silence":
                    break
                note(f)
            if told["ended"]:
                break
        until = time.monotonic() + attack["hold"] + (1.0 if attack["ends"] else 0.05)
        while not told["ended"] and time.monotonic() < until:
            f = p.next(0.05)
            if f != "silence":
                note(f)
        p.close()
    except OSError as e:
        told["ended"] = told["ended"] or repr(e)
    tell.send(told)


class Neighbour:
    """A client of good will on a connection of its own."""

    def __init__(self, host, port, slow):
        self.host, self.port, self.slow = host, port, slow
        self.p, self.stream, self.times = Peer(host, port, timeout=10.0 * slow).handshake(), 1, []

    def ask(self):
        t0 = time.monotonic()
        self.p.open(self.stream, path="/here")
        ended(self.p, self.stream)
        self.times.append(time.monotonic() - t0)
        self.stream += 2

    def took(self, share):
        """What this share of them took less than."""
        return sorted(self.times)[int(len(self.times) * share)]


def run(name, host, port, pid, slow):
    attack = ATTACKS[name]
    other = Neighbour(host, port, slow)
    for _ in range(20):
        other.ask()
    other.times = []
    before, peak, spent = memory(pid), 0, cpu(pid)
    fork, played = multiprocessing.get_context("fork"), []
    for _ in range(attack["connections"]):
        ours, theirs = fork.Pipe(False)
        child = fork.Process(target=play, args=(attack, host, port, theirs))
        child.start()
        played.append((child, ours))
    deadline, results, alone = time.monotonic() + 15 * slow, [], cpu(pid)
    while len(results) < len(played) and time.monotonic() < deadline:
        other.ask()
        peak = max(peak, memory(pid) - before)
        for _, pipe in played:
            if not pipe.closed and pipe.poll():
                results.append(pipe.recv())
                pipe.close()
        time.sleep(0.005)
    spent = cpu(pid) - spent
    for child, _ in played:
        child.join(1)
        if child.is_alive():
            child.terminate()
    other.ask()
    other.p.close()
    return judged(attack, results, peak, spent, other, slow)


def judged(attack, results, peak, spent, other, slow):
    usual, worst = other.took(0.5), other.took(0.99)
    wrong = []
    if len(results) < attack["connections"]:
        wrong.append("%d connections did not come to an end" % (attack["connections"] - len(results)))
    for r in results:
        if attack["ends"] and not r["ended"]:
            wrong.append("the connection was not ended")
        elif attack["ends"] and r["frames"] > attack["ends"]:
            wrong.append("ended after %d frames only" % r["frames"])
    if peak > attack["memory"]:
        wrong.append("memory grew by %d KB" % peak)
    if spent > attack["cpu"] * slow:
        wrong.append("%.2f s of the processor" % spent)
    if usual > USUAL * slow or worst > LATENCY * slow:
        wrong.append("others waited for %.0f ms, one in a hundred for %.0f" % (usual * 1000, worst * 1000))
    seen = "%d KB, %.2f s, others %.1f ms and %.1f; " % (peak, spent, usual * 1000, worst * 1000) + "; ".join(
        "%(frames)d frames, %(resets)d resets, %(replies)d replies, %(goaway)s, %(ended)s" % r for r in results)
    return wrong, seen


def main(host, port=None, pid=None, slow="1", *names):
    if host == "list":
        print("\n".join(ATTACKS))
        return
    for name in names or ATTACKS:
        try:
            wrong, seen = run(name, host, int(port), int(pid), float(slow))
        except Exception as e:
            wrong, seen = ["%s: %s" % (type(e).__name__, e)], ""
        print("%s\t%s\t%s" % ("no" if wrong else "ok", name, "; ".join(wrong + [seen]).replace("\n", " ")), flush=True)


main(*sys.argv[1:])
