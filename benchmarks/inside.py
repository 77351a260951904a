"""One deployment through Django's test client: how many queries each request makes, and what a profiler says of it."""

import cProfile
import json
import pstats
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.db import connection
from django.test import Client

from itsm_portal.embedded import HOST


class InsideAgent:
    """An agent within this process. By the kind of request: `queries` without BEGIN and COMMIT, `seconds` of processor
    time in this process. With `profiles`, each kind is profiled into its own profile.
    """

    def __init__(self, controller_id: str, token: str, profiles: dict[str, cProfile.Profile] | None = None) -> None:
        self.queries: dict[str, list[int]] = defaultdict(list)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._base = f"/DEFAULT/controller/v1/{controller_id}"
        self._client = Client(headers={"Authorization": f"TargetToken {token}"}, HTTP_HOST=HOST)
        self._profiles = profiles

    def ask(self, kind: str, method: str, path: str, body: Any = None) -> Any:
        """The answer, which has to be 200."""
        count = 0

        def counting(execute: Callable[..., Any], *args: Any) -> Any:
            nonlocal count
            count += 1
            return execute(*args)

        profile = None if self._profiles is None else self._profiles.setdefault(kind, cProfile.Profile())
        with connection.execute_wrapper(counting):
            begun = time.thread_time()
            if profile is not None:
                profile.enable()
            answer = self._client.generic(
                method,
                path,
                b"" if body is None else json.dumps(body).encode(),
                "application/json" if body is not None else "",
            )
            content = answer.getvalue()
            if profile is not None:
                profile.disable()
            self.seconds[kind].append(time.thread_time() - begun)
        if answer.status_code != 200:
            raise RuntimeError(f"{kind}: {answer.status_code} {content[:300]!r}")
        self.queries[kind].append(count)
        return _parsed(content)

    def poll(self, kind: str) -> dict[str, Any]:
        links: dict[str, Any] = self.ask(kind, "GET", self._base)["_links"]
        return links

    def deploy(self) -> None:
        """The requests of one deployment, as in `benchmarks.agents`."""
        links = self.poll("poll")
        offered = self.ask("deployment", "GET", _path(links["deploymentBase"]["href"]))
        action = offered["id"]
        self._report(action, "report", "download", "none")
        (chunk,) = offered["deployment"]["chunks"]
        self.ask("artifact", "GET", _path(chunk["artifacts"][0]["_links"]["download-http"]["href"]))
        for execution in ("downloaded", "proceeding"):
            self._report(action, "report", execution, "none")
        self._report(action, "report closed", "closed", "success")
        data = {"os": "linux", "kind": "standard", f"version.{chunk['part']}": chunk["version"]}
        self.ask("attributes", "PUT", f"{self._base}/configData", {"mode": "replace", "data": data})
        self.poll("poll")

    def _report(self, action: str, kind: str, execution: str, result: str) -> None:
        body = {"id": action, "status": {"execution": execution, "result": {"finished": result}, "details": ["text"]}}
        self.ask(kind, "POST", f"{self._base}/deploymentBase/{action}/feedback", body)

    def most_queries(self) -> dict[str, int]:
        """The most queries that any request of a kind made."""
        return {kind: max(counts) for kind, counts in self.queries.items()}


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _path(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def top_costs(profile: cProfile.Profile, *, number: int = 12) -> list[str]:
    """The functions with the most time of their own, one line each: ms altogether, calls, where."""
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rows = sorted(stats.items(), key=lambda item: -item[1][2])[:number]
    return [
        f"{own * 1000:9.1f} ms {calls:8d}x  {function} ({file.rpartition('site-packages/')[2]}:{line})"
        for (file, line, function), (_primitive, calls, own, _all, _callers) in rows
    ]
