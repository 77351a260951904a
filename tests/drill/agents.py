"""A thousand simulated agents in one process, over real HTTP, each with a journal like that of the real agent.

Orders come as lines of JSON on standard input: first everything about the fleet, then `{"do": "heal"}` (from now on
every agent does well) and `{"do": "stop"}`, after which it says on standard output what each agent runs, and ends.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

# How an installation goes, and how often of a hundred times.
WAYS = {"well": 86, "fails": 4, "reverts": 2, "mute": 3, "hangs": 3, "vanishes": 2}
REPEATS = 0.05
REJECTS = 0.2
TIMEOUT = 6.0
PARALLEL = 60


class Away(Exception):
    """No answer, or one that says: later."""


class Agent:
    """One CI. Its disk (`runs`, `pending`) outlives everything that happens to its connections."""

    def __init__(self, fleet: "Fleet", name: str, token: str, runs: dict[str, str]) -> None:
        self.fleet, self.name, self.runs = fleet, name, dict(runs)
        self.chance = random.Random(f"{fleet.seed}:{name}")
        self._base = f"/DEFAULT/controller/v1/{name}"
        self._headers = {"Authorization": f"TargetToken {token}", "Accept": "application/json"}
        self._journal = fleet.folder / name / "journal.jsonl"
        self._journal.parent.mkdir(parents=True)
        self._reports = 0
        self._pending: list[tuple[str, str, dict[str, Any]]] = []
        self._closed: set[str] = set()
        self._tells = False

    async def live(self) -> None:
        await asyncio.sleep(self.chance.uniform(0, self.fleet.poll_seconds))
        while not self.fleet.stopped:
            with contextlib.suppress(Away):
                await self._look()
            await asyncio.sleep(self.fleet.poll_seconds * self.chance.uniform(0.7, 1.3))

    async def _look(self) -> None:
        """One poll with everything that follows from it. What could not be said before is said first."""
        await self._deliver()
        if self._tells:
            await self._tell()
        links = (await self._ask("GET", self._base)).json()["_links"]
        if "cancelAction" in links:
            await self._cancel(_path(links["cancelAction"]["href"]))
        elif "deploymentBase" in links:
            await self._deploy(_path(links["deploymentBase"]["href"]))
        elif "configData" in links:
            await self._tell()

    async def _cancel(self, path: str) -> None:
        action = str((await self._ask("GET", path)).json()["cancelAction"]["stopId"])
        is_rejected = self.chance.random() < REJECTS and not self.fleet.healed
        await self._report(action, "cancelAction", *(("rejected", "none") if is_rejected else ("closed", "success")))

    async def _deploy(self, path: str) -> None:
        response = await self._ask("GET", path, missing=True)
        if response.status_code != 200:
            return
        body = response.json()
        action, wanted = str(body["id"]), {}
        if action in self._closed:
            return
        await self._report(action, "deploymentBase", "download", "none")
        for chunk in body["deployment"]["chunks"]:
            wanted[chunk["part"]] = chunk["version"]
            for file in chunk["artifacts"]:
                links = file["_links"]
                content = await self._ask("GET", _path((links.get("download-http") or links["download"])["href"]), True)
                if content.status_code != 200 or len(content.content) != file["size"]:
                    return
        await self._report(action, "deploymentBase", "proceeding", "none")
        await self._install(action, wanted)

    async def _install(self, action: str, wanted: dict[str, str]) -> None:
        way = "well" if self.fleet.healed else self.chance.choices([*WAYS], [*WAYS.values()])[0]
        self.fleet.counts[way] += 1
        if way in {"hangs", "vanishes"}:
            await asyncio.sleep(self.fleet.poll_seconds * (5 if way == "hangs" else 12))
            return
        if way == "fails":
            await self._report(action, "deploymentBase", "closed", "failure", "health_check_failed: it does not start")
        elif way == "reverts":
            await self._report(action, "deploymentBase", "closed", "success")
        else:
            self.runs.update(wanted)
            self._tells = True
            if way == "well":
                await self._report(action, "deploymentBase", "closed", "success")
        await self._tell()

    async def _tell(self) -> None:
        self._tells = True
        data = {"os": "linux", **{f"version.{product}": label for product, label in self.runs.items()}}
        await self._ask("PUT", f"{self._base}/configData", body={"mode": "replace", "data": data})
        self._tells = False

    async def _report(self, action: str, kind: str, execution: str, result: str, *details: str) -> None:
        """On the disk first; then it is said until it is answered, whatever that takes."""
        self._reports += 1
        status = {"execution": execution, "result": {"finished": result}, "details": [*details, f"no. {self._reports}"]}
        if execution == "closed" and kind == "deploymentBase":
            self._closed.add(action)
        self._pending.append((action, kind, {"id": action, "report": self._reports, "status": status}))
        await self._deliver()

    async def _deliver(self) -> None:
        while self._pending:
            action, kind, body = self._pending[0]
            await self._send(action, kind, body)
            if self.chance.random() < REPEATS:
                with contextlib.suppress(Away):
                    await self._send(action, kind, body)
            del self._pending[0]

    async def _send(self, action: str, kind: str, body: dict[str, Any]) -> None:
        status: int | None = None
        try:
            answer = await self._ask("POST", f"{self._base}/{kind}/{action}/feedback", True, body)
            status = answer.status_code
        finally:
            line = {"kind": kind, "action": action, "report": body["report"], "status": status, "body": body}
            with self._journal.open("a") as journal:
                journal.write(json.dumps(line) + "\n")

    async def _ask(self, method: str, path: str, missing: bool = False, body: Any = None) -> httpx.Response:
        """The answer. Raises Away without one, or for 429 and 5xx; with `missing` other refusals are answers, too."""
        async with self.fleet.doors:
            try:
                answer = await self.fleet.client.request(method, path, headers=self._headers, json=body)
            except (httpx.HTTPError, OSError) as error:
                self.fleet.counts[f"no answer ({type(error).__name__})"] += 1
                raise Away from error
        self.fleet.counts[str(answer.status_code)] += 1
        if answer.status_code == 429 or answer.status_code >= 500 or (answer.status_code != 200 and not missing):
            raise Away
        return answer


class Fleet:
    """All agents; they share some connections, as behind a proxy."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.seed, self.poll_seconds = orders["seed"], float(orders["poll_seconds"])
        self.folder = Path(orders["folder"])
        self.healed = self.stopped = False
        self.counts: Counter[str] = Counter()
        self.doors = asyncio.Semaphore(PARALLEL)
        limits = httpx.Limits(max_connections=PARALLEL, max_keepalive_connections=PARALLEL)
        self.client = httpx.AsyncClient(base_url=orders["url"], timeout=TIMEOUT, limits=limits, trust_env=False)
        self.agents = [Agent(self, name, token, orders["runs"]) for name, token in orders["agents"]]

    async def listen(self) -> None:
        """Orders, as they come."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = json.loads(line)["do"]
            self.healed = self.healed or order == "heal"
            if order == "stop":
                break
        self.stopped = True

    async def run(self) -> dict[str, Any]:
        began = time.monotonic()
        lives = [asyncio.create_task(agent.live()) for agent in self.agents]
        await self.listen()
        await asyncio.wait(lives, timeout=self.poll_seconds * 20)
        await self.client.aclose()
        runs = {agent.name: agent.runs for agent in self.agents}
        seconds = round(time.monotonic() - began)
        pending = sum(len(agent._pending) for agent in self.agents)
        broken = [repr(life.exception()) if life.done() else "it never came to an end" for life in lives]
        broken = [said for said in broken if said != "None"]
        return {"runs": runs, "counts": dict(self.counts), "seconds": seconds, "unsaid": pending, "broken": broken}


def _path(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


if __name__ == "__main__":
    fleet = Fleet(json.loads(sys.stdin.readline()))
    json.dump(asyncio.run(fleet.run()), sys.stdout)
