"""Who and what the tickets are about: people, teams, configuration items, products and their versions."""

import hashlib
import io
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group

from accounts.models import Team, User
from accounts.roles import setup_roles
from cmdb.models import AgentProfile, CIClass, ConfigurationItem, InstalledVersion, Relation
from itsm_portal.seeding.copying import copy_into, next_key
from itsm_portal.seeding.words import FIRST_NAMES, LAST_NAMES, PLACES, PRODUCTS, TEAMS
from software.models import Product, Version
from software.services import create_product, create_version, store_artifact

# Who has which role; people sign in with these names.
CAST = {
    "desk": "service desk",
    "problems": "problem manager",
    "author": "change requester",
    "assessor": "change manager",
    "board": "CAB member",
    "engineer": "release engineer",
    "tester": "release manager",
    "approver": "release manager",
    "starter": "release manager",
    "auditor": "auditor",
    "requester": "requester",
}
COMMON = "Workplace client"
CLASSES = ("server", "desktop", "till", "network device", "scanner")
CIS_OF_ONE_HOST = 50
TICKETS_OF_ONE_AGENT = 5000
TICKETS_OF_ONE_REQUESTER = 100


@dataclass
class World:
    """What tickets and rollouts choose from; all keys are primary keys."""

    now: datetime
    random: Random
    days: int
    password: str = ""
    cast: dict[str, User] = field(default_factory=dict)
    agents: list[int] = field(default_factory=list)
    requesters: list[int] = field(default_factory=list)
    teams: list[int] = field(default_factory=list)
    cis: list[int] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)

    @property
    def begin(self) -> datetime:
        """When the first ticket was written."""
        return self.now - timedelta(days=self.days)

    def moment(self, share: float) -> datetime:
        """A time between the begin (0) and now (1)."""
        return self.begin + (self.now - self.begin) * share


def make_people(world: World, tickets: int) -> None:
    """Roles, the cast, the agents of the service desk and those who report; teams with their members."""
    setup_roles()
    groups = {group.name: group for group in Group.objects.all()}
    hashed = make_password(world.password or None)
    for name, role in CAST.items():
        world.cast[name], _made = User.objects.get_or_create(
            username=name, defaults={"email": f"{name}@example.org", "first_name": name.capitalize()}
        )
        if world.password:
            User.objects.filter(pk=world.cast[name].pk).update(password=hashed)
        world.cast[name].groups.add(groups[role])
    world.agents = _people(world, "agent", max(3, tickets // TICKETS_OF_ONE_AGENT))
    world.agents.append(world.cast["desk"].pk)
    world.requesters = _people(world, "person", max(20, tickets // TICKETS_OF_ONE_REQUESTER))
    world.requesters.append(world.cast["requester"].pk)
    for names, role in ((world.agents, "service desk"), (world.requesters, "requester")):
        links = User.groups.through
        links.objects.bulk_create(
            [links(user_id=key, group_id=groups[role].pk) for key in names], batch_size=5000, ignore_conflicts=True
        )
    Team.objects.bulk_create([Team(name=name) for name in TEAMS], ignore_conflicts=True)
    world.teams = list(Team.objects.filter(name__in=TEAMS).order_by("pk").values_list("pk", flat=True))
    members = Team.members.through
    members.objects.bulk_create(
        [members(team_id=world.teams[n % len(world.teams)], user_id=key) for n, key in enumerate(world.agents)],
        ignore_conflicts=True,
    )


def _people(world: World, kind: str, number: int) -> list[int]:
    first = next_key(User)
    unusable = make_password(None)
    copy_into(
        User,
        ("id", "username", "email", "first_name", "last_name", "password", "date_joined", "is_active"),
        (
            (
                key, f"{kind}-{key:06d}", f"{kind}-{key:06d}@example.org", world.random.choice(FIRST_NAMES),
                world.random.choice(LAST_NAMES), unusable, world.begin, "t",
            )
            for key in range(first, first + number)
        ),
    )  # fmt: skip
    return list(range(first, first + number))


def make_library(world: World, versions: int) -> None:
    """Products, each with `versions` versions that have a file; the common one, too."""
    engineer = world.cast["engineer"]
    for name in (*PRODUCTS, COMMON):
        product = Product.objects.filter(name=name).first()
        if product is None:
            slug = name.lower().replace(" ", "-")
            product = create_product(actor=engineer, now=world.begin, name=name, slug=slug)
        known = product.versions.count()
        for number in range(known + 1, known + versions + 1):
            make_version(world, product, f"1.{number}", world.begin)
        world.products.append(product)


def make_version(world: World, product: Product, label: str, now: datetime) -> Version:
    """A version with a small file, stored at `now` by the library's own verbs."""
    engineer = world.cast["engineer"]
    version = create_version(product, actor=engineer, now=now, label=label)
    content = io.BytesIO(hashlib.sha256(f"{product.slug} {label}".encode()).digest())
    store_artifact(version, actor=engineer, now=now, filename=f"{product.slug}-{label}.tar.gz", stream=content)
    return version


def make_cis(world: World, number: int) -> None:
    """Configuration items; each depends on one in fifty and runs the common product and one of the others."""
    classes = [CIClass.objects.get_or_create(slug=n.replace(" ", "-"), defaults={"name": n.capitalize()})[0].pk
               for n in CLASSES]  # fmt: skip
    profile, _made = AgentProfile.objects.get_or_create(name="Update agent")
    random, first = world.random, next_key(ConfigurationItem)
    keys = range(first, first + number)

    def row(key: int) -> tuple[object, ...]:
        kind = (key - first) % len(CLASSES) if (key - first) % CIS_OF_ONE_HOST else 0
        lifecycle = "in_operation" if random.random() < 0.97 else random.choice(("in_stock", "in_repair", "retired"))
        name = f"{CLASSES[kind].split()[0]}-{key:06d}"
        owner = world.requesters[(key - first) % len(world.requesters)]
        return (
            key, name, classes[kind], lifecycle, owner, random.choice(world.teams), random.choice(PLACES), name,
            profile.pk, "f", world.moment(1 - random.random() ** 4 * 0.1), world.begin,
        )  # fmt: skip

    fields = (
        "id", "name", "ci_class_id", "lifecycle", "owner_id", "team_id", "description", "agent_id", "agent_profile_id",
        "attributes_wanted", "last_seen_at", "created_at",
    )  # fmt: skip
    copy_into(ConfigurationItem, fields, (row(key) for key in keys))
    hosts = ((key, first + (key - first) // CIS_OF_ONE_HOST * CIS_OF_ONE_HOST, "runs_on") for key in keys)
    copy_into(Relation, ("source_id", "target_id", "kind"), (pair for pair in hosts if pair[0] != pair[1]))
    world.cis = list(keys)
    oldest = {product.pk: _oldest(product) for product in world.products}
    *others, common = world.products
    copy_into(
        InstalledVersion,
        ("ci_id", "product_id", "version_id", "label", "valid_from"),
        (
            (key, product.pk, oldest[product.pk].pk, oldest[product.pk].label, world.begin)
            for key in keys
            for product in (common, others[(key - first) % len(others)])
        ),
    )


def _oldest(product: Product) -> Version:
    return product.versions.earliest("order")
