"""The whole portal as processes that may be killed: web, worker, beat, Valkey and eight agents, with a database of
its own on the tests' PostgreSQL server."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import redis
from psycopg import sql

from itsm_portal import embedded
from itsm_portal.supervisor import Supervisor
from tests.faults.software import Host

ROOT = Path(__file__).parents[2]
NAMES = [f"till-{n}" for n in range(1, 9)]
FIRST_LABEL = "1.0"
# Generous, for busy machines: on a quiet one everything that is waited for takes a few seconds.
PATIENCE = 60.0
TERMINAL = ["succeeded", "failed", "cancelled", "superseded", "excluded", "skipped"]
# Left out of the processes' environment: they shall use this stack's own files and servers.
NOT_INHERITED = ("MEDIA_ROOT", "MAIL_FOLDER", "CELERY_BROKER_URL", "EMAIL_URL", "TEST_ENVIRONMENT_SOURCES")


@dataclass(frozen=True)
class Rollout:
    """A rollout that was started, with the tickets behind it."""

    id: int
    label: str
    incident_on: str
    batches: list[int]
    numbers: dict[str, str]
    keys: dict[str, int]
    before: str  # the label that ran before
    installed: dict[str, int]  # how many installations each CI had seen before


class Lock:
    """Rows that nobody else can change just now, so that whoever comes to them stops in mid transaction."""

    def __init__(self, stack: "Stack", connection: psycopg.Connection) -> None:
        self._stack = stack
        self._connection = connection
        self._pid = connection.info.backend_pid
        self._stopped: list[int] = []

    def stopped(self, statement: str) -> bool:
        """Whether somebody stands here with a statement that begins like this."""
        query = """
            SELECT pid FROM pg_stat_activity
            WHERE %s = ANY(pg_blocking_pids(pid)) AND ltrim(query, E' \\n') ILIKE %s
        """
        self._stopped = [row[0] for row in self._stack.rows(query, self._pid, f"{statement}%")]
        return bool(self._stopped)

    def release(self) -> None:
        """Lets go. Returns when the database has ended the transactions that stood here; their clients are dead."""
        self._connection.rollback()
        query = "SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)"
        self._stack.until("transactions ended", lambda: not self._stack.rows(query, self._stopped))


class Stack:
    """Starts everything, kills parts of it, and looks into the database."""

    def __init__(
        self,
        folder: Path,
        server_url: str,
        database: str,
        *,
        names: Sequence[str] = NAMES,
        director: str = "tests.faults.director",
        workers: int = 1,
    ) -> None:
        self.folder = folder
        self.hosts = {name: Host(folder / "fleet" / name) for name in names}
        self._director_module, self._workers = director, str(workers)
        self.cis: dict[str, dict[str, Any]] = {}
        self.supervisor = Supervisor(
            folder / "logs", lambda _line: None, first_delay=0.02, deaths_allowed=50, stop_seconds=2
        )
        self._server_url, self._database = server_url, database
        parts = urlsplit(server_url)
        self.database_url = urlunsplit(parts._replace(path=f"/{database}"))
        self._is_reviving = True
        self._versions = 1
        self._director: subprocess.Popen[str] | None = None
        self._db: psycopg.Connection | None = None
        web, valkey = embedded.free_port(), embedded.free_port()
        password = secrets.token_urlsafe(16)
        self.url = f"http://{embedded.HOST}:{web}"
        self.valkey_url = f"redis://:{password}@{embedded.HOST}:{valkey}/0"
        self._env = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED} | {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.valkey_url,
            "PORTAL_URL": self.url,
            "DATA_DIR": str(folder),
            "PORTAL_PROFILE": "demo",
            "REQUIRE_SIGNATURES": "0",
            "TICK_SECONDS": "1",
            "DDI_POLL_SECONDS": "1",
            "DJANGO_SETTINGS_MODULE": "itsm_portal.settings",
            "FAILPOINTS": str(folder / "failpoints"),
        }
        (folder / "failpoints").mkdir()
        self._add_parts(web, valkey, password)

    # --- processes ----------------------------------------------------------------------------------------------
    def _add_parts(self, web: int, valkey: int, password: str) -> None:
        data, config = self.folder / "valkey", self.folder / "valkey.conf"
        data.mkdir()
        config.touch(mode=0o600)
        lines = [f"bind {embedded.HOST}", f"port {valkey}", f"requirepass {password}", f'dir "{data}"']
        config.write_text("\n".join([*lines, "appendonly yes", 'save ""', ""]))
        self.supervisor.add("valkey", [str(embedded.valkey_binary()), str(config)], stage=0)
        self._add(
            "web", "gunicorn", "itsm_portal.wsgi", "--config", "python:itsm_portal.web_server",
            "--bind", f"{embedded.HOST}:{web}", "--workers", self._workers, "--threads", "8", "--graceful-timeout", "2",
        )  # fmt: skip

    def _add(self, name: str, module: str, *arguments: str, stage: int = 1) -> None:
        self.supervisor.add(name, [sys.executable, "-m", module, *arguments], env=self._env, cwd=ROOT, stage=stage)

    def start(self) -> None:
        """Returns when every agent has told what it runs. To be called on the main thread."""
        with psycopg.connect(self._server_url, autocommit=True) as server:
            name = sql.Identifier(self._database)
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            server.execute(sql.SQL("CREATE DATABASE {}").format(name))
        self._db = psycopg.connect(self.database_url, autocommit=True)
        self._start_director()
        self.supervisor.start()
        self.cis = self.direct("found", names=list(self.hosts), label=FIRST_LABEL)
        celery = ("--app", "itsm_portal.celery")
        quiet = ("--loglevel", "WARNING")
        self._add("worker", "celery", *celery, "worker", *quiet, "--concurrency", "2", "--without-gossip",
                  "--without-mingle")  # fmt: skip
        schedule = str(self.folder / "beat-schedule")
        self._add("beat", "celery", *celery, "beat", *quiet, "--schedule", schedule, "--pidfile=")
        for host in self.hosts.values():
            host.set_up(FIRST_LABEL, self.url, self.cis[host.name]["token"])
            self._add(host.name, "agent", "run", "--config", str(host.config), stage=2)
        query = "SELECT 1 FROM cmdb_installedversion"
        self.until("every agent has reported", lambda: len(self.rows(query)) == len(self.hosts))
        self.until("the portal is ready", self._is_ready)

    def _start_director(self) -> None:
        command, pipe = [sys.executable, "-m", self._director_module], subprocess.PIPE
        self._director = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=self._env, cwd=ROOT)

    def stop(self) -> None:
        self.supervisor.stop()
        if self._director is not None:
            self._director.terminate()
            self._director.communicate()
        if self._db is not None:
            self._db.close()
        with psycopg.connect(self._server_url, autocommit=True) as server:
            name = sql.Identifier(self._database)
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    @contextlib.contextmanager
    def process(self, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A command of `manage.py` beside the parts, ended by SIGTERM."""
        argv = [sys.executable, "manage.py", *arguments]
        with subprocess.Popen(argv, env=self._env, cwd=ROOT, start_new_session=True) as process:
            try:
                yield process
            finally:
                process.terminate()

    # --- faults -------------------------------------------------------------------------------------------------
    def kill(self, *names: str) -> None:
        """`kill -9` of these parts with all their processes, all at once."""
        pids = {name: self.supervisor.pid(name) for name in names}
        assert all(pids.values()), f"does not run: {pids}"
        for pid in pids.values():
            os.killpg(pid or 0, signal.SIGKILL)

    @contextlib.contextmanager
    def left_dead(self) -> Iterator[None]:
        """Meanwhile, what was killed is not started again."""
        self._is_reviving = False
        try:
            yield
        finally:
            self._is_reviving = True

    @contextlib.contextmanager
    def silenced(self, name: str) -> Iterator[None]:
        """Meanwhile this part stands still."""
        pid = self.supervisor.pid(name)
        assert pid
        os.killpg(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def locked(self, query: str, *params: Any) -> Iterator[Lock]:
        """Holds the locks that a query takes."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute(query, params)
            yield Lock(self, connection)

    def arm(self, point: str, order: str = "") -> None:
        """The next process that comes to this failpoint is killed, or does what `order` says (see `failpoints`)."""
        folder = Path(self._env["FAILPOINTS"])
        (folder / f"{point}.done").unlink(missing_ok=True)
        draft = folder / f"{point}.draft"
        draft.write_text(order)
        draft.rename(folder / point)

    def went_off(self, point: str) -> float | None:
        """When a process came to the armed failpoint, by the clock of files; None: not yet."""
        try:
            return (Path(self._env["FAILPOINTS"]) / f"{point}.done").stat().st_mtime
        except FileNotFoundError:
            return None

    def disarm(self, point: str) -> None:
        (Path(self._env["FAILPOINTS"]) / point).unlink(missing_ok=True)

    def flush_valkey(self) -> None:
        """Everything that the broker and the cache know is lost."""
        with contextlib.closing(redis.Redis.from_url(self.valkey_url)) as valkey:
            valkey.flushall()

    # --- looking ------------------------------------------------------------------------------------------------
    def direct(self, order: str, **values: Any) -> Any:
        """What a person does; raises what the portal raises."""
        assert self._director is not None
        if self._director.poll() is not None:  # it came to a failpoint itself
            self._start_director()
        assert self._director.stdin is not None
        assert self._director.stdout is not None
        self._director.stdin.write(json.dumps({"do": order, **values}) + "\n")
        self._director.stdin.flush()
        line = self._director.stdout.readline()
        if not line:
            self._director.wait()
        answer = json.loads(line or '{"error": "the director is dead"}')
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        assert self._db is not None
        try:
            return self._db.execute(query, params).fetchall()
        except psycopg.OperationalError:
            if not self._db.closed:
                raise
        # The server was restarted since.
        self._db = psycopg.connect(self.database_url, autocommit=True)
        return self._db.execute(query, params).fetchall()

    def until(self, what: str, ask: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Asks until the answer is true, and meanwhile starts again what has died."""
        deadline = time.monotonic() + seconds
        while True:
            if self._is_reviving:
                self.supervisor.poll()
            answer = ask()
            if answer:
                return answer
            assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}\n{self.story()}"
            time.sleep(0.03)

    def log(self, name: str) -> str:
        """Everything that a part has said."""
        return (self.supervisor.log_dir / f"{name}.log").read_text(errors="replace")

    def story(self) -> str:
        rollouts = self.rows("SELECT id, state, waits_for, pause_reason, cascade FROM releases_rollout")
        states = self.rows("SELECT batch_id, state, count(*) FROM distribution_deployment GROUP BY 1, 2 ORDER BY 1")
        parts = [name for name in ("valkey", "web", "worker", "beat") if self.supervisor.pid(name) is None]
        shown = ["web", "worker", "beat", *list(self.hosts)[-1:]]
        logs = [f"--- {name}\n{self.supervisor.tail(name, 15)}" for name in shown]
        return "\n".join([f"{rollouts}", f"{states}", f"dead: {parts}", *logs])

    # --- rollouts -----------------------------------------------------------------------------------------------
    def start_rollout(self) -> Rollout:
        """A new version on its way to every CI, one first and then the rest."""
        unsettled = "SELECT id FROM releases_rollout WHERE settled_at IS NULL"
        self.until("the rollout before has ended", lambda: not self.rows(unsettled))
        self._versions += 1
        installed = {name: len(host.installations()) for name, host in self.hosts.items()}
        told = self.direct("start_rollout", label=f"{self._versions}.0", incident_on=NAMES[4])
        return Rollout(**told, before=self.hosts[NAMES[0]].version(), installed=installed)

    def wave_of(self, rollout: Rollout, number: int) -> str:
        query = "SELECT state FROM releases_wave WHERE batch_id = %s"
        return str(self.rows(query, rollout.batches[number - 1])[0][0])

    def states(self, rollout: Rollout, purpose: str = "forward") -> dict[str, str]:
        """State of each CI's deployment."""
        query = """
            SELECT ci.name, d.state FROM distribution_deployment d
            JOIN cmdb_configurationitem ci ON ci.id = d.ci_id JOIN distribution_batch b ON b.id = d.batch_id
            JOIN releases_wave w ON w.batch_id = b.id
            WHERE w.rollout_id = %s AND b.purpose = %s ORDER BY d.attempt
        """
        return dict(self.rows(query, rollout.id, purpose))

    def until_held(self, *hosts: Host) -> None:
        """Until these CIs are in mid installation."""
        self.until("held CIs install", lambda: all(host.is_held() for host in hosts))

    def until_installed_but(self, rollout: Rollout, *hosts: Host, purpose: str = "forward") -> None:
        """Until every other CI has the version."""
        held = {host.name for host in hosts}

        def is_so() -> bool:
            states = self.states(rollout, purpose)
            return len(states) == len(NAMES) and all(s == "succeeded" for n, s in states.items() if n not in held)

        self.until("the others are done", is_so)

    def until_settled(self, rollout: Rollout) -> None:
        """Until the portal has nothing more to do: ended, told, every mail sent."""
        query = "SELECT 1 FROM releases_rollout WHERE id = %s AND settled_at IS NOT NULL"
        self.until("the rollout is settled", lambda: self.rows(query, rollout.id))
        # A mail that a killed worker had in hand waits five minutes for its lease; here they pass at once.
        lost = """
            UPDATE notifications_outbox SET leased_until = now() WHERE state = 'pending'
            AND leased_until BETWEEN now() AND now() + interval '4 minutes 50 seconds' RETURNING id
        """
        pending = "SELECT 1 FROM notifications_outbox WHERE state = 'pending'"
        self.until("every mail is sent", lambda: self.rows(lost) is not None and not self.rows(pending))
        silent = """
            SELECT 1 FROM cmdb_configurationitem WHERE agent_id IS NOT NULL AND attributes_wanted
        """
        self.until("every agent has told what it runs", lambda: not self.rows(silent))


@contextlib.contextmanager
def started(folder: Path, name: str, **options: Any) -> Iterator[Stack]:
    """A running portal with a database of its own; stopped at the end, also when it did not start."""
    base = os.environ.get("TEST_DATABASE_NAME", "test_itsm_portal")
    database = f"{base}_{name}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    stack = Stack(folder, os.environ["DATABASE_URL"], database, **options)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
