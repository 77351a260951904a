"""What people do at the portal, as a process of its own with the database of these tests: orders in, answers out.

Each line on standard input is a JSON object `{"do": name, …}`; each answer is one line on standard output.
"""

import io
import json
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

POLICY: dict[str, Any] = {
    "strategy": "phased",
    "waves": [{"count": 1}, {"rest": True}],
    "success_threshold": 100,
    "error_threshold": 0,
    "on_error": "pause",
    "soak_seconds": 1,
    "offer_deadline": 120,
    "progress_deadline": 120,
    "confirm_deadline": 120,
}
CAST = {
    "admin": "administrator",
    "desk": "service desk",
    "problems": "problem manager",
    "author": "change requester",
    "manager": "change manager",
    "board": "CAB member",
    "engineer": "release engineer",
    "tester": "release manager",
    "approver": "release manager",
    "starter": "release manager",
    "operator": "operator",
    "owner-1": "CI owner",
    "owner-2": "CI owner",
}


def found(*, names: list[str], label: str) -> dict[str, Any]:
    """Migrates; people, CIs with their agents' tokens, and the version that runs everywhere."""
    from django.contrib.auth.models import Group
    from django.core.management import call_command

    from accounts.models import User
    from accounts.roles import setup_roles
    from cmdb.models import AgentProfile, CIClass
    from cmdb.services import issue_agent_token, register_ci
    from software.services import create_product
    from tickets.clock import database_now

    call_command("migrate", verbosity=0, interactive=False)
    setup_roles()
    for username, role in CAST.items():
        user = User.objects.create(username=username, email=f"{username}@example.org")
        user.groups.set(Group.objects.filter(name=role))
    now = database_now()
    admin, server = _person("admin"), CIClass.objects.create(name="Server", slug="server")
    profile = AgentProfile.objects.create(name="Update agent")
    create_product(actor=_person("engineer"), now=now, name="Billing", slug="billing")
    _version(label, now)
    cis = {}
    for index, name in enumerate(names):
        owner = _person(f"owner-{index % 2 + 1}")
        ci = register_ci(
            actor=admin, now=now, name=name, ci_class=server, owner=owner, agent_id=name, agent_profile=profile
        )
        token = issue_agent_token(ci, actor=admin, now=now)
        cis[name] = {"id": ci.pk, "number": ci.number, "owner": owner.username, "token": token}
    return cis


def open_doors(*, password: str) -> None:
    """Everybody may sign in; every CI may be copied for tests, which take two problem-free seconds."""
    from django.contrib.auth.hashers import make_password

    from accounts.models import User
    from cmdb.models import ConfigurationItem
    from releases.models import TestPolicy
    from test_environments.models import CopySource

    User.objects.update(password=make_password(password))
    for ci in ConfigurationItem.objects.production():
        CopySource.objects.create(ci=ci, folder=ci.name)
    TestPolicy.objects.create(release_type="minor", soak_seconds=2)


def _person(username: str) -> Any:
    from accounts.models import User

    return User.objects.get(username=username)


def _version(label: str, now: Any) -> Any:
    from software.models import Product
    from software.services import create_version
    from tests.faults.software import PRODUCT

    version = create_version(Product.objects.get(slug=PRODUCT), actor=_person("engineer"), now=now, label=label)
    _store(version, label, now)
    return version


def _store(version: Any, label: str, now: Any) -> None:
    from software.services import store_artifact
    from tests.faults.software import PRODUCT, archive_of

    content, filename = io.BytesIO(archive_of(label)), f"{PRODUCT}-{label}.tar.gz"
    store_artifact(version, actor=_person("engineer"), now=now, filename=filename, stream=content)


def start_rollout(*, label: str, incident_on: str) -> dict[str, Any]:
    """From an incident on a CI over problem, RFC and release to a rollout of a new version to all CIs."""
    from changes import services as changes
    from cmdb.models import ConfigurationItem
    from incidents import services as incidents
    from problems import services as problems
    from releases import services as releases
    from releases.models import Wave
    from tickets.clock import database_now

    now = database_now()
    version = _version(label, now)
    ci = ConfigurationItem.objects.get(name=incident_on)
    incident = incidents.report_incident(actor=ci.owner, now=now, title="Slow", ci=ci)
    incidents.assign_incident(incident, actor=_person("desk"), now=now, assignee=_person("desk"))
    incidents.start_incident(incident, actor=_person("desk"), now=now)
    problem = problems.open_problem(actor=_person("problems"), now=now, title="Slow", incidents=[incident])
    problems.assess_problem(problem, actor=_person("problems"), now=now)
    problems.analyse_problem(problem, actor=_person("problems"), now=now)
    problems.document_problem(problem, actor=_person("problems"), now=now, root_cause="The driver.")
    incidents.hold_incident(incident, actor=_person("desk"), now=now, reason="problem")
    change = changes.draft_change(
        actor=_person("author"),
        now=now,
        title=f"Billing {label}",
        problems=[problem],
        products=[version.product],
        implementation_plan="Roll out.",
        test_plan="By hand.",
        backout_plan="Roll back.",
    )
    changes.submit_change(change, actor=_person("author"), now=now)
    changes.assess_change(change, actor=_person("manager"), now=now, risk="low", risk_reason="Known.")
    changes.approve_change(change, actor=_person("board"), now=now)
    planned = {"planned_start": now - timedelta(minutes=1), "planned_end": now + timedelta(hours=8)}
    changes.schedule_change(change, actor=_person("manager"), now=now, **planned)
    release = releases.draft_release(
        actor=_person("engineer"),
        now=now,
        title=f"Billing {label}",
        changes=[change],
        versions=[version],
        policy=POLICY,
    )
    left_out = {other.pk: "Later." for other in releases.left_out_changes(release)}
    releases.plan_release(release, actor=_person("engineer"), now=now, left_out=left_out)
    releases.build_release(release, actor=_person("engineer"), now=now)
    releases.skip_test(release, actor=_person("tester"), now=now, reason="Tested by hand.")
    releases.approve_release(release, actor=_person("approver"), now=now)
    rollout = releases.start_rollout(release, actor=_person("starter"), now=now)
    waves = dict(Wave.objects.filter(rollout=rollout).values_list("number", "batch"))
    tickets = {"release": release, "change": change, "problem": problem, "incident": incident}
    return {
        "id": rollout.pk,
        "label": label,
        "incident_on": incident_on,
        "batches": [waves[1], waves[2]],
        "numbers": {name: ticket.number for name, ticket in tickets.items()},
        "keys": {name: ticket.pk for name, ticket in tickets.items()},
    }


def roll_back(*, rollout: int) -> None:
    """A person orders everything back."""
    from releases.models import Rollout
    from releases.services import roll_back_rollout
    from tickets.clock import database_now

    roll_back_rollout(
        Rollout.objects.get(pk=rollout), actor=_person("approver"), now=database_now(), reason="It is slow."
    )


def offer(*, name: str) -> bool:
    """A device takes its offer; whether there was one."""
    from cmdb.models import ConfigurationItem
    from distribution import device
    from distribution.models import Deployment
    from tickets.clock import database_now

    ci, now = ConfigurationItem.objects.get(name=name), database_now()
    action = device.current_action(ci, now=now).deploy
    return action is not None and device.offer(Deployment.objects.select_related("batch").get(pk=action), ci, now=now)


def upload(*, label: str) -> dict[str, Any]:
    """A version is uploaded; why it was refused, and what lies about in the media library without a row."""
    from django.conf import settings

    from software.models import Artifact, Version
    from tests.faults.software import PRODUCT
    from tickets.clock import database_now
    from tickets.exceptions import DomainError

    refused = ""
    try:
        if Version.objects.filter(product__slug=PRODUCT, label=label).exists():
            _store(Version.objects.get(product__slug=PRODUCT, label=label), label, database_now())
        else:
            _version(label, database_now())
    except DomainError as error:
        refused = str(error)
    kept = set(Artifact.objects.values_list("file", flat=True))
    files = [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]
    return {"refused": refused, "leftovers": sum(str(f.relative_to(settings.MEDIA_ROOT)) not in kept for f in files)}


def check_invariants(*, journals: str) -> list[str]:
    from releases.invariants import check_invariants as check

    return [str(violation) for violation in check(journals=Path(journals))]


ORDERS = {
    "found": found,
    "open_doors": open_doors,
    "start_rollout": start_rollout,
    "offer": offer,
    "roll_back": roll_back,
    "upload": upload,
    "check_invariants": check_invariants,
}


def main() -> None:
    django.setup()
    from django.db import connection

    for line in sys.stdin:
        order = json.loads(line)
        # The database may have been restarted since the order before.
        connection.close()
        connection.close_pool()
        try:
            answer = {"answer": ORDERS[order.pop("do")](**order)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
