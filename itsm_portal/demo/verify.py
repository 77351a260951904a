"""Checks every fact of the story: on the disks, in the agents' journals, in the database, in the mail folder."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count

from changes.models import Change
from cmdb.models import ConfigurationItem, InstalledVersion
from distribution.models import OPEN, Batch, Deployment, DeploymentEvent, DeploymentItem, DeploymentState
from incidents.models import Incident
from itsm_portal.chain import chain_of
from itsm_portal.demo import machines
from itsm_portal.demo.seed import FLEET, LEGACY, ci_name, fleet, owner_of, production_cis, source_disk
from itsm_portal.demo.software import PRODUCT, version_on_disk
from itsm_portal.demo.story import REPORTS, Told
from notifications.models import Outbox
from problems.models import Problem
from releases.models import Release, Rollout, TestRun, Verdict
from software.models import RollbackDecision, Version
from software.signatures import judge_again
from test_environments.models import GoldenImage, TestEnvironment
from tickets.numbers import parse_number

LAST = "2.1.1"


class Facts:
    """The list of verified facts; a fact fails when what was found is not what was expected."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def check(self, name: str, expected: Any, found: Any) -> None:
        self.rows.append({"fact": name, "expected": expected, "found": found, "ok": expected == found})

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if not row["ok"]]


def _key(number: str) -> int:
    parsed = parse_number(number)
    assert parsed is not None
    return parsed[1]


def verify(told: Told) -> Facts:
    """Everything that must be true after the story."""
    facts = Facts()
    rollouts = {label: Rollout.objects.get(pk=_key(number)) for label, number in told.rollouts.items()}
    _versions(facts)
    _rollouts(facts, rollouts)
    _tickets(facts, told, rollouts)
    _deployments(facts, rollouts)
    _signatures(facts, told)
    _journals(facts)
    _notices(facts, told, rollouts)
    if told.image:
        _machines(facts)
    facts.check("parts killed in the middle", {"worker": 1, ci_name(5): 1}, told.killed)
    return facts


def _versions(facts: Facts) -> None:
    expected = {ci_name(n): LAST for n in range(1, FLEET + 1)}
    facts.check("version on the disks", expected, {host.name: version_on_disk(host.folder) for host in fleet()})
    cis = production_cis()
    facts.check(
        "version that the agents reported", expected, {ci.name: ci.attributes.get(f"version.{PRODUCT}") for ci in cis}
    )
    installed = InstalledVersion.objects.filter(product__slug=PRODUCT, valid_to__isnull=True, ci__in=cis)
    facts.check("version in the CMDB", expected, dict(installed.values_list("ci__name", "version__label")))
    facts.check("drift", 0, InstalledVersion.objects.filter(is_drift=True).count())
    history = Counter(InstalledVersion.objects.filter(ci__in=cis).values_list("label", flat=True))
    facts.check("CIs that have run 2.1", FLEET, history["2.1"])
    facts.check("legacy CIs that kept 2.0", 0, _kept_broken())


def _kept_broken() -> int:
    names = [ci_name(n) for n in LEGACY]
    return InstalledVersion.objects.filter(ci__name__in=names, label="2.0").count()


def _rollouts(facts: Facts, rollouts: dict[str, Rollout]) -> None:
    facts.check(
        "rollouts",
        {"2.0": "rolled_back", "2.1": "completed", LAST: "completed"},
        {label: rollout.state for label, rollout in rollouts.items()},
    )
    facts.check(
        "releases",
        {"2.0": "rolled_back", "2.1": "completed", LAST: "completed"},
        {label: rollout.release.state for label, rollout in rollouts.items()},
    )
    facts.check("targets", [FLEET] * 3, [rollout.target_count for rollout in rollouts.values()])
    sizes = {
        label: list(r.waves.filter(kind="forward").values_list("size", flat=True)) for label, r in rollouts.items()
    }
    facts.check("sizes of the waves", {"2.0": [1, 10, 29], "2.1": [1, 10, 29], LAST: [FLEET]}, sizes)
    bad = rollouts["2.0"]
    breach = Verdict.objects.filter(wave__rollout=bad, outcome=Verdict.Outcome.BREACHED)
    facts.check("breach of 2.0 in wave", [2], list(breach.values_list("wave__number", flat=True)))
    facts.check(
        "breaches of the others", 0, Verdict.objects.filter(outcome="breached").exclude(wave__rollout=bad).count()
    )
    facts.check("third wave of 2.0 was never opened", "waiting", bad.waves.get(kind="forward", number=3).state)
    caused = list(bad.release.caused_incidents.values_list("pk", flat=True))
    facts.check("incident opened by the breach", [bad.breach_incident_id], caused)
    facts.check("everything settled", 0, Rollout.objects.filter(settled_at__isnull=True).count())
    peak = _peak_in_flight(rollouts[LAST])
    facts.check("in flight at once in the big bang, at most 15", True, 1 <= peak <= 15)


def _peak_in_flight(rollout: Rollout) -> int:
    """The most deployments that were live at one time, counted along the event log."""
    live: set[int] = set()
    peak = 0
    events = DeploymentEvent.objects.filter(deployment__batch__wave__rollout=rollout).order_by("id")
    for deployment, state in events.values_list("deployment", "to_state"):
        if state in OPEN and state != DeploymentState.QUEUED:
            live.add(deployment)
        else:
            live.discard(deployment)
        peak = max(peak, len(live))
    return peak


def _tickets(facts: Facts, told: Told, rollouts: dict[str, Rollout]) -> None:
    changes = {pk: Change.objects.get(pk=_key(pk)).state for pk in (told.change, told.patch_change)}
    facts.check("RFCs", {told.change: "implemented", told.patch_change: "implemented"}, changes)
    facts.check("problem", "resolved", Problem.objects.get(pk=_key(told.problem)).state)
    incidents = {number: Incident.objects.get(pk=_key(number)) for number in told.incidents}
    facts.check("incidents", dict.fromkeys(incidents, "resolved"), {n: i.state for n, i in incidents.items()})
    event = f"rollout:{rollouts['2.1'].pk}:completed"
    facts.check(
        "incidents resolved by 2.1",
        dict.fromkeys(incidents, event),
        {n: i.resolved_by_event for n, i in incidents.items()},
    )
    chains = {n: _chain_numbers(incident) for n, incident in incidents.items()}
    expected = {told.problem, told.change, told.releases["2.1"], told.rollouts["2.1"]}
    facts.check(
        "incidents that show their whole chain", len(incidents), sum(expected <= chain for chain in chains.values())
    )


def _chain_numbers(incident: Incident) -> set[str]:
    """Every number in the chain as its requester sees it."""
    text = json.dumps(chain_of(incident, incident.requester).to_json(), default=str)
    return {word.strip('",:[]{}') for word in text.replace(",", " ").split() if parse_number(word.strip('",:[]{}'))}


def _deployments(facts: Facts, rollouts: dict[str, Rollout]) -> None:
    def of(label: str, purpose: str) -> Any:
        return Deployment.objects.filter(batch__wave__rollout=rollouts[label], batch__purpose=purpose)

    forward = {label: of(label, Batch.Purpose.FORWARD).count() for label in rollouts}
    facts.check("forward deployments", dict.fromkeys(rollouts, FLEET), forward)
    for label in ("2.1", LAST):
        states = Counter(of(label, Batch.Purpose.FORWARD).values_list("state", flat=True))
        facts.check(f"deployments of {label}", {"succeeded": FLEET}, dict(states))
    bad = of("2.0", Batch.Purpose.FORWARD)
    got_it = set(bad.filter(state=DeploymentState.SUCCEEDED).values_list("ci__name", flat=True))
    back = of("2.0", Batch.Purpose.ROLLBACK)
    facts.check("CIs brought back from 2.0", sorted(got_it), sorted(back.values_list("ci__name", flat=True)))
    facts.check("rollbacks that succeeded", back.count(), back.filter(state=DeploymentState.SUCCEEDED).count())
    failed = set(bad.filter(state=DeploymentState.FAILED).values_list("ci__name", flat=True))
    facts.check("CIs on which 2.0 failed", sorted(ci_name(n) for n in LEGACY if 2 <= n <= 11), sorted(failed))
    facts.check("deployments still open", 0, Deployment.objects.filter(state__in=OPEN).count())
    facts.check("attempts beyond the first", 0, Deployment.objects.filter(attempt__gt=1).count())
    facts.check("deployments without exactly one end in their log", 0, _without_one_end())
    twice = (
        DeploymentEvent.objects.filter(to_state=DeploymentState.OFFERED, from_state=DeploymentState.QUEUED)
        .values("deployment__ci", "deployment__batch")
        .annotate(n=Count("id"))
        .filter(n__gt=1)
    )
    facts.check("offered twice to the same CI in one wave", 0, twice.count())


def _signatures(facts: Facts, told: Told) -> None:
    """Only signed versions were installed, each way back had its decision, and unsigned ones were refused."""
    facts.check("versions refused before they were signed", ["2.0", "2.1", LAST], told.refused_unsigned)
    installed = Version.objects.filter(installations__isnull=False).distinct()
    signed = Version.objects.filter(manifests__is_trusted=True).distinct()
    facts.check(
        "versions that ran, and are signed",
        sorted(installed.values_list("label", flat=True)),
        sorted(signed.filter(pk__in=installed).values_list("label", flat=True)),
    )
    taken_back = DeploymentItem.objects.filter(deployment__batch__purpose=Batch.Purpose.ROLLBACK)
    decided = set(RollbackDecision.objects.values_list("from_version", "to_version"))
    facts.check(
        "ways back without a signed decision",
        [],
        sorted(set(taken_back.values_list("from_version", "to_version")) - decided),
    )
    counters = list(Version.objects.order_by("order").values_list("label", "counter"))
    facts.check("counters", [("1.0", 1), ("2.0", 2), ("2.1", 3), (LAST, 4)], counters)
    facts.check("signatures that do not count", [], judge_again())
    cis = ConfigurationItem.objects.filter(agent_id__isnull=False)
    without = [ci.name for ci in cis if ci.attributes.get("signatures", "off") == "off"]
    facts.check("agents that verify nothing", [], without)


def _machines(facts: Facts) -> None:
    """What stands behind the passed tests, and that nothing of it is left."""
    runs = TestRun.objects.select_related("environment").order_by("pk")
    facts.check("tests passed", ["passed"] * 3, [run.state for run in runs])
    of_machines = [(run.environment.driver, run.environment.evidence, run.environment.accelerator) for run in runs]
    facts.check("evidence, as QEMU says itself", [("libvirt", "emulated", "tcg")] * 3, of_machines)
    proofs = [run.environment.isolation for run in runs]
    facts.check("machines that were proved to be closed off", [True] * 3, [proof.get("holds") for proof in proofs])
    facts.check("doors that were tried and found closed", True, all(_closed_doors(proof) for proof in proofs))
    facts.check("taken out of each machine", [machines.TAKEN_OUT] * 3, [run.environment.neutralised for run in runs])
    [image] = GoldenImage.objects.all()
    facts.check("the image: who asked, who allowed", ("engineer", "approver"), _asked_and_allowed(image))
    facts.check("the image: what ran on the disk", {PRODUCT: "1.0"}, image.baseline)
    facts.check("checksum of the image's source", _sha256(source_disk()), image.source_sha256)
    facts.check("environments and images left", (0, "deleted"), (_living(), image.state))
    facts.check("disks and machines left", [], machines.left_over(settings.DATA_DIR))


def _closed_doors(proof: Mapping[str, Any]) -> int:
    return sum(not probe["is_wanted"] and not probe["is_reached"] for probe in proof.get("probes", []))


def _asked_and_allowed(image: GoldenImage) -> tuple[str, str]:
    people = (image.requested_by, image.approved_by)
    asked, allowed = (person.username if person else "" for person in people)
    return asked, allowed


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _living() -> int:
    return TestEnvironment.objects.unfinished().count()


_ENDS = ("succeeded", "failed", "cancelled", "superseded", "excluded", "skipped")


def _without_one_end() -> int:
    ends: Counter[int] = Counter()
    for deployment, old, new in DeploymentEvent.objects.values_list("deployment", "from_state", "to_state"):
        if new in _ENDS and old != new:
            ends[deployment] += 1
    return sum(ends[pk] != 1 for pk in Deployment.objects.values_list("pk", flat=True))


def _journals(facts: Facts) -> None:
    """Every report that was answered 200 stands in the log exactly once, and nothing else does."""
    answered: Counter[tuple[str, str]] = Counter()
    for host in fleet():
        for line in _lines(host.folder / ".agent" / "journal.jsonl"):
            if line.get("kind") == "feedback" and line.get("status") == 200:
                answered[(host.name, str(line.get("action")))] += 1
    logged: Counter[tuple[str, str]] = Counter()
    rows = DeploymentEvent.objects.filter(
        kind=DeploymentEvent.Kind.REPORT, deployment__ci__copy_of__isnull=True
    ).values_list("deployment__ci__name", "deployment")
    for name, deployment in rows:
        logged[(name, str(deployment))] += 1
    missing = sum((answered - logged).values())
    facts.check("reports answered 200 that are not in the log", 0, missing)
    # A killed agent may not have written down an answer that it got; it can never have more answers than events.
    facts.check("agents with a journal", FLEET, sum((h.folder / ".agent" / "journal.jsonl").exists() for h in fleet()))


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows = []
    for text in path.read_text().splitlines():
        try:
            rows.append(json.loads(text))
        except json.JSONDecodeError:
            continue  # the line that was being written when the agent was killed
    return rows


def _notices(facts: Facts, told: Told, rollouts: dict[str, Rollout]) -> None:
    """Who had to be told what, worked out from the story alone and compared with the outbox, message by message."""
    numbers = {ci.name: ci.number for ci in ConfigurationItem.objects.production()}
    own = {(who, ci_name(n)) for who, n in REPORTS}
    tickets = {(who, number) for (who, _n), number in zip(REPORTS, told.incidents, strict=True)}

    def owners(cis: set[str]) -> set[tuple[str, str]]:
        every = {(owner_of(n), ci_name(n)) for n in range(1, FLEET + 1) if ci_name(n) in cis}
        return {(who, numbers[ci]) for who, ci in every - own}

    everywhere = {ci_name(n) for n in range(1, FLEET + 1)}
    event = f"rollout:{rollouts['2.1'].pk}:completed"
    expected = owners(everywhere) | tickets | {("author", told.change), ("desk", told.problem)}
    facts.check("notices of the completion of 2.1", sorted(expected), _told(event))
    event = f"rollout:{rollouts[LAST].pk}:completed"
    patched = {(owner_of(n), numbers[ci_name(n)]) for n in range(1, FLEET + 1)}
    facts.check("notices of the completion of 2.1.1", sorted(patched | {("author", told.patch_change)}), _told(event))
    bad = rollouts["2.0"]
    offered = set(
        Deployment.objects.filter(
            batch__wave__rollout=bad, batch__purpose=Batch.Purpose.FORWARD, offered_at__isnull=False
        ).values_list("ci__name", flat=True)
    )
    concerned = {
        (who, number) for (who, n), number in zip(REPORTS, told.incidents, strict=True) if ci_name(n) in offered
    }
    expected = owners(offered) | concerned | {("author", told.change)}
    facts.check("notices of the rollback of 2.0", sorted(expected), _told(f"rollout:{bad.pk}:rolled_back"))
    workaround = Outbox.objects.filter(event__startswith=f"problem:{_key(told.problem)}:workaround")
    facts.check("notices of the workaround", len(tickets), workaround.count())
    # Who was asked for a decision that was taken before the mail went out is not asked any more.
    mailed = Outbox.objects.exclude(state=Outbox.State.WITHDRAWN)
    facts.check("messages not sent", 0, mailed.exclude(state=Outbox.State.SENT).count())
    folder = Path(settings.MAIL_FOLDER or ".")
    facts.check("mails in the folder", mailed.count(), len(list(folder.glob("*.eml"))))
    facts.check("releases", 3, Release.objects.count())


def _told(event: str) -> list[tuple[str, str]]:
    return sorted(Outbox.objects.filter(event=event).values_list("recipient__username", "thread"))
