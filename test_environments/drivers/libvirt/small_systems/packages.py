"""Debian's packages as parts of small systems that we build: downloaded by apt, unpacked, never installed."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from test_environments.drivers.errors import Failed, Unavailable

_SECONDS = 300
_FIELD = re.compile(rb"\0depends=([^\0]*)\0")


def kernel_package() -> str:
    """The name of the kernel that Debian recommends now. Raises Unavailable."""
    output = _apt("apt-cache", "depends", "--important", "linux-image-amd64")
    found = re.search(r"Depends: (linux-image-\S+)", output)
    if found is None:
        raise Unavailable("apt knows no kernel; run `apt-get update` first.")
    return found[1]


def fingerprint(names: list[str], *sources: Path) -> str:
    """A hash of what these packages hold now and of the files that build from them; needs no download."""
    digest = hashlib.sha256()
    for line in _apt("apt-get", "download", "--print-uris", *names).splitlines():
        digest.update(line.split()[-1].encode() + b"\n")  # SHA256:…
    for path in sorted(sources):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:20]


def unpack(names: list[str], folder: Path, *, keep: Path) -> None:
    """Downloads the packages to `keep`, unless they are there, and unpacks them into `folder`.

    Raises Unavailable, Failed.
    """
    keep.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not list(keep.glob(f"{name}_*.deb"))]
    if missing:
        _apt("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *missing, folder=keep)
    for name in names:
        archive = max(keep.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
        done = subprocess.run(["dpkg-deb", "-x", archive, folder], capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode != 0:
            raise Failed(f"{archive.name} cannot be unpacked: {done.stderr.strip()}")


def modules_in_order(modules: Path, wanted: list[str]) -> list[Path]:
    """The files of kernel modules below `modules` with all that they need, each after what it needs.

    Names without a file are built into the kernel, or this kernel does not have them: left out.
    """
    files = {path.stem.replace("-", "_"): path for path in modules.rglob("*.ko")}
    ordered: dict[str, Path] = {}

    def add(name: str) -> None:
        name = name.replace("-", "_")
        if name in ordered or name not in files:
            return
        found = _FIELD.search(files[name].read_bytes())
        for needed in found[1].decode().split(",") if found else []:
            add(needed)
        ordered[name] = files[name]

    for name in wanted:
        add(name)
    return list(ordered.values())


def replace_folder(new: Path, final: Path) -> None:
    """Puts a finished folder in its place in one step; who comes second wins nothing and loses nothing."""
    try:
        new.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(new)


def _apt(*command: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd=folder, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} does not work here ({error}); the kernel comes from Debian by apt.") from None
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command[:2])}: {done.stderr.strip()[-300:]} Run `apt-get update` first.")
    return done.stdout
