"""A whole update cycle in four requests, against gooseBit: processor time per device, and whether the counts are right.

make bench NAME=cycle [ARGS="--devices 500"]

The same client sends the same four requests (poll, deploymentBase, proceeding, closed) for every device to the portal
and to gooseBit, over 16 parallel connections, one server after the other on this machine. gooseBit is installed from
PyPI into a virtual environment below .data at the first run. Prints a table and, as the last line, the figures as JSON.
"""

import argparse
import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.goosebit_server import VERSION, GooseBit, install
from benchmarks.portal import CLONE, SERVERS, Meter, Ticks, Web, checked, generate, prepared_database, say
from itsm_portal.embedded import HOST, free_port

CONNECTIONS = 16
TARGET = 0.25


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cycle", description="a cycle against gooseBit's")
    parser.add_argument("--devices", type=int, default=2000, help="devices of each server")
    parser.add_argument("--seconds", type=float, default=600, help="wall time after which a server's devices stop")
    parser.add_argument("--server", choices=SERVERS, default="production", help="the server that is measured")
    options = parser.parse_args()
    begun = time.monotonic()
    bench_data = Path(os.environ.get("DATA_DIR", CLONE / ".data/bench")).resolve()
    python = install(bench_data / "goosebit", CLONE / ".tools/bin/uv")
    results = {"portal": _portal(options), "goosebit": _goosebit(options, python)}
    print(table(results))
    ratio = round(results["portal"]["cpu_ms"] / results["goosebit"]["cpu_ms"], 3)
    print(f"The portal needs {ratio} of gooseBit's processor time (at most {TARGET}).")
    figures = {
        "benchmark": "cycle",
        "server": options.server,
        "goosebit": VERSION,
        "ratio": ratio,
        "target": TARGET,
        "is_met": ratio <= TARGET and results["portal"]["lost"] == 0,
        "seconds": round(time.monotonic() - begun, 3),
        **{f"{name}_figures": found for name, found in results.items()},
    }
    print(json.dumps(figures))
    return 0


def table(results: dict[str, dict[str, Any]]) -> str:
    """One line for each server."""
    columns = ("cpu_ms", "web_cpu_ms", "database_cpu_ms", "tick_cpu_ms", "devices_per_second", "counted", "lost")
    lines = ["  ".join(["          ", *columns])]
    for name, found in results.items():
        lines.append("  ".join([f"{name:>10}", *(f"{found[column]:{len(column)}}" for column in columns)]))
    return "\n".join(lines)


def _portal(options: argparse.Namespace) -> dict[str, Any]:
    with prepared_database() as (database, logs):
        from benchmarks.fleet import Fleet
        from cmdb.models import AgentProfile
        from distribution.models import Deployment, DeploymentEvent
        from tickets.clock import database_now

        fleet = Fleet()
        fleet.found(database_now())
        # These devices close only when the new version runs: four requests are the whole cycle, as with gooseBit.
        AgentProfile.objects.update(proof=AgentProfile.Proof.CLOSED)
        warm_up = _warm_up(options.devices)
        fleet.grow(warm_up + options.devices, database_now())
        fleet.start_rollout(database_now())
        ticks = Ticks()
        ticks()
        database.execute("VACUUM ANALYZE")
        say(f"the portal: {options.devices} devices")
        with Web(logs, server=options.server) as web:
            meter = Meter(web)

            def meanwhile() -> None:
                ticks()
                meter.read()

            checked(generate(web.port, _orders(options, fleet.agents[:warm_up]), meanwhile))
            before, ticks.cpu_ms = meter.read(), 0.0
            answers = checked(generate(web.port, _orders(options, fleet.agents[warm_up:]), meanwhile))
            used = meter.read() - before
        succeeded = Deployment.objects.filter(state="succeeded").count()
        reports = DeploymentEvent.objects.filter(kind="report").count()
        taken = 2 * (warm_up + answers["done"])
        if reports != taken:
            raise RuntimeError(f"{reports} reports are recorded, {taken} were taken")
        return _figures(answers, used.web, used.database, ticks.cpu_ms, succeeded - warm_up)


def _goosebit(options: argparse.Namespace, python: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="goosebit-") as folder:
        warm_up = _warm_up(options.devices)
        devices = [(f"srv-{number:06d}", secrets.token_hex(16)) for number in range(warm_up + options.devices)]
        server = GooseBit(python, Path(folder), HOST, free_port())
        server.seed(devices)
        say(f"gooseBit: {options.devices} devices")
        with server.serve() as pid:
            meter = Meter(None, lambda: [pid])
            checked(generate(server.port, _orders(options, devices[:warm_up])))
            before, counted = meter.read(), server.counts()["succeeded"]
            answers = checked(generate(server.port, _orders(options, devices[warm_up:])))
            used = meter.read() - before
        return _figures(answers, used.web, 0.0, 0.0, server.counts()["succeeded"] - counted)


def _warm_up(devices: int) -> int:
    """Devices that come first and are not measured: they open the connections and fill the caches."""
    return max(100, devices // 10)


def _orders(options: argparse.Namespace, devices: list[tuple[str, str]]) -> dict[str, Any]:
    return {"work": "cycle", "devices": devices, "connections": CONNECTIONS, "seconds": options.seconds}


def _figures(answers: dict[str, Any], web: float, database: float, tick: float, counted: int) -> dict[str, Any]:
    done = answers["done"]
    return {
        "devices": done,
        "cpu_ms": round((web + database + tick) / done, 2),
        "web_cpu_ms": round(web / done, 2),
        "database_cpu_ms": round(database / done, 2),
        "tick_cpu_ms": round(tick / done, 2),
        "devices_per_second": round(done / answers["seconds"], 1),
        "counted": counted,
        "lost": done - counted,
        "generator_cpu_ms": round(answers["cpu_ms"] / done, 2),
        "requests": answers["requests"],
    }


if __name__ == "__main__":
    sys.exit(main())
