"""Where the time of polls, reports and ticks goes: one small fleet, a profiler, the costliest functions.

make bench NAME=profiling [ARGS="--cis 300"]

Runs everything in this process. A profiler makes small functions look dearer than they are: read the order, not the
milliseconds. The last line is JSON: the processor time per kind of request without a profiler, and queries.
"""

import argparse
import cProfile
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.portal import configure, own_database


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description="where the time goes")
    parser.add_argument("--cis", type=int, default=300, help="size of the fleet; half of it is profiled")
    parser.add_argument("--lines", type=int, default=15, help="costliest functions to show for each kind")
    options = parser.parse_args()
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
        try:
            print(json.dumps(_profile(options)))
        finally:
            connection.close()
            connection.close_pool()
    return 0


def _profile(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.fleet import Fleet
    from benchmarks.inside import InsideAgent, top_costs
    from releases.executor import run_ticks
    from tickets.clock import database_now

    fleet = Fleet()
    fleet.found(database_now())
    fleet.grow(options.cis, database_now())
    rollout = fleet.start_rollout(database_now())
    profiles: dict[str, cProfile.Profile] = {"freeze": cProfile.Profile()}
    profiles["freeze"].runcall(run_ticks, now=database_now())
    half = len(fleet.agents) // 2
    queries: dict[str, int] = {}
    seconds: dict[str, list[float]] = {}
    for number, names in enumerate(fleet.agents):
        agent = InsideAgent(*names, profiles=profiles if number < half else None)
        agent.deploy()
        queries |= agent.most_queries()
        if number >= half:
            for kind, values in agent.seconds.items():
                seconds.setdefault(kind, []).extend(values)
        if number == half:
            profiles["tick"] = cProfile.Profile()
            for _ in range(10):
                profiles["tick"].runcall(run_ticks, now=database_now())
    profiles["end"] = cProfile.Profile()
    while rollout.settled_at is None:
        profiles["end"].runcall(run_ticks, now=database_now())
        rollout.refresh_from_db()
        time.sleep(0.2)
    for kind, profile in profiles.items():
        print(f"\n{kind}")
        print("\n".join(top_costs(profile, number=options.lines)))
    medians = {kind: round(statistics.median(values) * 1000, 2) for kind, values in seconds.items()}
    return {"benchmark": "profiling", "cis": options.cis, "cpu_ms": medians, "queries": queries}


if __name__ == "__main__":
    sys.exit(main())
