"""Golden images: who may take, approve and delete them; environments: what a lease is and how use renews it."""

from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from notifications.models import Outbox
from test_environments import services
from test_environments.models import CopySource, EnvironmentEvent, GoldenImage, TestEnvironment
from tests.factories import make_ci, make_user
from tests.test_environments.source import install
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, SeparationOfDuties, TransitionRefused
from tickets.lifecycle import move

pytestmark = pytest.mark.django_db

State = GoldenImage.State


@pytest.fixture
def engineer(db):
    return make_user("engineer", "release engineer")


@pytest.fixture
def manager(db):
    return make_user("manager", "release manager")


@pytest.fixture
def till(db, tmp_path, settings):
    settings.TEST_ENVIRONMENT_SOURCES = tmp_path / "fleet"
    install(tmp_path / "fleet" / "till-7", "billing", "1.0")
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, folder="till-7")
    return ci


def take(image: GoldenImage, now: datetime) -> GoldenImage:
    """The image as the test host leaves it."""
    move(image, "capture", actor=None, now=now)
    move(image, "become_ready", actor=None, now=now, update={"source_sha256": "a" * 64, "image_sha256": "b" * 64})
    return image


def test_software_that_is_released_for_copies_stands_under_that_approval(till, engineer, now):
    image = services.request_image(till, actor=engineer, now=now)
    assert (image.state, image.approval, image.approved_by) == (State.APPROVED, "standing", None)
    assert image.retain_until == now + timedelta(days=90)


@pytest.mark.parametrize(
    "stricter", [{"needs_approval": True}, {"classification": "personal"}, {"kind": "vm", "method": "disk"}]
)
def test_what_may_hold_data_waits_for_somebody_elses_approval(till, engineer, manager, now, stricter):
    CopySource.objects.update(**stricter)
    with pytest.raises(InvalidInput, match="needed for"):
        services.request_image(till, actor=engineer, now=now)
    environment = services.request_environment(till, actor=engineer, now=now, purpose="REL-0000002")
    image = environment.image
    assert (image.state, image.approval) == (State.REQUESTED, "")
    assert services.advance_test_environments(now=now + timedelta(days=1)) == 0

    with pytest.raises(PermissionRefused):
        services.approve_image(image, actor=engineer, now=now)
    with pytest.raises(PermissionRefused):
        services.approve_image(image, actor=make_user("mona", "service desk"), now=now)
    services.approve_image(image, actor=manager, now=now)
    image.refresh_from_db()
    assert (image.state, image.approval, image.approved_by, image.approved_at) == ("approved", "person", manager, now)


def test_whoever_asked_never_approves_whatever_his_rights(till, now):
    CopySource.objects.update(needs_approval=True)
    root = make_user("root", is_superuser=True)
    image = services.request_image(till, actor=root, now=now, reason="Look at a fault.")
    with pytest.raises(SeparationOfDuties, match="somebody else"):
        services.approve_image(image, actor=root, now=now)


def test_a_program_never_approves(till, engineer, now):
    CopySource.objects.update(needs_approval=True)
    image = services.request_image(till, actor=engineer, now=now, reason="Look at a fault.")
    program = make_user("pipeline", "release manager", is_service_account=True)
    with pytest.raises(SeparationOfDuties, match="service account"):
        services.approve_image(image, actor=program, now=now)


def test_nothing_is_captured_without_an_approval_not_even_behind_the_services(till, engineer, now):
    CopySource.objects.update(needs_approval=True)
    image = services.request_image(till, actor=engineer, now=now, reason="x")
    with pytest.raises(IntegrityError), transaction.atomic():
        GoldenImage.objects.filter(pk=image.pk).update(state="capturing")


def test_an_image_is_never_deleted_while_a_clone_lives(till, engineer, now):
    image = take(services.request_image(till, actor=engineer, now=now), now)
    one = services.request_environment(till, actor=engineer, now=now, image=image)
    services.request_environment(till, actor=engineer, now=now, image=image)
    assert GoldenImage.objects.get().references == 2
    with pytest.raises(ConditionRefused, match="used by 2 environments"):
        services.delete_image(image, actor=engineer, now=now)
    with pytest.raises(IntegrityError), transaction.atomic():
        GoldenImage.objects.update(state="deleting")
    with pytest.raises(ProtectedError):
        image.delete()
    services.destroy_environment(one, actor=engineer, now=now)
    assert GoldenImage.objects.get().references == 2  # until nothing of it is left


def test_an_image_that_was_kept_stays_without_a_clone_until_its_time_is_over(till, engineer, now):
    image = take(services.request_image(till, actor=engineer, now=now), now)
    environment = services.request_environment(till, actor=engineer, now=now, image=image)
    destroyed(environment, now)
    image.refresh_from_db()
    assert (image.state, image.references) == (State.READY, 0)
    services.advance_test_environments(now=now + timedelta(days=91))
    assert GoldenImage.objects.get().state == State.DELETING


def destroyed(environment: TestEnvironment, now: datetime) -> None:
    from test_environments.services.environments import finish_destroying

    services.destroy_environment(environment, actor=None, now=now)
    finish_destroying(environment, now=now)


def test_an_image_that_was_only_for_one_copy_goes_with_it(till, engineer, now):
    environment = services.request_environment(till, actor=engineer, now=now)
    take(environment.image, now)
    destroyed(environment, now)
    assert GoldenImage.objects.get().state == State.DELETING


def test_an_image_that_goes_is_not_cloned(till, engineer, now):
    image = take(services.request_image(till, actor=engineer, now=now), now)
    stale = GoldenImage.objects.get()
    services.delete_image(image, actor=engineer, now=now)
    with pytest.raises(TransitionRefused):
        services.request_environment(till, actor=engineer, now=now, image=stale)
    assert not TestEnvironment.objects.exists()


def test_an_image_of_another_ci_is_refused(till, engineer, now):
    image = services.request_image(till, actor=engineer, now=now)
    other = make_ci("till-8", agent_id="till-8")
    CopySource.objects.create(ci=other, folder="till-7")
    with pytest.raises(InvalidInput, match="another CI"):
        services.request_environment(other, actor=engineer, now=now, image=image)


def test_a_machine_is_isolated_and_linked_unless_somebody_says_otherwise(till, engineer, now, settings):
    settings.TEST_ENVIRONMENT_DRIVERS = {**settings.TEST_ENVIRONMENT_DRIVERS, "libvirt": {}}
    CopySource.objects.update(kind="vm", method="disk", driver="libvirt")
    environment = services.request_environment(till, actor=engineer, now=now, purpose="REL-0000002", memory_mb=256)
    assert (environment.network, environment.clone, environment.memory_mb) == ("isolated", "linked", 256)
    assert (environment.driver, environment.evidence) == ("libvirt", "")


def test_a_driver_that_is_not_set_up_is_refused_at_once(till, engineer, now):
    CopySource.objects.update(driver="libvirt")
    with pytest.raises(ConditionRefused, match="TEST_ENVIRONMENT_DRIVERS"):
        services.request_environment(till, actor=engineer, now=now)


@pytest.fixture
def ready(till, engineer, now) -> TestEnvironment:
    environment = services.request_environment(till, actor=engineer, now=now)
    take(environment.image, now)
    for verb in ("capture", "provision", "become_ready"):
        move(environment, verb, actor=None, now=now)
    TestEnvironment.objects.update(is_wanted_running=True)
    environment.refresh_from_db()
    return environment


def test_who_asked_is_told_once_before_each_lease_ends(ready, engineer, now):
    assert (ready.stop_at, ready.delete_at) == (now + timedelta(hours=72), now + timedelta(hours=336))
    assert services.advance_test_environments(now=now + timedelta(hours=53)) == 0
    for _ in range(2):
        services.advance_test_environments(now=now + timedelta(hours=55))
    notice = Outbox.objects.get()
    assert (notice.recipient, notice.thread) == (engineer, ready.number)
    assert "will be stopped" in notice.subject
    assert "Extend" in notice.text


def test_a_lease_that_ended_stops_it_and_later_destroys_it(ready, now):
    services.advance_test_environments(now=now + timedelta(hours=73))
    ready.refresh_from_db()
    assert (ready.state, ready.is_wanted_running) == ("ready", False)
    services.advance_test_environments(now=now + timedelta(hours=337))
    ready.refresh_from_db()
    assert ready.state == "destroying"
    assert EnvironmentEvent.objects.filter(environment=ready, text__contains="lease ended").exists()


def test_a_stopped_environment_takes_no_package_until_it_is_started(ready, engineer, now):
    services.stop_environment(ready, actor=engineer, now=now)
    ready.refresh_from_db()
    with pytest.raises(ConditionRefused, match="Start it first"):
        services.begin_apply(ready, now=now)
    services.start_environment(ready, actor=engineer, now=now)
    ready.refresh_from_db()
    services.begin_apply(ready, now=now)


def test_a_lease_never_cuts_off_a_package_that_is_being_applied(ready, now):
    services.begin_apply(ready, now=now)
    assert services.advance_test_environments(now=now + timedelta(days=90)) == 0


def test_use_renews_both_leases_in_their_second_half_only(ready, engineer, now):
    assert not services.renew_by_use(ready, now=now + timedelta(hours=30))
    assert services.renew_by_use(ready, now=now + timedelta(hours=40))
    ready.refresh_from_db()
    assert ready.stop_at == now + timedelta(hours=112)
    services.extend_environment(ready, actor=engineer, now=now + timedelta(hours=41))
    ready.refresh_from_db()
    assert ready.stop_at == now + timedelta(hours=113)
    with pytest.raises(PermissionRefused):
        services.extend_environment(ready, actor=make_user("mona", "service desk"), now=now)


def test_a_step_that_hangs_beyond_its_deadline_ends_in_an_error(ready, now):
    services.snapshot_environment(ready, actor=None, now=now, name="a")
    held = {"lease": "7" * 32, "task": "snapshot", "task_started_at": now, "task_deadline": now + timedelta(minutes=5)}
    TestEnvironment.objects.update(**held, leased_until=now + timedelta(hours=1))
    assert services.advance_test_environments(now=now + timedelta(minutes=5)) == 0
    assert services.advance_test_environments(now=now + timedelta(minutes=7)) == 1
    ready.refresh_from_db()
    assert (ready.state, ready.error_from, ready.lease) == ("error", "snapshotting", None)
    services.revert_environment(ready, actor=None, now=now)


def test_a_snapshot_has_a_name_of_its_own_and_a_revert_needs_a_complete_one(ready, engineer, now):
    services.snapshot_environment(ready, actor=engineer, now=now, name="before 2.0")
    move(ready, "start_again", actor=None, now=now)
    move(ready, "become_ready", actor=None, now=now)
    with pytest.raises(InvalidInput, match="already"):
        services.snapshot_environment(ready, actor=engineer, now=now, name="before 2.0")
    with pytest.raises(ConditionRefused, match="complete"):
        services.revert_environment(ready, actor=engineer, now=now, snapshot="before 2.0")
