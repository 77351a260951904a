"""What the validation of a plan finds, and that each finding says what to do."""

from datetime import time, timedelta
from typing import Any

import pytest

from cmdb.models import CIClass, ConfigurationItem, InstalledVersion, MaintenanceWindow
from releases import services
from releases.models import Release
from releases.plan_findings import findings
from tests.factories import make_product
from tests.releases.world import POLICY, World

pytestmark = pytest.mark.django_db
REST = {"rest": True}


def codes(release: Release, world: World) -> list[tuple[str, str]]:
    return [(finding.level, finding.code) for finding in findings(release, now=world.now)]


def texts(release: Release, world: World) -> str:
    return " ".join(finding.text for finding in findings(release, now=world.now))


def test_a_sound_plan_has_no_findings(world: World) -> None:
    world.add_cis(4)
    assert codes(world.draft(), world) == []


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        ({"min_sample": 9}, [("warning", "sample_too_large")]),
        ({"error_threshold": 100}, [("warning", "never_stops")]),
        ({"error_threshold": 100, "on_error": "rollback_all"}, [("error", "never_stops")]),
        ({"error_threshold": 100, "error_count": 1}, []),
        ({"error_count": 3}, [("warning", "count_without_effect")]),
        ({"error_count": 0}, [("warning", "percentage_without_effect")]),
        ({"error_count": 0, "error_threshold": 0}, []),
        ({"on_error": "rollback_wave"}, [("warning", "gap_between_thresholds")]),
        ({"on_error": "rollback_wave", "success_threshold": 80}, []),
        ({"on_error": "rollback_wave", "error_threshold": 0}, []),
    ],
)
def test_incoherent_thresholds_are_explained(world: World, policy: dict[str, Any], found: list[Any]) -> None:
    world.add_cis(4)
    release = world.draft(policy={**POLICY, **policy})
    assert codes(release, world) == found
    assert all(len(finding.text) > 40 for finding in findings(release, now=world.now))


def test_an_overlap_says_where_the_cis_are(world: World) -> None:
    cis = world.add_cis(5)
    keys = [ci.pk for ci in cis]
    release = world.draft(policy={**POLICY, "waves": [{"cis": keys[:3]}, {"count": 1}, {"cis": keys[1:3]}, REST]})
    assert codes(release, world) == [("warning", "wave_empty")]
    assert "Wave 3 would be empty because all its 2 CIs are in wave 1." in texts(release, world)
    release = world.draft(policy={**POLICY, "waves": [{"cis": keys[:3]}, {"count": 1}, {"cis": keys[2:4]}, REST]})
    assert "Wave 3 would be empty because its 2 CIs are in earlier ones: 1 CI in wave 1, 1 CI in wave 2." in texts(
        release, world
    )
    release = world.draft(policy={**POLICY, "waves": [{"cis": keys[:2]}, {"cis": keys[1:4]}, REST]})
    assert codes(release, world) == [("warning", "waves_overlap")]
    assert "Of the 3 CIs that fit wave 2, earlier ones take 1 CI in wave 1; 2 are left" in texts(release, world)


def test_an_empty_wave_is_told(world: World) -> None:
    world.add_cis(2)
    CIClass.objects.create(name="Desktop", slug="desktop-x")
    policy = {**POLICY, "waves": [{"ci_class": "desktop-x"}, {"count": 2}, {"count": 1}, REST]}
    release = world.draft(policy=policy)
    assert codes(release, world) == [("warning", "wave_empty"), ("warning", "wave_empty")]
    assert "none of the targets fits it" in texts(release, world)


def test_nobody_to_roll_out_to_is_an_error(world: World) -> None:
    assert codes(world.draft(), world) == [("error", "no_targets")]


def test_targets_without_a_way_back_are_an_error_until_somebody_accepts_it(world: World) -> None:
    one, _ = world.add_cis(2)
    InstalledVersion.objects.filter(ci=one).update(version=None)
    release = world.built()
    assert ("error", "no_way_back") in codes(release, world)
    services.record_exception(release, kind="no_way_back", ci=one, actor=world.mona, now=world.now, reason="a spare")
    assert ("warning", "no_way_back_accepted") in codes(release, world)
    assert one.name not in texts(release, world), "who may see which CI is for the page"


def test_a_window_that_does_not_open_in_the_planned_time_is_told(world: World) -> None:
    one, _ = world.add_cis(2)
    assert world.now.isoweekday() == 1
    window = MaintenanceWindow.objects.create(name="Sunday night", weekdays="7", start=time(1), minutes=120)
    ConfigurationItem.objects.filter(pk=one.pk).update(maintenance_window=window)
    change = world.change(planned_end=world.now + timedelta(days=2))
    release = world.draft(changes=[change])
    assert codes(release, world) == [("warning", "window_never_opens")]
    assert "1 CI may be changed only in “Sunday night”" in texts(release, world)
    change.planned_end = world.now + timedelta(days=7)
    change.save()
    assert codes(release, world) == []


def test_planned_times_that_are_over_or_apart_are_errors(world: World) -> None:
    world.add_cis(1)
    release = world.draft(changes=[world.change(planned_end=world.now - timedelta(minutes=1))])
    assert codes(release, world)[0] == ("error", "planned_end_passed")
    late = world.change(planned_start=world.now + timedelta(days=3), planned_end=world.now + timedelta(days=4))
    release = world.draft(changes=[world.change(planned_end=world.now + timedelta(days=1)), late])
    assert codes(release, world)[0] == ("error", "planned_times_apart")


def test_what_is_named_and_gets_nothing_is_told(world: World) -> None:
    one, two = world.add_cis(2)
    new = world.add_ci("new", billing="2.0")
    ConfigurationItem.objects.filter(pk=two.pk).update(lifecycle="retired")
    release = world.draft(targets={"cis": [one.pk, two.pk, new.pk]})
    assert codes(release, world) == [("warning", "named_get_nothing")]
    assert "name 3 CIs, of which 1 would get nothing" in texts(release, world)
    release = world.draft(targets={"cis": [one.pk, two.pk], "exclude": [two.pk]})
    assert codes(release, world) == []
    mail = make_product("mail")
    release = world.draft(targets={"fresh": {str(one.pk): [mail.pk]}})
    assert codes(release, world) == [("warning", "fresh_not_in_package")]
    release = world.draft(policy={**POLICY, "waves": [{"cis": [one.pk, two.pk]}, REST]})
    assert codes(release, world) == [("warning", "named_no_target")]
    assert "Of the CIs that wave 1 names, 1 is no target," in texts(release, world)
