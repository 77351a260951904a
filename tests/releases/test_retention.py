"""What the media library may forget: never what a CI runs, may go back to, or is about to get."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from distribution.models import Deployment
from releases import services
from releases.retention import look, sweep
from releases.services.content import check_ready
from software.models import Version
from software.services import store_artifact
from tests.distribution.fleet import stored_version
from tests.releases.test_going_back import completed
from tests.releases.world import BIG_BANG, World, state
from tickets.exceptions import ConditionRefused

pytestmark = pytest.mark.django_db
DAYS = 30


@pytest.fixture(autouse=True)
def policy(settings: Any) -> None:
    """Everything is kept for thirty days, and the newest version of each product for ever."""
    settings.LIBRARY_KEEP_DAYS, settings.LIBRARY_KEEP_VERSIONS = DAYS, 1


def later(world: World, days: int = DAYS) -> Any:
    return world.now + timedelta(days=days)


def reasons(world: World, version: Version) -> set[str]:
    (found,) = (finding for finding in look(now=later(world)) if finding.version == version)
    return set(found.reasons)


def file_of(version: Version) -> Path:
    return Path(version.artifacts.get().file.path)


def test_what_nothing_needs_goes_and_its_row_stays(world: World, django_capture_on_commit_callbacks: Any) -> None:
    old, new = file_of(world.old), file_of(world.new)
    assert sweep(now=later(world, DAYS - 1)) == []
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep(now=later(world)) == [world.old]
    assert (old.exists(), new.exists()) == (False, True)
    world.old.refresh_from_db()
    assert (world.old.state, world.old.artifacts.count()) == ("archived", 1)
    assert sweep(now=later(world)) == []


def test_nothing_goes_unless_it_is_asked_for(world: World, settings: Any) -> None:
    settings.LIBRARY_KEEP_DAYS = 0
    assert sweep(now=later(world, 9999)) == []


def test_the_newest_ones_stay(world: World, settings: Any) -> None:
    settings.LIBRARY_KEEP_VERSIONS = 2
    assert reasons(world, world.old) == {"one of the newest of its product"}


def test_what_runs_somewhere_stays(world: World) -> None:
    world.add_ci("srv-1")
    assert reasons(world, world.old) == {"runs on a CI"}
    assert sweep(now=later(world)) == []


def test_what_a_ci_may_go_back_to_stays_and_the_rollback_works_long_after(
    world: World, django_capture_on_commit_callbacks: Any
) -> None:
    rollout = completed(world)
    assert "a CI may go back to it" in reasons(world, world.old)
    world.now += timedelta(days=DAYS * 3)
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep(now=world.now) == []
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="found late")
    world.pass_time(2)
    assert state(rollout) == "rolled_back"
    assert set(world.runs().values()) == {"1.0"}


def test_what_is_on_its_way_or_in_an_open_release_stays(world: World) -> None:
    world.add_cis(1)
    newer = stored_version(world.billing, "9.0")
    rollout = world.started(world.new, policy=BIG_BANG)
    world.tick()
    assert {"a deployment with it is under way", "in an open release"} <= reasons(world, world.new)
    assert Deployment.objects.filter(batch__wave__rollout=rollout).exists()
    assert sweep(now=later(world)) == []
    assert newer.state == "ready"
    world.pass_time(3)


def test_a_withdrawn_version_that_runs_is_kept_too(world: World) -> None:
    world.add_ci("srv-1")
    Version.objects.filter(pk=world.old.pk).update(state="withdrawn")
    assert reasons(world, world.old) == {"runs on a CI"}


def test_a_file_that_another_version_has_stays(world: World, django_capture_on_commit_callbacks: Any) -> None:
    twin = Version.objects.create(product=world.billing, label="3.0", created_at=world.now)
    with file_of(world.old).open("rb") as stream:
        store_artifact(twin, actor=None, now=world.now, filename="same.tar.gz", stream=stream)
    with django_capture_on_commit_callbacks(execute=True):
        assert set(sweep(now=later(world))) == {world.old, world.new}
    assert file_of(twin).exists()


def test_an_archived_version_is_neither_packaged_nor_offered(world: World) -> None:
    release = world.draft(world.old)
    Version.objects.filter(pk=world.old.pk).update(state="archived")
    with pytest.raises(ConditionRefused, match=r"Billing 1\.0"):
        check_ready(release)


def test_the_command_says_what_and_why(world: World, capsys: Any, settings: Any) -> None:
    settings.LIBRARY_KEEP_DAYS = 1
    world.add_ci("srv-1")
    call_command("sweep_library", "--dry-run")
    shown = capsys.readouterr().out
    assert "kept     Billing 1.0: " in shown
    assert "runs on a CI" in shown
    world.old.refresh_from_db()
    assert world.old.state == "ready"


def test_one_query_for_the_whole_library(world: World, django_assert_num_queries: Any) -> None:
    for n in range(20):
        stored_version(world.billing, f"0.{n}")
    with django_assert_num_queries(2):
        assert len(list(look(now=later(world)))) == 22
