"""The operations page and the metrics: for those with the right, and true also when Valkey is away."""

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis
from django.contrib.auth.models import Group
from django.test import Client

from accounts.models import User
from itsm_portal import heartbeats
from notifications.models import Outbox
from releases.models import SelfCheck
from tests.factories import ensure_roles
from tickets.clock import database_now

pytestmark = pytest.mark.django_db
TOKEN = "t" * 40


@pytest.fixture(autouse=True)
def signs_of_this_test_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(heartbeats, "KEY", f"test:{uuid.uuid4()}")
    heartbeats._state.update(client=None, not_before=0.0)
    yield
    heartbeats._state.update(client=None, not_before=0.0)
    heartbeats._client().delete(heartbeats.KEY)


def client_of(role: str) -> Client:
    ensure_roles()
    user = User.objects.create(username=role.replace(" ", "-"), email=f"{role[:4]}@example.org")
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def test_who_may_see_it() -> None:
    for role, status in (("operator", 200), ("administrator", 200), ("auditor", 200), ("requester", 403)):
        assert client_of(role).get("/operations/").status_code == status
    assert Client().get("/operations/").status_code == 302


def test_it_shows_the_last_check_and_what_it_found() -> None:
    client, now = client_of("operator"), database_now()
    assert "has not checked itself yet" in client.get("/operations/").content.decode()
    SelfCheck.objects.create(started_at=now, seconds=0.4)
    assert "every invariant of the rollout engine holds" in client.get("/operations/").content.decode()
    SelfCheck.objects.create(started_at=now, seconds=1, violations=[{"invariant": "I2", "text": "CI 5 has <two>"}])
    page = client.get("/operations/").content.decode()
    assert "1 violation." in page
    assert "<b>I2</b> CI 5 has &lt;two&gt;" in page
    SelfCheck.objects.create(started_at=now, seconds=1, error="QueryCanceled: too slow")
    assert "It could not be finished: <code>QueryCanceled" in client.get("/operations/").content.decode()


def test_it_shows_mails_ticks_and_workers() -> None:
    client, now = client_of("operator"), database_now()
    person = User.objects.get()
    for number, state in enumerate(("pending", "dead", "dead")):
        Outbox.objects.create(
            event=f"e{number}", recipient=person, thread="t", state=state, next_attempt_at=now, created_at=now
        )
    heartbeats.beat(heartbeats.TICK, "releases.tasks.advance_rollouts", 0.012)
    heartbeats.beat(heartbeats.WORKER, "celery@host")
    page = " ".join(client.get("/operations/").content.decode().split())
    assert '<div class="tile tone-red"><b>2</b><span>mails given up' in page
    assert "0.012 s" in page
    assert "celery@host" in page
    assert "not within a day" in page, "the other ticks"


def test_it_shows_a_rollout_and_what_it_waits_for(settings, tmp_path) -> None:
    from tests.releases.world import World

    settings.MEDIA_ROOT = tmp_path
    world = World()
    world.add_cis(2)
    rollout = world.started()
    world.tick()
    page = client_of("release manager").get("/operations/").content.decode()
    assert rollout.number in page
    type(rollout).objects.update(waits_for="the moon")
    assert "the moon" in client_of("operator").get("/operations/").content.decode()


def test_without_valkey_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def __getattr__(self, name: str) -> object:
            raise redis.ConnectionError("refused")

    heartbeats._state["client"] = Gone()
    client = client_of("operator")
    assert "Valkey does not answer" in client.get("/operations/").content.decode()
    heartbeats.beat(heartbeats.WORKER, "w")
    assert heartbeats._state["not_before"] > 0, "it keeps quiet for a while"
    assert "itsm_heartbeats_readable 0" in client.get("/metrics").content.decode()


def test_metrics_need_the_token_or_the_right(settings) -> None:
    assert Client().get("/metrics").status_code == 401
    assert client_of("requester").get("/metrics").status_code == 401
    assert client_of("operator").get("/metrics").status_code == 200
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
    assert Client().get("/metrics", **bearer).status_code == 401, "without a token in the settings nobody has it"
    settings.METRICS_TOKEN = TOKEN
    assert Client().get("/metrics", **bearer).status_code == 200
    assert Client().get("/metrics", HTTP_AUTHORIZATION="Bearer wrong").status_code == 401
    assert Client().post("/metrics", **bearer).status_code == 405


def test_metrics_are_in_the_format_of_prometheus(settings) -> None:
    settings.METRICS_TOKEN = TOKEN
    violations = [{"invariant": "I2", "text": "x"}]
    SelfCheck.objects.create(started_at=database_now() - timedelta(minutes=1), seconds=2, violations=violations)
    heartbeats.beat(heartbeats.WORKER, 'a "b" \\ c')
    response = Client().get("/metrics", HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = response.content.decode().splitlines()
    assert "itsm_invariant_violations 1" in lines
    assert "itsm_self_check_seconds 2" in lines
    assert 'itsm_rollouts_unsettled{state="running"} 0' in lines
    assert any(line.startswith('itsm_worker_age_seconds{worker="a \\"b\\" \\\\ c"} ') for line in lines)
    samples = [line for line in lines if not line.startswith("#")]
    assert samples
    for sample in samples:
        float(sample.rpartition(" ")[2])
