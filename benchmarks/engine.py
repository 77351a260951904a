"""What the rollout engine itself costs: rollouts over two sizes of fleets, all devices fed in sets, against bare SQL.

make bench NAME=engine [ARGS="--cis 20000 --seconds 300"]

For a tenth of the fleet and for the whole: a rollout in two waves from its start to its end with all tickets told, its
rollback, and a second rollout that is aborted in the middle. The engine moves in the portal's own ticks, each timed by
itself; statements are those of one step, of which a tick makes as many as it has time for. The devices' reports go in
through the engine's own step functions. The floor makes the same number of steps with one UPDATE and one INSERT of an
event each, 1,000 in a transaction, into the same tables in the same run.
Prints a table and, as the last line, the figures as JSON. Progress goes to stderr.
"""

import argparse
import json
import sys
import time
from datetime import datetime, timedelta
from typing import Any

from benchmarks.portal import prepared_database, say
from benchmarks.stopwatch import OutOfTime, Stopwatch

SLICES = 20
INCIDENTS = 50
OFFER_DEADLINE = 3600
POLICY = {
    "strategy": "phased", "waves": [{"percent": 10}, {"rest": True}], "soak_seconds": 2, "success_threshold": 99,
    "error_threshold": 5, "offer_deadline": OFFER_DEADLINE, "incident_gate": {"count": 1000, "then": "pause"},
}  # fmt: skip
# Most ticks in a row that a part of the rollout may take; more mean that it does not come on.
MANY_TICKS = 2000
TARGETS = {"overhead_ratio": 3.0, "tick_ms_max": 200.0, "growth": 12.0}
# What the rollout over the whole fleet consists of, from its start until the tick need not look at it any more.
ROLLOUT = ("start", "freeze", "opening", "devices", "tick", "verdict", "tickets", "after the end")
# The kinds of ticks, by their parts.
TICKS = {
    "freezing": ("freeze", "freeze 2"),
    "opening": ("opening", "opening 2"),
    "running": ("tick",),
    "verdict": ("verdict",),
    "tickets": ("tickets", "tickets back"),
    "after the end": ("after the end",),
    "abort": ("abort", "end of the abort"),
    "rollback": ("queueing back", "tick back", "end of the rollback"),
}


class Run:
    """One size of the fleet."""

    def __init__(self, fleet: Any, size: int, now: datetime, deadline: float) -> None:
        self.fleet, self.size, self.now = fleet, size, now
        self.watch = Stopwatch(deadline)
        # Of which rollout or way the parts are that come several times: empty is the one that is compared.
        self.of = ""

    def measure(self) -> dict[str, Any]:
        """Everything, in turn; what there is no time for is missing."""
        is_complete = False
        try:
            self._grow()
            floor = self._floor()
            self.watch.start_memory()
            rollout = self._roll_out()
            steps = self._steps_of(rollout)
            self._check()
            self._roll_back(rollout)
            self._abort()
            is_complete = True
        except OutOfTime:
            say(f"{self.size} CIs: no time for the rest")
        return self.watch.to_json() | {
            "cis": self.size, "is_complete": is_complete, "memory_kib": self.watch.memory_kib(),
            "ticks": {kind: self.watch.spread(parts) for kind, parts in TICKS.items()},
            **({"floor": floor, "steps": steps} if is_complete or "steps" in locals() else {}),
        }  # fmt: skip

    # --- the parts --------------------------------------------------------------------------------
    def _grow(self) -> None:
        say(f"a fleet of {self.size}")
        self.fleet.grow_in_sets(self.size, self.now)
        self._analyse()

    def _floor(self) -> dict[str, float]:
        from benchmarks.set_wise import bare_floor, queue_for_floor

        say(f"{self.size} CIs: the floor")
        batch = queue_for_floor(self.now)
        self._analyse()
        with self.watch.lap("floor"):
            steps = bare_floor(batch, now=self.now)
        return {"steps": steps, "cpu": self.watch.cpu("floor"), "wall": self.watch.wall("floor")}

    def _roll_out(self) -> Any:
        from distribution.models import DeploymentState

        rollout = self._start(incidents=self._incidents())
        first, second = self._batches(rollout)
        self._feed(first)
        self._pass_wave(rollout, first)
        self._until(lambda: self._is_open(second), rollout, "opening")
        late = self._feed(second, leave=max(1, self.size // 1000))
        self.now += timedelta(seconds=OFFER_DEADLINE)
        self._tick("verdict")
        self._pass_wave(rollout, second)
        self._until(lambda: not rollout.cascade and rollout.state == "completed", rollout, "tickets")
        for _ in range(5):
            self._tick("after the end")
        say(f"{self.size} CIs: completed; {late[1] - late[0] + 1} catch up")
        for state in ("offered", "downloading", "installing", "confirming", DeploymentState.SUCCEEDED):
            self._move(second, late, state)
        self._until(lambda: rollout.settled_at is not None, rollout, "tickets")
        return rollout

    def _roll_back(self, rollout: Any) -> None:
        from releases import services as releases

        say(f"{self.size} CIs: rolling back")
        self.of = " back"
        with self.watch.lap("order of the rollback"):
            releases.roll_back_rollout(
                rollout, actor=self.fleet.people["approver"], now=self.now, reason="A benchmark."
            )
        back = rollout.waves.get(kind="rollback").batch_id
        self._until(lambda: self._has_all(back), rollout, "queueing back")
        self._analyse()
        self._feed(back)
        self._until(lambda: rollout.state.startswith("rolled_back"), rollout, "end of the rollback")
        self._until(lambda: rollout.settled_at is not None, rollout, "tickets back")

    def _abort(self) -> None:
        from benchmarks.set_wise import answer_cancellations, id_range
        from releases import services as releases

        self.of = " 2"
        rollout = self._start()
        first, _second = self._batches(rollout)
        ids = id_range(first)
        for state in ("offered", "downloading"):
            self._move(first, (ids[0], sum(ids) // 2), state)
        say(f"{self.size} CIs: aborting")
        with self.watch.lap("order of the abort"):
            releases.abort_rollout(rollout, actor=self.fleet.people["approver"], now=self.now, reason="A benchmark.")
        self._tick("abort")
        self._until(lambda: not self._is_waiting(rollout), rollout, "abort")
        with self.watch.lap(f"devices{self.of}"):
            answer_cancellations(first, now=self.now)
        self._until(lambda: rollout.settled_at is not None, rollout, "end of the abort")

    def _check(self) -> None:
        from django.db import connection, transaction

        from releases.invariants import check_invariants

        say(f"{self.size} CIs: checking the invariants")
        with self.watch.lap("check_invariants"), transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = '300s'")
            found = check_invariants(files=False)
        assert not found, [str(violation) for violation in found[:5]]

    # --- what they share --------------------------------------------------------------------------
    def _start(self, **links: Any) -> Any:
        """Approved, started, frozen, and its first wave open."""
        from releases import services as releases

        release = self.fleet.approved_release(self.now, POLICY, **links)
        say(f"{self.size} CIs: freezing")
        with self.watch.lap(f"start{self.of}"):
            rollout = releases.start_rollout(release, actor=self.fleet.people["starter"], now=self.now)
        self._until(lambda: rollout.state == "running", rollout, f"freeze{self.of}")
        self._analyse()
        self._until(lambda: self._is_open(self._batches(rollout)[0]), rollout, f"opening{self.of}")
        return rollout

    def _incidents(self) -> list[Any]:
        """Incidents on CIs all over the fleet that wait for the release, which resolves them."""
        from cmdb.models import ConfigurationItem
        from incidents import services

        author, desk = self.fleet.people["author"], self.fleet.people["desk"]
        cis, every = ConfigurationItem.objects.order_by("pk"), max(1, self.size // INCIDENTS)
        incidents = []
        for place in range(0, min(self.size, INCIDENTS * every), every):
            incident = services.report_incident(actor=author, now=self.now, title="It stopped", ci=cis[place])
            services.assign_incident(incident, actor=desk, now=self.now, assignee=desk)
            services.start_incident(incident, actor=desk, now=self.now)
            services.hold_incident(incident, actor=desk, now=self.now, reason="release")
            incidents.append(incident)
        return incidents

    def _feed(self, batch: int, *, leave: int = 0) -> tuple[int, int]:
        """The devices of the batch work, with a tick after each round; but for the last ones, whose ids it gives."""
        from benchmarks.set_wise import id_range, rounds

        first, last = id_range(batch)
        say(f"{self.size} CIs: {last - first + 1} devices at work")
        for moves in rounds((first, last - leave), SLICES):
            for ids, state in moves:
                self._move(batch, ids, state)
            self._tick(f"tick{self.of}")
        return last - leave + 1, last

    def _move(self, batch: int, ids: tuple[int, int], state: str) -> None:
        from benchmarks.set_wise import feed

        with self.watch.lap(f"devices{self.of}"):
            feed(batch, ids, state, now=self.now)

    def _pass_wave(self, rollout: Any, batch: int) -> None:
        from releases.models import Wave

        def has_passed() -> bool:
            return Wave.objects.get(batch=batch).state == Wave.State.PASSED

        self._until(has_passed, rollout, "verdict")

    def _until(self, is_so: Any, rollout: Any, part: str) -> None:
        for _ in range(MANY_TICKS):
            rollout.refresh_from_db()
            if is_so():
                return
            if rollout.state == "paused":
                raise RuntimeError(f"{rollout} is paused: {rollout.pause_reason}")
            self._tick(part)
        raise RuntimeError(f"{rollout} is {rollout.state} and waits for {rollout.waits_for!r} after {MANY_TICKS} ticks")

    def _tick(self, part: str) -> None:
        """One tick, two seconds after the one before; its time is over in the middle of larger work."""
        from failpoints import armed
        from releases.executor import advance_rollouts

        def act(point: str) -> None:
            if point == "tick.claimed":
                self.watch.split()

        self.now += timedelta(seconds=2)
        with self.watch.lap(part), armed(act):
            advance_rollouts(now=self.now)

    def _batches(self, rollout: Any) -> list[int]:
        return list(rollout.waves.filter(kind="forward").order_by("number").values_list("batch", flat=True))

    def _is_open(self, batch: int) -> bool:
        from distribution.models import Batch

        return Batch.objects.get(pk=batch).opened_at is not None

    def _is_waiting(self, rollout: Any) -> bool:
        """Whether something of it waits for its offer."""
        from distribution.models import Deployment

        return Deployment.objects.filter(batch__in=self._batches(rollout), state="queued").exists()

    def _has_all(self, batch: int) -> bool:
        from distribution.models import Deployment

        return Deployment.objects.filter(batch=batch).count() >= self.size

    def _steps_of(self, rollout: Any) -> int:
        """Steps of deployments that the rollout has made: their events, the one of the creation too."""
        from distribution.models import DeploymentEvent

        return DeploymentEvent.objects.filter(deployment__batch__in=self._batches(rollout)).count()

    def _analyse(self) -> None:
        """What autovacuum does a minute after such a change of the tables."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def figures(stages: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What the last line says."""
    small, large = stages[0], stages[-1]
    found: dict[str, Any] = {
        "benchmark": "engine",
        "cis": [stage["cis"] for stage in stages],
        "is_complete": all(stage["is_complete"] for stage in stages),
        "seconds": round(seconds, 1),
        "targets": TARGETS,
    }
    if "floor" in large:
        for unit in ("cpu", "wall"):
            price = large["floor"][unit] / large["floor"]["steps"]
            spent = sum(part[unit] for name, part in large["parts"].items() if name in ROLLOUT)
            found[f"overhead_ratio_{unit}"] = round(spent / (price * large["steps"]), 2)
    running = large["ticks"]["running"]
    found |= {"tick_ms_median": running["median_ms"], "tick_ms_max": running["longest_ms"]}
    for unit in ("ms", "cpu_ms"):
        found[f"longest_tick_{unit}"] = max(kind[f"longest_{unit}"] for kind in large["ticks"].values())
    if all("floor" in stage for stage in stages):
        spent = [sum(part["cpu"] for name, part in stage["parts"].items() if name in ROLLOUT) for stage in stages]
        found["growth"] = round(spent[1] / spent[0] * 10 / (large["cis"] / small["cis"]), 2)
    found["stages"] = stages
    return found


def table(stages: list[dict[str, Any]]) -> str:
    lines = [f"{'':>22}" + "".join(f"{stage['cis']:>59d} CIs" for stage in stages)]
    heads = f"{'steps':>8}{'wall s':>9}{'CPU s':>9}{'median ms':>12}{'longest':>9}{'statements':>12}"
    lines.append(f"{'part':>22}" + "".join(f"    {heads}" for _ in stages))
    for name in stages[-1]["parts"] | stages[0]["parts"]:
        line = f"{name:>22}"
        for stage in stages:
            part = stage["parts"].get(name)
            cells = [""] * 6
            if part:
                cells = [str(part["laps"]), f"{part['wall']:.2f}", f"{part['cpu']:.2f}", f"{part['median_ms']:.0f}"]
                cells += [f"{part['longest_ms']:.0f}", str(part["most_statements"])]
            line += "    " + "".join(cell.rjust(width) for cell, width in zip(cells, (8, 9, 9, 12, 9, 12), strict=True))
        lines.append(line)
    heads = f"{'ticks':>8}{'median ms':>12}{'longest':>9}{'median CPU ms':>15}{'longest':>9}"
    lines += ["", f"{'kind of tick':>22}" + "".join(f"    {heads}" for _ in stages)]
    for kind in TICKS:
        line = f"{kind:>22}"
        for stage in stages:
            tick = stage["ticks"][kind]
            line += f"    {tick['ticks']:>8}{tick['median_ms']:>12.0f}{tick['longest_ms']:>9.0f}"
            line += f"{tick['median_cpu_ms']:>15.0f}{tick['longest_cpu_ms']:>9.0f}"
        lines.append(line)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description="the engine against bare SQL")
    parser.add_argument("--cis", type=int, default=100_000, help="size of the large fleet; the small one has a tenth")
    parser.add_argument("--seconds", type=float, default=480, help="wall time after which it stops")
    options = parser.parse_args()
    if options.cis < 1200:
        parser.error("--cis: at least 1200: the one in a hundred that a wave may miss has to be somebody")
    begun = time.monotonic()
    with prepared_database():
        from benchmarks.fleet import Fleet
        from tickets.clock import database_now

        fleet, now = Fleet(), database_now()
        fleet.found(now)
        stages = []
        for size in (options.cis // 10, options.cis):
            run = Run(fleet, size, now, begun + options.seconds)
            stages.append(run.measure())
            now = run.now
    found = figures(stages, time.monotonic() - begun)
    print(table(stages))
    print(json.dumps(found))
    return 0 if found["is_complete"] else 1


if __name__ == "__main__":
    sys.exit(main())
