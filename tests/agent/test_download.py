"""Downloads over a bad line: resumed, bounded, never trusted."""

import time

import pytest

from tests.agent.ci import Ci, software
from tests.agent.ddi_server import DdiServer


def ranges(server: DdiServer) -> list[str]:
    return [headers.get("range", "") for _, path, headers in server.requests if "/artifacts/" in path]


def test_broken_download_is_resumed_where_it_ended(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0", size=200_000)))
    server.fault("GET", "/artifacts/", cut=50_000)
    server.fault("GET", "/artifacts/", cut=70_000)

    ci.cycle()

    assert ranges(server) == ["", "bytes=50000-", "bytes=120000-"]
    assert ci.running() == "1.0"
    assert action.closes[0][0] == "success"


def test_download_goes_on_after_a_kill(ci: Ci, server: DdiServer) -> None:
    server.offer(server.chunk("app", "1.0", software("app", "1.0", size=200_000)))

    ci.once(AGENT_FAILPOINT="mid_download")
    kept = sum(path.stat().st_size for path in (ci.root / ".agent/downloads").iterdir())
    ci.cycle()

    assert kept > 0
    assert ranges(server)[-1] == f"bytes={kept}-"
    assert ci.running() == "1.0"


def test_spoilt_part_of_an_earlier_try_is_noticed(ci: Ci, server: DdiServer) -> None:
    data = software("app", "1.0", size=100_000)
    chunk = server.chunk("app", "1.0", data)
    action = server.offer(chunk)
    ci.once(AGENT_FAILPOINT="before_download")
    part = ci.root / ".agent" / "downloads" / f"{chunk['artifacts'][0]['hashes']['sha256']}.part"
    part.write_bytes(b"?" * 1000)

    ci.cycle()

    # A part that cannot be right costs one more full download, not the update.
    assert ranges(server) == ["bytes=1000-", ""]
    assert ci.running() == "1.0"
    assert action.closes[0][0] == "success"


def test_errors_of_the_server_are_retried(ci: Ci, server: DdiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.download.backoff", lambda *_: 0.01)
    server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    server.fault("GET", "/artifacts/", status=503)
    server.fault("GET", "/artifacts/", status=429, headers={"Retry-After": "0"})
    server.fault("GET", "/artifacts/", status=416, headers={"Content-Range": "bytes */0"})

    ci.cycle()

    assert ci.running() == "1.0"


def test_endless_data_is_refused_at_the_announced_size(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0", size=100_000)))
    server.fault("GET", "/artifacts/", endless=True)

    ci.cycle()

    assert action.closes[0][1][0].startswith("artifact_too_long: ")
    assert ci.running() is None
    assert ci.leftovers() == []


def test_withdrawn_artifact_closes_the_action(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    server.files.clear()

    ci.cycle()

    assert action.closes[0][1][0].startswith("artifact_withdrawn: ")


def test_download_without_progress_is_given_up(ci: Ci, server: DdiServer) -> None:
    ci.configure(download_give_up_seconds=0.1)
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    for _ in range(2000):
        server.fault("GET", "/artifacts/", status=500)

    ci.cycle()

    assert action.closes[0][1][0].startswith("download_failed: app: no progress, last: download: answer 500")


def test_token_is_not_sent_to_another_address(ci: Ci, server: DdiServer) -> None:
    other = DdiServer().start()
    chunk = server.chunk("app", "1.0", software("app", "1.0"))
    server.fault("GET", "/artifacts/", status=302, headers={"Location": f"{other.url}/elsewhere"})
    ci.configure(download_give_up_seconds=0.1)
    server.offer(chunk)

    ci.cycle()
    other.stop()

    assert [path for _, path, _ in other.requests] == ["/elsewhere"]
    assert "authorization" not in other.requests[0][2]


def test_cancel_during_a_download_is_accepted_within_seconds(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0", size=3_000_000)))
    server.chunk_delay = 0.05
    agent = ci.start("--once")
    downloads = ci.root / ".agent" / "downloads"
    server.wait(lambda: any(path.stat().st_size for path in downloads.glob("*.part")))
    started = time.monotonic()
    action.state = "cancelling"

    server.wait(lambda: action.state == "cancelled")

    assert time.monotonic() - started < 4
    agent.communicate(timeout=10)
    assert action.closes == []
    assert len(action.cancel_answers) == 1
    assert ci.running() is None
    assert ci.leftovers() == []


def test_artifact_refused_because_of_a_cancellation_is_no_failure(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0", size=400_000)))

    ci.once(AGENT_FAILPOINT="before_download")
    server.fault("GET", "/artifacts/", cut=0)
    server.chunk_delay = 0.2
    agent = ci.start("--once")
    server.wait(lambda: any("/artifacts/" in path for _, path, _ in server.requests))
    action.state = "cancelling"
    agent.communicate(timeout=20)

    assert action.closes == []
    assert action.state == "cancelled"
