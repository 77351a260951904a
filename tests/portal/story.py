"""A whole chain as rows, of any size: what the portal's pages show while a rollout is in its second wave."""

from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction

from accounts.models import User
from changes.models import Change, ChangeApproval
from changes.services import change_hash
from cmdb.models import CIGroup, ConfigurationItem, InstalledVersion
from distribution.models import Batch, Deployment, DeploymentEvent, DeploymentItem
from incidents.models import Incident
from notifications.models import Outbox
from problems.models import Problem
from releases.models import (
    PackageItem,
    Release,
    ReleaseApproval,
    Rollout,
    RolloutEvent,
    RolloutException,
    TestRun,
    Verdict,
    Wave,
)
from releases.policy import RolloutPolicy
from releases.services import release_hash
from software.models import Artifact, Product, Version
from test_environments.models import (
    CopySource,
    DiskReception,
    EnvironmentConsole,
    EnvironmentEvent,
    EnvironmentSnapshot,
    GoldenImage,
    TestEnvironment,
)
from tests.factories import NOW, PASSWORD, make_ci, make_user
from tickets.models import EntryKind

STATES = ("succeeded", "installing", "succeeded", "failed", "queued", "offered", "succeeded", "downloading")


@dataclass
class Story:
    """The cast and the objects."""

    desk: User
    changer: User
    cab: User
    releaser: User
    manager: User
    requester: User
    outsider: User
    admin: User
    product: Product
    cis: list[ConfigurationItem]
    incidents: list[Incident]
    problem: Problem
    change: Change
    release: Release
    rollout: Rollout
    environment: TestEnvironment
    disk: DiskReception
    group: CIGroup


def cast() -> dict[str, User]:
    """One person for each part in the story."""
    people = {
        "desk": ("service desk", "problem manager"),
        "changer": ("change requester",),
        "cab": ("CAB member", "change manager"),
        "releaser": ("release engineer", "release manager"),
        "manager": ("release manager", "operator"),
        "requester": ("requester",),
        "outsider": ("requester",),
    }
    names = {"desk": "Dana Desk", "changer": "Chris Change", "cab": "Cora Board", "releaser": "Rene Build",
             "manager": "Mara Release", "requester": "Uma User", "outsider": "Otto Outside"}  # fmt: skip
    users = {}
    for name, roles in people.items():
        first, last = names[name].split()
        users[name] = make_user(name, *roles, password=PASSWORD, first_name=first, last_name=last)
    users["admin"] = make_user("admin", "administrator", password=PASSWORD, is_staff=True, is_superuser=True)
    return users


@transaction.atomic
def tell_story(size: int) -> Story:
    """Writes the rows with `size` CIs, as many incidents, and a rollout in its second wave."""
    users = cast()
    product = Product.objects.create(slug="billing", name="Billing", description="Writes **invoices**.")
    versions = {
        label: Version.objects.create(product=product, label=label, created_at=NOW, state=Version.State.READY)
        for label in ("1.0", "2.0")
    }
    for version in versions.values():
        Artifact.objects.create(
            version=version, filename=f"billing-{version.label}.tar.gz", size=48_123, sha1="0" * 40, md5="0" * 32,
            sha256=version.label.replace(".", "") * 32, uploaded_at=NOW, file=f"dml/{version.label}",
        )  # fmt: skip
    cis = _cis(size, users["requester"], product, versions["1.0"])
    incidents = _incidents(cis, users)
    problem = _ticket(
        Problem, users["desk"], title="Invoices are rounded wrongly", state="fix_in_progress",
        root_cause="A float where a decimal belongs.", workaround="Round by hand.", is_known_error=True,
        assignee=users["desk"],
    )  # fmt: skip
    problem.incidents.set(incidents)
    change = _ticket(
        Change, users["changer"], title="Use decimals for money", state="implementing", last_editor=users["changer"],
        implementation_plan="Roll out billing 2.0.", backout_plan="Roll back to 1.0.", risk_reason="Tested on a copy.",
        planned_start=NOW, planned_end=NOW + timedelta(days=2),
    )  # fmt: skip
    change.problems.set([problem])
    change.products.set([product])
    change.affected_cis.set(cis[:30])
    ChangeApproval.objects.create(
        change=change, approver=users["cab"], decision="approved", content_hash=change_hash(change), created_at=NOW
    )
    release = _ticket(
        Release, users["releaser"], title="Billing 2.0", state="deploying", last_editor=users["releaser"],
        policy=RolloutPolicy.from_json({}).to_json(), targets={},
    )  # fmt: skip
    release.changes.set([change])
    PackageItem.objects.create(release=release, product=product, version=versions["2.0"])
    ReleaseApproval.objects.create(
        release=release, approver=users["manager"], decision="approved", content_hash=release_hash(release),
        created_at=NOW, target_count=size,
    )  # fmt: skip
    rollout = _rollout(release, users["manager"], cis, versions)
    environment = _test(release, users["releaser"], cis[0])
    disk = _disk(users["releaser"], cis[-1])
    group = CIGroup.objects.create(name="All servers", filter={"ci_class": ["server"]})
    group.static_members.set(cis[:2])
    for number, ci in enumerate([ci for ci in cis if ci.owner][:5]):
        Outbox.objects.create(
            event=f"rollout:{rollout.pk}:{number}", recipient=users["requester"], thread=ci.number, text="Done.",
            subject=f"{ci.name} is to get Billing 2.0", next_attempt_at=NOW, created_at=NOW, path="/cis/",
        )  # fmt: skip
    return Story(
        **users, product=product, cis=cis, incidents=incidents, problem=problem, change=change, release=release,
        rollout=rollout, environment=environment, disk=disk, group=group,
    )  # fmt: skip


def _ticket(model, author, **values):
    values.setdefault("requester", author)
    ticket = model.objects.create(created_by=author, created_at=NOW, updated_at=NOW, **values)
    ticket.entries.create(kind=EntryKind.STATE, text="Created.", to_state="new", author=author, created_at=NOW)
    ticket.entries.create(kind=EntryKind.NOTE, text="Only for us.", is_public=False, author=author, created_at=NOW)
    ticket.entries.create(kind=EntryKind.COMMENT, text="We look into it.", author=author, created_at=NOW)
    return ticket


def _cis(size: int, owner: User, product: Product, version: Version) -> list[ConfigurationItem]:
    cis = [
        make_ci(f"srv-{n:03d}", agent_id=f"agent-{n}", owner=owner if n % 3 == 1 else None, last_seen_at=NOW)
        for n in range(1, size + 1)
    ]
    for ci in cis:
        InstalledVersion.objects.create(ci=ci, product=product, version=version, label="1.0", valid_from=NOW)
    return cis


def _incidents(cis: list[ConfigurationItem], users: dict[str, User]) -> list[Incident]:
    incidents = []
    for position, ci in enumerate(cis):
        is_waiting = position % 2 == 0
        values = {"state": "on_hold", "hold_reason": "problem"} if is_waiting else {"state": "new"}
        incidents.append(
            _ticket(
                Incident,
                users["requester"],
                title=f"Wrong invoice on {ci.name}",
                ci=ci,
                description="The **sum** is off.",
                assignee=users["desk"] if is_waiting else None,
                **values,
            )
        )
    return incidents


def _rollout(release: Release, starter: User, cis: list[ConfigurationItem], versions: dict[str, Version]) -> Rollout:
    rollout = Rollout.objects.create(
        release=release, state="running", policy=release.policy, approved_hash="a" * 64, target_count=len(cis),
        target_hash="b" * 64, started_by=starter, started_at=NOW, frozen_at=NOW, updated_at=NOW,
    )  # fmt: skip
    cut = 1 + len(cis) // 3
    parts = [(cis[:1], "passed"), (cis[1:cut], "deploying"), (cis[cut:], "waiting")]
    for number, (members, state) in enumerate(parts, start=1):
        batch = Batch.objects.create(
            label=rollout.number,
            purpose="forward",
            created_at=NOW,
            is_open=number < 3,
            opened_at=NOW if number < 3 else None,
        )
        wave = Wave.objects.create(
            rollout=rollout, number=number, state=state, batch=batch, size=len(members),
            started_at=NOW if number < 3 else None,
        )  # fmt: skip
        for position, ci in enumerate(members):
            moved = "succeeded" if number == 1 else STATES[position % len(STATES)] if number == 2 else "queued"
            _deploy(batch, ci, moved, versions)
        if number == 1:
            Verdict.objects.create(
                wave=wave, kind="pass", outcome="passed", numbers={"succeeded": 1, "total": 1}, policy=release.policy,
                event_position=1, at=NOW,
            )  # fmt: skip
        RolloutEvent.objects.create(rollout=rollout, wave=wave, kind="wave_opened", text=f"{len(members)} CIs", at=NOW)
    RolloutException.objects.create(
        release=release, rollout=rollout, ci=cis[0], kind="no_way_back", reason="Accepted.", recorded_by=starter,
        created_at=NOW,
    )  # fmt: skip
    return rollout


def _deploy(batch: Batch, ci: ConfigurationItem, state: str, versions: dict[str, Version]) -> None:
    has_ended = state in {"succeeded", "failed"}
    deployment = Deployment.objects.create(
        batch=batch, ci=ci, state=state, created_at=NOW, moved_at=NOW, finished_at=NOW if has_ended else None,
        error_code="health_check" if state == "failed" else "",
        message="The health check answered 1." if state == "failed" else "",
    )  # fmt: skip
    DeploymentItem.objects.create(
        deployment=deployment, product=versions["2.0"].product, to_version=versions["2.0"], from_version=versions["1.0"]
    )
    DeploymentEvent.objects.create(deployment=deployment, kind="created", to_state="queued", at=NOW)
    if state == "succeeded":
        before = InstalledVersion.objects.get(ci=ci, valid_to=None)
        InstalledVersion.objects.filter(pk=before.pk).update(valid_to=NOW)
        InstalledVersion.objects.create(
            ci=ci, product=before.product, version=versions["2.0"], label="2.0", valid_from=NOW, replaced=before,
            source=batch.label,
        )  # fmt: skip


def _test(release: Release, engineer: User, source: ConfigurationItem) -> TestEnvironment:
    CopySource.objects.create(ci=source, folder=source.name)
    copy = make_ci(f"{source.name} (copy)", copy_of=source, agent_id=f"{source.agent_id}-copy")
    times = {"created_at": NOW, "updated_at": NOW}
    image = GoldenImage.objects.create(
        source=source, driver="file_copy", kind="files", method="folder", consistency="cold", state="ready",
        classification="internal", approval="standing", source_sha256="a" * 64, image_sha256="a" * 64, references=1,
        baseline={"billing": "1.0"}, retain_until=NOW, captured_at=NOW, requested_by=engineer, **times,
    )  # fmt: skip
    environment = TestEnvironment.objects.create(
        source=source, copy=copy, image=image, state="ready", purpose=release.number, requested_by=engineer,
        baseline={"billing": "1.0"}, evidence="file_copy", is_wanted_running=True, observed_power="running",
        observed_at=NOW, stop_at=NOW, delete_at=NOW, **times,
    )  # fmt: skip
    EnvironmentSnapshot.objects.create(
        environment=environment, name="before 2.0", versions={"billing": "1.0"}, taken_by=engineer, created_at=NOW,
        kept_at=NOW,
    )  # fmt: skip
    EnvironmentConsole.objects.create(environment=environment, text="billing 1.0 is running", at=NOW)
    for thing in ({"environment": environment}, {"image": image}):
        EnvironmentEvent.objects.create(**thing, at=NOW, text="Asked for.", actor=engineer)
    TestRun.objects.create(
        release=release, environment=environment, package_hash="c" * 64, state="passed", soak_seconds=172_800,
        soak_started_at=NOW, started_by=engineer, created_at=NOW, updated_at=NOW, finished_at=NOW,
    )  # fmt: skip
    return environment


def _disk(engineer: User, ci: ConfigurationItem) -> DiskReception:
    """A physical machine that sends its disk just now."""
    CopySource.objects.get_or_create(ci=ci, defaults={"driver": "libvirt", "method": "medium", "kind": "physical"})
    disk = DiskReception.objects.create(
        ci=ci, method="medium", state="receiving", reason="A machine for tests.", token_sha256="d" * 64, port=8443,
        medium_bytes=34_603_008, size=8_000_000_000, received_bytes=3_200_000_000, sender="192.0.2.20",
        inventory={"maker": "QEMU", "network": [{"name": "eth0", "driver": "e1000"}]}, requested_by=engineer,
        created_at=NOW, updated_at=NOW, expires_at=NOW,
    )  # fmt: skip
    EnvironmentEvent.objects.create(reception=disk, at=NOW, text="Ordered.", actor=engineer)
    return disk
