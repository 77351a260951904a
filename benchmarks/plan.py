"""What the dry run of a release costs, part by part, on a small and on a large fleet.

make bench NAME=plan [ARGS="--cis 20000"]

Every CI has a measured past and an open deployment of another rollout, half of them have a maintenance window. Prints a
table and, as the last line, the figures as JSON. Progress goes to stderr.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import time as clock_time
from typing import Any

from benchmarks.portal import prepared_database, say

ROUNDS = 3
TARGET_SECONDS = 5.0
PLAN = {
    "strategy": "phased", "waves": [{"count": 10}, {"percent": 5}, {"percent": 25}, {"rest": True}],
    "soak_seconds": 3600, "max_downloads": 200,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description="the dry run of a release")
    parser.add_argument("--cis", type=int, default=100_000, help="size of the large fleet; the small one has a tenth")
    options = parser.parse_args()
    begun = time.monotonic()
    with prepared_database() as (database, _logs):
        from benchmarks.fleet import Fleet
        from tickets.clock import database_now

        fleet = Fleet()
        fleet.found(database_now())
        stages = [_measure(database, fleet, size) for size in (max(1, options.cis // 10), options.cis)]
    small, large = stages
    print(f"{'part':>16}  " + "  ".join(f"{stage['cis']:>9d} CIs" for stage in stages) + "  growth")
    for part in small["seconds"]:
        one, other = small["seconds"][part], large["seconds"][part]
        print(f"{part:>16}  {one:>11.3f} s  {other:>11.3f} s  {other / max(one, 0.001):6.1f}")
    figures = {
        "benchmark": "plan",
        "seconds_for_large": large["seconds"]["all"],
        "target": TARGET_SECONDS,
        "is_met": large["seconds"]["all"] <= TARGET_SECONDS,
        "growth": round(large["seconds"]["all"] / small["seconds"]["all"], 1),
        "seconds": round(time.monotonic() - begun, 1),
        "stages": stages,
    }
    print(f"A dry run for {large['cis']} CIs takes {large['seconds']['all']:.2f} s (at most {TARGET_SECONDS:.0f} s).")
    print(json.dumps(figures))
    return 0


def _measure(database: Any, fleet: Any, size: int) -> dict[str, Any]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from distribution.history import measured
    from releases.dry_run import facts
    from releases.dry_run.report import dry_run, strategies
    from releases.dry_run.waves import wave_numbers
    from releases.policy import RolloutPolicy
    from releases.targets import failed_before, target_cis, without_way_back
    from tickets.clock import database_now

    release = _release(fleet, size)
    database.execute("VACUUM ANALYZE")
    now = database_now()
    package = dict(release.items.values_list("product_id", "version_id"))
    cis = list(target_cis(release).values_list("pk", flat=True))
    _big_bang, phased = strategies(RolloutPolicy.from_json(release.policy))
    parts: dict[str, Callable[[], Any]] = {
        "targets": lambda: list(target_cis(release).values_list("pk", flat=True)),
        "waves and kinds": lambda: facts.kinds_of(
            cis, wave_numbers(cis, phased), package, fresh={}, excluded=[], now=now
        ),
        "failed before": lambda: list(failed_before(release).values_list("pk", flat=True)),
        "history": lambda: measured(package),
        "way back": lambda: without_way_back(release).count(),
        "other rollouts": lambda: facts.conflicts_of(release, cis, package, supersedes=False),
        "versions now": lambda: facts.present_versions(cis, package),
        "all": lambda: dry_run(release, now=now),
    }
    say(f"{len(cis)} CIs: measuring")
    seconds = {name: round(_median(part), 3) for name, part in parts.items()}
    # All of it without the statements: the time lines of both strategies, each with median and slowest tenth.
    seconds["time lines"] = round(max(0.0, seconds["all"] - sum(v for name, v in seconds.items() if name != "all")), 3)
    with CaptureQueriesContext(connection) as queries:
        plan = dry_run(release, now=now)
    return {
        "cis": len(cis),
        "seconds": seconds,
        "statements": len(queries),
        "waves": [wave.size for wave in plan.phased.waves],
        "big_bang_seconds": round(plan.big_bang.run.ends),
        "phased_seconds": round(plan.phased.run.ends),
    }


def _median(part: Callable[[], Any]) -> float:
    part()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        part()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _release(fleet: Any, size: int) -> Any:
    """A fleet of that size with a past, another rollout on all of it, and a release to plan."""
    from benchmarks.fleet import finish_as_if_played
    from cmdb.models import ConfigurationItem, MaintenanceWindow
    from releases.executor import advance_rollouts
    from tickets.clock import database_now

    say(f"a fleet of {size}")
    fleet.grow_in_sets(size, database_now())
    window, _ = MaintenanceWindow.objects.get_or_create(
        name="night", defaults={"start": clock_time(22), "minutes": 240, "zone": "UTC"}
    )
    ConfigurationItem.objects.filter(pk__in=ConfigurationItem.objects.order_by("pk").values("pk")[: size // 2]).update(
        maintenance_window=window
    )
    say("a rollout that went by, and one that is under way")
    past = fleet.start_rollout(database_now())
    advance_rollouts(now=database_now(), budget_seconds=600)
    finish_as_if_played(past)
    fleet.start_rollout(database_now())
    advance_rollouts(now=database_now(), budget_seconds=600)
    return fleet.draft_release(database_now(), PLAN)


if __name__ == "__main__":
    sys.exit(main())
