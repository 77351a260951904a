"""The medium that boots on a physical machine and sends its disk: made of the small system, for one reception."""

import os
import re
import tempfile
from pathlib import Path

from test_environments.drivers.errors import Unsupported
from test_environments.drivers.libvirt.small_systems import packages
from test_environments.drivers.libvirt.small_systems.boot_disk import PACKAGES, make_boot_disk
from test_environments.drivers.libvirt.small_systems.build import small_system
from test_environments.drivers.libvirt.small_systems.initramfs import Initramfs
from test_environments.drivers.receiving import TOKEN_PLACE, ExpectedDisk
from test_environments.drivers.texts import Text as _

_BOOT_MB = 32


def make_medium(
    target: Path, expected: ExpectedDisk, certificate: bytes, media: Path, *, pause_seconds: int = 60
) -> None:
    """Writes a disk image to be put on a USB stick, in one step; its secret is still to be filled in.

    Raises Unavailable (no apt), Unsupported (a value that cannot be on it), Failed, OSError.
    """
    values = {
        "receiver": expected.address, "port": str(expected.port), "disk": expected.disk,
        "address": expected.machine_address, "gateway": expected.gateway, "pause": str(pause_seconds),
    }  # fmt: skip
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z0-9._:/-]*", value):
            raise Unsupported(_("%(value)r cannot be the %(name)s of a capture medium.", value=value, name=name))
    own = Initramfs()
    lines = f"token={TOKEN_PLACE.decode()}\n" + "".join(f"{name}={value}\n" for name, value in values.items())
    own.file("capture/settings", lines.encode(), mode=0o600)
    own.file("capture/receiver.pem", certificate)
    system = small_system(media)
    with tempfile.TemporaryDirectory(dir=media, prefix=".new-") as folder:
        tools, new = Path(folder) / "tools", Path(folder) / "medium.img"
        packages.unpack(PACKAGES, tools, keep=media / "packages")
        make_boot_disk(
            new, tools, boot_mb=_BOOT_MB, parts=[],
            files={"kernel": system.kernel, "initrd": system.capture, "settings.cpio": own.plain()},
            arguments="console=ttyS0 console=tty0 quiet panic=-1 itsm.errand=capture",
        )  # fmt: skip
        _put(new, target)


def _put(new: Path, target: Path) -> None:
    """Whole, or not at all; it belongs to whom the folder belongs, who hands it out."""
    beside = target.with_name(f".{target.name}")
    owner = target.parent.stat()
    try:
        with open(new, "rb") as source, open(beside, "wb") as copy:
            beside.chmod(0o600)
            while block := source.read(1024 * 1024):
                copy.write(block)
        if os.geteuid() == 0:
            os.chown(beside, owner.st_uid, owner.st_gid)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
