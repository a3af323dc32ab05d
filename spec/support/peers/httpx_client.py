"""httpx_client.py BASE CA: python3-httpx over HTTP/2 does what a client does with the server of http2_server.mjs behind a proxy, and prints what came of it as JSON."""
import asyncio
import json
import ssl
import sys

import httpx

MILLION = 1000000


async def pieces():
    for _ in range(20):
        yield b"p" * 50000


async def run(base, ca):
    async with httpx.AsyncClient(http2=True, verify=ssl.create_default_context(cafile=ca), timeout=20, trust_env=False) as client:
        out = {}
        first = await client.get(base + "/version")
        out["version"], out["get"] = first.http_version, first.text
        out["head"] = (await client.head(base + "/version")).headers["content-length"]
        out["post"] = len((await client.post(base + "/echo", content=b"m" * MILLION)).content)
        out["stream"] = (await client.post(base + "/count", content=pieces())).text
        out["cached"] = (await client.get(base + "/cached", headers={"If-None-Match": '"one"'})).status_code
        out["large"] = len((await client.get(base + "/large?5000000")).content)
        try:
            out["cut"] = (await client.get(base + "/cut")).status_code
        except httpx.RemoteProtocolError:
            out["cut"] = "cut"
        many = await asyncio.gather(*[client.get(base + "/slow?100") for _ in range(100)])
        out["many"] = sum(1 for reply in many if reply.text == "slow")
        try:
            await asyncio.wait_for(client.get(base + "/slow?20000"), 0.1)
        except asyncio.TimeoutError:
            out["cancelled"] = True
        out["after"] = (await client.get(base + "/version")).status_code
        print(json.dumps(out))


asyncio.run(run(*sys.argv[1:]))
