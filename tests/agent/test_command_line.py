"""The commands: exit codes, configuration errors, signals, the lock, the zipapp."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.build import build
from agent.cli import main
from tests.agent.ci import REPOSITORY, Ci, software
from tests.agent.ddi_server import DdiServer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://x"}, "url: must be like"),
        ({"url": "http://user:pw@host"}, "url: must be like"),
        ({"controller_id": ""}, "controller_id: must match"),
        ({"tenant": "a/b"}, "tenant: must match"),
        ({"poll_min_seconds": True}, "poll_min_seconds: must be a number"),
        ({"http_timeout": 0}, "http_timeout: must be a number"),
        ({"token_file": "missing"}, "No such file"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"root_keys": []}, "root_keys: must be a list of public keys"),
        ({"root_keys": ["AB" * 32]}, "root_keys: must be a list of public keys"),
        ({"root_keys": ["ab" * 32], "root_threshold": 2}, "root_threshold: must be a number from 1 to 1"),
        ({"verify_with": "hope"}, "verify_with: must match"),
        ({"hooks": {"before": {"command": ["x"]}}}, "hooks: may hold pre, post, health"),
        ({"hooks": {"pre": {"command": "rm -rf x"}}}, "hooks.pre.command must be a list of texts"),
        ({"hooks": {"post": {"command": ["x"], "timeout_seconds": 9999}}}, "hooks.post.timeout_seconds must be"),
        ({"ca_file": "x.pem"}, "ca_file: has no effect while url is not https"),
        ({"tls_min_version": "1.3"}, "tls_min_version: has no effect while url is not https"),
        ({"url": "https://host", "tls_min_version": "1.1"}, "tls_min_version: must match"),
        ({"url": "https://host", "ca_file": "missing.pem"}, "missing.pem: cannot be used"),
        ({"url": "https://host", "ca_file": "token"}, "token: cannot be used"),
        ({"url": "https://host", "client_key": "key.pem"}, "client_key: needs client_certificate"),
        ({"url": "https://host", "client_certificate": "token"}, "token: cannot be used with its key"),
        ({"token_file": None}, "token_file: must be a non-empty text"),
        ({"token_scheme": "Bearer"}, "token_scheme: must match"),
        ({"proxy": "socks5://host"}, "proxy: must be like http://host"),
        ({"proxy_login_file": "token"}, "proxy_login_file: needs proxy"),
    ],
)
def test_bad_configuration_is_one_clear_line(
    ci: Ci, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    ci.configure(**change)

    assert main(["run", "--once", "--config", str(ci.config_file)]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not ci.root.exists()


def test_second_agent_for_the_same_folder_is_refused(ci: Ci, server: DdiServer) -> None:
    first = ci.start()
    server.wait(lambda: server.attributes is not None)

    second = ci.start("--once")
    message = second.communicate(timeout=10)[1].decode()

    assert second.returncode == 3
    assert f"another agent runs for this folder (process {first.pid})" in message
    first.terminate()
    first.communicate(timeout=10)


def test_sigterm_stops_at_once_while_sleeping(ci: Ci, server: DdiServer) -> None:
    server.sleep = "01:00:00"
    agent = ci.start()
    server.wait(lambda: server.attributes is not None)
    time.sleep(0.1)
    started = time.monotonic()

    agent.send_signal(signal.SIGTERM)
    agent.communicate(timeout=10)

    assert agent.returncode == 0
    assert time.monotonic() - started < 1


def test_sigterm_in_a_download_stops_between_blocks_and_a_new_start_goes_on(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0", size=400_000)))
    server.chunk_delay = 0.1
    agent = ci.start()
    server.wait(lambda: "download" in action.executions)
    time.sleep(0.3)
    agent.terminate()
    agent.communicate(timeout=10)
    assert agent.returncode == 0
    assert action.executions == ["download"]
    server.chunk_delay = 0

    assert ci.cycle()

    assert ci.running() == "1.0"
    assert action.executions == ["download", "downloaded", "proceeding", "closed"]


def test_restarted_server_is_found_again_within_seconds(ci: Ci, server: DdiServer) -> None:
    agent = ci.start()
    server.wait(lambda: server.attributes is not None)
    server.stop()
    time.sleep(2.5)
    server.start()
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))

    server.wait(lambda: action.state == "closed", 8)

    agent.terminate()
    agent.communicate(timeout=10)
    assert ci.running() == "1.0"


def test_retry_after_of_a_busy_server_is_obeyed(ci: Ci, server: DdiServer) -> None:
    server.fault("GET", "ci-0001$", status=429, headers={"Retry-After": "2"})
    agent = ci.start()
    server.wait(lambda: polls(server) == 1)
    started = time.monotonic()

    server.wait(lambda: polls(server) == 2)

    assert time.monotonic() - started > 1.9
    agent.terminate()
    agent.communicate(timeout=10)


def polls(server: DdiServer) -> int:
    return sum(request[:2] == ("GET", "/DEFAULT/controller/v1/ci-0001") for request in server.requests)


def test_once_without_a_server_ends_with_1(ci: Ci, server: DdiServer) -> None:
    server.stop()

    assert ci.once() == 1

    server.start()


def test_unreadable_state_is_not_guessed(ci: Ci, server: DdiServer) -> None:
    (ci.root / ".agent").mkdir(parents=True)
    (ci.root / ".agent" / "state.json").write_text("{")

    assert ci.once() == 4


def test_status_prints_what_really_runs(ci: Ci, server: DdiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    ci.cycle()

    assert main(["status", "--config", str(ci.config_file)]) == 0

    status = json.loads(capsys.readouterr().out)
    assert status["versions"] == {"app": "1.0"}
    assert status["running"] is False
    assert status["pending_reports"] == 0


def test_zipapp_is_reproducible_and_runs_alone(ci: Ci, server: DdiServer, tmp_path: Path) -> None:
    build(tmp_path / "a.pyz")
    build(tmp_path / "b.pyz")
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a.pyz", "b.pyz")}
    assert len(digests) == 1
    server.offer(server.chunk("app", "1.0", software("app", "1.0")))

    # -I: neither the working directory nor site-packages helps.
    command = [
        sys.executable,
        "-I",
        "-S",
        str(tmp_path / "a.pyz"),
        "run",
        "--once",
        "--config",
        str(ci.config_file),
    ]
    result = subprocess.run(command, capture_output=True, timeout=30, cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert ci.running() == "1.0"


def test_idle_agent_does_not_load_what_only_an_installation_needs(ci: Ci, server: DdiServer) -> None:
    code = (
        "import sys; from agent.cli import main; main(sys.argv[1:]);"
        "print({'ssl', 'tarfile', 'hashlib', 'subprocess', 'shutil', 'inspect'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "run", "--once", "--config", str(ci.config_file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=REPOSITORY)

    assert result.stdout == "set()\n"
