"""Requests, retries, reservations and the tick, without a test host."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cmdb.models import AgentToken, ConfigurationItem
from cmdb.services import authenticate_agent, issue_agent_token
from notifications.models import Outbox
from test_environments import services
from test_environments.models import CopySource, GoldenImage, TestEnvironment
from tests.factories import make_ci, make_user
from tests.test_environments.source import install
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, TransitionRefused
from tickets.lifecycle import move

pytestmark = pytest.mark.django_db

State = TestEnvironment.State


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, settings) -> Path:
    settings.TEST_ENVIRONMENT_SOURCES = tmp_path / "fleet"
    settings.TEST_ENVIRONMENT_ROOT = tmp_path / "copies"
    install(tmp_path / "fleet" / "till-7", "billing", "1.0")
    return tmp_path / "fleet"


@pytest.fixture
def engineer(db):
    return make_user("engineer", "release engineer")


@pytest.fixture
def till(db) -> ConfigurationItem:
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, folder="till-7")
    return ci


@pytest.fixture
def environment(till, engineer, now) -> TestEnvironment:
    return services.request_environment(till, actor=engineer, now=now, purpose="REL-0000002")


def walk(environment: TestEnvironment, *verbs: str, now: datetime, **values: object) -> TestEnvironment:
    """Takes an environment through transitions of the portal, as the test host would."""
    for verb in verbs:
        move(environment, verb, actor=None, now=now)
    if values:
        TestEnvironment.objects.filter(pk=environment.pk).update(**values)
        environment.refresh_from_db()
    return environment


def take_image() -> None:
    """The image as the test host leaves it."""
    GoldenImage.objects.update(state="ready", source_sha256="a" * 64, image_sha256="a" * 64)


def make_ready(environment: TestEnvironment, now: datetime) -> TestEnvironment:
    walk(environment, "capture", "provision", now=now, is_wanted_running=True)
    ConfigurationItem.objects.filter(pk=environment.copy_id).update(attributes_at=now)
    assert services.advance_test_environments(now=now) == 1
    environment.refresh_from_db()
    return environment


def test_a_request_registers_the_copy_with_an_identity_of_its_own(environment, till, engineer):
    copy = environment.copy
    assert environment.state == State.REQUESTED
    assert (environment.requested_by, environment.purpose) == (engineer, "REL-0000002")
    assert copy.copy_of == till
    assert copy.agent_id == f"till-7-copy-{environment.pk}"
    assert (copy.owner, copy.lifecycle, copy.ci_class) == (None, "in_operation", till.ci_class)


def test_a_copy_is_never_part_of_production(environment, till):
    assert list(ConfigurationItem.objects.production()) == [till]


def test_two_copies_of_one_ci_stand_side_by_side(environment, till, engineer, now):
    other = services.request_environment(till, actor=engineer, now=now, versions={"billing": "0.9"})
    assert other.versions == {"billing": "0.9"}
    assert other.copy.agent_id != environment.copy.agent_id


def test_a_long_name_leaves_room_for_the_copys_own(engineer, now, sources):
    ci = make_ci("n" * 128, agent_id="a" * 128)
    CopySource.objects.create(ci=ci, folder="till-7")
    copy = services.request_environment(ci, actor=engineer, now=now).copy
    assert len(copy.name) == len(copy.agent_id) == 128


def test_a_request_needs_the_right(till, now):
    with pytest.raises(PermissionRefused, match="manage_environments"):
        services.request_environment(till, actor=make_user("mona", "service desk"), now=now)
    assert not TestEnvironment.objects.exists()


def test_a_ci_without_a_folder_is_refused_until_an_administrator_names_one(till, engineer, now):
    CopySource.objects.all().delete()
    with pytest.raises(ConditionRefused, match="Sources of copies"):
        services.request_environment(till, actor=engineer, now=now)


@pytest.mark.parametrize("lifecycle", ["retired", "disposed"])
def test_a_retired_ci_is_refused(till, engineer, now, lifecycle):
    till.lifecycle = lifecycle
    with pytest.raises(ConditionRefused, match="retired"):
        services.request_environment(till, actor=engineer, now=now)


def test_a_copy_is_not_copied_again(environment, engineer, now):
    CopySource.objects.create(ci=environment.copy, folder="till-7")
    with pytest.raises(ConditionRefused, match="copy for tests itself"):
        services.request_environment(environment.copy, actor=engineer, now=now)


def test_a_ci_without_an_agent_is_refused(till, engineer, now):
    till.agent_id = None
    with pytest.raises(ConditionRefused, match="no agent"):
        services.request_environment(till, actor=engineer, now=now)


@pytest.mark.parametrize("folder", ["../fleet/till-7", "/etc", "till-7/..", "alias", "missing", "till-7/facts.json"])
def test_a_folder_out_of_bounds_is_refused(till, engineer, now, sources, folder):
    (sources / "alias").symlink_to(sources / "till-7")
    CopySource.objects.update(folder=folder)
    with pytest.raises(ConditionRefused, match="cannot be copied"):
        services.request_environment(till, actor=engineer, now=now)
    assert not TestEnvironment.objects.exists()


def test_the_form_of_an_administrator_refuses_such_a_folder_too(till):
    with pytest.raises(ValidationError):
        CopySource(ci=till, folder="../till-7").full_clean()


def test_a_purpose_that_is_too_long_is_refused(till, engineer, now):
    with pytest.raises(InvalidInput, match="64"):
        services.request_environment(till, actor=engineer, now=now, purpose="x" * 65)


def test_a_copy_is_ready_once_its_agent_has_reported(environment, now):
    walk(environment, "capture", "provision", now=now, is_wanted_running=True)
    assert services.advance_test_environments(now=now) == 0
    make_copy_report(environment, now)
    assert services.advance_test_environments(now=now) == 1
    environment.refresh_from_db()
    assert environment.state == State.READY


def make_copy_report(environment: TestEnvironment, now: datetime) -> None:
    ConfigurationItem.objects.filter(pk=environment.copy_id).update(attributes_at=now)


def test_a_report_from_before_the_copy_was_made_does_not_count(environment, now):
    make_copy_report(environment, now)
    walk(environment, "capture", "provision", now=now)
    assert services.advance_test_environments(now=now) == 0


def test_only_one_package_at_a_time_is_applied(environment, now):
    make_ready(environment, now)
    rival = TestEnvironment.objects.get(pk=environment.pk)
    services.begin_apply(environment, now=now)
    with pytest.raises(TransitionRefused):
        services.begin_apply(rival, now=now)
    services.end_apply(rival, now=now)
    services.end_apply(rival, now=now)
    assert TestEnvironment.objects.get().state == State.READY


def test_nothing_is_applied_to_a_copy_that_is_not_ready(environment, now):
    with pytest.raises(TransitionRefused):
        services.begin_apply(environment, now=now)


def test_destroying_cuts_the_copy_off_at_once_and_keeps_the_record(environment, engineer, now):
    make_ready(environment, now)
    token = issue_agent_token(environment.copy, actor=None, now=now)
    services.destroy_environment(environment, actor=engineer, now=now)
    environment.refresh_from_db()
    assert environment.state == State.DESTROYING
    assert not environment.is_wanted_running
    assert authenticate_agent(environment.copy.agent_id, token) is None
    assert ConfigurationItem.objects.get(pk=environment.copy_id).lifecycle == "retired"


def test_destroying_again_changes_nothing(environment, engineer, now):
    services.destroy_environment(environment, actor=engineer, now=now)
    stale = TestEnvironment.objects.get()
    walk(environment, "finish_destroying", now=now)
    services.destroy_environment(stale, actor=engineer, now=now + timedelta(days=1))
    assert TestEnvironment.objects.get().state == State.DESTROYED
    assert TestEnvironment.objects.get().updated_at == now


def test_destroying_wins_over_a_step_of_the_host_that_came_first(environment, engineer, now):
    walk(TestEnvironment.objects.get(), "capture", now=now)
    services.destroy_environment(environment, actor=engineer, now=now)
    assert TestEnvironment.objects.get().state == State.DESTROYING


def test_destroying_needs_the_right_in_every_state(environment, now):
    outsider = make_user("mona", "service desk")
    with pytest.raises(PermissionRefused):
        services.destroy_environment(environment, actor=outsider, now=now)
    services.destroy_environment(environment, actor=None, now=now)
    with pytest.raises(PermissionRefused):
        services.destroy_environment(environment, actor=outsider, now=now)


def test_an_error_remembers_where_it_came_from_and_a_retry_begins_again(environment, engineer, now):
    walk(environment, "capture", now=now, is_wanted_running=True)
    services.fail_environment(environment, now=now, text="disk full")
    environment.refresh_from_db()
    assert (environment.error_from, environment.last_error) == ("capturing", "disk full")
    assert not environment.is_wanted_running
    services.retry_environment(environment, actor=engineer, now=now)
    environment.refresh_from_db()
    assert (environment.state, environment.error_from, environment.last_error) == ("requested", "", "")


def test_a_failed_destruction_is_retried_as_a_destruction(environment, engineer, now):
    services.destroy_environment(environment, actor=engineer, now=now)
    services.fail_environment(environment, now=now, text="busy")
    services.retry_environment(environment, actor=engineer, now=now)
    assert TestEnvironment.objects.get().state == State.DESTROYING


def test_a_retry_needs_an_error_and_the_right(environment, engineer, now):
    with pytest.raises(TransitionRefused):
        services.retry_environment(environment, actor=engineer, now=now)
    services.fail_environment(environment, now=now, text="x")
    with pytest.raises(PermissionRefused):
        services.retry_environment(environment, actor=make_user("mona", "service desk"), now=now)


@pytest.mark.parametrize("steps", [["capture"], ["capture", "provision"], ["destroy"]])
def test_work_whose_lease_ran_out_ends_in_an_error_that_offers_a_retry(environment, engineer, now, steps):
    take_image()
    walk(environment, *steps, now=now, lease="7" * 32, leased_until=now + timedelta(seconds=30))
    comes_back = timedelta(minutes=5)  # a host that was killed, or another one
    assert services.advance_test_environments(now=now + comes_back + timedelta(seconds=29)) == 0
    assert services.advance_test_environments(now=now + comes_back + timedelta(seconds=31)) == 1
    environment.refresh_from_db()
    assert (environment.state, environment.lease) == (State.ERROR, None)
    assert "retry" in environment.last_error
    services.retry_environment(environment, actor=engineer, now=now)


def test_an_agent_that_stays_silent_ends_in_an_error(environment, now):
    walk(environment, "capture", "provision", now=now, is_wanted_running=True)
    assert services.advance_test_environments(now=now + timedelta(minutes=2)) == 0
    assert services.advance_test_environments(now=now + timedelta(minutes=4)) == 1
    assert "has not reported within 3 minutes" in TestEnvironment.objects.get().last_error


def test_a_request_that_no_host_takes_says_what_to_start(environment, now):
    assert services.advance_test_environments(now=now + timedelta(minutes=9)) == 0
    assert services.advance_test_environments(now=now + timedelta(minutes=11)) == 2  # the image and its environment
    assert "run_test_hosts" in TestEnvironment.objects.get().last_error


def test_a_request_waits_as_long_as_a_host_is_there(environment, now):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [services.HOST_LOCK])
        try:
            assert services.is_host_running()
            assert services.advance_test_environments(now=now + timedelta(days=1)) == 0
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [services.HOST_LOCK])
    assert not services.is_host_running()


def test_a_second_tick_writes_nothing(environment, now):
    make_ready(environment, now)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert services.advance_test_environments(now=now) == 0
    assert {q["sql"][:6] for q in queries} == {"SELECT"}


def test_every_token_of_a_copy_is_revoked(environment, engineer, now):
    for _ in range(2):
        issue_agent_token(environment.copy, actor=None, now=now)
    services.destroy_environment(environment, actor=engineer, now=now)
    assert not AgentToken.objects.filter(revoked_at=None).exists()


def test_those_who_may_approve_a_copy_of_production_are_asked_until_one_does(till, now):
    both = make_user("both", "release engineer", "release manager")
    boss = make_user("boss", "release manager")
    CopySource.objects.filter(ci=till).update(classification="confidential")
    image = services.request_image(till, actor=both, now=now, reason="A test")
    asked = Outbox.objects.filter(thread=image.number, kind="answer", read_at__isnull=True)
    assert [notice.recipient for notice in asked] == [boss]
    assert (asked[0].path, "A test" in asked[0].text) == (f"/environments/images/{image.number}/", True)
    services.approve_image(image, actor=boss, now=now)
    assert not asked.all().exists()
