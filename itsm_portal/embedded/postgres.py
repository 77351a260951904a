"""The embedded PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from itsm_portal.embedded import base
from itsm_portal.embedded.base import HOST, EmbeddedError
from itsm_portal.embedded.server import Server

NAME = "itsm_portal"  # of the database and of its owner


class EmbeddedPostgres(Server):
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
        self._bin = base.postgres_bin()
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
        accounts = base.accounts()
        if not accounts:
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and there is no account {' or '.join(base.ACCOUNTS)}"
            )
        self.account = accounts[0]
        for place in (self.folder / "pgdata", base.shelter()):  # whoever owns the data goes on with it
            with contextlib.suppress(FileNotFoundError):
                owner = place.lstat().st_uid
                known = [account for account in accounts if account.uid == owner]
                if not known:
                    raise EmbeddedError(f"{place} belongs to user id {owner}: start as that user, or remove it")
                self.account = known[0]
                break
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if not self.account.may("-x", self.folder.parent):
            base.open_shelter(self.account)
            self.folder = base.sheltered(self.folder)
            base.tell(f"{self.account.name} cannot reach the clone: the database is in {self.folder}")
        package = self._bin.parents[1]
        reachable = self.account.may("-x", self._bin / "postgres")
        if not reachable and self._bin.parent.name != "pginstall":
            raise EmbeddedError(f"{self.account.name}, as whom PostgreSQL would run, cannot reach {self._bin}")
        if not reachable:
            self._bin = self._copy_binaries(package) / package.name / "pginstall/bin"

    def _copy_binaries(self, package: Path) -> Path:
        """Copies the wheel's server into the shelter, once per version; returns the copy's root."""
        assert self.account is not None
        made = (package / "pginstall/bin/postgres").stat()
        target = (
            base.open_shelter(self.account)
            / f"server-{base.short_hash(f'{package} {made.st_size} {made.st_mtime_ns}')}"
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
            inside, unseen = base.processes_in(self.data, self.command)
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
