"""What a rollout, its test and its environment write down is in the portal's language, whoever gives the orders."""

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.db import models
from django.db.models.functions import Cast
from django.utils import translation
from django.utils.translation import trans_real

from releases import services
from test_environments import services as environments
from tests.releases.test_windows import freeze
from tests.releases.world import World
from tests.tickets.test_portal_language import Marked

WRITTEN = ("changes", "cmdb", "distribution", "incidents", "releases", "software", "test_environments")


@pytest.fixture
def german(world: World, monkeypatch) -> Iterator[None]:
    """Everybody who acts is German, the portal is English; readers of notices have chosen nothing."""
    monkeypatch.setitem(trans_real._translations, "de", Marked())
    with translation.override("de"):
        yield


def in_german() -> set[tuple[str, str, str]]:
    """Every stored text that was made in the language of who acted."""
    found = set()
    for model in apps.get_models():
        if model._meta.app_label in WRITTEN:
            for field in model._meta.concrete_fields:
                if isinstance(field, models.CharField | models.TextField | models.JSONField):
                    rows = model._base_manager.annotate(written=Cast(field.name, models.TextField()))
                    marked = rows.filter(written__contains="§").values_list("written", flat=True)
                    found |= {(model._meta.label, field.name, text[:200]) for text in marked}
    return found


def test_the_verbs_of_releases_and_rollouts(world: World, german: None) -> None:
    cis = world.add_cis(4)
    waves = {"waves": [{"count": 1}, {"rest": True}], "soak_seconds": 1, "manual_gate": False}
    release = world.ready(policy=waves)
    services.reject_release(release, actor=world.mona, now=world.now, comment="Later.")
    services.edit_release(release, actor=world.erik, now=world.now, policy={**waves, "error_threshold": 50})
    services.approve_release(release, actor=world.mona, now=world.now)
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    world.tick()
    services.pause_rollout(rollout, actor=world.sven, now=world.now, reason="Look.")
    rollout.refresh_from_db()
    services.resume_rollout(rollout, actor=world.mona, now=world.now)
    freeze(world, 0, 3600)
    world.tick(1)
    services.override_window(rollout, actor=world.mona, now=world.now, reason="It is urgent.")
    rollout.refresh_from_db()
    services.exclude_ci(rollout, ci=cis[-1], actor=world.sven, now=world.now, reason="Broken.")
    world.work(*cis[:1])
    world.tick()
    rollout.refresh_from_db()
    services.abort_rollout(rollout, actor=world.sven, now=world.now, reason="Enough.")
    world.pass_time()
    rollout.refresh_from_db()
    services.roll_back_rollout(rollout, actor=world.mona, now=world.now, reason="Back.")
    world.pass_time()
    assert rollout.events.count() > 5
    assert in_german() == set()


def test_the_verbs_of_tests_and_environments(world: World, source, german: None) -> None:
    release = world.built()
    run = services.start_test(release, actor=world.erik, now=world.now, source_ci=source)
    world.tick()
    environment = run.environment
    environments.extend_environment(environment, actor=world.erik, now=world.now)
    image = environments.request_image(source, actor=world.erik, now=world.now, reason="A test")
    environments.delete_image(image, actor=world.erik, now=world.now)
    services.void_test(release, actor=world.erik, now=world.now)
    environment.refresh_from_db()
    environments.destroy_environment(environment, actor=world.erik, now=world.now)
    services.cancel_release(release, actor=world.erik, now=world.now, reason="Not needed.")
    world.tick()
    assert environment.events.exists()
    assert in_german() == set()
