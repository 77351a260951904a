"""The devices of `poll`, `cycle` and `herd`: asyncio (on uvloop) that speaks HTTP over real sockets, in one process or
in `processes`, among which the devices are shared out, since one may not have descriptors enough for all.

Reads its orders as JSON on stdin, writes what happened as JSON on stdout, and ends by itself after the last device or
after `seconds`. It says what it cost: `cpu_ms`. Kinds of `work`:

get     every path once, over `connections` connections, kept or (`keep` is false) opened for each
cycle   for every device poll, deploymentBase, proceeding and closed, over `connections` kept connections
herd    every device once, at a random moment within `spread` seconds, each over a connection of its own that it closes;
        with `update` it then fetches the deployment and its file, reports and says what it runs. 429 is obeyed
"""

import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

_TIMEOUT = 60.0
_MAX_TRIES = 60
_SOURCES = 8


class Failed(Exception):
    """A device got an answer that no device should get."""


class Connection(asyncio.Protocol):
    """One connection to the portal; opened again when the portal has closed it. One question at a time.

    A protocol, not a stream: the generator shares the processors with what it measures.
    """

    def __init__(self, host: str, port: int, log: "Log", source: str | None = None) -> None:
        self._host, self._port, self._log, self._source = host, port, log, source
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes, float]] | None = None

    async def ask(
        self, kind: str, method: str, path: str, token: str | None, body: Any = None, *, keep: bool = True
    ) -> bytes:
        """The body of the answer, which has to be 200. Waits as long as a 429 says and asks again."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nAccept: application/json\r\n"
        if token is not None:
            head += f"Authorization: TargetToken {token}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        if not keep:
            head += "Connection: close\r\n"
        sent = f"{head}\r\n".encode() + content
        for _ in range(_MAX_TRIES):
            begun = time.monotonic()
            try:
                async with asyncio.timeout(_TIMEOUT):
                    status, answer, wait = await self._exchange(sent)
            except (OSError, EOFError, TimeoutError) as error:
                self._log.errors[f"{kind}: {type(error).__name__} {getattr(error, 'errno', None) or ''}".strip()] += 1
                self.close()
                await asyncio.sleep(random.uniform(1, 2 * _TIMEOUT))
                continue
            if not keep:
                self.close()
            self._log.statuses[kind][status] += 1
            if status == 200:
                self._log.seconds[kind].append(time.monotonic() - begun)
                return answer
            if status != 429:
                raise Failed(f"{kind}: {status} {answer[:200].decode(errors='replace')}")
            self.close()
            await asyncio.sleep(wait)
        raise Failed(f"{kind}: no answer after {_MAX_TRIES} tries")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _exchange(self, sent: bytes) -> tuple[int, bytes, float]:
        loop = asyncio.get_running_loop()
        if self._transport is None:
            source = None if self._source is None else (self._source, 0)
            await loop.create_connection(lambda: self, self._host, self._port, local_addr=source)
        assert self._transport is not None
        self._answer = loop.create_future()
        self._received.clear()
        self._transport.write(sent)
        return await self._answer

    # --- called by the event loop -----------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._answer is None or self._answer.done():
            return
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[: end + 4]).lower()
        if b"transfer-encoding: chunked" in head:
            content = _from_chunks(self._received[end + 4 :])
        else:
            size = int(_header(head, b"content-length") or 0)
            content = bytes(self._received[end + 4 :]) if len(self._received) >= end + 4 + size else None
        if content is None:
            return
        if _header(head, b"connection") == b"close":
            self.close()
        self._answer.set_result((int(head[9:12]), content, float(_header(head, b"retry-after") or 1)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or EOFError())


def _from_chunks(received: bytearray) -> bytes | None:
    """The content of a chunked body; None while it has not come whole."""
    content = b""
    while (line := received.find(b"\r\n")) >= 0:
        size = int(received[:line], 16)
        if size == 0:
            return content
        content += received[line + 2 : line + 2 + size]
        del received[: line + 4 + size]
    return None


def _header(head: bytes, name: bytes) -> bytes | None:
    begin = head.find(b"\r\n" + name + b":")
    if begin < 0:
        return None
    begin += len(name) + 3
    return head[begin : head.index(b"\r\n", begin)].strip()


class Log:
    """What happened."""

    def __init__(self) -> None:
        self.statuses: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()
        self.failures: list[str] = []
        self.done = 0
        self.last_done = 0.0
        self.cpu = 0.0

    def add(self, other: "Log") -> None:
        for kind, statuses in other.statuses.items():
            self.statuses[kind] += statuses
        for kind, seconds in other.seconds.items():
            self.seconds[kind] += seconds
        self.errors += other.errors
        self.failures += other.failures
        self.done += other.done
        self.last_done = max(self.last_done, other.last_done)
        self.cpu += other.cpu

    def to_json(self, begun: float) -> dict[str, Any]:
        return {
            "done": self.done,
            "seconds": round(time.monotonic() - begun, 3),
            "last_done": round(self.last_done - begun, 1) if self.done else None,
            "cpu_ms": round(self.cpu * 1000),
            "statuses": {
                kind: {str(status): n for status, n in found.items()} for kind, found in self.statuses.items()
            },
            "errors": dict(self.errors),
            "failures": len(self.failures),
            "first_failures": self.failures[:5],
            "requests": {kind: _figures(values) for kind, values in self.seconds.items()},
        }


def _figures(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    places = {"median_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    figures = {name: round(ordered[int(len(ordered) * place)] * 1000, 2) for name, place in places.items()}
    return {"count": len(ordered), **figures, "max_ms": round(ordered[-1] * 1000, 2)}


class Device:
    """One CI's agent, as far as the benchmarks play it."""

    def __init__(self, connection: Connection, tenant: str, name: str, token: str | None, *, keep: bool) -> None:
        self._connection, self._token, self._keep = connection, token, keep
        self._base = f"/{tenant}/controller/v1/{name}"

    async def poll(self) -> dict[str, Any]:
        """One poll; its links."""
        links: dict[str, Any] = json.loads(await self._ask("poll", "GET", self._base))["_links"]
        return links

    async def cycle(self) -> None:
        """The four requests that `cycle` compares."""
        _, action = await self._deployment()
        await self._report(action, "proceeding", "none")
        await self._report(action, "closed", "success")

    async def update(self) -> None:
        """From the poll to the attributes that prove the update."""
        deployment, action = await self._deployment()
        running = {}
        for chunk in deployment["chunks"]:
            running[f"version.{chunk['part']}"] = chunk["version"]
            for file in chunk["artifacts"]:
                links = file["_links"]
                content = await self._ask(
                    "artifact", "GET", _path((links.get("download-http") or links["download"])["href"])
                )
                if len(content) != file["size"]:
                    raise Failed(f"artifact: {len(content)} bytes, not {file['size']}")
        await self._report(action, "proceeding", "none")
        await self._report(action, "closed", "success")
        await self._ask("attributes", "PUT", f"{self._base}/configData", {"mode": "merge", "data": running})

    async def _deployment(self) -> tuple[dict[str, Any], str]:
        offer = (await self.poll()).get("deploymentBase")
        if offer is None:
            raise Failed("poll: no deployment")
        body = json.loads(await self._ask("deployment", "GET", _path(offer["href"])))
        return body["deployment"], body["id"]

    async def _report(self, action: str, execution: str, result: str) -> None:
        body = {"id": action, "status": {"execution": execution, "result": {"finished": result}, "details": ["text"]}}
        await self._ask(execution, "POST", f"{self._base}/deploymentBase/{action}/feedback", body)

    async def _ask(self, kind: str, method: str, path: str, body: Any = None) -> bytes:
        return await self._connection.ask(kind, method, path, self._token, body, keep=self._keep)


def _path(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


async def _shared(
    orders: dict[str, Any], log: Log, items: list[Any], task: Callable[[Connection, Any], Awaitable[Any]]
) -> None:
    """Every item once, over a few kept connections."""
    left = iter(items)
    deadline = time.monotonic() + orders["seconds"]

    async def work() -> None:
        connection = Connection(orders["host"], orders["port"], log)
        for item in left:
            if time.monotonic() > deadline:
                break
            await _tried(log, task(connection, item))
        connection.close()

    await asyncio.gather(*(work() for _ in range(orders["connections"])))


async def _spread(orders: dict[str, Any], log: Log) -> None:
    """Every device at a moment of its own."""
    chance = random.Random(orders.get("share", 0))
    begun = time.monotonic()

    async def live(number: int, name: str, token: str) -> None:
        await asyncio.sleep(begun + chance.uniform(0, orders["spread"]) - time.monotonic())
        # From several addresses, as one has too few ports for so many connections within a minute.
        connection = Connection(orders["host"], orders["port"], log, source=f"127.0.0.{2 + number % _SOURCES}")
        device = Device(connection, orders["tenant"], name, token, keep=False)
        await _tried(log, device.update() if orders["update"] else device.poll())

    tasks = [asyncio.create_task(live(number, *device)) for number, device in enumerate(orders["devices"])]
    _, late = await asyncio.wait(tasks, timeout=orders["seconds"])
    for task in late:
        task.cancel()


async def _tried(log: Log, work: Awaitable[Any]) -> None:
    try:
        await work
    except (Failed, ValueError, KeyError) as error:
        log.failures.append(repr(error))
    else:
        log.done += 1
        log.last_done = time.monotonic()


async def _work(orders: dict[str, Any]) -> Log:
    log = Log()
    if orders["work"] == "get":
        await _shared(orders, log, orders["paths"], lambda c, item: c.ask("get", "GET", *item, keep=orders["keep"]))
    elif orders["work"] == "cycle":
        await _shared(
            orders, log, orders["devices"], lambda c, item: Device(c, orders["tenant"], *item, keep=True).cycle()
        )
    else:
        await _spread(orders, log)
    return log


def work(orders: dict[str, Any]) -> Log:
    """Carries out the orders in this process."""
    log = uvloop.run(_work(orders))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    log.cpu = usage.ru_utime + usage.ru_stime
    return log


def run(orders: dict[str, Any]) -> dict[str, Any]:
    """Carries out the orders; counts, failures, times in ms."""
    begun, number = time.monotonic(), orders.pop("processes", 1)
    if number == 1:
        return work(orders).to_json(begun)
    shares = [{**orders, "share": share, "devices": orders["devices"][share::number]} for share in range(number)]
    whole = Log()
    with ProcessPoolExecutor(number) as pool:
        for log in pool.map(work, shares):
            whole.add(log)
    return whole.to_json(begun)


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
