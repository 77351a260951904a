"""The portal under load: a database of its own, gunicorn as in production, and what both cost in processor time."""

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from benchmarks import nginx
from itsm_portal.embedded import HOST, free_port
from itsm_portal.supervisor import Supervisor

CLONE = Path(__file__).resolve().parent.parent
START_SECONDS = 60
_CLOCK_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def own_database(url: str, purpose: str = "bench") -> Iterator[str]:
    """Creates an empty database beside the one of `url` and drops it at the end; yields its address."""
    parts = urlsplit(url)
    if parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise SystemExit(
            "The benchmark reads the processor time of PostgreSQL: DATABASE_URL has to be on this machine."
        )
    base = parts.path.strip("/")
    name = f"{base}_{purpose}_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as server:
        _drop_leftovers(server, base)
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield parts._replace(path=f"/{name}").geturl()
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _drop_leftovers(server: psycopg.Connection, base: str) -> None:
    """Databases of benchmarks that were killed."""
    for (name,) in server.execute("SELECT datname FROM pg_database").fetchall():
        found = re.fullmatch(rf"{re.escape(base)}_(?:bench|helpdesk)_(\d+)", name)
        if found and not Path(f"/proc/{found[1]}").exists():
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def prepared_database() -> Iterator[tuple[Any, Path]]:
    """A database of the benchmark's own with all tables, and Django set up for it; yields a cursor and a folder for
    logs.
    """
    if not os.environ.get("DATABASE_URL"):
        raise SystemExit("DATABASE_URL is not set; `make bench` starts a server")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, own_database(os.environ["DATABASE_URL"]) as url:
        configure(url, Path(folder))
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0, interactive=False)
        try:
            yield connection.cursor(), Path(folder) / "logs"
        finally:
            connection.close()
            connection.close_pool()


def say(text: str) -> None:
    """Progress, for the person who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr)


def configure(database_url: str, data: Path) -> None:
    """Sets the environment for this process and the web server: the production profile, on loopback without TLS."""
    (data / "static").mkdir(exist_ok=True)
    os.environ.update(
        PORTAL_PROFILE="production",
        REQUIRE_SIGNATURES="0",
        DJANGO_SETTINGS_MODULE="itsm_portal.settings",
        DATABASE_URL=database_url,
        DATA_DIR=str(data),
        STATIC_ROOT=str(data / "static"),
        SECRET_KEY=secrets.token_urlsafe(60),
        ALLOWED_HOSTS=HOST,
        SECURE_SSL_REDIRECT="0",
        EMAIL_URL="smtp://127.0.0.1:9",
        LOG_LEVEL="WARNING",
    )
    for name in ("DEBUG", "MEDIA_ROOT", "DDI_POLL_SECONDS"):
        os.environ.pop(name, None)


# How the web server is started. `production` is the one of docs/operations/production.md.
_GTHREAD = (
    "gunicorn {application} --config python:itsm_portal.web_server --bind {host}:{port} --workers 2 "
    "--threads {threads} --graceful-timeout 5 --log-level warning"
)
_FOR_PEOPLE = _GTHREAD.replace("--workers 2", "--workers 1").replace("{threads}", "8")
BEHIND_NGINX = "nginx"
SERVERS = {
    "production": _GTHREAD.replace("{threads}", "16"),
    BEHIND_NGINX: _GTHREAD.replace("{threads}", "16"),
    "gunicorn8": _GTHREAD.replace("{threads}", "8"),
    "gunicorn4": _GTHREAD.replace("{threads}", "4"),
    "granian": (
        "granian --interface wsgi {application}:application --host {host} --port {port} --workers 2 "
        "--blocking-threads 16 --no-ws --log-level warning --backlog 2048"
    ),
    "granian4": (
        "granian --interface wsgi {application}:application --host {host} --port {port} --workers 2 "
        "--blocking-threads 4 --no-ws --log-level warning --backlog 2048"
    ),
}


class Web:
    """The web server as in production, with two workers for two cores; behind nginx with one more worker, for people.

    A context manager.
    """

    def __init__(self, logs: Path, *, server: str = "production", application: str = "itsm_portal.wsgi") -> None:
        self.port = free_port()
        self._supervisor = Supervisor(logs, lambda text: print(text, file=sys.stderr))
        self._application = application
        self._names = ["web"]
        if server == BEHIND_NGINX:
            devices, people = free_port(), free_port()
            self._add("web", SERVERS[server], devices)
            self._add("people", _FOR_PEOPLE, people)
            self._supervisor.add("nginx", _nginx(logs.parent, self.port, devices, people))
            self._names += ["people", "nginx"]
        else:
            self._add("web", SERVERS[server], self.port)

    def _add(self, name: str, command: str, port: int) -> None:
        words = command.format(host=HOST, port=port, application=self._application).split()
        self._supervisor.add(name, [sys.executable, "-m", *words], cwd=CLONE)

    def __enter__(self) -> "Web":
        self._supervisor.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                tail = self._supervisor.tail("web")
                self._supervisor.stop()
                raise SystemExit(f"the web server did not answer within {START_SECONDS} s. Its last lines:\n{tail}")
            time.sleep(0.1)
        self._settle(deadline)
        return self

    def _settle(self, deadline: float) -> None:
        """Waits for the workers that have not answered yet: their start is not what a benchmark measures."""
        before, used = 0.0, float("inf")
        while used - before > 50 and time.monotonic() < deadline:
            before = sum(filter(None, map(_used_ms, self.pids())))
            time.sleep(1)
            used = sum(filter(None, map(_used_ms, self.pids())))

    def __exit__(self, *exc: object) -> None:
        self._supervisor.stop()

    def _answers(self) -> bool:
        connection = HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/DEFAULT/controller/v1/nobody")
            return connection.getresponse().status == 401
        except OSError:
            return False
        finally:
            connection.close()

    def pids(self) -> list[int]:
        """The servers and their workers."""
        self._supervisor.poll()
        masters = [pid for name in self._names if (pid := self._supervisor.pid(name)) is not None]
        parents = {str(pid) for pid in masters}
        return [*masters, *(pid for pid in _all_pids() if parents & set(_stat(pid)[1:2]))]


def _nginx(folder: Path, port: int, devices: int, people: int) -> list[str]:
    """The command of an nginx on this port before those of the portal."""
    program = nginx.program()
    if program is None:
        raise SystemExit("nginx is not installed (apt-get install nginx-light)")
    places = {
        nginx.DEVICES: f"server {HOST}:{devices};",
        nginx.PEOPLE: f"server {HOST}:{people};",
        "listen": f"listen {HOST}:{port} backlog=4096;",
        "server_name": f"server_name {HOST};",
        "alias": f"alias {folder}/;",
    }
    (folder / "nginx.conf").write_text(nginx.configuration(folder, places))
    return [program, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time in milliseconds, user and system together."""

    web: float = 0.0
    database: float = 0.0

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.web - other.web, self.database - other.database)


class Meter:
    """Adds up what the web server's processes and the database's have used, also those that write in the background.

    Without a `web` server of ours it watches the processes that `pids` gives, and the connections to `database`.
    To be read at least every few seconds: what a backend used after the last look before its end is lost.
    """

    def __init__(self, web: Web | None, pids: Callable[[], Sequence[int]] = list, *, database: str = "") -> None:
        self._pids = web.pids if web is not None else pids
        # What writes in the background belongs to the portal when nobody else is measured.
        self._which = "datname = %s" if database else "datname = current_database() OR datname IS NULL"
        self._database = [database] if database else []
        self._is_watched = web is not None or bool(database)
        self._used: dict[str, dict[int, float]] = {"web": {}, "database": {}}

    def read(self) -> Cpu:
        """The sum since the first look at each process."""
        from django.db import connection

        backends: list[int] = []
        if self._is_watched:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pid FROM pg_stat_activity WHERE " + self._which, self._database)
                backends = [row[0] for row in cursor.fetchall()]
        for part, pids in (("web", self._pids()), ("database", backends)):
            self._used[part] |= {pid: used for pid in pids if (used := _used_ms(pid)) is not None}
        return Cpu(**{part: sum(used.values()) for part, used in self._used.items()})


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name, from the state on; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _used_ms(pid: int) -> float | None:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) * _CLOCK_TICK_MS if fields else None


def generate(port: int, orders: dict[str, Any], meanwhile: Callable[[], object] | None = None) -> dict[str, Any]:
    """Lets `benchmarks.generator` carry out the orders in a process of its own; calls `meanwhile` many times a second.
    Returns what the generator says.
    """
    orders = {"host": HOST, "port": port, "tenant": "DEFAULT", **orders}
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as answered:
        json.dump(orders, given)
        given.seek(0)
        command = [sys.executable, "-m", "benchmarks.generator"]
        process = subprocess.Popen(command, stdin=given, stdout=answered, cwd=CLONE)
        deadline = time.monotonic() + orders["seconds"] + 90
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if meanwhile is not None:
                    meanwhile()
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
        answered.seek(0)
        found: dict[str, Any] = json.loads(answered.read() or "{}")
    if not found:
        raise RuntimeError("the generator did not come to its end")
    return found


def checked(found: dict[str, Any]) -> dict[str, Any]:
    """What the generator says, if no device failed. Raises RuntimeError."""
    if found["failures"] or found["errors"]:
        raise RuntimeError(f"devices failed: {found['failures']}: {found['first_failures']} {found['errors']}")
    return found


class Ticks:
    """The portal's tick, as worker and beat would make it; in this process, every `TICK_SECONDS`."""

    def __init__(self) -> None:
        from django.conf import settings

        self._period = settings.TICK_SECONDS
        self._next = 0.0
        self.cpu_ms = 0.0
        self.longest_ms = 0.0

    def __call__(self) -> None:
        """Ticks when it is time."""
        from releases.executor import run_ticks
        from test_environments.services import advance_test_environments
        from tickets.clock import database_now

        if time.monotonic() < self._next:
            return
        begun, cpu = time.monotonic(), time.thread_time()
        now = database_now()
        run_ticks(now=now)
        advance_test_environments(now=now)
        self.cpu_ms += (time.thread_time() - cpu) * 1000
        self.longest_ms = max(self.longest_ms, (time.monotonic() - begun) * 1000)
        self._next = max(begun + self._period, time.monotonic())
