"""Builds the disk of a tiny but real Linux machine that runs the update agent: for tests and the demo.

Debian's kernel, busybox, Python and OpenSSL, our two start scripts and the agent; a boot loader in the disk itself, so
that any PC boots it. Disk and network drivers for virtual and for common physical hardware are in its first file
system.
"""

import compileall
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from test_environments.drivers.errors import Failed
from test_environments.drivers.libvirt.small_systems import packages
from test_environments.drivers.libvirt.small_systems.boot_disk import MB, PACKAGES, Part, make_boot_disk
from test_environments.drivers.libvirt.small_systems.build import PARAVIRTUAL, SCRIPTS
from test_environments.drivers.libvirt.small_systems.initramfs import Initramfs

_PYTHON = [
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libexpat1", "zlib1g"),
    *("libssl3", "libbz2-1.0", "liblzma5", "libffi8", "libuuid1"),
    "openssl",  # with which the agent verifies signatures
]
_HARDWARE = ["ata_piix", "ahci", "sd_mod", "e1000", "e1000e", "button", "evdev", "crc32c_generic", "ext4"]
_NOT_NEEDED = (
    *("usr/share", "usr/lib/python3.11/pydoc_data", "usr/lib/python3.11/lib2to3", "usr/lib/python3.11/idlelib"),
    *(
        "usr/lib/python3.11/distutils",
        "usr/lib/python3.11/unittest",
        "usr/lib/python3.11/ensurepip",
        "etc/ld.so.conf.d",
    ),
)
_APPLETS = (
    *("sh", "mount", "umount", "cat", "echo", "head", "sleep", "sync", "poweroff", "ip", "hostname", "mkfifo", "ls"),
    *("pidof", "kill", "ps", "sed", "grep", "basename", "readlink", "nc", "true", "false", "mkdir", "rm", "cp", "ln"),
    *("test", "[", "touch", "wc", "date", "env", "id", "tail", "df", "free", "setsid", "dd"),
)
ROOT_MB = 88
BOOT_MB = 24


class TinyGuest:
    """The parts of the guest below a cache folder; `make_disk` writes disks of it."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def make_disk(
        self, target: Path, *, config: Mapping[str, Any] | None = None, files: Mapping[str, bytes] = {},
        more: Callable[[Path], None] = lambda _root: None,
    ) -> None:  # fmt: skip
        """Writes the raw disk of one machine: `config` as its agent's, further files by path, `more` with its root.

        Raises Unavailable (no apt), Failed.
        """
        parts = self._parts()
        with tempfile.TemporaryDirectory(dir=self._cache, prefix=".new-") as work:
            root = Path(work) / "root"
            shutil.copytree(parts / "root", root, symlinks=True)
            agent = root / "opt/update-agent/agent.pyz"
            agent.parent.mkdir(parents=True)
            _build_agent(agent)
            if config is not None:
                files = {"etc/update-agent/agent.json": json.dumps(dict(config)).encode(), **files}
            for name, data in files.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            more(root)
            system = Path(work) / "system.ext4"
            _make_ext4(root, system)
            make_boot_disk(
                target, parts / "tools", boot_mb=BOOT_MB, parts=[Part(system)],
                files={"kernel": parts / "kernel", "initrd": parts / "initrd"},
                arguments="console=ttyS0 quiet panic=-1 no_timer_check",
            )  # fmt: skip

    def _parts(self) -> Path:
        names = [packages.kernel_package(), "busybox-static", *_PYTHON, *PACKAGES]
        here = Path(__file__).parent
        mark = packages.fingerprint(names, *here.glob("*.py"), *(SCRIPTS / "guest").glob("*.sh"))
        final = self._cache / f"guest-{mark}"
        if not final.is_dir():
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._cache, prefix=".new-") as folder:
                _build(Path(folder), names, keep=self._cache / "packages")
                packages.replace_folder(Path(folder) / "done", final)
        return final


def _build(folder: Path, names: list[str], *, keep: Path) -> None:
    done, system = folder / "done", folder / "system"
    packages.unpack([names[0], "busybox-static"], system, keep=keep)
    packages.unpack(PACKAGES, done / "tools", keep=keep)
    shutil.copyfile(next((system / "boot").glob("vmlinuz-*")), done / "kernel")
    (done / "initrd").write_bytes(_first_system(system))
    _make_root(done / "root", system / "bin/busybox", keep=keep)


def _first_system(system: Path) -> bytes:
    first = Initramfs()
    for name in ("dev", "proc", "sys", "bin", "target"):
        first.folder(name)
    first.device("dev/console", 5, 1)
    first.file("bin/busybox", (system / "bin/busybox").read_bytes(), mode=0o755)
    for name in ("sh", "mount", "umount", "insmod", "switch_root", "sleep", "poweroff", "echo", "test"):
        first.link(f"bin/{name}", "busybox")
    first.file("init", (SCRIPTS / "guest/initramfs.sh").read_bytes(), mode=0o755)
    order = packages.modules_in_order(system / "lib/modules", [*PARAVIRTUAL, *_HARDWARE])
    for path in order:
        first.file(f"modules/{path.name}", path.read_bytes())
    first.file("modules/order", "".join(f"{path.name}\n" for path in order).encode())
    return first.packed()


def _make_root(root: Path, busybox: Path, *, keep: Path) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    packages.unpack(_PYTHON, root, keep=keep)
    for name in _NOT_NEEDED:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in ("dev", "proc", "sys", "run", "tmp", "etc/init.d", "srv", "var", "root"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(busybox, root / "usr/bin/busybox")
    (root / "usr/bin/busybox").chmod(0o755)
    for name in _APPLETS:
        (root / "usr/bin" / name).symlink_to("busybox")
    (root / "usr/bin/python3").symlink_to("python3.11")
    shutil.copyfile(SCRIPTS / "guest/init.sh", root / "sbin/init")
    shutil.copyfile(SCRIPTS / "guest/update-agent.sh", root / "etc/init.d/update-agent")
    for name in ("sbin/init", "etc/init.d/update-agent"):
        (root / name).chmod(0o755)
    (root / "etc/os-release").write_text('PRETTY_NAME="Tiny guest (Debian parts)"\n')
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    if sys.version_info[:2] == (3, 11):  # else the guest compiles at each start
        compileall.compile_dir(str(root / "usr/lib/python3.11"), quiet=2, stripdir=str(root), prependdir="/")


def _build_agent(target: Path) -> None:
    """By a process of its own: nothing of ours imports the agent."""
    clone = Path(__file__).resolve().parents[4]
    command = [sys.executable, "-m", "agent.build", str(target)]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise Failed(f"The agent cannot be built: {done.stderr.strip()}")


def _make_ext4(root: Path, target: Path) -> None:
    command = ["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", str(root), "-E", "root_owner=0:0,lazy_itable_init=1"]
    command += ["-O", "^metadata_csum_seed,^orphan_file", "-m", "0", str(target), f"{ROOT_MB}M"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise Failed(f"mke2fs: {done.stderr.strip()}")


__all__ = ["MB", "TinyGuest"]
