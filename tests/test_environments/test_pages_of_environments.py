"""What a page and the API show of one environment: whether it renews itself, its snapshots."""

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from test_environments import services
from test_environments.models import CopySource, GoldenImage, TestEnvironment
from tests.factories import NOW, make_ci, make_user
from tests.test_environments.source import install

pytestmark = pytest.mark.django_db

RENEWS = 'hx-trigger="every 3s"'


@pytest.fixture
def engineer():
    return make_user("engineer", "release engineer")


@pytest.fixture
def environment(tmp_path, settings, engineer) -> TestEnvironment:
    settings.TEST_ENVIRONMENT_SOURCES = tmp_path / "fleet"
    install(tmp_path / "fleet" / "till-7", "billing", "1.0")
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, folder="till-7", needs_approval=True)
    return services.request_environment(ci, actor=engineer, now=NOW, purpose="REL-0000002")


@pytest.mark.parametrize(
    ("row", "renews"),
    [
        ({"state": "ready", "is_wanted_running": True, "observed_power": "running"}, False),
        ({"state": "ready", "is_wanted_running": False, "observed_power": "off"}, False),
        ({"state": "ready", "is_wanted_running": False, "observed_power": "absent"}, False),
        ({"state": "ready", "is_wanted_running": True, "observed_power": "off"}, True),
        ({"state": "ready", "is_wanted_running": True, "observed_power": "starting"}, True),
        ({"state": "ready", "is_wanted_running": False, "observed_power": "running"}, True),
        ({"state": "ready", "is_wanted_running": True, "observed_power": "running", "task": "start"}, True),
        ({"state": "error", "observed_power": "off"}, False),
        ({"state": "error", "observed_power": "running", "task": "stop"}, True),
        ({"state": "applying"}, True),
        ({"state": "destroyed"}, False),
    ],
)
def test_a_page_renews_itself_as_long_as_something_changes(client, environment, engineer, row, renews) -> None:
    TestEnvironment.objects.update(**row)
    client.force_login(engineer)
    page = client.get(reverse("environment_detail", args=[environment.number])).content.decode()
    assert (RENEWS in page) is renews


def test_what_waits_for_a_persons_approval_is_not_asked_for_every_three_seconds(client, environment, engineer) -> None:
    client.force_login(engineer)
    address = reverse("environment_detail", args=[environment.number])
    assert RENEWS not in client.get(address).content.decode()
    GoldenImage.objects.update(state="approved", approval="standing")
    assert RENEWS in client.get(address).content.decode()


def test_the_api_says_who_took_a_snapshot(environment, engineer) -> None:
    TestEnvironment.objects.update(state="ready", is_wanted_running=True)
    environment.refresh_from_db()
    services.snapshot_environment(environment, actor=engineer, now=NOW, name="before")
    api = APIClient()
    api.force_authenticate(engineer)
    (snapshot,) = api.get(f"/api/v1/environments/{environment.number}/").json()["snapshots"]
    assert snapshot["name"] == "before"
    assert snapshot["taken_by"]["username"] == "engineer"
