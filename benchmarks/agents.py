"""Simulated agents: one process, a few kept connections, the requests of the real agent and nothing else.

Reads its orders as JSON on stdin, writes what happened as JSON on stdout, and ends by itself: after the last agent, or
after `seconds`. The connections are shared as behind a proxy: thousands of agents, a few connections to the portal.
"""

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

TENANT = "DEFAULT"
_MAX_TRIES = 20
_TIMEOUT = 30.0


class Failed(Exception):
    """An agent got an answer that no agent should get."""


class Portal:
    """One kept connection to the portal, and the time that each kind of request took."""

    def __init__(self, host: str, port: int, seconds: dict[str, list[float]], counts: Counter[str]) -> None:
        self._address = (host, port)
        self._seconds = seconds
        self._counts = counts
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, kind: str, method: str, path: str, token: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of the answer; goes on after 429 and after a lost connection, some times."""
        for _ in range(_MAX_TRIES):
            begun = time.perf_counter()
            try:
                status, content, wait = await asyncio.wait_for(self._exchange(method, path, token, body), _TIMEOUT)
            except (OSError, EOFError, TimeoutError):
                self._counts["lost connections"] += 1
                self.close()
                await asyncio.sleep(0.1)
                continue
            if status != 429:
                self._seconds.setdefault(kind, []).append(time.perf_counter() - begun)
                return status, content
            self._counts["sent away (429)"] += 1
            await asyncio.sleep(min(wait, 2.0))
        raise Failed(f"{kind}: no answer after {_MAX_TRIES} tries")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _exchange(self, method: str, path: str, token: str, body: Any) -> tuple[int, bytes, float]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._address[0]}:{self._address[1]}\r\n"
            f"Authorization: TargetToken {token}\r\nAccept: application/json\r\nUser-Agent: benchmark\r\n"
        )
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        self._writer.write(f"{head}\r\n".encode() + content)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        answer = await self._reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(lines[0].split(" ", 2)[1]), answer, float(headers.get("retry-after", 1))


class Agent:
    """One CI: polls, or carries out what it is offered as the real agent does when all goes well."""

    def __init__(self, portal: Portal, controller_id: str, token: str) -> None:
        self._portal = portal
        self._base = f"/{TENANT}/controller/v1/{controller_id}"
        self._token = token

    async def poll(self) -> dict[str, Any]:
        """One poll. Returns the links."""
        body = json.loads(await self._ok("poll", "GET", self._base))
        links: dict[str, Any] = body["_links"]
        return links

    async def deploy(self) -> None:
        """Everything from the poll that finds the offer to the poll after the attributes."""
        offer = (await self.poll()).get("deploymentBase")
        if offer is None:
            raise Failed("poll: no deployment")
        offered = json.loads(await self._ok("deployment", "GET", _path(offer["href"])))
        action = offered["id"]
        await self._report(action, "download", "none", "download begins")
        running = {}
        for chunk in offered["deployment"]["chunks"]:
            running[f"version.{chunk['part']}"] = chunk["version"]
            for file in chunk["artifacts"]:
                content = await self._ok("artifact", "GET", _path(file["_links"]["download-http"]["href"]))
                if len(content) != file["size"]:
                    raise Failed(f"artifact: {len(content)} bytes, not {file['size']}")
        await self._report(action, "downloaded", "none", "artifacts downloaded: 1 of 1")
        await self._report(action, "proceeding", "none", "installing")
        if "cancelAction" in await self.poll():
            raise Failed("poll: cancelled")
        await self._report(action, "closed", "success", "installed")
        attributes = {"mode": "replace", "data": {"os": "linux", "kind": "standard", **running}}
        await self._ok("attributes", "PUT", f"{self._base}/configData", attributes)
        left = await self.poll()
        if "deploymentBase" in left or "configData" in left:
            raise Failed(f"poll: still asked for {', '.join(left)}")

    async def _report(self, action: str, execution: str, result: str, detail: str) -> None:
        status = {"execution": execution, "result": {"finished": result}, "details": [detail]}
        body = {"id": action, "timestamp": int(time.time() * 1000), "status": status}
        await self._ok(f"report {execution}", "POST", f"{self._base}/deploymentBase/{action}/feedback", body)

    async def _ok(self, kind: str, method: str, path: str, body: Any = None) -> bytes:
        status, content = await self._portal.ask(kind, method, path, self._token, body)
        if status != 200:
            raise Failed(f"{kind}: {status} {content[:200].decode(errors='replace')}")
        return content


def _path(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


async def _paced(agents: list[list[str]], rate: float, deadline: float) -> AsyncIterator[list[str]]:
    """The agents, at most `rate` a second, until the deadline."""
    begun = time.monotonic()
    for number, agent in enumerate(agents):
        early = begun + number / rate - time.monotonic()
        if early > 0:
            await asyncio.sleep(early)
        if time.monotonic() > deadline:
            return
        yield agent


async def run(orders: dict[str, Any]) -> dict[str, Any]:
    """Lets every agent poll once, or carry out one deployment; returns counts, failures and times in ms."""
    deadline = time.monotonic() + orders["seconds"]
    seconds: dict[str, list[float]] = {}
    counts: Counter[str] = Counter()
    failures: list[str] = []
    queue: asyncio.Queue[list[str] | None] = asyncio.Queue(maxsize=1)

    async def work() -> None:
        portal = Portal(orders["host"], orders["port"], seconds, counts)
        while (names := await queue.get()) is not None:
            agent = Agent(portal, *names)
            try:
                await (agent.deploy() if orders["work"] == "deploy" else agent.poll())
                counts["done"] += 1
            except (Failed, ValueError, KeyError) as error:
                failures.append(f"{names[0]}: {error!r}")
        portal.close()

    begun = time.monotonic()
    workers = [asyncio.create_task(work()) for _ in range(orders["connections"])]
    async for names in _paced(orders["agents"], orders["rate"], deadline):
        await queue.put(names)
    for _ in workers:
        await queue.put(None)
    await asyncio.gather(*workers)
    return {
        "done": counts.pop("done", 0),
        "seconds": time.monotonic() - begun,
        "troubles": dict(counts),
        "failures": len(failures),
        "first_failures": failures[:5],
        "requests": {kind: _figures(values) for kind, values in seconds.items()},
    }


def _figures(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "median_ms": round(statistics.median(ordered) * 1000, 2),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)] * 1000, 2),
    }


if __name__ == "__main__":
    json.dump(asyncio.run(run(json.load(sys.stdin))), sys.stdout)
