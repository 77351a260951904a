"""The world before the story: people, roles, 40 shops with a till server that runs billing 1.0, the media library."""

import io
import json
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db import transaction

from accounts.models import Team, User
from accounts.roles import setup_roles
from cmdb.models import AgentProfile, CIClass, ConfigurationItem, Relation
from cmdb.services import issue_agent_token, register_ci
from itsm_portal.demo import machines
from itsm_portal.demo.software import PRODUCT, archive_of, put_on_disk
from releases.models import TestPolicy
from software.models import Product
from software.services import create_product, create_version, store_artifact
from test_environments.models import CopySource, GoldenImage, NeutralisingRecipe, TestEnvironment
from tickets.models import PriorityRule
from tickets.services import DEFAULT_MATRIX

FLEET = 40
OWNERS = 8
# Which till servers are of the kind on which billing 2.0 fails: three in the second wave (2 to 11), some later.
LEGACY = frozenset({4, 6, 8, 15, 22, 30})
TEST_SOAK_SECONDS = 5
# Whose copies the releases are tried on.
TEST_SOURCE = 2

PEOPLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("Administrator", ("administrator",)),
    "desk": ("Service desk", ("service desk",)),
    "problems": ("Problem manager", ("problem manager",)),
    "author": ("Change author", ("change requester",)),
    "manager": ("Change manager", ("change manager",)),
    "board": ("CAB member", ("CAB member",)),
    "emergency": ("Emergency approver", ("emergency approver",)),
    "engineer": ("Release engineer", ("release engineer",)),
    "approver": ("Release manager A", ("release manager",)),
    "starter": ("Release manager B", ("release manager",)),
    "operator": ("Operator", ("operator",)),
    "auditor": ("Auditor", ("auditor",)),
    **{f"owner-{n}": (f"Shop owner {n}", ("CI owner",)) for n in range(1, OWNERS + 1)},
    **{f"user-{n}": (f"Shop user {n}", ("requester",)) for n in range(1, 7)},
}


@dataclass(frozen=True, slots=True)
class Host:
    """A CI with its folder and the agent's configuration."""

    name: str
    folder: Path
    config: Path


def ci_name(number: int) -> str:
    return f"till-{number:03d}"


def owner_of(number: int) -> str:
    return f"owner-{(number - 1) % OWNERS + 1}"


def fleet() -> list[Host]:
    """The hosts of the fleet, whether seeded or not."""
    root = settings.TEST_ENVIRONMENT_SOURCES
    return [Host(ci_name(n), root / ci_name(n), root / ci_name(n) / "agent.json") for n in range(1, FLEET + 1)]


def is_seeded() -> bool:
    return Product.objects.filter(slug=PRODUCT).exists()


def password() -> str:
    """The demo's password for everybody: made once, kept beside the data, readable only by the owner."""
    path = settings.DATA_DIR / "demo-password"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(12))
    return path.read_text()


def has_machine() -> bool:
    """Whether the shop whose server is copied has a disk to copy, instead of files."""
    return CopySource.objects.filter(kind=GoldenImage.Kind.PHYSICAL).exists()


@transaction.atomic
def seed(now: datetime, *, with_machine: bool = False) -> None:
    """Writes the world; everything that has a verb goes through its service.

    `with_machine`: the shop whose server is copied for tests has a disk, and tests need a machine.
    """
    setup_roles()
    admin = _people()
    for (impact, urgency), priority in DEFAULT_MATRIX.items():
        PriorityRule.objects.get_or_create(impact=impact, urgency=urgency, defaults={"priority": priority})
    for release_type in ("major", "minor", "emergency"):
        evidence = TestEnvironment.Evidence.EMULATED if with_machine else TestEnvironment.Evidence.FILE_COPY
        TestPolicy.objects.create(
            release_type=release_type, soak_seconds=TEST_SOAK_SECONDS, early_life_days=5, evidence=evidence
        )
    engineer = User.objects.get(username="engineer")
    product = create_product(
        actor=engineer, now=now, name="Billing", slug=PRODUCT, description="Till software of every shop."
    )
    version = create_version(product, actor=engineer, now=now, label="1.0", notes="The version of before.")
    store_artifact(
        version, actor=engineer, now=now, filename=f"{PRODUCT}-1.0.tar.gz", stream=io.BytesIO(archive_of("1.0"))
    )
    _fleet(admin, now)
    if with_machine:
        _machine(fleet()[TEST_SOURCE - 1])


def write_disk() -> str:
    """The disk of the server whose copies the story makes. Returns why it cannot be made; empty: it is there."""
    host = fleet()[TEST_SOURCE - 1]
    return machines.write_disk(source_disk(), agent_id=host.name, label="1.0", facts=_facts(TEST_SOURCE))


def source_disk() -> Path:
    """Where that disk lies."""
    return fleet()[TEST_SOURCE - 1].folder.with_suffix(".raw")


def _machine(host: Host) -> None:
    """Its disk is copied instead of its folder."""
    source = {"folder": source_disk().name, "driver": "libvirt", "method": "disk", "kind": GoldenImage.Kind.PHYSICAL}
    CopySource.objects.filter(ci__name=host.name).update(**source)
    server = CIClass.objects.get(slug="till-server")
    for name, recipe in machines.RECIPES.items():
        NeutralisingRecipe.objects.create(ci_class=server, name=name, **recipe)


def _people() -> User:
    shared = make_password(password())
    for username, (label, roles) in PEOPLE.items():
        first, _space, last = label.partition(" ")
        user = User.objects.create(
            username=username, email=f"{username}@example.org", password=shared, first_name=first, last_name=last
        )
        user.groups.set(Group.objects.filter(name__in=roles))
        if username == "admin":
            user.is_staff = True
            user.save(update_fields=["is_staff"])
    desk = Team.objects.create(name="Service desk", email="desk@example.org")
    desk.members.set(User.objects.filter(username__in=["desk", "problems"]))
    return User.objects.get(username="admin")


def _fleet(admin: User, now: datetime) -> None:
    server = CIClass.objects.create(name="Till server", slug="till-server")
    service = CIClass.objects.create(name="Service", slug="service")
    profile = AgentProfile.objects.create(name="Update agent")
    sales = register_ci(actor=admin, now=now, name="Sales", ci_class=service)
    for number, host in enumerate(fleet(), start=1):
        owner = User.objects.get(username=owner_of(number))
        ci = register_ci(
            actor=admin, now=now, name=host.name, ci_class=server, owner=owner,
            agent_id=host.name, agent_profile=profile,
        )  # fmt: skip
        Relation.objects.create(source=sales, target=ci)
        CopySource.objects.create(ci=ci, folder=host.name)
        _host(host, number, issue_agent_token(ci, actor=admin, now=now))


def _facts(number: int) -> bytes:
    kind = "legacy" if number in LEGACY else "standard"
    return json.dumps({"kind": kind, "os": "linux", "shop": f"{number:03d}"}).encode()


def _host(host: Host, number: int, token: str) -> None:
    host.folder.mkdir(parents=True, exist_ok=True)
    (host.folder / "facts.json").write_bytes(_facts(number))
    put_on_disk(host.folder, "1.0")
    secret = host.folder / ".agent-token"
    secret.touch(mode=0o600)
    secret.write_text(token)
    host.config.write_text(
        json.dumps(
            {
                "url": settings.PORTAL_URL,
                "tenant": settings.DDI_TENANT,
                "controller_id": host.name,
                "token_file": secret.name,
                "root": ".",
                "root_keys": settings.SIGNING_ROOT_KEYS,
                "poll_min_seconds": 1,
            }
        )
    )


def point_agents_to(url: str) -> None:
    """The portal's port may be another one than at the last start."""
    for host in fleet():
        if host.config.exists():
            config = json.loads(host.config.read_text())
            if config["url"] != url:
                host.config.write_text(json.dumps({**config, "url": url}))


def production_cis() -> list[ConfigurationItem]:
    """The fleet's CIs in the order of their names."""
    return list(ConfigurationItem.objects.production().filter(agent_id__isnull=False).order_by("name"))
