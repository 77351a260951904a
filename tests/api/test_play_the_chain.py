"""The whole story over HTTP: from two incidents to the version on the CIs, one person for each part.

Only what no person does is done beside HTTP: the tick of the engine and the reports of the devices.
"""

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils.dateparse import parse_datetime
from rest_framework.response import Response
from rest_framework.test import APIClient

from cmdb.services import record_installed
from distribution.models import Deployment
from distribution.steps import move_where
from releases.executor import run_ticks
from software.models import Product
from tests.distribution.fleet import archive
from tests.factories import make_ci, make_user
from tickets.clock import database_now

pytestmark = pytest.mark.django_db
ROLES = {
    "anna": ["requester", "CI owner"],
    "desk": ["service desk"],
    "paula": ["problem manager"],
    "rita": ["change requester"],
    "max": ["change manager"],
    "cab": ["CAB member"],
    "erik": ["release engineer"],
    "mona": ["release manager"],
    "sven": ["release manager"],
    "olga": ["operator"],
}
POLICY = {"strategy": "phased", "waves": [{"count": 1}, {"rest": True}], "soak_seconds": 1}


def ok(answer: Response, status: int = 200) -> Any:
    assert answer.status_code == status, (answer.status_code, answer.content)
    return answer.json() if answer.content else None


@pytest.fixture
def people() -> dict[str, Any]:
    return {name: make_user(name, *roles) for name, roles in ROLES.items()}


@pytest.fixture
def say(people, as_user):
    """`say("anna", "incidents/inc1/comment", text="…")`: a POST; the answer's JSON."""
    clients = {name: as_user(user) for name, user in people.items()}

    def post(name: str, path: str, /, status: int | None = None, **body: Any) -> Any:
        wanted = status or (201 if "/" not in path or path.endswith("start_rollout") else 200)
        return ok(clients[name].post(f"/api/v1/{path}/", body, format="json"), wanted)

    post.clients = clients  # type: ignore[attr-defined]
    return post


@pytest.fixture
def get(say):
    def read(name: str, path: str, /, **query: Any) -> Any:
        return ok(say.clients[name].get(f"/api/v1/{path}/", query))

    return read


def devices_install(rollout_id: int, label: str) -> int:
    """Every device that is offered something installs it and reports; returns how many."""
    now = database_now()
    where = "d.batch_id IN (SELECT w.batch_id FROM releases_wave w JOIN distribution_batch b ON b.id = w.batch_id"
    where += " WHERE w.rollout_id = %(rollout)s AND b.is_open)"
    moved = move_where(where, {"rollout": rollout_id}, to_state="succeeded", kind="report", now=now, sources=["queued"])
    for deployment in Deployment.objects.filter(pk__in=moved).select_related("ci", "batch"):
        product = Product.objects.get()
        record_installed(deployment.ci, product=product, label=label, now=now, source=deployment.batch.label)
    return len(moved)


def upload(say: Any, client: APIClient, label: str) -> None:
    """A version with its file."""
    version = say("erik", "versions", product="billing", label=label)
    file = SimpleUploadedFile(f"billing-{label}.tar.gz", archive("billing", label))
    stored = ok(client.post(f"/api/v1/versions/{version['id']}/artifact/", {"file": file}, format="multipart"), 201)
    assert stored["state"] == "ready"


def ticks(number: int, seconds: int = 0) -> None:
    for _ in range(number):
        run_ticks(now=database_now() + timedelta(seconds=seconds))


def test_the_whole_chain_can_be_played_over_http(people, say, get):
    erik: APIClient = say.clients["erik"]
    # The media library gets a product and the version that runs now.
    product = say("erik", "products", name="Billing", slug="billing")
    assert product["slug"] == "billing"
    upload(say, erik, "1.0")
    cis = [make_ci(f"srv-{n}", agent_id=f"srv-{n}", owner=people["anna"]) for n in range(1, 5)]
    for ci in cis:
        record_installed(ci, product=Product.objects.get(), label="1.0", now=database_now())

    # Incidents, grouped into a problem with a workaround.
    one = say("anna", "incidents", title="Billing stops at noon", ci=cis[0].number, impact="high")
    two = say("anna", "incidents", title="Billing is slow", ci=f"ci{cis[1].pk}")
    assert one["state"] == "new"
    assert one["ci_name"] == "srv-1"
    problem = say("desk", "problems", title="Billing leaks memory", incidents=[one["number"], two["number"]])
    assert {link["number"] for link in problem["incidents"]} == {one["number"], two["number"]}
    prb = f"problems/{problem['number']}"
    say("paula", f"{prb}/assess")
    say("paula", f"{prb}/analyse")
    say("paula", f"{prb}/document", root_cause="A leak", workaround="Restart it at 11.", is_known_error=True)
    say("paula", f"{prb}/communicate_workaround")
    texts = [entry["text"] for entry in get("anna", f"incidents/{one['number']}/timeline")["results"]]
    assert any("Restart it at 11." in text for text in texts)
    assert get("anna", "notices/unread_count")["count"] > 0
    say("paula", f"{prb}/start_fix")
    for incident in (one, two):
        inc = f"incidents/{incident['number']}"
        say("desk", f"{inc}/assign", assignee="desk")
        say("desk", f"{inc}/start")
        assert say("desk", f"{inc}/hold", reason="problem")["hold_reason"] == "problem"
    say("desk", f"incidents/{one['number']}/comment", text="Seen before in the north plant.", public=False)

    # The RFC: written, submitted, assessed, approved by somebody else, scheduled.
    now = database_now()
    change = say(
        "rita",
        "changes",
        title="Billing 2.0 frees its memory",
        problems=[problem["number"]],
        products=["billing"],
        affected_cis=[ci.number for ci in cis],
        implementation_plan="Roll out 2.0 in two waves.",
        backout_plan="Roll back to 1.0.",
    )
    rfc = f"changes/{change['number']}"
    assert "submit" in [verb["name"] for verb in change["verbs"]]
    say("rita", f"{rfc}/submit")
    seen = say("max", f"{rfc}/assess", risk="low", risk_reason="Small and reversible.")["content_hash"]
    approved = say("cab", f"{rfc}/approve", comment="Fine.", seen_hash=seen)
    assert approved["approvals"][0]["is_current"] is True
    say(
        "max",
        f"{rfc}/schedule",
        planned_start=(now - timedelta(hours=1)).isoformat(),
        planned_end=(now + timedelta(hours=4)).isoformat(),
    )

    # The release: a version with its file, drafted, planned, built, tested, approved by somebody else.
    upload(say, erik, "2.0")
    release = say(
        "erik", "releases", title="Billing 2.0", changes=[change["number"]], versions=["billing/2.0"], policy=POLICY
    )
    rel = f"releases/{release['number']}"
    assert release["items"][0]["label"] == "2.0"
    say("erik", f"{rel}/plan")
    say("erik", f"{rel}/build")
    # The test gate itself has tests of its own; here a second person excepts it.
    say("mona", f"{rel}/skip_test", reason="Tested by hand in the plant.")
    say("mona", f"{rel}/approve", comment="Go.")

    # The rollout: started by somebody else, watched, paused, resumed, completed.
    rollout = say("sven", f"{rel}/start_rollout")
    rol = f"rollouts/{rollout['number']}"
    ticks(3)
    shown = get("sven", rol)
    assert [wave["size"] for wave in shown["waves"]] == [1, 3]
    assert shown["waves"][0]["counts"]["queued"] == 1
    say("olga", f"{rol}/pause", reason="Wait for the plant.")
    assert get("olga", rol)["state"] == "paused"
    say("sven", f"{rol}/resume", reason="The plant is ready.")
    ticks(2)
    assert devices_install(rollout["id"], "2.0") == 1
    ticks(4)
    ticks(3, seconds=5)
    assert devices_install(rollout["id"], "2.0") == 3
    ticks(4, seconds=6)
    ticks(8, seconds=20)
    done = get("sven", rol)
    assert done["state"] == "completed", (done["state"], done["waits_for"], done["pause_reason"])
    assert [wave["counts"]["succeeded"] for wave in done["waves"]] == [1, 3]
    assert {verdict["outcome"] for verdict in get("sven", f"{rol}/verdicts")["results"]} == {"passed"}
    assert get("sven", f"{rol}/deployments", state="succeeded")["count"] == 4
    first = get("anna", f"{rol}/deployments", limit=1)["results"][0]
    assert get("anna", f"deployments/{first['id']}")["items"][0]["to_version"] == "2.0"
    assert "completed" in [event["kind"] for event in get("sven", f"{rol}/events")["results"]]

    # Everybody's own ticket knows it.
    for incident in (one, two):
        assert get("anna", f"incidents/{incident['number']}")["state"] == "resolved"
    assert get("paula", prb)["state"] == "resolved"
    assert get("rita", rfc)["state"] == "implemented"
    chain = {step["kind"]: step for step in get("anna", f"chain/{one['number']}")}
    assert [link["number"] for link in chain["problem"]["links"]] == [problem["number"]]
    assert [link["number"] for link in chain["change"]["links"]] == [change["number"]]
    assert [link["number"] for link in chain["release"]["links"]] == [release["number"]]
    assert [link["number"] for link in chain["rollout"]["links"]] == [rollout["number"]]
    assert "2.0" in chain["ci"]["text"]
    installed = get("anna", f"cis/{cis[0].number}/installed")["results"]
    assert [(row["label"], row["valid_to"] is None) for row in installed] == [("2.0", True), ("1.0", False)]
    threads = {notice["thread"] for notice in get("anna", "notices")["results"]}
    assert {one["number"], two["number"]} <= threads
    say("anna", "notices/mark_read", status=200)
    assert get("anna", "notices/unread_count")["count"] == 0

    # The internal note was never the requester's.
    anna = [entry["text"] for entry in get("anna", f"incidents/{one['number']}/timeline")["results"]]
    desk = [entry["text"] for entry in get("desk", f"incidents/{one['number']}/timeline")["results"]]
    assert "Seen before in the north plant." not in anna
    assert "Seen before in the north plant." in desk
    assert parse_datetime(get("anna", f"incidents/{one['number']}")["created_at"]) is not None

    # And back again.
    rolled = say("sven", f"{rol}/roll_back", reason="Invoices are empty.")
    assert rolled["state"] == "rolling_back"
    ticks(4)
    assert devices_install(rollout["id"], "1.0") == 4
    ticks(8, seconds=30)
    assert get("sven", rol)["state"] == "rolled_back"
    assert get("anna", f"incidents/{one['number']}")["hold_reason"] == "problem"
