"""What an idle poll costs, against a bare view, and whether that stays the same from a small to a large fleet.

make bench NAME=poll [ARGS="--cis 5000"]

The bare view reads one row by its primary key, in the same process behind the same middleware. Both are asked in turns
over the same kept connections. Prints a table and, as the last line, the figures as JSON. Progress goes to stderr.
"""

import argparse
import json
import statistics
import sys
import time
from typing import Any

from benchmarks.portal import SERVERS, Meter, Web, checked, generate, prepared_database, say

ROUNDS = 5
CONNECTIONS = 8
TARGET = 1.5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.poll", description="an idle poll against a bare view")
    parser.add_argument("--cis", type=int, default=100_000, help="size of the large fleet; the small one has 1,000")
    parser.add_argument("--requests", type=int, default=2000, help="requests in each of the rounds")
    parser.add_argument("--close", action="store_true", help="a connection of its own for each request")
    parser.add_argument("--server", choices=SERVERS, default="production", help="the server that is measured")
    options = parser.parse_args()
    begun = time.monotonic()
    with prepared_database() as (database, logs):
        from benchmarks.fleet import Fleet
        from tickets.clock import database_now

        fleet = Fleet()
        fleet.found(database_now())
        stages = []
        with Web(logs, server=options.server, application="benchmarks.wsgi") as web:
            for size in sorted({min(1000, options.cis), options.cis}):
                say(f"a fleet of {size}")
                fleet.grow(size, database_now())
                database.execute("VACUUM ANALYZE")
                stages.append({"cis": size, **_measure(web, fleet, options)})
    first, last = stages[0], stages[-1]
    print(f"{'CIs':>8}  {'bare CPU-ms':>11}  {'poll CPU-ms':>11}  {'of it web':>9}  {'database':>8}  {'ratio':>5}")
    for stage in stages:
        print(
            f"{stage['cis']:8d}  {stage['bare_cpu_ms']:11.2f}  {stage['poll_cpu_ms']:11.2f}  "
            f"{stage['poll_web_ms']:9.2f}  {stage['poll_database_ms']:8.2f}  {stage['ratio']:5.2f}"
        )
    figures = {
        "benchmark": "poll",
        "server": options.server,
        "ratio": last["ratio"],
        "growth": round(last["poll_cpu_ms"] / first["poll_cpu_ms"], 2),
        "target": TARGET,
        "is_met": last["ratio"] <= TARGET,
        "seconds": round(time.monotonic() - begun, 1),
        "stages": stages,
    }
    print(f"A poll costs {figures['ratio']} times a bare view (at most {TARGET}).")
    print(json.dumps(figures))
    return 0


def _measure(web: Web, fleet: Any, options: argparse.Namespace) -> dict[str, Any]:
    from cmdb.models import ConfigurationItem

    devices = fleet.agents[:: max(1, len(fleet.agents) // options.requests)][: options.requests]
    ids = dict(ConfigurationItem.objects.filter(name__in=[name for name, _ in devices]).values_list("name", "pk"))
    paths = {
        "bare": [(f"/DEFAULT/controller/bare/{ids[name]}", token) for name, token in devices],
        "poll": [(f"/DEFAULT/controller/v1/{name}", token) for name, token in devices],
    }
    meter = Meter(web)
    for kind in paths:
        _ask(web, paths[kind], options)
    costs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in paths}
    answers: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for kind in paths:
            before = meter.read()
            answers[kind] = _ask(web, paths[kind], options)
            used = meter.read() - before
            costs[kind].append((used.web / len(devices), used.database / len(devices)))
    medians = {kind: statistics.median(web + database for web, database in found) for kind, found in costs.items()}
    return {
        "bare_cpu_ms": round(medians["bare"], 3),
        "poll_cpu_ms": round(medians["poll"], 3),
        "poll_web_ms": round(statistics.median(web for web, _ in costs["poll"]), 3),
        "poll_database_ms": round(statistics.median(database for _, database in costs["poll"]), 3),
        "bare_web_ms": round(statistics.median(web for web, _ in costs["bare"]), 3),
        "ratio": round(medians["poll"] / medians["bare"], 2),
        "polls_per_second": round(len(devices) / answers["poll"]["seconds"]),
        "generator_cpu_ms": round(answers["poll"]["cpu_ms"] / len(devices), 3),
        "answer": answers["poll"]["requests"]["get"],
    }


def _ask(web: Web, paths: list[tuple[str, str]], options: argparse.Namespace) -> dict[str, Any]:
    return checked(
        generate(
            web.port,
            {"work": "get", "paths": paths, "connections": CONNECTIONS, "keep": not options.close, "seconds": 300},
        )
    )


if __name__ == "__main__":
    sys.exit(main())
