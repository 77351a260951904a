"""The world of the benchmark: a fleet that grows, and a release for it that went through all its gates."""

import hashlib
import io
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.contrib.auth.models import Group
from django.db import connection

from accounts.models import User
from accounts.roles import setup_roles
from changes import services as changes
from cmdb.models import AgentProfile, AgentToken, CIClass, ConfigurationItem, InstalledVersion
from distribution.models import Deployment, DeploymentEvent, DeploymentState
from distribution.steps import move_where
from releases import services as releases
from releases.models import Release, Rollout
from software.models import Version
from software.services import create_product, create_version, store_artifact

ARTIFACT_BYTES = 1024
CIS_OF_ONE_OWNER = 50
COPIED_AT_ONCE = 10_000
OWNED = 500
CAST = {
    "author": "change requester",
    "desk": "service desk",
    "assessor": "change manager",
    "board": "CAB member",
    "engineer": "release engineer",
    "tester": "release manager",
    "approver": "release manager",
    "starter": "release manager",
}
POLICY = {"strategy": "big_bang", "soak_seconds": 1, "error_threshold": 0, "on_error": "pause"}


# The first CI once more for each further one.
_COPIES = """
WITH made AS (
    INSERT INTO cmdb_configurationitem
    SELECT copy.* FROM (SELECT c FROM cmdb_configurationitem c ORDER BY id LIMIT 1) model,
        generate_series(%(first)s, %(last)s) n
    LEFT JOIN accounts_user owner ON n %% %(every)s = 0 AND owner.username = 'owner-' || n / %(of_one)s
    CROSS JOIN LATERAL jsonb_populate_record(model.c, jsonb_build_object(
        'id', nextval(pg_get_serial_sequence('cmdb_configurationitem', 'id')), 'owner_id', owner.id,
        'name', 'srv-' || lpad(n::text, 6, '0'), 'agent_id', 'srv-' || lpad(n::text, 6, '0'))) copy
    ORDER BY n
    RETURNING id
)
INSERT INTO cmdb_installedversion (ci_id, product_id, version_id, label, valid_from, source, is_drift)
SELECT made.id, v.product_id, v.id, v.label, %(now)s, '', false
FROM made, software_version v
WHERE v.id = %(version)s ORDER BY made.id
"""


@dataclass
class Fleet:
    """CIs with a product, all in its newest version; `agents` are their names and tokens."""

    people: dict[str, User] = field(default_factory=dict)
    agents: list[tuple[str, str]] = field(default_factory=list)
    versions: int = 0

    def found(self, now: datetime) -> None:
        """The people, the product and its first version."""
        setup_roles()
        for name, role in CAST.items():
            self.people[name] = User.objects.create_user(name, email=f"{name}@example.org")
            self.people[name].groups.set(Group.objects.filter(name=role))
        self.ci_class = CIClass.objects.create(name="Server", slug="server")
        self.profile = AgentProfile.objects.create(name="Update agent")
        self.product = create_product(actor=self.people["engineer"], now=now, name="Billing", slug="billing")
        self.version = self._next_version(now)

    def _next_version(self, now: datetime) -> Version:
        self.versions += 1
        label = f"1.{self.versions}"
        engineer = self.people["engineer"]
        version = create_version(self.product, actor=engineer, now=now, label=label)
        content = io.BytesIO(secrets.token_bytes(ARTIFACT_BYTES))
        store_artifact(version, actor=engineer, now=now, filename=f"billing-{label}.tar.gz", stream=content)
        return version

    def grow(self, size: int, now: datetime) -> None:
        """Adds CIs up to `size` that run the present version and have said so."""
        numbers = range(len(self.agents) + 1, size + 1)
        tokens = {f"srv-{n:06d}": secrets.token_urlsafe(32) for n in numbers}
        owner_of = self._owners({number // CIS_OF_ONE_OWNER for number in numbers})
        cis = ConfigurationItem.objects.bulk_create(
            [
                ConfigurationItem(
                    name=name,
                    agent_id=name,
                    ci_class=self.ci_class,
                    agent_profile=self.profile,
                    owner_id=owner_of[number // CIS_OF_ONE_OWNER],
                    attributes={"os": "linux", "kind": "standard", "version.billing": self.version.label},
                    attributes_at=now,
                    attributes_wanted=False,
                    created_at=now,
                )
                for number, name in zip(numbers, tokens, strict=True)
            ],
            batch_size=1000,
        )
        AgentToken.objects.bulk_create(
            [
                AgentToken(ci=ci, sha256=hashlib.sha256(tokens[ci.name].encode()).hexdigest(), created_at=now)
                for ci in cis
            ],
            batch_size=1000,
        )
        InstalledVersion.objects.bulk_create(
            [
                InstalledVersion(
                    ci=ci, product=self.product, version=self.version, label=self.version.label, valid_from=now
                )
                for ci in cis
            ],
            batch_size=1000,
        )
        self.agents += tokens.items()

    def grow_in_sets(self, size: int, now: datetime) -> None:
        """Adds CIs up to `size` without tokens, so that no agent can speak for them: for fleets that nobody polls.

        About five hundred of them have an owner, however many there are.
        """
        if not self.agents:
            self.grow(1, now)
        every = max(1, size // OWNED)
        self._owners(set(range(OWNED // CIS_OF_ONE_OWNER + 1)))
        params = {"every": every, "of_one": every * CIS_OF_ONE_OWNER, "version": self.version.pk, "now": now}
        with connection.cursor() as cursor:
            for first in range(len(self.agents) + 1, size + 1, COPIED_AT_ONCE):
                last = min(first + COPIED_AT_ONCE - 1, size)
                cursor.execute(_COPIES, params | {"first": first, "last": last})
        self.agents += [("", "")] * (size - len(self.agents))

    def _owners(self, blocks: set[int]) -> dict[int, int]:
        names = {f"owner-{block}": block for block in blocks}
        users = [User(username=name, email=f"{name}@example.org") for name in names]
        User.objects.bulk_create(users, ignore_conflicts=True)
        found = User.objects.filter(username__in=names).values_list("username", "pk")
        return {names[username]: pk for username, pk in found}

    def start_rollout(self, now: datetime) -> Rollout:
        """A new version for the whole fleet: RFC, release and rollout, through every gate but the test on a copy."""
        return releases.start_rollout(self.approved_release(now, POLICY), actor=self.people["starter"], now=now)

    def approved_release(self, now: datetime, policy: dict[str, object], **links: Iterable[object]) -> Release:
        """A release of a new version for the whole fleet that may be started; `links` of its RFC."""
        people = self.people
        release = self.draft_release(now, policy, **links)
        # Those that were rolled back before wait for another release.
        left_out = {change.pk: "another time" for change in releases.left_out_changes(release)}
        releases.plan_release(release, actor=people["engineer"], now=now, left_out=left_out)
        releases.build_release(release, actor=people["engineer"], now=now)
        releases.skip_test(release, actor=people["tester"], now=now, reason="A benchmark.")
        releases.approve_release(release, actor=people["approver"], now=now)
        return release

    def draft_release(self, now: datetime, policy: dict[str, object], **links: Iterable[object]) -> Release:
        """A new version for the whole fleet, with its scheduled RFC, in a release that is not planned yet."""
        people = self.people
        self.version = self._next_version(now)
        change = changes.draft_change(
            actor=people["author"],
            now=now,
            title=f"Billing {self.version.label}",
            products=[self.product],
            implementation_plan="Roll out.",
            test_plan="On a copy.",
            backout_plan="Roll back.",
            **links,
        )
        changes.submit_change(change, actor=people["author"], now=now)
        changes.assess_change(change, actor=people["assessor"], now=now, risk="low", risk_reason="A benchmark.")
        changes.approve_change(change, actor=people["board"], now=now)
        planned = {"planned_start": now - timedelta(minutes=1), "planned_end": now + timedelta(hours=8)}
        changes.schedule_change(change, actor=people["assessor"], now=now, **planned)
        return releases.draft_release(
            actor=people["engineer"],
            now=now,
            title=f"Billing {self.version.label}",
            changes=[change],
            versions=[self.version],
            policy=policy,
        )


def forget_polls(agents: Sequence[tuple[str, str]]) -> None:
    """Makes the next poll of each write again when it was seen, as with the long poll intervals of production."""
    names = [name for name, _token in agents]
    ConfigurationItem.objects.filter(agent_id__in=names).update(last_seen_at=None)


def finish_rest(rollout: Rollout, cis: Sequence[str], now: datetime) -> int:
    """Ends the waiting deployments of these CIs as if their agents had carried them out; in sets. How many."""
    (item,) = rollout.release.items.select_related("version")
    named = "d.ci_id IN (SELECT id FROM cmdb_configurationitem WHERE name = ANY(%(cis)s))"
    moved: list[int] = []
    while some := move_where(
        f"d.batch_id = ANY(%(batches)s) AND {named}",
        {"batches": list(rollout.waves.values_list("batch", flat=True)), "cis": list(cis)},
        to_state=DeploymentState.SUCCEEDED,
        kind=DeploymentEvent.Kind.ATTRIBUTES,
        now=now,
        assignments={"offered_at": "%(now)s", "closed_at": "%(now)s"},
        sources=[DeploymentState.QUEUED],
    ):
        moved += some
    installed = InstalledVersion.objects.filter(product=item.product_id, valid_to=None)
    ids = list(Deployment.objects.filter(pk__in=moved).values_list("ci", flat=True))
    installed.filter(ci__in=ids).update(valid_to=now)
    InstalledVersion.objects.bulk_create(
        [
            InstalledVersion(
                ci_id=ci,
                product_id=item.product_id,
                version=item.version,
                label=item.version.label,
                valid_from=now,
                source=rollout.number,
            )
            for ci in ids
        ],
        batch_size=1000,
    )
    return len(moved)


# Devices asked within five minutes, took seconds to fetch and minutes to install it; one in a hundred failed.
_AS_IF_PLAYED = """
WITH timed AS (
    SELECT d.id, d.created_at + random() * interval '300 s' AS offered, random() AS luck
    FROM distribution_deployment d WHERE d.batch_id = ANY(%(batches)s) AND d.state = 'queued'
    LIMIT 10000
), phased AS (
    SELECT id, luck, offered, offered + (5 + 20 * random()) * interval '1 s' AS fetched FROM timed
), ended AS (
    SELECT *, fetched + (60 + 240 * random()) * interval '1 s' AS closed FROM phased
), moved AS (
    UPDATE distribution_deployment d SET state = CASE WHEN luck < 0.01 THEN 'failed' ELSE 'succeeded' END,
        offered_at = offered, closed_at = closed, finished_at = closed, moved_at = closed
    FROM ended WHERE ended.id = d.id
    RETURNING d.id, d.state, offered, fetched, closed
), step AS (
    SELECT id, 1 AS n, 'offered' AS kind, 'queued' AS before, 'offered' AS after, offered AS at FROM moved
    UNION ALL SELECT id, 2, 'report', 'offered', 'downloading', offered FROM moved
    UNION ALL SELECT id, 3, 'report', 'downloading', 'installing', fetched FROM moved
    UNION ALL SELECT id, 4, 'report', 'installing', state, closed FROM moved
)
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT id, kind, before, after, at, '', '', '[]'::jsonb, false FROM step ORDER BY id, n
"""


def finish_as_if_played(rollout: Rollout) -> None:
    """Ends every waiting deployment with the times of its steps, as devices leave them; 10,000 in a statement."""
    params = {"batches": list(rollout.waves.values_list("batch", flat=True))}
    with connection.cursor() as cursor:
        cursor.execute(_AS_IF_PLAYED, params)
        while cursor.rowcount > 0:
            cursor.execute(_AS_IF_PLAYED, params)
