"""Probes: addresses that are asked while a wave soaks; real calls to a real server, decided on stored samples only."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from releases import probing, services
from releases.models import ProbeSample, Rollout, Verdict
from releases.policy import RolloutPolicy
from releases.probes import verdict_of
from tests.releases.world import BIG_BANG, World, state
from tickets.exceptions import InvalidInput

pytestmark = pytest.mark.django_db


class Shop(HTTPServer):
    """A service that answers with the status that a test wants, and keeps what it was asked."""

    status = 200
    asked: list[str]


class Counter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        shop: Any = self.server
        shop.asked.append(self.path)
        self.send_response(shop.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def shop(settings: Any) -> Iterator[Shop]:
    server = Shop(("127.0.0.1", 0), Counter)
    server.asked = []
    settings.PROBE_HOSTS = [f"127.0.0.1:{server.server_port}"]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def url(shop: Shop) -> str:
    return f"http://127.0.0.1:{shop.server_port}/healthz"


def soaking(world: World, shop: Shop, monkeypatch: pytest.MonkeyPatch, **probe: Any) -> Rollout:
    monkeypatch.setattr("releases.probing.database_now", lambda: world.now)
    world.add_cis(2)
    probes = [{"url": url(shop), "every": 5, "samples": 3, "failures": 2, **probe}]
    rollout = world.started(policy={**BIG_BANG, "probes": probes})
    world.tick()
    world.work()
    world.tick()
    return rollout


def pass_time(world: World, rounds: int) -> None:
    for _ in range(rounds):
        probing.take_samples()
        world.tick(5)


def test_a_wave_passes_only_when_its_probe_has_answered_often_enough(world: World, shop: Shop, monkeypatch) -> None:
    rollout = soaking(world, shop, monkeypatch)
    pass_time(world, 2)
    assert state(rollout) == "running", "ten seconds are over, two of three samples are there"
    rollout.refresh_from_db()
    assert rollout.waits_for == "the probes of wave 1"
    assert probing.take_samples() == 1
    assert probing.take_samples() == 0, "asked once every five seconds"
    world.tick()
    assert state(rollout) == "completed"
    assert list(ProbeSample.objects.values_list("outcome", "detail")) == [("pass", "200")] * 3
    assert shop.asked == ["/healthz"] * 3


def test_bad_answers_fail_the_wave_and_a_redirect_is_one(world: World, shop: Shop, monkeypatch) -> None:
    rollout = soaking(world, shop, monkeypatch)
    shop.status = 302
    pass_time(world, 1)
    assert state(rollout) == "running", "one of three may fail"
    pass_time(world, 1)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "breach")
    assert url(shop) in rollout.pause_reason
    assert Verdict.objects.get(kind="error").numbers["failed_probes"] == 1
    assert "/elsewhere" not in shop.asked
    shop.status = 200
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="the shop is back")
    world.tick()
    pass_time(world, 4)
    assert state(rollout) == "completed", "a new round asks anew"


def test_what_the_portal_cannot_ask_pauses_it_and_asks_a_person(
    world: World, shop: Shop, monkeypatch, settings
) -> None:
    rollout = soaking(world, shop, monkeypatch)
    settings.PROBE_HOSTS = []
    pass_time(world, 2)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "probe")
    assert not Verdict.objects.filter(kind="error").exists()
    assert shop.asked == []


def test_no_call_is_made_inside_a_transaction_and_an_unanswered_sample_counts_for_nothing(
    world: World, shop: Shop, monkeypatch
) -> None:
    rollout = soaking(world, shop, monkeypatch)
    depth = len(connection.savepoint_ids)
    seen = []

    def dies(probe: Any) -> tuple[str, str]:
        seen.append(len(connection.savepoint_ids) - depth)
        raise KeyboardInterrupt

    monkeypatch.setattr("releases.probing.ask", dies)
    with pytest.raises(KeyboardInterrupt):
        probing.take_samples()
    assert (seen, ProbeSample.objects.get().outcome) == ([0], "")
    monkeypatch.undo()
    monkeypatch.setattr("releases.probing.database_now", lambda: world.now)
    pass_time(world, 1)
    assert ProbeSample.objects.exclude(outcome="").count() == 0, "the dead worker's claim holds for its period"
    pass_time(world, 3)
    probing.take_samples()
    world.tick()
    assert state(rollout) == "completed"


def test_an_answer_that_comes_too_late_is_not_believed(world: World, shop: Shop, monkeypatch) -> None:
    soaking(world, shop, monkeypatch)

    def slow(probe: Any) -> tuple[str, str]:
        world.now += timedelta(seconds=60)
        return "pass", "200"

    monkeypatch.setattr("releases.probing.ask", slow)
    monkeypatch.setattr("releases.probing.MOST_SAMPLES", 1)
    probing.take_samples()
    assert ProbeSample.objects.get().outcome == ""


def test_a_host_that_is_not_allowed_is_refused_when_the_plan_is_saved(world: World, shop: Shop) -> None:
    for wrong in ("http://127.0.0.1:1/", "http://169.254.169.254/latest", f"http://a@127.0.0.1:{shop.server_port}/"):
        with pytest.raises(InvalidInput) as refused:
            world.draft(policy={**BIG_BANG, "probes": [{"url": wrong}]})
        assert refused.value.code == "probe_not_allowed"
    assert world.draft(policy={**BIG_BANG, "probes": [{"url": url(shop)}]}).policy["probes"][0]["status"] == 200


@pytest.mark.parametrize(
    "probe",
    [{}, {"url": "ftp://x/"}, {"url": 3}, {"url": "http://x/", "every": 1}, {"url": "http://x/", "status": True},
     {"url": "http://x/", "samples": 1, "failures": 2}, {"url": "http://x/", "body": "ok"}, {"url": "http://x:99999/"}],
)  # fmt: skip
def test_a_probe_that_makes_no_sense_is_refused(probe: Any) -> None:
    with pytest.raises(InvalidInput, match="Probe 1"):
        RolloutPolicy.from_json({"probes": [probe]})


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], "open"),
        (["pass", "pass"], "open"),
        (["pass", "fail", "pass"], "pass"),
        (["fail", "fail"], "fail"),
        (["fail", "fail", "pass", "pass"], "pass"),
        (["inconclusive", "inconclusive", "pass"], "inconclusive"),
        (["inconclusive", "fail", "pass"], "pass"),
    ],
)
def test_the_last_answers_decide(outcomes: list[str], verdict: str) -> None:
    assert verdict_of(outcomes, {"samples": 3, "failures": 2}) == verdict


def test_an_answer_that_never_ends_has_failed_in_time(settings: Any) -> None:
    """Byte by byte, each sooner than the timeout."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            with server.accept()[0] as line:
                line.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                with suppress(OSError):
                    while not over.wait(0.2):
                        line.sendall(b"x")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        settings.PROBE_HOSTS = [address]
        assert probing.ask({"url": f"http://{address}/", "timeout": 1, "status": 200}) == ("fail", "TimeoutError")
        over.set()
        thread.join()


@pytest.mark.parametrize(
    "address",
    [
        "http://[shop.example]evil.example/", "http://evil.example[shop.example]/", "http://shop.example@evil.example/",
        "http://shop.example\\@evil.example/", "http://shop.example:80@evil.example/", "http://evil.example#@shop.example/",
        "http://shop.example.evil.example/", "http://shop.example./", "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/", "http://2130706433/", "http://localhost/", "file:///etc/passwd", "gopher://shop.example/",
    ],
)  # fmt: skip
def test_no_other_host_is_reached_by_a_trick_with_the_address(world: World, settings: Any, address: str) -> None:
    settings.PROBE_HOSTS = ["shop.example"]
    with pytest.raises(InvalidInput):
        world.draft(policy={**BIG_BANG, "probes": [{"url": address}]})
    assert probing.ask({"url": address, "timeout": 1, "status": 200})[0] == "inconclusive"


def test_the_page_of_the_rollout_shows_the_last_answers(world: World, shop: Shop, monkeypatch: Any) -> None:
    rollout = soaking(world, shop, monkeypatch)
    client = Client()
    client.force_login(world.mona)
    live = f"/rollouts/{rollout.number}/live/"
    mark = client.get(live).context["live"].mark
    shop.status = 503
    probing.take_samples()
    answer = client.get(live, {"mark": mark})
    assert answer.status_code == 200, "an answer is news"
    assert [(s.outcome, s.detail, name) for s, name in answer.context["samples"]] == [("fail", "503", url(shop))]
    assert url(shop) in answer.content.decode()
    (sample,) = client.get(f"/api/v1/rollouts/{rollout.number}/probes/").json()["results"]
    assert (sample["wave"], sample["probe"], sample["outcome"], sample["detail"]) == (1, url(shop), "fail", "503")
