"""Daemons of libvirt of our own, with sockets, settings and state below one folder, beside whatever else runs."""

import os
import pwd
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.hypervisor.guests import until

QEMU_USER = "libvirt-qemu"
_DAEMON = "/usr/sbin/libvirtd"
# What libvirt of Debian has compiled in, in a mount namespace ours.
_PLACES = {"run": "/run/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt", "etc": "/etc/libvirt"}


@contextmanager
def system_daemon(folder: Path) -> Iterator[tuple[str, int]]:
    """That of `qemu:///system` with Debian's settings: its URI, and its process, in whose mount namespace it lives."""
    folder.mkdir(mode=0o711)
    for name in _PLACES:
        (folder / name).mkdir(mode=0o755)
    (folder / "etc" / "qemu" / "networks").mkdir(parents=True)
    sockets = f'unix_sock_dir = "{folder}/run"\nauth_unix_rw = "none"\n'
    (folder / "etc" / "libvirtd.conf").write_text(sockets)
    lines = [
        *(f"mkdir -p {path} && mount --bind {folder}/{name} {path}" for name, path in _PLACES.items()),
        # Consoles of machines go through it, as Debian has it set.
        f"/usr/sbin/virtlogd --daemon --pid-file {folder}/virtlogd.pid",
        f"exec {_DAEMON} --pid-file {folder}/libvirtd.pid",
    ]
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(lines)]
    with _running(command, folder, folder / "run" / "libvirt-sock") as process:
        try:
            yield f"qemu:///system?socket={folder}/run/libvirt-sock", process
        finally:
            _end_log_daemon(folder / "virtlogd.pid")


@contextmanager
def session_daemon(folder: Path) -> Iterator[str]:
    """That of `qemu:///session` of QEMU's user, who may do nothing else: its URI."""
    user = pwd.getpwnam(QEMU_USER)
    folder.mkdir(mode=0o700)
    (folder / "run").mkdir(mode=0o700)
    for path in (folder, folder / "run"):
        os.chown(path, user.pw_uid, user.pw_gid)
    homes = {"HOME": "", "XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache"}
    words = [f"{name}={folder / below}" for name, below in homes.items()]
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={QEMU_USER}", "--clear-groups"]
    command = ["env", *words, f"XDG_DATA_HOME={folder}/data", *as_user, _DAEMON]
    socket = folder / "run" / "libvirt" / "libvirt-sock"
    with _running(command, folder, socket):
        try:
            yield f"qemu:///session?socket={socket}"
        finally:
            _end_log_daemon(socket.with_name("virtlogd.pid"))


def _end_log_daemon(pid_file: Path) -> None:
    """It keeps the machines' consoles; a session starts its own with the first machine."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


@contextmanager
def _running(command: list[str], folder: Path, socket: Path) -> Iterator[int]:
    with open(folder / "daemon.log", "wb") as log:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(
            lambda: socket.exists() or daemon.poll() is not None,
            seconds=60, say=lambda: f"{shlex.join(command)}:\n{(folder / 'daemon.log').read_text()}",
        )  # fmt: skip
        assert daemon.poll() is None, (folder / "daemon.log").read_text()
        yield daemon.pid
    finally:
        daemon.terminate()
        daemon.wait(30)
