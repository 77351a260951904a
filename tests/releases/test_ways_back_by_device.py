"""Ways back that devices go themselves: who can is known before the start, and what was declared is what is ordered."""

import pytest
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from cmdb.models import ConfigurationItem
from distribution.channels.ddi import payload
from distribution.models import Deployment, DeploymentItem
from releases import services
from releases.invariants import check_invariants
from releases.models import RolloutException
from releases.plan_findings import findings
from releases.policy import RolloutPolicy
from tests.releases.test_going_back import completed
from tests.releases.world import BIG_BANG, World, deployments, state
from tickets.exceptions import ConditionRefused

pytestmark = pytest.mark.django_db
SCRIPT = {"billing": "script"}


def able(world: World, *cis: ConfigurationItem, ways: str = "script,snapshot") -> None:
    """The agents of these CIs say that they can go these ways."""
    for device in world.devices:
        if device.ci in cis:
            device.says = {"agent.ways_back": ways}
            device._tell(world.now)


def told(deployment: Deployment) -> list[dict[str, str]]:
    """What the device reads about the way back."""
    request = RequestFactory().get("/")
    body = payload.deployment(
        payload.base_url(request, deployment.ci), deployment, deployment.ci, 0, deployment.moved_at
    )
    return [entry for chunk in body["deployment"]["chunks"] for entry in chunk.get("metadata", [])]


@pytest.mark.parametrize("way", ["script", "snapshot"])
def test_the_way_is_declared_with_the_package_and_ordered_with_the_way_back(world: World, way: str) -> None:
    able(world, *world.add_cis(2))
    rollout = completed(world, ways_back={"billing": way})
    forward = Deployment.objects.filter(batch__purpose="forward").first()
    assert told(forward) == [{"key": "itsm.way_back", "value": way}]

    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    back = Deployment.objects.filter(batch__purpose="rollback").first()
    assert told(back) == [{"key": "itsm.go_back", "value": way}]
    world.pass_time(2)
    assert (state(rollout), world.runs()) == ("rolled_back", {"srv-1": "1.0", "srv-2": "1.0"})
    assert check_invariants(tolerance=0) == []


def test_a_reinstallation_tells_devices_nothing_new(world: World) -> None:
    world.add_cis(1)
    completed(world)
    assert told(Deployment.objects.get()) == []


def test_who_cannot_is_found_before_the_start(world: World) -> None:
    one, two, three = world.add_cis(3)
    able(world, one)
    able(world, two, ways="snapshot")
    release = world.approved(ways_back=SCRIPT, policy=BIG_BANG)
    (finding,) = [f for f in findings(release, now=world.now) if f.level == "error"]
    assert (finding.code, finding.text[:6]) == ("way_back_unsupported", "2 CIs ")
    with pytest.raises(ConditionRefused, match="srv-2, srv-3") as refused:
        services.start_rollout(release, actor=world.sven, now=world.now)
    assert refused.value.code == "no_way_back"

    kind = RolloutException.Kind.NO_WAY_BACK
    for ci in (two, three):
        services.record_exception(release, kind=kind, actor=world.mona, now=world.now, reason="a test till", ci=ci)
    assert [f.code for f in findings(release, now=world.now)] == ["no_way_back_accepted"]
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    world.pass_time(3)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.pass_time(2)
    assert deployments(rollout, "rollback") == {"srv-1": "succeeded"}
    assert state(rollout) == "rolled_back_with_exceptions"
    lost = rollout.exceptions.filter(kind=kind, rollout=rollout).order_by("ci__name")
    assert list(lost.values_list("ci__name", flat=True)) == ["srv-2", "srv-3"], "and nothing was pretended"


def test_a_plan_may_have_them_reinstalled(world: World) -> None:
    one, _two = world.add_cis(2)
    able(world, one)
    release = world.approved(ways_back=SCRIPT, policy={**BIG_BANG, "or_reinstall": True})
    assert [(f.level, f.code) for f in findings(release, now=world.now)] == [("warning", "way_back_reinstalls")]
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    world.pass_time(3)
    ways = DeploymentItem.objects.order_by("deployment__ci__name").values_list("way_back", flat=True)
    assert list(ways) == ["script", "reinstall"]
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.pass_time(2)
    assert state(rollout) == "rolled_back"
    assert check_invariants(tolerance=0) == []


def test_an_agent_that_can_no_longer_is_listed_and_not_sent_another_way(world: World) -> None:
    one, two = world.add_cis(2)
    able(world, one, two)
    rollout = completed(world, ways_back=SCRIPT)
    able(world, two, ways="")
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.pass_time(2)
    assert deployments(rollout, "rollback") == {"srv-1": "succeeded"}
    assert state(rollout) == "rolled_back_with_exceptions"


def test_another_way_than_the_declared_one_breaks_an_invariant(world: World) -> None:
    able(world, *world.add_cis(1))
    rollout = completed(world, ways_back=SCRIPT)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.pass_time(2)
    back = DeploymentItem.objects.filter(deployment__batch__purpose="rollback")
    back.update(way_back="reinstall")
    (violation,) = check_invariants(tolerance=0)
    back.update(way_back="script")
    assert "was to leave the version by “script”" in violation.text


def test_the_new_field_leaves_older_approvals_alone() -> None:
    assert "or_reinstall" not in RolloutPolicy().to_json()
    with pytest.raises(Exception, match="true or false"):
        RolloutPolicy.from_json({"or_reinstall": "yes"})


def test_who_can_is_asked_in_as_many_statements_for_a_large_fleet_as_for_a_small_one(world: World) -> None:
    able(world, *world.add_cis(1))
    release = world.approved(ways_back=SCRIPT)

    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            findings(release, now=world.now)
        return len(queries)

    asked()
    few = asked()
    for n in range(20):
        world.add_ci(f"more-{n}")
    assert asked() == few
