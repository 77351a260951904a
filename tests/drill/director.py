"""What people do in the drill, as a process of its own; as `tests.faults.director`, with orders for a large fleet."""

import hashlib
import random
import secrets
from datetime import timedelta
from typing import Any

from tests.faults import director

PRODUCTS = ("billing", "ledger")
FIRST = "1.0"
POLICY: dict[str, Any] = {
    "strategy": "phased",
    "waves": [{"percent": 2}, {"percent": 20}, {"rest": True}],
    "success_threshold": 90,
    "error_threshold": 15,
    "on_error": "pause",
    "soak_seconds": 5,
    "offer_deadline": 300,
    "progress_deadline": 180,
    "confirm_deadline": 120,
}


def populate(*, agents: int) -> dict[str, Any]:
    """The fleet: CIs that run both products; their names and tokens."""
    from cmdb.models import AgentProfile, AgentToken, CIClass, ConfigurationItem, InstalledVersion
    from software.models import Product, Version
    from software.services import create_product
    from tickets.clock import database_now

    now, engineer = database_now(), director._person("engineer")
    create_product(actor=engineer, now=now, name="Ledger", slug="ledger")
    _version("ledger", FIRST, now)
    owners = [director._person("owner-1"), director._person("owner-2")]
    profile, kind = AgentProfile.objects.get(name="Update agent"), CIClass.objects.get()
    said = {"os": "linux", **{f"version.{product}": FIRST for product in PRODUCTS}}
    tokens = {f"srv-{number:05}": secrets.token_urlsafe(32) for number in range(1, agents + 1)}
    cis = ConfigurationItem.objects.bulk_create(
        ConfigurationItem(
            name=name,
            agent_id=name,
            ci_class=kind,
            agent_profile=profile,
            owner=owners[number % 2],
            attributes=said,
            attributes_at=now,
            attributes_wanted=False,
            created_at=now,
        )
        for number, name in enumerate(tokens)
    )
    AgentToken.objects.bulk_create(
        AgentToken(ci=ci, sha256=hashlib.sha256(tokens[ci.name].encode()).hexdigest(), created_at=now) for ci in cis
    )
    for version in Version.objects.filter(label=FIRST, product__in=Product.objects.filter(slug__in=PRODUCTS)):
        InstalledVersion.objects.bulk_create(
            InstalledVersion(ci=ci, product=version.product, version=version, label=FIRST, valid_from=now) for ci in cis
        )
    return {"agents": list(tokens.items()), "runs": dict.fromkeys(PRODUCTS, FIRST)}


def _version(product: str, label: str, now: Any) -> Any:
    from software.models import Product, Version
    from software.services import create_version

    found = Version.objects.filter(product__slug=product, label=label).first()
    if found is None:
        engineer = director._person("engineer")
        found = create_version(Product.objects.get(slug=product), actor=engineer, now=now, label=label)
    if found.state != Version.State.READY:
        director._store(found, label, now)
        found.refresh_from_db()
    return found


def start(*, product: str, label: str, phased: bool) -> str:
    """RFC, release and rollout of a version to the whole fleet, through every gate but the test on a copy."""
    from changes import services as changes
    from releases import services as releases
    from tickets.clock import database_now

    now, person = database_now(), director._person
    version = _version(product, label, now)
    change = changes.draft_change(
        actor=person("author"),
        now=now,
        title=f"{product} {label}",
        products=[version.product],
        implementation_plan="Roll out.",
        test_plan="By hand.",
        backout_plan="Roll back.",
    )
    changes.submit_change(change, actor=person("author"), now=now)
    changes.assess_change(change, actor=person("manager"), now=now, risk="low", risk_reason="A drill.")
    changes.approve_change(change, actor=person("board"), now=now)
    planned = {"planned_start": now - timedelta(minutes=1), "planned_end": now + timedelta(hours=8)}
    changes.schedule_change(change, actor=person("manager"), now=now, **planned)
    policy = POLICY if phased else {**POLICY, "strategy": "big_bang", "waves": [{"rest": True}]}
    release = releases.draft_release(
        actor=person("engineer"),
        now=now,
        title=f"{product} {label}",
        changes=[change],
        versions=[version],
        policy=policy,
    )
    left_out = {other.pk: "Later." for other in releases.left_out_changes(release)}
    releases.plan_release(release, actor=person("engineer"), now=now, left_out=left_out)
    releases.build_release(release, actor=person("engineer"), now=now)
    releases.skip_test(release, actor=person("tester"), now=now, reason="A drill.")
    releases.approve_release(release, actor=person("approver"), now=now)
    return str(releases.start_rollout(release, actor=person("starter"), now=now).number)


def operate(*, seed: int) -> str:
    """Somebody does something to some rollout; what, and whether he was allowed to."""
    from cmdb.models import ConfigurationItem
    from releases import services
    from releases.models import Rollout
    from tickets.clock import database_now
    from tickets.exceptions import DomainError

    chance = random.Random(seed)
    rollouts = list(Rollout.objects.filter(settled_at=None).order_by("pk"))
    if not rollouts:
        return "nothing to operate"
    rollout, now = chance.choice(rollouts), database_now()
    ci = ConfigurationItem.objects.order_by("pk")[chance.randrange(ConfigurationItem.objects.count())]
    verbs: dict[str, Any] = {
        "pause": lambda who: services.pause_rollout(rollout, actor=who, now=now, reason=f"A look ({seed})."),
        "resume": lambda who: services.resume_rollout(rollout, actor=who, now=now, reason=f"It is well ({seed})."),
        "exclude": lambda who: services.exclude_ci(rollout, ci=ci, actor=who, now=now, reason=f"Not it ({seed})."),
        "one back": lambda who: services.roll_back_ci(rollout, ci=ci, actor=who, now=now, reason=f"Here ({seed})."),
        "retry": lambda who: services.retry_failed_cis(rollout, actor=who, now=now),
    }
    name = chance.choice(["pause", "resume", "resume", "resume", "exclude", "one back", "retry"])
    try:
        verbs[name](director._person("approver"))
    except DomainError as refused:
        return f"{name} {rollout.number}: refused, {refused}"
    return f"{name} {rollout.number}"


def settle() -> list[str]:
    """A person decides about every rollout that waits for one; the rollouts that are still under way."""
    from releases import services
    from releases.models import Rollout
    from tickets.clock import database_now
    from tickets.exceptions import DomainError

    for rollout in Rollout.objects.filter(state="paused").order_by("pk"):
        for verb in (services.resume_rollout, services.abort_rollout):
            try:
                verb(rollout, actor=director._person("approver"), now=database_now(), reason="The drill ends.")
                break
            except DomainError:
                continue
    return [f"{r.number} {r.state}: {r.waits_for}" for r in Rollout.objects.active().order_by("pk")]


director.ORDERS |= {"populate": populate, "start": start, "operate": operate, "settle": settle}

if __name__ == "__main__":
    director.main()
