"""conformance.py list | run HOST PORT plain|tls [strict|loose [MS]]

MS: a pause behind each write.

Runs every case of cases.py and more.py against a server, each on a connection of its own, many at a time. Prints a line a case: "ok" or "no", a tab, the
case's name, a tab, why not.
"""
import concurrent.futures
import sys

import hpack

from cases import BARE, CASES
import more
from verdicts import Wrong
from wire import Peer, tls_client


def name_of(case):
    return "%s: %s" % case[:2]


def play(case, host, port, context, strict, pause):
    section, name, steps, verdict = case
    try:
        p = Peer(host, port, context, timeout=10.0 if strict else 2.0)  # of silence, which no good server keeps; a busy machine may
    except OSError as e:
        return "cannot connect: %s" % e
    p.pause = pause
    try:
        if (section, name) not in BARE:
            p.handshake()
        for step in steps:
            if callable(step):
                step(p)
            else:
                p.send(step)
        verdict(p, strict)
    except (Wrong, OSError, hpack.HPACKError) as e:
        return str(e) or repr(e)
    finally:
        p.close()
    return None


def main(how, host=None, port=None, kind="plain", rules="strict", pause="0"):
    cases = CASES + (more.CASES if rules == "strict" else [])
    if how == "list":
        for case in cases:
            print(name_of(case))
        return
    context = tls_client() if kind == "tls" else None
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda c: play(c, host, int(port), context, rules == "strict", int(pause) / 1000), cases))
    for case, why in zip(cases, results):
        print("%s\t%s\t%s" % ("no" if why else "ok", name_of(case), why or ""))


main(*sys.argv[1:])
