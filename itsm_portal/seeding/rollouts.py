"""Rollouts that have gone by, each of a release, with its waves, deployments and what it left on the CIs."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cmdb.models import InstalledVersion
from distribution.models import Batch, Deployment, DeploymentEvent, DeploymentItem
from itsm_portal.seeding.copying import copy_into, next_key
from itsm_portal.seeding.world import World
from releases.models import (
    PackageItem,
    Release,
    ReleaseApproval,
    Rollout,
    RolloutEvent,
    RolloutException,
    Verdict,
    Wave,
)
from tickets.numbers import format_number

POLICY = {
    "strategy": "phased", "waves": [{"percent": 10}, {"rest": True}], "soak_seconds": 3600, "error_threshold": 50,
    "success_threshold": 80,
}  # fmt: skip
# CIs of one rollout, and how many of a thousand fail.
MOST_TARGETS = 100
FAIL_OF_1000 = 10
FIELDS: dict[Any, tuple[str, ...]] = {
    PackageItem: ("release_id", "product_id", "version_id"),
    ReleaseApproval: ("release_id", "approver_id", "decision", "content_hash", "created_at", "target_count"),
    Rollout: (
        "id", "release_id", "state", "policy", "approved_hash", "target_count", "target_hash", "frozen_at",
        "started_by_id", "started_at", "finished_at", "settled_at", "updated_at",
    ),
    RolloutException: ("release_id", "kind", "reason", "recorded_by_id", "created_at"),
    Batch: ("id", "label", "purpose", "created_at", "opened_at"),
    Wave: ("id", "rollout_id", "number", "state", "batch_id", "size", "rule", "started_at", "finished_at"),
    Verdict: ("wave_id", "kind", "outcome", "numbers", "policy", "event_position", "at"),
    RolloutEvent: ("rollout_id", "wave_id", "kind", "text", "actor_id", "at"),
    Deployment: (
        "id", "batch_id", "ci_id", "state", "created_at", "offered_at", "moved_at", "reported_at", "closed_at",
        "finished_at", "error_code", "message", "reports",
    ),
    DeploymentItem: ("deployment_id", "product_id", "to_version_id", "from_version_id"),
    DeploymentEvent: ("id", "deployment_id", "kind", "from_state", "to_state", "at", "execution", "result"),
    InstalledVersion: ("ci_id", "product_id", "version_id", "label", "valid_from", "valid_to", "source"),
}  # fmt: skip

_NUMBERED = (Rollout, Batch, Wave, Deployment, DeploymentEvent)


@dataclass
class _Installed:
    """What a CI runs while the rollouts go by."""

    version: int
    label: str
    since: datetime
    source: str = ""


@dataclass
class _Sheet:
    """Rows by model, written together at the end, and the next free keys."""

    rows: dict[Any, list[tuple[Any, ...]]] = field(default_factory=lambda: {model: [] for model in FIELDS})
    keys: dict[Any, int] = field(default_factory=lambda: {m: next_key(m) for m in _NUMBERED})

    def take(self, model: Any) -> int:
        self.keys[model] += 1
        return self.keys[model] - 1


def make_past_rollouts(world: World, number: int, releases: range) -> int:
    """Writes `number` completed rollouts of as many of the closed releases, evenly over the time. Returns how many.

    The products take turns; each rollout brings the next version of one to up to a hundred of its CIs.
    """
    closed = list(
        Release.objects.filter(state=Release.State.CLOSED, pk__gte=releases.start, pk__lt=releases.stop)
        .order_by("pk")
        .values_list("pk", "created_at")
    )
    number = min(number, len(closed))
    chosen = [closed[n * len(closed) // number] for n in range(number)] if number else []
    products = world.products[:-1]
    sheet = _Sheet()
    for position, product in enumerate(products):
        versions = list(product.versions.order_by("order").values_list("pk", "label"))
        targets = world.cis[position :: len(products)][:MOST_TARGETS]
        first_key, first_label = versions[0]
        runs = {ci: _Installed(first_key, first_label, world.begin) for ci in targets}
        for step, release in enumerate(chosen[position :: len(products)]):
            if targets:
                _rollout(world, sheet, release, product.pk, versions[min(step + 1, len(versions) - 1)], runs)
        _keep(sheet, product.pk, runs, first_key)
    for model, fields in FIELDS.items():
        copy_into(model, fields, sheet.rows[model])
    return len(sheet.rows[Rollout])


def versions_needed(number: int, products: int) -> int:
    """How many versions each product needs for so many rollouts."""
    return number // products + 2


def _rollout(
    world: World, sheet: _Sheet, release: tuple[int, datetime], product: int, version: tuple[int, str],
    runs: dict[int, _Installed],
) -> None:  # fmt: skip
    """One rollout in two waves, six hours long; two hours after the release was written."""
    (release_key, written), (version_key, _label), rows = release, version, sheet.rows
    begin = written + timedelta(hours=2)
    end = begin + timedelta(hours=6)
    key = sheet.take(Rollout)
    number = format_number(Rollout.PREFIX, key)
    approved = hashlib.sha256(f"{release_key} {version_key}".encode()).hexdigest()
    cis = sorted(runs)
    frozen = hashlib.sha256(('{"cis":[' + ",".join(map(str, cis)) + "]}").encode()).hexdigest()
    cast, ready = world.cast, written + timedelta(hours=1)
    starter = cast["starter"].pk
    rows[PackageItem].append((release_key, product, version_key))
    rows[ReleaseApproval].append((release_key, cast["approver"].pk, "approved", approved, ready, len(cis)))
    rows[RolloutException].append((release_key, "test_skipped", "Seeded.", cast["tester"].pk, ready))
    rows[Rollout].append(
        (key, release_key, "completed", POLICY, approved, len(cis), frozen, begin, starter, begin, end, end, end)
    )
    rows[RolloutEvent].append((key, None, "started", "", starter, begin))
    first = max(1, len(cis) // 10)
    for wave_number, members in enumerate((cis[:first], cis[first:]), start=1):
        start = begin + timedelta(hours=3 * (wave_number - 1))
        over = start + timedelta(hours=2)
        batch, wave = sheet.take(Batch), sheet.take(Wave)
        rows[Batch].append((batch, number, "forward", begin, start))
        rule = POLICY["waves"][wave_number - 1]  # type: ignore[index]
        rows[Wave].append((wave, key, wave_number, "passed", batch, len(members), rule, start, over))
        for ci in members:
            _deploy(world, sheet, batch, ci, product, version, runs, start, begin, number)
        numbers = {"size": len(members), "accepted": 0}
        rows[Verdict].append((wave, "pass", "passed", numbers, POLICY, sheet.keys[DeploymentEvent] - 1, over))
        rows[RolloutEvent].append((key, wave, "wave_opened", "", None, start))
        rows[RolloutEvent].append((key, wave, "wave_passed", "", None, over))
    rows[RolloutEvent].append((key, None, "completed", "", None, end))


def _deploy(
    world: World, sheet: _Sheet, batch: int, ci: int, product: int, version: tuple[int, str],
    runs: dict[int, _Installed], start: datetime, created: datetime, source: str,
) -> None:  # fmt: skip
    """One CI gets it, or fails, with the events of its way."""
    random, rows, before = world.random, sheet.rows, runs[ci]
    key = sheet.take(Deployment)
    has_failed = random.randrange(1000) < FAIL_OF_1000
    state = "failed" if has_failed else "succeeded"
    offered = start + timedelta(seconds=random.randrange(1, 1800))
    fetched = offered + timedelta(seconds=random.randrange(5, 60))
    ended = fetched + timedelta(seconds=random.randrange(60, 600))
    code, text = ("install_failed", "The installer ended with status 3.") if has_failed else ("", "")
    rows[Deployment].append((key, batch, ci, state, created, offered, ended, ended, ended, ended, code, text, 3))
    rows[DeploymentItem].append((key, product, version[0], before.version))
    rows[DeploymentEvent] += (
        (sheet.take(DeploymentEvent), key, *event)
        for event in (
            ("created", "", "queued", created, "", ""),
            ("offered", "queued", "offered", offered, "", ""),
            ("report", "offered", "downloading", offered, "download", "none"),
            ("report", "downloading", "installing", fetched, "proceeding", "none"),
            ("report", "installing", state, ended, "closed", "failure" if has_failed else "success"),
        )
    )
    if not has_failed:
        was = (ci, product, before.version, before.label, before.since, ended, before.source)
        rows[InstalledVersion].append(was)
        runs[ci] = _Installed(*version, ended, source)


def _keep(sheet: _Sheet, product: int, runs: dict[int, _Installed], first: int) -> None:
    """What runs now. The row of before the first rollout is replaced: its end was not known when it was written."""
    changed = {ci: run for ci, run in runs.items() if run.source}
    InstalledVersion.objects.filter(
        product=product, version=first, ci__in=changed, valid_to__isnull=True, source=""
    ).delete()
    sheet.rows[InstalledVersion] += [
        (ci, product, run.version, run.label, run.since, None, run.source) for ci, run in changed.items()
    ]
