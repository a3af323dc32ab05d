"""grpc_peer.py: a gRPC server and client of Debian's python3-grpcio, by generic handlers, so that no .proto is needed. What it does is what grpc_peer.mjs does, which
says so in detail.

    grpc_peer.py server [CERT KEY]            prints {"plain":PORT,"tls":PORT}
    grpc_peer.py client ADDRESS CA|- CASE...  prints a line of JSON for each CASE
"""
import asyncio
import json
import random
import re
import signal
import sys
import time

import grpc
import grpc.aio

OPTIONS = [
    ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0),
    ("grpc.so_reuseport", 0),
]
RETRYING = [o for o in OPTIONS if o[0] != "grpc.enable_retries"] + [("grpc.enable_retries", 1), ("grpc.service_config", json.dumps({"methodConfig": [{
    "name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.02s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}))]
STATUS = {code.value[0]: code for code in grpc.StatusCode}
GRACE = 0.3


def text_of(message):
    return len(message) if len(message) > 100 else message.decode()


# --- the server ---

class Server:
    def __init__(self):
        self.stats = {"calls": 0, "open": 0, "cancelled": 0, "expired": 0, "missing": 0, "tokens": 0, "latest": -1e9}
        self.tokens = set()
        self.turn = time.time()

    async def turns(self):
        """What is here now came after the last turn of the loop, which on a busy machine may have been long ago: only a token that was over by then was sent too late."""
        while True:
            self.turn = time.time()
            await asyncio.sleep(0.02)

    def counted(self, serve):
        """The call from its first act to its end, however that comes."""
        if hasattr(serve, "__code__") and serve.__code__.co_flags & 0x200:  # an asynchronous generator
            async def stream(request, context):
                call = Call(self, context)
                try:
                    async for message in serve(request, call):
                        yield message
                except asyncio.CancelledError:
                    self.stats["cancelled"] += 1
                    raise
                except GeneratorExit:
                    self.stats["cancelled"] += 1
                    raise
                finally:
                    self.stats["open"] -= 1
            return stream

        async def single(request, context):
            call = Call(self, context)
            try:
                return await serve(request, call)
            except asyncio.CancelledError:
                self.stats["cancelled"] += 1
                raise
            finally:
                self.stats["open"] -= 1
        return single


class Call:
    def __init__(self, server, context):
        self.context, self.server = context, server
        stats, self.given = server.stats, dict(context.invocation_metadata())
        stats["calls"] += 1
        stats["open"] += 1
        token = re.fullmatch(r"Bearer t(\d+)", self.given.get("authorization", ""))
        if token is None:
            stats["missing"] += 1
            return
        server.tokens.add(token[1])
        end = int(token[1]) / 1000
        stats["latest"] = max(stats["latest"], (time.time() - end) * 1000)
        if server.turn > end + GRACE:
            stats["expired"] += 1

    def echoed(self, prefix):
        out = []
        if "x-say" in self.given:
            out.append(("x-" + prefix, self.given["x-say"]))
        if "x-raw-bin" in self.given:
            out.append(("x-%s-bin" % prefix, self.given["x-raw-bin"]))
        return tuple(out)

    async def head(self):
        await self.context.send_initial_metadata(self.echoed("head"))

    async def fail(self, words):
        await self.context.abort(STATUS[int(words[1])], " ".join(words[2:]), self.echoed("tail"))


def words_of(message):
    return message[:200].decode("utf-8", "replace").split(" ")


async def unary(request, call):
    words = words_of(request)
    if words[0] == "fail":
        await call.fail(words)
    if words[0] == "second":
        if len(call.server.tokens) < 2:
            await call.fail(["", "16", "another", "token"])
        return b"welcome"
    if words[0] == "late":
        await call.head()
        await call.fail(words)
    call.context.set_trailing_metadata(call.echoed("tail"))
    if words[0] == "sleep":
        await asyncio.sleep(int(words[1]) / 1000)
        return b"slept"
    if words[0] == "left":
        return b"%d" % (call.context.time_remaining() * 1000)
    if words[0] == "fill":
        return b"f" * int(words[1])
    await call.head()
    return request


async def up(requests, call):
    count = size = 0
    async for message in requests:
        words = words_of(message)
        count += 1
        size += len(message)
        if words[0] == "fail":
            await call.fail(words)
    return b"%d %d" % (count, size)


async def down(request, _call):
    count, size, ms = map(int, request.split())
    for _ in range(count):
        yield b"d" * size
        if ms:
            await asyncio.sleep(ms / 1000)


async def both(requests, call):
    async for message in requests:
        words = words_of(message)
        if words[0] == "fail":
            await call.fail(words)
        yield message


async def serve(cert=None, key=None):
    peer = Server()

    async def tell(_request, _context):
        return json.dumps({**peer.stats, "tokens": len(peer.tokens)}).encode()

    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("spec.Peer", {
        "Unary": grpc.unary_unary_rpc_method_handler(peer.counted(unary)),
        "Up": grpc.stream_unary_rpc_method_handler(peer.counted(up)),
        "Down": grpc.unary_stream_rpc_method_handler(peer.counted(down)),
        "Both": grpc.stream_stream_rpc_method_handler(peer.counted(both)),
        "Stats": grpc.unary_unary_rpc_method_handler(tell),
    }),))
    ports = {"plain": server.add_insecure_port("127.0.0.1:0")}
    if cert:
        with open(cert, "rb") as c, open(key, "rb") as k:
            ports["tls"] = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(k.read(), c.read())]))
    await server.start()
    print(json.dumps(ports), flush=True)
    ticking = asyncio.create_task(peer.turns())
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await over.wait()
    ticking.cancel()
    await server.stop(0)


# --- the client ---

class Client:
    def __init__(self, channel):
        self.metadata = ()
        path = "/spec.Peer/"
        self.unary_call = channel.unary_unary(path + "Unary")
        self.up_call = channel.stream_unary(path + "Up")
        self.down_call = channel.unary_stream(path + "Down")
        self.both_call = channel.stream_stream(path + "Both")
        self.stats_call = channel.unary_unary(path + "Stats")

    @staticmethod
    def heads(metadata, prefix):
        found = dict(tuple(metadata or ()))
        raw = found.get("x-%s-bin" % prefix)
        return {k: v for k, v in {"say": found.get("x-" + prefix), "raw": raw.hex() if raw else None}.items() if v}

    async def result(self, call, messages, began):
        code, details = await call.code(), await call.details()
        trailing = await call.trailing_metadata()
        out = {"messages": messages, "code": code.value[0], "details": details, "tail": self.heads(trailing, "tail"), "ms": (time.time() - began) * 1000}
        initial = self.heads(await call.initial_metadata(), "head")
        if initial:
            out["head"] = initial
        pushback = dict(tuple(trailing or ())).get("grpc-retry-pushback-ms")
        if pushback:
            out["pushback"] = pushback
        return out

    async def single(self, call):
        began, messages = time.time(), []
        try:
            messages.append(text_of(await call))
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass
        return await self.result(call, messages, began)

    async def unary(self, message, **how):
        return await self.single(self.unary_call(message, metadata=self.metadata, **how))

    async def up(self, messages):
        async def each():
            for m in messages:
                yield m
        return await self.single(self.up_call(each(), metadata=self.metadata))

    async def down(self, order, cancel_at=None):
        call, began, messages = self.down_call(order.encode(), metadata=self.metadata), time.time(), []
        try:
            async for message in call:
                messages.append(text_of(message))
                if len(messages) == cancel_at:
                    call.cancel()
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass
        return await self.result(call, messages, began)

    async def both(self, messages, **how):
        """Each message only when the one before has come back."""
        call, began, back = self.both_call(metadata=self.metadata, **how), time.time(), []
        try:
            for m in messages:
                if m == "cancel":
                    call.cancel()
                elif m != "wait":
                    await call.write(m.encode())
                got = await call.read()
                if got is grpc.aio.EOF:
                    break
                back.append(text_of(got))
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
            pass
        return await self.result(call, back, began)

    async def stats(self):
        return json.loads(await self.stats_call(b"", metadata=self.metadata))

    async def soak(self, seconds, count):
        end, said, failed = time.time() + seconds, {"streams": 0, "messages": 0}, []

        async def one(i):
            await asyncio.sleep(random.random() / 5)
            while time.time() < end:
                call, n, back = self.both_call(metadata=self.metadata), 5 + i % 10, 0
                try:
                    for k in range(n):
                        await call.write(b"%d %d" % (i, k))
                        back += await call.read() == b"%d %d" % (i, k)
                        said["messages"] += 1
                        await asyncio.sleep(0.1)
                    await call.done_writing()
                    await call.read()
                except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
                    pass
                code = await call.code()
                said["streams"] += 1
                if code is not grpc.StatusCode.OK or back != n:
                    failed.append("%s %s %s" % (code.value[0], await call.details(), back == n))

        await asyncio.gather(*(one(i) for i in range(count)))
        return {**said, "failed": failed[:20], "failures": len(failed)}

    def cases(self):
        return {
            "unary": lambda: self.unary(b"hello"),
            "up": lambda: self.up([b"one", b"two", b"three"]),
            "up-fail": lambda: self.up([b"fail 9 no more"] + [bytes(1000)] * 20),
            "down": lambda: self.down("3 5 0"),
            "both": lambda: self.both(["a", "b", "c", "d", "e"]),
            "both-fail": lambda: self.both(["a", "fail 10 in the middle"]),
            "fail": lambda: self.unary("fail 5 nothing: 100% café".encode()),
            "late": lambda: self.unary(b"late 7 not you"),
            "retry": lambda: self.unary(b"hello"),  # alone: with a retry policy
            "second": lambda: self.unary(b"second"),
            "deadline": lambda: self.unary(b"sleep 3000", timeout=0.3),
            "left": lambda: self.unary(b"left", timeout=20),
            "cancel": lambda: self.both(["a", "cancel"]),
            "cancel-down": lambda: self.down("100000 1000 10", 3),
            "reset": lambda: self.both(["a", "reset 8"]),
            "reset-internal": lambda: self.both(["a", "reset 2"]),
            "big": lambda: self.unary(b"b" * 3 * 1024 * 1024),
            "fill": lambda: self.unary(b"fill %d" % (3 * 1024 * 1024)),
            "big-up": lambda: self.up([b"u" * 200000] * 20),
            "big-down": lambda: self.down("20 200000 0"),
            "pace": lambda seconds: self.down("%d 10 250" % (seconds * 4)),
            "stats": self.stats,
            "soak": self.soak,
        }


async def run(address, ca, *names):
    options = RETRYING if names == ("retry",) else OPTIONS
    if ca == "-":
        channel = grpc.aio.insecure_channel(address, options=options)
    else:
        with open(ca, "rb") as f:
            channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(f.read()), options=options)
    client = Client(channel)
    cases = client.cases()
    for name in names:
        what, _, to = name.partition("@")
        which, *how = what.split(":")
        client.metadata = (("x-say", "hello, caf%C3%A9"), ("x-raw-bin", b"\x00\x01\xfe\xff")) + ((("x-to", to),) if to else ())
        print(json.dumps({"case": name, **await cases[which](*map(int, how))}), flush=True)
    await channel.close()


asyncio.run(serve(*sys.argv[2:]) if sys.argv[1] == "server" else run(*sys.argv[2:]))
