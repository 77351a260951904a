"""The whole fleet at once: every CI polls within a minute, then a part of it is updated; the portal's pages meanwhile.

make bench NAME=herd [ARGS="--cis 5000"]

First part: every CI polls once, at a random moment within `--spread` seconds, over a connection of its own. What is
sent away with 429 comes back when it was told to. Second part: `--updates` of them have an update waiting; each polls,
fetches the deployment and its file of 1 KiB, reports twice and says what it runs, while the tick runs. In both parts a
person reads pages of the portal, two a second. Prints a table and, as the last line, the figures as JSON.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.portal import SERVERS, Meter, Ticks, Web, generate, prepared_database, say
from itsm_portal.embedded import HOST

TARGETS = {"polls_seconds": 180, "updates_seconds": 480, "page_p95_ms": 1500}
PAGES = ["/", "/cis/", "/releases/", "/changes/", "/incidents/"]
PAGE_PAUSE = 0.5
# Of the generator: more devices wait for an answer at a time than one process has descriptors.
PROCESSES = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.herd", description="the whole fleet at once")
    parser.add_argument("--cis", type=int, default=100_000, help="how many poll")
    parser.add_argument("--updates", type=int, help="how many of them are updated; 30 percent unless given")
    parser.add_argument("--spread", type=float, default=60, help="seconds within which all begin")
    parser.add_argument("--server", choices=SERVERS, default="production", help="the server that is measured")
    options = parser.parse_args()
    updates = options.cis * 3 // 10 if options.updates is None else min(options.updates, options.cis)
    begun = time.monotonic()
    with prepared_database() as (database, logs):
        from django.core.management import call_command

        from benchmarks.fleet import Fleet
        from tickets.clock import database_now

        call_command("collectstatic", verbosity=0, interactive=False)
        fleet = Fleet()
        fleet.found(database_now())
        say(f"a fleet of {updates}")
        fleet.grow(updates, database_now())
        with Web(logs, server=options.server) as web:
            updated = list(fleet.agents)
            rollout = fleet.start_rollout(database_now())
            ticks = Ticks()
            # Nothing is offered yet: the tick that opens the wave has not come.
            say(f"a fleet of {options.cis}")
            fleet.grow(options.cis, database_now())
            database.execute("VACUUM ANALYZE")
            say("everybody polls")
            orders = {"work": "herd", "spread": options.spread, "update": False, "processes": PROCESSES}
            parts = {"polls": _watched(web, {**orders, "devices": fleet.agents, "seconds": 400})}
            while rollout.state != "running":
                ticks()
                rollout.refresh_from_db()
                time.sleep(0.1)
            say(f"{updates} are updated")
            orders = {**orders, "devices": updated, "update": True, "seconds": 900}
            parts["updates"] = _watched(web, orders, ticks)
            parts["updates"]["longest_tick_ms"] = round(ticks.longest_ms)
        parts["updates"]["counts"] = _counts(updates)
    print(table(parts))
    figures = {
        "benchmark": "herd",
        "server": options.server,
        "cis": options.cis,
        "updates": updates,
        "spread": options.spread,
        "targets": TARGETS,
        "is_met": _is_met(parts, options.cis, updates),
        "seconds": round(time.monotonic() - begun, 1),
        **parts,
    }
    print(json.dumps(figures))
    return 0


def _is_met(parts: dict[str, Any], cis: int, updates: int) -> dict[str, bool]:
    polls, updated = parts["polls"], parts["updates"]
    statuses = {status for part in parts.values() for found in part["statuses"].values() for status in found}
    return {
        "only 200 and 429": statuses <= {"200", "429"},
        "no error": not any(part["errors"] or part["failures"] or part["pages"]["troubles"] for part in parts.values()),
        "only polls are sent away": {
            kind for part in parts.values() for kind, found in part["statuses"].items() if "429" in found
        }
        <= {"poll"},
        "all served in time": polls["done"] == cis and polls["last_done"] <= TARGETS["polls_seconds"],
        "all updated in time": updated["done"] == updates and updated["last_done"] <= TARGETS["updates_seconds"],
        "counts exact": all(count == updates for count in updated["counts"].values()),
        "pages quick": all(part["pages"]["p95_ms"] <= TARGETS["page_p95_ms"] for part in parts.values()),
        "memory flat": all(part["memory"]["growth"] <= 1.1 for part in parts.values()),
    }


def _counts(updates: int) -> dict[str, int]:
    """What the portal recorded of the updates; each has to be their number."""
    from cmdb.models import InstalledVersion
    from distribution.models import Deployment, DeploymentEvent

    events = DeploymentEvent.objects
    return {
        "deployments succeeded": Deployment.objects.filter(state="succeeded").count(),
        "offers": events.filter(kind="offered").count(),
        "reports of progress": events.filter(kind="report", execution="proceeding").count(),
        "final reports": events.filter(kind="report", execution="closed").count(),
        "proofs": events.filter(to_state="succeeded").exclude(from_state="succeeded").count(),
        "CIs with the new version": InstalledVersion.objects.filter(valid_to=None, source__startswith="ROL-").count(),
    }


def _watched(web: Web, orders: dict[str, Any], ticks: Ticks | None = None) -> dict[str, Any]:
    """Carries out the orders while somebody reads pages; what the generator says, cost, pages and memory."""
    meter, memory = Meter(web), Memory(web)
    before, tick_before = meter.read(), 0.0 if ticks is None else ticks.cpu_ms
    with Reader(web.port) as reader:

        def meanwhile() -> None:
            if ticks is not None:
                ticks()
            if memory.look():
                meter.read()

        found = generate(web.port, orders, meanwhile)
    used = meter.read() - before
    done = max(found["done"], 1)
    return {
        **found,
        "web_cpu_ms": round(used.web / done, 2),
        "database_cpu_ms": round(used.database / done, 2),
        "tick_cpu_ms": round((0.0 if ticks is None else ticks.cpu_ms - tick_before) / done, 2),
        "generator_cpu_ms": round(found["cpu_ms"] / done, 2),
        "pages": reader.figures(),
        "memory": memory.figures(),
    }


class Memory:
    """The resident memory of the web server's processes, looked at once a second."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._next = 0.0
        self._seen: list[int] = []

    def look(self) -> bool:
        """False: it is not time yet."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + 1
        self._seen.append(max(_resident(pid) for pid in self._web.pids()))
        return True

    def figures(self) -> dict[str, float]:
        """The largest process in MB, and the last third of the time against the middle one; 1 is flat."""
        third = len(self._seen) // 3 or 1
        middle = statistics.median(self._seen[third : 2 * third] or self._seen)
        last = statistics.median(self._seen[-third:])
        return {"largest_mb": round(max(self._seen) / 2**20, 1), "growth": round(last / middle, 3)}


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


@dataclass
class Reader:
    """A person of the release management who reads one page after the other, in a thread; a context manager."""

    port: int
    seconds: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def __enter__(self) -> "Reader":
        self._cookie = _session()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=60)

    def _read(self) -> None:
        number = 0
        while not self._stopped.is_set():
            page = PAGES[number % len(PAGES)]
            number += 1
            connection = HTTPConnection(HOST, self.port, timeout=60)
            begun = time.monotonic()
            try:
                connection.request("GET", page, headers={"Cookie": self._cookie})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.troubles.append(f"{page}: {answer.status}")
            except (OSError, HTTPException) as error:
                self.troubles.append(f"{page}: {error!r}")
            finally:
                connection.close()
            self.seconds.append(time.monotonic() - begun)
            self._stopped.wait(PAGE_PAUSE)

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.seconds)
        return {
            "count": len(ordered),
            "median_ms": round(statistics.median(ordered) * 1000),
            "p95_ms": round(ordered[int(len(ordered) * 0.95)] * 1000),
            "troubles": self.troubles[:5],
        }


def _session() -> str:
    """The cookie of somebody who is logged in."""
    from importlib import import_module

    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    from accounts.models import User

    user = User.objects.get(username="approver")
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY], session[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session.create()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"


def table(parts: dict[str, dict[str, Any]]) -> str:
    """A line for each figure, a column for each part."""
    rows = [["", *parts]]
    for name in ("done", "last_done", "failures", "web_cpu_ms", "database_cpu_ms", "tick_cpu_ms", "generator_cpu_ms"):
        rows.append([name, *(str(part[name]) for part in parts.values())])
    rows.append(["errors", *(str(sum(part["errors"].values())) for part in parts.values())])
    rows.append(["429", *(str(sum(f.get("429", 0) for f in part["statuses"].values())) for part in parts.values())])
    for name in ("median_ms", "p95_ms"):
        rows.append([f"poll {name}", *(str(part["requests"].get("poll", {}).get(name)) for part in parts.values())])
        rows.append([f"page {name}", *(str(part["pages"][name]) for part in parts.values())])
    for name in ("largest_mb", "growth"):
        rows.append([f"memory {name}", *(str(part["memory"][name]) for part in parts.values())])
    return "\n".join(f"{row[0]:<20}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
