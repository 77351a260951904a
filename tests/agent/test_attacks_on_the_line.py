"""A hostile server or line: the agent gives up in time, says why, changes nothing, and works afterwards.

What comes with an action is refused and reported; what breaks the protocol itself has no action to report to
and is told in the status.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.archive import unpack
from agent.disk import free_bytes
from agent.errors import InstallError
from agent.package import Limits
from tests.agent.ci import Ci, software
from tests.agent.ddi_server import Action, DdiServer


@pytest.fixture
def ci(ci: Ci) -> Ci:
    ci.seed("app", "1.0", "old")
    return ci


def run_to_the_end(ci: Ci, action: Action) -> tuple[str, str]:
    """Result and code of the action. A busy machine may make the agent's short time-outs cut good answers, too."""
    for _ in range(20):
        ci.cycle()
        if action.closes:
            break
    (result, details), *others = action.closes
    assert not others
    return result, details[0]


def assert_still_works(ci: Ci, server: DdiServer) -> None:
    """The old version ran through it all, and the next update succeeds."""
    assert (ci.running(), ci.text()) == ("1.0", "old")
    ci.configure(url=server.url, http_timeout=5, download_give_up_seconds=5, download_min_rate=100)
    action = server.offer(server.chunk("app", "2.0", software("app", "2.0")))
    ci.cycle()
    assert action.closes[0][0] == "success"
    assert ci.running() == "2.0"
    assert ci.status()["problem"] is None


Talk = Callable[[socket.socket], None]


@contextmanager
def hostile(talk: Talk) -> Iterator[str]:
    """The address of a server that answers every request with ``talk``."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    def answer(client: socket.socket) -> None:
        with client:
            try:
                client.settimeout(30)
                client.recv(65536)
                talk(client)
                # Closing with something unread would be a reset, which overtakes what was sent.
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.close()


def drip(start: bytes, part: bytes = b"x") -> Talk:
    """A byte now and then: each wait is short, all together last for ever."""

    def talk(client: socket.socket) -> None:
        client.sendall(start)
        for _ in range(600):
            client.sendall(part)
            time.sleep(0.1)

    return talk


def flood(start: bytes, part: bytes) -> Talk:
    """As much as the other side takes."""

    def talk(client: socket.socket) -> None:
        client.sendall(start)
        for _ in range(10_000):
            client.sendall(part)

    return talk


def body(text: bytes) -> Talk:
    return lambda client: client.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(text) + text)


# Whichever of the two limits comes first.
SLOW = "takes too long|timed out"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LINES = {
    "status line that drips": (drip(b"HTTP/1.1 "), SLOW),
    "headers that drip": (drip(OK, b"X: y\r\n"), SLOW),
    "body that drips": (drip(OK + b"Content-Length: 1000\r\n\r\n", b" "), SLOW),
    "chunks that drip": (drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), SLOW),
    "silence": (lambda client: time.sleep(5), SLOW),
    "endless interim answers": (flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500), SLOW),
    "huge header": (flood(OK + b"X: ", b"x" * 65536), "LineTooLong"),
    "many headers": (flood(OK, b"X: y\r\n" * 1000), "got more than 100 headers"),
    "endless body": (flood(OK + b"\r\n", b" " * 65536), "too long"),
    "huge announced body": (body(b" " * 5_000_000), "too long"),
    "garbage": (lambda client: client.sendall(b"\0\1\2garbage\r\n\r\n"), "BadStatusLine"),
    "no JSON": (body(b"<html>please log in</html>"), "not usable JSON"),
    "cut JSON": (body(b'{"config": '), "not usable JSON"),
    "a list": (body(b"[]"), "not a JSON object"),
    "deep JSON": (body(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "nested too deep"),
    "long number": (body(b'{"a": ' + b"9" * 1_000_000 + b"}"), "a number is too long"),
    "not a number": (body(b'{"a": NaN}'), "NaN is not JSON"),
    "wrong encoding": (body(b'{"a": "\xff\xfe"}'), "not usable JSON"),
    "short body": (lambda c: c.sendall(OK + b"Content-Length: 99\r\n\r\n{}"), "IncompleteRead|cut short"),
}


@pytest.mark.parametrize("name", LINES)
def test_hostile_answer_is_given_up(ci: Ci, server: DdiServer, name: str) -> None:
    talk, problem = LINES[name]
    with hostile(talk) as url:
        ci.configure(url=url, http_timeout=0.5 if problem == SLOW else 10)
        started = time.monotonic()
        assert not ci.cycle()
        # A try takes a second at most; the rest is for a busy machine.
        assert time.monotonic() - started < 30

    assert any(part in str(ci.status()["problem"]) for part in problem.split("|"))
    assert_still_works(ci, server)


@pytest.mark.parametrize("links", [[], "x", {"deploymentBase": 7}, {"deploymentBase": {"href": "file:///etc/passwd"}}])
def test_odd_links_are_no_order(ci: Ci, server: DdiServer, links: object) -> None:
    server.poll_answer = {"config": 5, "_links": links}
    assert ci.cycle()
    server.poll_answer = None

    assert_still_works(ci, server)


@pytest.mark.parametrize("deployment", [None, [], {"chunks": {}}, {"chunks": [5]}, {"chunks": [{"part": "a\0b"}]}])
def test_odd_deployment_is_reported(ci: Ci, server: DdiServer, deployment: object) -> None:
    action = server.offer()
    action.deployment = deployment

    result, detail = run_to_the_end(ci, action)
    assert result == "failure"
    assert detail.split(":")[0] in ("bad_deployment", "bad_name")
    assert_still_works(ci, server)


def test_download_that_drips_is_given_up_and_reported(ci: Ci, server: DdiServer) -> None:
    # Every byte is progress; only the rate tells.
    ci.configure(download_give_up_seconds=1, download_min_rate=100_000)
    chunk = server.chunk("app", "2.0", software("app", "2.0", size=300_000))
    with hostile(drip(OK + b"Content-Length: %d\r\n\r\n" % chunk["artifacts"][0]["size"])) as url:
        chunk["artifacts"][0]["_links"]["download"]["href"] = f"{url}/file"
        action = server.offer(chunk)
        detail = run_to_the_end(ci, action)[1]

    assert detail == "download_failed: app: no progress, last: the server sends too little"
    assert ci.leftovers() == []
    assert_still_works(ci, server)


def test_download_with_endless_trailers_is_given_up(ci: Ci, server: DdiServer) -> None:
    ci.configure(download_give_up_seconds=1, http_timeout=1)
    chunk = server.chunk("app", "2.0", software("app", "2.0"))
    with hostile(drip(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n")) as url:
        chunk["artifacts"][0]["_links"]["download"]["href"] = f"{url}/file"
        action = server.offer(chunk)
        detail = run_to_the_end(ci, action)[1]

    assert detail.startswith("download_failed: ")
    assert_still_works(ci, server)


def test_endless_download_is_refused_at_the_announced_size(ci: Ci, server: DdiServer) -> None:
    chunk = server.chunk("app", "2.0", software("app", "2.0"))
    with hostile(flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)) as url:
        chunk["artifacts"][0]["_links"]["download"]["href"] = f"{url}/file"
        action = server.offer(chunk)
        ci.cycle()

    assert action.closes[0][1][0].startswith("artifact_too_long: ")
    assert ci.leftovers() == []
    assert_still_works(ci, server)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//[", "http://[::1", "/loop"])
def test_odd_redirection_is_not_followed(ci: Ci, server: DdiServer, target: str) -> None:
    ci.configure(download_give_up_seconds=0.1)
    action = server.offer(server.chunk("app", "2.0", software("app", "2.0")))
    for _ in range(200):
        server.fault("GET", "/artifacts/|/loop", status=302, headers={"Location": target})
    ci.cycle()
    server.faults.clear()

    assert action.closes[0][1][0].startswith("download_failed: ")
    assert_still_works(ci, server)


def test_report_to_a_hostile_server_is_kept_for_the_real_one(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "2.0", software("app", "2.0", healthy=False)))
    ci.once(AGENT_FAILPOINT="before_close")
    with hostile(drip(b"HTTP/1.1 ")) as url:
        ci.configure(url=url, http_timeout=0.5)
        assert not ci.cycle()

    ci.configure(url=server.url, http_timeout=5)
    assert ci.cycle()
    assert [result for result, _ in action.closes] == ["failure"]
    assert_still_works(ci, server)


def test_full_disk_is_seen_before_the_download(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "2.0", software("app", "2.0", size=100_000)))
    ci.configure(disk_reserve_bytes=2**59)
    ci.cycle()

    assert action.closes[0][1][0].startswith("disk_full: the download needs 0.1 MiB, ")
    assert not any("/artifacts/" in path for _, path, _ in server.requests)
    ci.configure(disk_reserve_bytes=0)
    assert_still_works(ci, server)


def test_full_disk_is_seen_before_and_while_unpacking(ci: Ci, server: DdiServer, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(software("app", "2.0", size=100_000))
    limits = Limits(10**9, 200, 100, reserve_bytes=2**59)
    with pytest.raises(InstallError, match="disk_full: unpacking needs"):
        unpack(packed, tmp_path / "new", limits)
    assert not (tmp_path / "new").exists()

    # An archive that tells a small size is stopped by what it really writes.
    packed.write_bytes(packed.read_bytes()[:-4] + b"\0" * 4)
    room = 50_000
    limits = limits._replace(reserve_bytes=free_bytes(tmp_path) - room)
    with pytest.raises(InstallError, match="disk_full: the archive unpacks to more than there is room for"):
        unpack(packed, tmp_path / "new", limits)
