"""One object of every kind, twice: one set that can be made somebody's own, one that stays another's."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import time, timedelta
from typing import Any

from django.core.files.base import ContentFile
from django.urls import URLPattern, URLResolver

from accounts.models import CalendarFeed, ServiceToken, User
from accounts.roles import ROLES
from changes.models import Change, Freeze, StandardTemplate
from cmdb.models import (
    AgentProfile,
    AgentToken,
    CIGroup,
    ConfigurationItem,
    GatewayToken,
    InstalledVersion,
    MaintenanceWindow,
    Registration,
)
from distribution.models import Deployment, DeploymentEvent, DeploymentItem
from distribution.services import create_batch
from incidents.models import Incident
from itsm_portal.api_urls import v1
from notifications.services import notify
from problems.models import Problem
from releases.models import PackageItem, Release, Rollout, RolloutEvent, Verdict, Wave
from releases.policy import RolloutPolicy
from software.models import Component, Sbom, Upload
from test_environments.models import DiskReception, EnvironmentEvent, EnvironmentSnapshot, GoldenImage, TestEnvironment
from tests.factories import NOW, make_ci, make_product, make_user, make_version
from tickets.attachments import storage
from tickets.models import Attachment
from tickets.services import create_ticket

ROLE_NAMES = [*ROLES, "no role", "superuser"]
TOKEN_DIGEST = "d1ce" * 16


@dataclass
class Objects:
    """Primary keys by the first part of the route; `owned` are the rows that say whose they are."""

    name: str
    keys: dict[str, int] = field(default_factory=dict)
    owned: list[tuple[type, int, str]] = field(default_factory=list)

    def give_to(self, user: User) -> None:
        for model, key, column in self.owned:
            model._base_manager.filter(pk=key).update(**{column: user})


def make_objects(name: str, owner: User, author: User, *, links: int = 1) -> Objects:
    """The whole chain for `owner`, written by `author`; `links` is how many there are of what is many."""
    made = Objects(name)
    product = make_product(f"billing-{name}")
    old, new = make_version(product, "1.0"), make_version(product, "2.0", created_by=author)
    cis = [make_ci(f"{name}-{n}", agent_id=f"{name}-{n}", owner=owner) for n in range(links)]
    for ci in cis:
        InstalledVersion.objects.create(ci=ci, product=product, version=old, label="1.0", valid_from=NOW)
        AgentToken.objects.create(ci=ci, sha256=f"{ci.pk:08d}{TOKEN_DIGEST[8:]}", created_at=NOW)
    common = {"actor": author, "now": NOW, "requester": owner}
    incidents = [create_ticket(Incident, title=f"It stopped {n}", ci=cis[0], **common) for n in range(links)]
    problems = [create_ticket(Problem, title=f"It leaks {n}", **common) for n in range(links)]
    changes = [create_ticket(Change, title=f"Free it {n}", **common) for n in range(links)]
    for problem, change in zip(problems, changes, strict=True):
        problem.incidents.set(incidents)
        change.problems.set(problems)
        change.affected_cis.set(cis)
        change.products.add(product)
    release = create_ticket(Release, title="Billing 2.0", last_editor=author, **common)
    release.changes.set(changes)
    PackageItem.objects.create(release=release, product=product, version=new)
    rollout = Rollout.objects.create(
        release=release, policy=RolloutPolicy.from_json({}).to_json(), approved_hash="0" * 64, started_by=author,
        started_at=NOW, updated_at=NOW,
    )  # fmt: skip
    for number in range(1, links + 1):
        batch = create_batch(label=rollout.number, purpose="forward", now=NOW)
        wave = Wave.objects.create(rollout=rollout, number=number, batch=batch, size=links)
        Verdict.objects.create(
            wave=wave, kind="pass", outcome="passed", numbers={}, policy={}, event_position=1, at=NOW
        )
        RolloutEvent.objects.create(rollout=rollout, wave=wave, kind="wave_opened", actor=author, at=NOW)
        for ci in cis:
            deployment = Deployment.objects.create(batch=batch, ci=ci, created_at=NOW, moved_at=NOW)
            DeploymentItem.objects.create(deployment=deployment, product=product, to_version=new, from_version=old)
            DeploymentEvent.objects.create(deployment=deployment, kind="created", to_state="queued", at=NOW)
    shape = {"driver": "file_copy", "kind": "files", "method": "folder", "classification": "internal"}
    times = {"created_at": NOW, "updated_at": NOW}
    images = [GoldenImage.objects.create(source=ci, requested_by=author, **shape, **times) for ci in cis]
    environments = [
        TestEnvironment.objects.create(source=image.source, image=image, requested_by=author, **times)
        for image in images
    ]
    for environment, image in zip(environments, images, strict=True):
        EnvironmentSnapshot.objects.create(environment=environment, name="before", taken_by=author, created_at=NOW)
        disk = DiskReception.objects.create(
            ci=image.source, method="upload", reason="A test.", size=1, requested_by=author, expires_at=NOW, **times
        )
        for owner_of in ({"environment": environment}, {"image": image}, {"reception": disk}):
            EnvironmentEvent.objects.create(**owner_of, at=NOW, text="Asked for.", actor=author)
    for n in range(links):
        at = NOW + timedelta(seconds=n)
        notify(event=f"e{n}", recipient=owner, thread=f"{name}", subject="News", text="It stopped.", now=at)
    profile = AgentProfile.objects.create(name=f"agent {name}")
    window = MaintenanceWindow.objects.create(name=f"night {name}", start=time(22), minutes=60)
    group = CIGroup.objects.create(name=f"group {name}")
    group.static_members.set(cis)
    gateway = GatewayToken.objects.create(name=f"gateway {name}", group=group, sha256=f"{name:x<64}", created_at=NOW)
    waiting = Registration.objects.create(
        agent_id=f"waits-{name}", gateway_token=gateway, first_seen_at=NOW, last_seen_at=NOW
    )
    upload = Upload.objects.create(
        version=new, filename="x", size=1, token=f"{new.pk:032d}", created_by=owner, created_at=NOW, updated_at=NOW
    )
    sbom = Sbom.objects.create(version=new, document="{}", spec_version="1.6", uploaded_at=NOW)
    components = [Component.objects.create(sbom=sbom, name=f"part {n}", kind="library") for n in range(links)]
    freeze = Freeze.objects.create(
        name=f"freeze {name}", reason="Year end.", starts_at=NOW, ends_at=NOW + timedelta(days=1), created_by=author,
        created_at=NOW,
    )  # fmt: skip
    template = StandardTemplate.objects.create(
        name=f"standard {name}", implementation_plan="Do.", backout_plan="Undo.", created_by=author,
        last_editor=author, created_at=NOW, updated_at=NOW,
    )  # fmt: skip
    template.products.add(product)
    template.groups.add(group)
    robot = User.objects.create_user(f"robot-{name}", is_service_account=True)
    token = ServiceToken.objects.create(
        user=robot, name="pipeline", sha256=f"{robot.pk:08d}{TOKEN_DIGEST[8:]}", scopes=["cis:read"], created_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )  # fmt: skip
    feed = CalendarFeed.objects.create(
        user=owner, name="mail", sha256=f"{robot.pk:08d}{TOKEN_DIGEST[8:]}", kinds=["change"], created_at=NOW
    )
    made.keys = {
        "calendar-feeds": feed.pk,
        "freezes": freeze.pk, "standard-changes": template.pk, "service-tokens": token.pk,
        "incidents": incidents[0].pk, "problems": problems[0].pk, "changes": changes[0].pk, "releases": release.pk,
        "rollouts": rollout.pk, "deployments": deployment.pk, "cis": cis[0].pk, "ci-groups": group.pk,
        "ci-classes": cis[0].ci_class_id, "connections": cis[0].pk,
        "agent-profiles": profile.pk, "maintenance-windows": window.pk,
        "gateway-tokens": gateway.pk, "registrations": waiting.pk, "products": product.pk,
        "versions": new.pk, "uploads": upload.pk,
        "components": components[0].pk, "environments": environments[0].pk, "images": images[0].pk, "disks": disk.pk,
        "notices": owner.notices.latest("id").pk,
    }  # fmt: skip
    for kind, ticket in (("incidents", incidents[0]), ("problems", problems[0]), ("changes", changes[0])):
        made.keys[f"{kind}/attachments"] = make_attachment(ticket, author)
    made.keys["releases/attachments"] = make_attachment(release, author)
    made.owned = [
        *((type(t), t.pk, "requester") for t in (*incidents, *problems, *changes, release)),
        *((ConfigurationItem, ci.pk, "owner") for ci in cis),
        *((type(n), n.pk, "recipient") for n in owner.notices.all()),
        (Upload, upload.pk, "created_by"),
        (CalendarFeed, feed.pk, "user"),
    ]
    return made


def make_attachment(ticket: Any, author: User) -> int:
    """A file with the first entry of the ticket."""
    row = Attachment.objects.create(
        name="log.txt", file=storage().save(f"attachments/{ticket.number}", ContentFile(b"log")), size=3,
        sha256="0" * 64, uploader=author, created_at=NOW, attached_at=NOW,
    )  # fmt: skip
    ticket.entries.earliest("pk").attachments.add(row)
    return row.pk


def routes() -> Iterator[tuple[str, str]]:
    """Every method and path below `/api/v1/`, as the URL configuration has them."""
    yield from _walk(v1, "")


def _walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            view = pattern.callback
            actions = getattr(view, "actions", None) or {
                method: method
                for method in ("get", "post", "put", "patch", "delete")
                if hasattr(view.view_class, method)
            }
            for method in tuple(actions):
                if method != "head":
                    yield method.upper(), path


def person(role: str) -> User:
    """Somebody with this role and no other."""
    name = role.replace(" ", "-").lower()
    if role == "superuser":
        return make_user(name, is_superuser=True, is_staff=True)
    roles = [] if role == "no role" else [role]
    return make_user(name, *roles, is_service_account=role == "service account")
