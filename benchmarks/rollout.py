"""A rollout to a growing fleet, over real HTTP: what a deployment costs the server, and how poll and tick scale.

make bench NAME=rollout [ARGS="--cis 5000 --seconds 360"]

The fleet grows from a fifth over two fifths to all CIs; each time a release goes through its gates and is rolled out to
every CI, while the tick runs in this process. In the last and largest rollout every CI has its simulated agent against
gunicorn, as far as the time allows; in the smaller ones a sample has, and the others are ended in sets. Prints a table
and, as the last line, the figures as JSON. Progress goes to stderr.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.portal import CLONE, Cpu, Meter, Web, configure, own_database
from itsm_portal.embedded import HOST

TICK_SECONDS = 1.0
QUIET_TICKS = 21
POLL_ROUNDS = 3
CONNECTIONS = 12
POLLS_A_ROUND = 400
RATE = 300
SAMPLE = 150
# Of the whole time: for the agents of one half of a smaller rollout, and kept back for what comes after the agents.
SAMPLE_SHARE = 0.04
AFTER_SHARE = 0.12


class OutOfTime(Exception):
    """The benchmark's time is over."""


@dataclass
class Stage:
    """The figures of one size of the fleet; times in milliseconds."""

    cis: int
    over_http: int = 0
    agents_seconds: float = 0.0
    web_cpu_ms: float = 0.0
    database_cpu_ms: float = 0.0
    tick_cpu_ms: float = 0.0
    poll_cpu_ms: float = 0.0
    offer_poll_cpu_ms: float = 0.0
    freeze_ms: float = 0.0
    quiet_tick_ms: float = 0.0
    end_cpu_ms: float | None = None
    ticks_under_load: list[float] = field(default_factory=list)
    requests: dict[str, dict[str, float]] = field(default_factory=dict)
    troubles: dict[str, int] = field(default_factory=dict)

    @property
    def deployment_cpu_ms(self) -> float:
        """Processor time of the server for one deployment: web, database and tick."""
        return (self.web_cpu_ms + self.database_cpu_ms + self.tick_cpu_ms) / self.over_http

    @property
    def tick_ms_per_ci(self) -> float:
        return self.quiet_tick_ms / self.cis

    @property
    def freeze_ms_per_ci(self) -> float:
        return self.freeze_ms / self.cis

    @property
    def end_cpu_ms_per_ci(self) -> float | None:
        return None if self.end_cpu_ms is None else self.end_cpu_ms / self.cis

    def to_json(self) -> dict[str, Any]:
        names = ("deployment_cpu_ms", "tick_ms_per_ci", "freeze_ms_per_ci", "end_cpu_ms_per_ci")
        found = {**asdict(self), **{name: getattr(self, name) for name in names}}
        found["ticks_under_load"] = [round(tick, 1) for tick in self.ticks_under_load]
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


class Benchmark:
    """One run. Needs Django to be set up and the database to be empty."""

    def __init__(self, options: argparse.Namespace, web: Web, deadline: float) -> None:
        from benchmarks.fleet import Fleet
        from tickets.clock import database_now

        self._options = options
        self._web = web
        self._deadline = deadline
        self._meter = Meter(web)
        self._now = database_now
        self._tick_cpu = 0.0
        self.queries: dict[str, int] = {}
        self.fleet = Fleet()
        self.fleet.found(self._now())

    def say(self, text: str) -> None:
        print(f"[{self._options.seconds - (self._deadline - time.monotonic()):5.0f} s] {text}", file=sys.stderr)

    def measure(self, size: int, *, is_last: bool) -> Stage:
        """Grows the fleet to `size` and rolls a release out to all of it."""
        from benchmarks.inside import InsideAgent

        stage = Stage(size)
        self.fleet.grow(size, self._now())
        self._analyse()
        rollout = self.fleet.start_rollout(self._now())
        self.say(f"{size} CIs: {rollout.number} started")
        stage.freeze_ms = self._tick()
        *agents, inside = self.fleet.agents
        stage.offer_poll_cpu_ms = self._poll_cost(agents)
        half = len(agents) // 2
        self._bring(stage, rollout, agents[:half], share=0.5 if is_last else None)
        stage.quiet_tick_ms = statistics.median(self._tick() for _ in range(QUIET_TICKS))
        self._bring(stage, rollout, agents[half:], share=1.0 if is_last else None)
        agent = InsideAgent(*inside)
        agent.deploy()
        self.queries = agent.most_queries()
        stage.poll_cpu_ms = self._poll_cost(agents)
        self.say(f"{size} CIs: {stage.over_http} by agents, {stage.deployment_cpu_ms:.1f} CPU-ms each; ending")
        stage.end_cpu_ms = self._settle(rollout)
        return stage

    def _bring(self, stage: Stage, rollout: Any, agents: list[Any], *, share: float | None) -> None:
        """Brings the release to these CIs: by their agents within `share` of the time left, or a sample."""
        from benchmarks.fleet import finish_rest

        whole = self._options.seconds
        if share is None:
            some, seconds = agents[:SAMPLE], SAMPLE_SHARE * whole
        else:
            some, seconds = agents, share * max(self._left() - AFTER_SHARE * whole, SAMPLE_SHARE * whole)
        done = self._deploy(stage, some, seconds)
        finish_rest(rollout, [name for name, _token in agents[done:]], self._now())

    def _analyse(self) -> None:
        """What autovacuum does a minute after such a change of the tables."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")

    def _tick(self) -> float:
        """One tick of the portal; its wall time in ms."""
        from releases.executor import run_ticks
        from test_environments.services import advance_test_environments

        begun, cpu = time.perf_counter(), time.thread_time()
        now = self._now()
        run_ticks(now=now)
        advance_test_environments(now=now)
        self._tick_cpu += (time.thread_time() - cpu) * 1000
        return (time.perf_counter() - begun) * 1000

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise OutOfTime
        return left

    def _let_agents(self, work: str, agents: list[Any], seconds: float, stage: Stage | None = None) -> dict[str, Any]:
        """Runs the simulated agents in a process of their own; with a stage, ticks meanwhile. They end after `seconds`,
        each at the end of what it does."""
        orders = {
            "host": HOST, "port": self._web.port, "work": work, "agents": agents, "connections": CONNECTIONS,
            "rate": RATE, "seconds": seconds,
        }  # fmt: skip
        with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as answered:
            json.dump(orders, given)
            given.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.agents"], stdin=given, stdout=answered, cwd=CLONE
            )
            try:
                self._wait_for(process, stage)
            finally:
                process.kill()
                process.wait()
            answered.seek(0)
            result: dict[str, Any] = json.loads(answered.read() or "{}")
        if not result or result["failures"]:
            raise RuntimeError(f"the agents failed: {result.get('first_failures')}")
        return result

    def _wait_for(self, process: subprocess.Popen[bytes], stage: Stage | None) -> None:
        next_tick = time.monotonic()
        while process.poll() is None:
            self._left()
            if stage is not None and time.monotonic() >= next_tick:
                stage.ticks_under_load.append(self._tick())
                self._meter.read()
                next_tick = max(next_tick + TICK_SECONDS, time.monotonic())
            time.sleep(0.02)

    def _poll_cost(self, agents: list[Any]) -> float:
        """Processor time of a poll in ms, web server and database; each poll notes when the CI was seen."""
        from benchmarks.fleet import forget_polls

        some = agents[:: max(1, len(agents) // POLLS_A_ROUND)][:POLLS_A_ROUND]
        costs = []
        for _ in range(POLL_ROUNDS):
            forget_polls(some)
            before = self._meter.read()
            done = self._let_agents("poll", some, self._left())["done"]
            used = self._meter.read() - before
            costs.append((used.web + used.database) / done)
        return statistics.median(costs)

    def _deploy(self, stage: Stage, agents: list[Any], seconds: float) -> int:
        """Lets the agents carry out their deployments; adds what it cost to the stage. How many of them, in order."""
        self._tick_cpu = 0.0
        before = self._meter.read()
        result = self._let_agents("deploy", agents, seconds, stage)
        used: Cpu = self._meter.read() - before
        stage.web_cpu_ms += used.web
        stage.database_cpu_ms += used.database
        stage.tick_cpu_ms += self._tick_cpu
        stage.over_http += result["done"]
        stage.agents_seconds += result["seconds"]
        stage.requests = result["requests"]
        for trouble, count in result["troubles"].items():
            stage.troubles[trouble] = stage.troubles.get(trouble, 0) + count
        return int(result["done"])

    def _settle(self, rollout: Any) -> float | None:
        """Ticks until nothing of the rollout is left to do; processor time of tick and database, None: no time left."""
        self._tick_cpu = 0.0
        before = self._meter.read()
        rollout.refresh_from_db()
        while rollout.settled_at is None:
            if rollout.state not in {rollout.State.RUNNING, rollout.State.COMPLETED}:
                raise RuntimeError(f"{rollout.number} is {rollout.state}: {rollout.pause_reason}")
            if time.monotonic() > self._deadline:
                return None
            is_idle = self._tick() < 100
            self._meter.read()
            rollout.refresh_from_db()
            if is_idle:
                time.sleep(0.2)
        return self._tick_cpu + (self._meter.read() - before).database


COLUMNS = {
    "CIs": lambda s: f"{s.cis}",
    "by agents": lambda s: f"{s.over_http}",
    "CPU-ms/deployment": lambda s: f"{s.deployment_cpu_ms:.1f}",
    "of it web": lambda s: f"{s.web_cpu_ms / s.over_http:.1f}",
    "database": lambda s: f"{s.database_cpu_ms / s.over_http:.1f}",
    "tick": lambda s: f"{s.tick_cpu_ms / s.over_http:.1f}",
    "deployments/s": lambda s: f"{s.over_http / s.agents_seconds:.1f}",
    "CPU-ms/poll": lambda s: f"{s.poll_cpu_ms:.2f}",
    "with offer": lambda s: f"{s.offer_poll_cpu_ms:.2f}",
    "tick ms": lambda s: f"{s.quiet_tick_ms:.1f}",
    "under load": lambda s: f"{statistics.median(s.ticks_under_load):.1f}",
    "tick µs/CI": lambda s: f"{s.tick_ms_per_ci * 1000:.1f}",
    "freeze ms/CI": lambda s: f"{s.freeze_ms_per_ci:.2f}",
    "end CPU-ms/CI": lambda s: "-" if s.end_cpu_ms_per_ci is None else f"{s.end_cpu_ms_per_ci:.2f}",
}


def table(stages: list[Stage]) -> str:
    rows = [list(COLUMNS), *([show(stage) for show in COLUMNS.values()] for stage in stages)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def figures(stages: list[Stage], sizes: list[int], queries: dict[str, int], seconds: float) -> dict[str, Any]:
    """What the last line says. Ratios compare the largest fleet with the smallest; 1 is constant, or linear per CI."""
    first, last = stages[0], stages[-1]

    def ratio(name: str) -> float | None:
        grown, small = getattr(last, name), getattr(first, name)
        return round(grown / small, 2) if grown and small else None

    return {
        "benchmark": "rollout",
        "cis": last.cis,
        "sizes": [stage.cis for stage in stages],
        "over_http": [stage.over_http for stage in stages],
        # Every CI of the largest fleet had its agent, but one whose queries were counted; and all was settled.
        "is_complete": len(stages) == len(sizes) and last.over_http == last.cis - 1 and last.end_cpu_ms is not None,
        "seconds": round(seconds, 1),
        "cores": os.cpu_count(),
        "deployment_cpu_ms": round(last.deployment_cpu_ms, 2),
        "deployment_cpu_ratio": ratio("deployment_cpu_ms"),
        "poll_cpu_ms": round(last.poll_cpu_ms, 2),
        "poll_cpu_ratio": ratio("poll_cpu_ms"),
        "offer_poll_cpu_ratio": ratio("offer_poll_cpu_ms"),
        "tick_ms": round(last.quiet_tick_ms, 2),
        "tick_ms_per_ci": round(last.tick_ms_per_ci, 4),
        "tick_per_ci_ratio": ratio("tick_ms_per_ci"),
        "freeze_per_ci_ratio": ratio("freeze_ms_per_ci"),
        "end_per_ci_ratio": ratio("end_cpu_ms_per_ci"),
        "queries": queries,
        "stages": [stage.to_json() for stage in stages],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout", description="a rollout to a growing fleet")
    parser.add_argument("--cis", type=int, default=5000, help="size of the fleet in the end (at least 10)")
    parser.add_argument("--seconds", type=float, default=360, help="wall time after which it stops")
    options = parser.parse_args()
    if options.cis < 10:
        parser.error("--cis: at least 10")
    begun = time.monotonic()
    sizes = [options.cis // 5, options.cis * 2 // 5, options.cis]
    stages: list[Stage] = []
    if not os.environ.get("DATABASE_URL"):
        parser.error("DATABASE_URL is not set; `make bench` starts a server")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        own_database(os.environ["DATABASE_URL"]) as database_url,
    ):
        configure(database_url, Path(folder))
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0, interactive=False)
        queries: dict[str, int] = {}
        try:
            with Web(Path(folder) / "logs") as web:
                benchmark = Benchmark(options, web, begun + options.seconds)
                for size in sizes:
                    stages.append(benchmark.measure(size, is_last=size == sizes[-1]))
                    queries = benchmark.queries
        except OutOfTime:
            print(
                f"Stopped after {options.seconds:.0f} s: {len(stages)} of {len(sizes)} sizes are done.", file=sys.stderr
            )
        finally:
            connection.close()
            connection.close_pool()
    if not stages:
        return 1
    found = figures(stages, sizes, queries, time.monotonic() - begun)
    print(table(stages))
    print("\nQueries: " + ", ".join(f"{kind} {count}" for kind, count in queries.items()))
    print(
        f"From {stages[0].cis} to {stages[-1].cis} CIs: a poll costs {found['poll_cpu_ratio']} times as much "
        f"(constant: 1), a tick {found['tick_per_ci_ratio']} times as much per CI (linear: 1)."
    )
    print(json.dumps(found))
    return 0 if len(stages) == len(sizes) else 1


if __name__ == "__main__":
    sys.exit(main())
