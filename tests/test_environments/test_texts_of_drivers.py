"""What drivers refuse is written in the portal's language where it is stored, and in the reader's where it is read."""

import ast
import threading
from pathlib import Path

import pytest
from django.conf import settings
from django.utils.translation import gettext, override

from test_environments import drivers, services
from test_environments.drivers import errors
from test_environments.drivers.interface import Observation, Power
from test_environments.drivers.libvirt.uris import read_uri
from test_environments.drivers.registry import why_no_network
from test_environments.drivers.texts import Text, say
from test_environments.models import CopySource, TestEnvironment
from test_environments.runner.host import Host
from test_environments.runner.image_jobs import ImageJob
from test_environments.runner.jobs import claim
from test_environments.runner.watch import Watch
from tests.factories import NOW, make_ci
from tickets.clock import database_now

KINDS = {kind.__name__ for kind in errors.DriverError.__subclasses__()} | {"SourceChanged"}


def german(text: str) -> str:
    with override("de"):
        return gettext(text)


def test_a_text_is_plain_english_and_can_be_said_in_another_language_with_its_parts():
    inner = errors.Unavailable(Text("It runs; stop it first."))
    text = Text("Its agent cannot be started: %(error)s", error=inner)
    assert text == str(text) == "Its agent cannot be started: It runs; stop it first."
    assert say(text, german) == "Ihr Agent lässt sich nicht starten: Sie läuft; halten Sie sie zuerst an."
    assert say(inner, german) == "Sie läuft; halten Sie sie zuerst an."
    assert say(OSError(28, "No space left"), german) == "[Errno 28] No space left"
    assert say("100 % by another program", german) == "100 % by another program"
    assert Text("100 % full") == say(Text("100 % full"), german)


def test_no_driver_raises_a_text_that_cannot_be_said_in_another_language():
    """But those of the kinds that other programs wrote: `qemu-img convert: …`."""
    folder = Path(drivers.__path__[0])
    plain = []
    for path in sorted(folder.rglob("*.py")):
        if "small_systems" in path.parts:  # for who sets up the host
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
                marked = {id(part) for call in ast.walk(node) if is_marked(call) for part in ast.walk(call)}
                words = [part for part in ast.walk(node) if isinstance(part, ast.Constant) and id(part) not in marked]
                if any(str(word.value).count(" ") > 2 for word in words):
                    plain.append(f"{path.relative_to(folder)}:{node.lineno}")
    assert plain == []


def is_marked(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_"


@pytest.mark.django_db
def test_what_a_driver_refuses_is_stored_in_the_language_of_the_portal(settings, tmp_path):
    settings.LANGUAGE_CODE = "de"
    settings.TEST_ENVIRONMENT_SOURCES = tmp_path
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, folder="till-7")
    (tmp_path / "till-7").mkdir()
    image = services.request_image(ci, actor=None, now=NOW)

    class Driver:
        def capture(self, order, bound):
            raise errors.Conflict(Text("It runs; stop it first."))

    ImageJob(image, "capture", claim(image, "capture", now=database_now()), Driver()).run()
    image.refresh_from_db()
    assert image.last_error == "Sie läuft; halten Sie sie zuerst an."
    assert image.events.filter(text=image.last_error, is_problem=True).exists()


def test_what_is_read_at_once_is_in_the_readers_language(settings):
    settings.TEST_ENVIRONMENT_DRIVERS = {
        "libvirt": {
            "class": "test_environments.drivers.libvirt.driver.Libvirt", "options": {"uri": "qemu:///system"},
        }
    }  # fmt: skip
    assert why_no_network("libvirt") == read_uri("qemu:///system").why_not_closed()
    with override("de"):
        assert "erhalten kein Netz" in why_no_network("libvirt")


def test_a_driver_that_is_away_is_looked_at_in_words_that_can_be_said_anew():
    class Driver:
        def observe(self, key, bound):
            raise errors.Unavailable(Text("It runs; stop it first."))

        def console(self, key):
            return ""

    watch = Watch({"x": Driver()})
    watch.look([("key", "x")])
    watch.close()
    seen, _began = watch.latest["key"]
    assert (seen.power, say(seen.why, german)) == (Power.UNKNOWN, "Sie läuft; halten Sie sie zuerst an.")


@pytest.mark.django_db
def test_why_a_machine_cannot_be_seen_stands_on_its_page_until_it_is_seen_again(settings, tmp_path):
    settings.TEST_ENVIRONMENT_ROOT = tmp_path
    ci = make_ci("till-7", agent_id="till-7")
    environment = TestEnvironment.objects.create(source=ci, state="ready", created_at=NOW, updated_at=NOW)
    host = Host(threading.Event())

    def told(seen: Observation) -> tuple[str, str]:
        environment.refresh_from_db()
        host._write_down(environment, seen, NOW)
        environment.refresh_from_db()
        return environment.observed_power, environment.last_error

    assert told(Observation(Power.UNKNOWN, why=Text("It was paused."))) == ("unknown", "It was paused.")
    assert told(Observation(Power.OFF)) == ("off", "")
    TestEnvironment.objects.update(last_error="What a job said.")
    assert told(Observation(Power.RUNNING)) == ("running", "What a job said.")


def test_the_portal_speaks_english_unless_it_is_told_otherwise():
    assert settings.LANGUAGE_CODE == "en"
