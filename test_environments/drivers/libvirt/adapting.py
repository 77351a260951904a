"""Adapting the system on a foreign disk to the hardware of our machines, by `virt-v2v`: only where it is asked for.

virt-v2v opens the disk in a small machine of its own (libguestfs), never by the kernel of this host.
"""

import os
import shutil
from pathlib import Path

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Capacity, Failed, Unsupported
from test_environments.drivers.libvirt import disk_images, programs
from test_environments.drivers.texts import Text as _

PROGRAM = "virt-v2v"
_SECONDS = 2 * 3600.0
_SAID = 3000  # characters of what it said that are kept
# What it is told of this host: where its programs and the kernel of its own machine are, nothing else.
_TOLD = ("PATH", "SUPERMIN_KERNEL", "SUPERMIN_MODULES", "SUPERMIN_KERNEL_VERSION")


def why_not() -> str:
    """Why no system can be adapted here, and what to do; empty if it can."""
    if shutil.which(PROGRAM):
        return ""
    return _(
        "The test host has no virt-v2v. On Debian: apt install virt-v2v nbdkit, then retry. Or order it again and let "
        "the disk keep its own drivers."
    )


def adapt(disk: Path, bound: Bound) -> str:
    """Replaces `disk`, a qcow2 of ours, by what virt-v2v makes of it; what virt-v2v said.

    Raises Unsupported (not installed), Capacity, Failed with what it said, Interrupted.
    """
    if why := why_not():
        raise Unsupported(why)
    disk_images.need_room(disk.parent, 2 * disk.stat().st_size)
    work = disk.parent / "adapted"
    work.mkdir(mode=0o700)
    try:
        for path in (work, disk):
            programs.give_to_nobody(path)
        said = _run(disk, work, bound)
        made = work / "disk-sda"
        if not made.is_file() or made.is_symlink():
            raise Failed(_("virt-v2v has left no disk: %(said)s", said=said))
        disk_images.check_foreign(made, "qcow2", bound)
        programs.take_back(made)
        made.replace(disk)
    finally:
        shutil.rmtree(work)
    return said


def _run(disk: Path, work: Path, bound: Bound) -> str:
    command = [PROGRAM, "-i", "disk", "-if", "qcow2", str(disk)]
    command += ["-o", "local", "-os", str(work), "-of", "qcow2", "-on", "disk"]
    told = {name: os.environ[name] for name in _TOLD if name in os.environ}
    told |= {"LC_ALL": "C.UTF-8", "HOME": str(work), "TMPDIR": str(work)}
    told |= {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_CACHEDIR": str(work), "XDG_RUNTIME_DIR": str(work)}
    try:
        ended = programs.run(
            command, seconds=_SECONDS, bound=bound, as_nobody=True, starts_others=True, environment=told
        )  # fmt: skip
    except TimeoutError:
        raise Failed(_("virt-v2v did not finish in time.")) from None
    said = "\n".join(text.strip() for text in (ended.output, ended.errors) if text.strip())[-_SAID:]
    if "No space left on device" in said:
        raise Capacity(_("virt-v2v has no room left on the disk: %(said)s", said=said))
    if ended.code != 0:
        raise Failed(_("virt-v2v refused the disk: %(said)s", said=said or _("no reason given")))
    return said
