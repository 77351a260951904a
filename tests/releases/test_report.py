"""The report of a rollout: every CI counts once, and it says what was decided and how long it took."""

import csv
import io
import itertools

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from distribution.models import OPEN, Deployment, DeploymentState
from releases import services
from releases.models import Rollout, Wave
from releases.report import OUTCOMES, outcome_of, report_of, rows_of
from tests.factories import make_user
from tests.portal.story import tell_story
from tests.releases.world import World

pytestmark = pytest.mark.django_db

PHASED = {
    "strategy": "phased",
    "waves": [{"count": 2}, {"rest": True}],
    "error_threshold": 60,
    "on_error": "pause",
    "soak_seconds": 10,
}


def outcomes(report) -> dict[str, int]:
    return {one.name: one.count for one in report.outcomes if one.count}


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def rollout(world: World) -> Rollout:
    """Eight CIs: one fails, one is excluded, it is paused for a minute, and the rest gets the version."""
    cis = world.add_cis(8)
    rollout = world.started(policy={**PHASED, "success_threshold": 50})
    world.mood("fails", cis[3])
    world.tick()
    services.exclude_ci(rollout, ci=cis[7], actor=world.olga, now=world.now, reason="in the workshop")
    world.pass_time(rounds=2)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="The shop is full of people.")
    world.tick(60)
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="They have gone.")
    world.pass_time(rounds=4)
    rollout.refresh_from_db()
    assert rollout.state == "completed"
    return rollout


def test_each_ci_counts_once_and_the_course_is_told(world: World, rollout: Rollout) -> None:
    report = report_of(rollout, world.mona, now=world.now)
    assert outcomes(report) == {"updated": 6, "failed": 1, "excluded": 1}
    assert report.total == rollout.target_count == 8
    assert [(row.takes, row.counts.total) for row in report.waves] == [("2", 2), ("rest", 6)]
    assert [one.count for one in report.failures] == [1]
    assert report.failures[0].message
    (pause,) = report.pauses
    assert (pause.seconds, pause.reason, pause.by) == (60, "The shop is full of people.", world.olga)
    assert (pause.resumed_by, pause.resumed_reason) == (world.mona, "They have gone.")
    assert report.seconds == (rollout.finished_at - rollout.started_at).total_seconds()
    assert report.median_seconds is not None
    assert report.lead_seconds is not None
    assert [approval.approver for approval in report.release_approvals] == [world.mona]
    assert [one.kind for one in report.exceptions] == ["test_skipped"]
    assert {row.outcome for row in rows_of(rollout, world.mona)} == {"updated", "failed", "excluded"}


def test_what_goes_back_is_no_longer_updated(world: World, rollout: Rollout) -> None:
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="Invoices are empty")
    under_way = outcomes(report_of(rollout, world.mona, now=world.now))
    assert sum(under_way.values()) == 8
    world.pass_time(rounds=3)
    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"
    report = report_of(rollout, world.mona, now=world.now)
    assert outcomes(report)["went_back"] >= 6
    assert report.total == 8
    assert "updated" not in outcomes(report)
    assert [row.wave.kind for row in report.waves] == ["forward", "forward", "rollback"]


def test_any_state_there_and_back_has_one_outcome() -> None:
    states = [state.value for state in DeploymentState]
    for there, back in itertools.product(states, [*states, None]):
        found = outcome_of(there, back)
        assert found in OUTCOMES
        if back in {"cancelled", "superseded"}:
            assert found == outcome_of(there, None), "a way back that was called off says nothing"
        elif (back or there) in {str(state) for state in OPEN}:
            assert found == "open", (there, back)
    assert outcome_of("succeeded", "failed") == "not_back"
    assert outcome_of("superseded", None) == "cancelled"


def test_the_page_and_the_api_say_the_same(world: World, rollout: Rollout) -> None:
    client = signed_in(world.mona)
    page = client.get(f"/rollouts/{rollout.number}/report/").content.decode()
    for text in ("The shop is full of people.", "in the workshop", "updated", "srv-4", "data-print"):
        assert (text in page) == (text not in {"in the workshop", "srv-4"}), text
    said = client.get(f"/api/v1/rollouts/{rollout.number}/report/").json()
    assert {one["name"]: one["count"] for one in said["outcomes"] if one["count"]} == {
        "updated": 6, "failed": 1, "excluded": 1,
    }  # fmt: skip
    assert (said["total"], said["pauses"][0]["seconds"], said["is_over"]) == (8, 60, True)
    answer = client.get(f"/rollouts/{rollout.number}/report/?as=csv")
    lines = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
    assert {line["CI"]: line["Outcome"] for line in lines}["srv-4"] == "failed"
    assert {line["CI"]: line["Reason"] for line in lines}["srv-8"].endswith("in the workshop")


def test_who_may_see_less_reads_less(world: World, rollout: Rollout) -> None:
    stranger, owner = make_user("nora", "requester"), make_user("omar", "CI owner")
    assert signed_in(stranger).get(f"/rollouts/{rollout.number}/report/").status_code == 404
    ci = Deployment.objects.filter(batch__wave__rollout=rollout, state="succeeded").latest("pk").ci
    ci.owner = owner
    ci.save(update_fields=["owner"])
    page = signed_in(owner).get(f"/rollouts/{rollout.number}/report/")
    assert page.status_code == 200
    assert "full of people" not in page.content.decode()
    report = report_of(rollout, owner, now=world.now)
    assert [one.message for one in report.failures] == [""]
    assert report.total == 8, "counts are for all"
    assert [row.name for row in rows_of(rollout, owner)] == [ci.name]


@pytest.mark.parametrize("size", [6, 18])
def test_it_costs_the_same_for_any_number_of_cis(size: int) -> None:
    story = tell_story(size)
    with CaptureQueriesContext(connection) as queries:
        report = report_of(story.rollout, story.manager, now=story.rollout.started_at)
    assert not report.is_over
    assert report.total == size
    assert len(queries) == 20
    assert Wave.objects.filter(rollout=story.rollout).count() == 3
