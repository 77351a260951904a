"""Who may read the files of machines: root and the user that QEMU runs as, nobody else."""

import grp
import os
import pwd
from pathlib import Path

from test_environments.drivers.errors import Unavailable
from test_environments.drivers.texts import Text as _


class QemuUser:
    """The unprivileged user of QEMU. Without root, everything belongs to ourselves and nothing is given away."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._is_root = os.geteuid() == 0
        self._uid = self._gid = -1
        if self._is_root:
            try:
                self._uid = pwd.getpwnam(name).pw_uid
            except KeyError:
                raise Unavailable(
                    _(
                        "There is no user %(name)s. On Debian: apt install libvirt-daemon-system qemu-system-x86 "
                        "qemu-utils.",
                        name=name,
                    )
                ) from None
            try:
                self._gid = grp.getgrnam(name).gr_gid
            except KeyError:
                self._gid = pwd.getpwnam(name).pw_gid

    @property
    def group(self) -> str:
        return grp.getgrgid(self._gid).gr_name if self._is_root else ""

    def may_enter(self, folder: Path) -> None:
        """QEMU may pass through a folder of ours, but not list it."""
        self._set(folder, 0, 0o710)

    def may_read(self, file: Path) -> None:
        self._set(file, 0, 0o440)

    def may_write(self, file: Path) -> None:
        self._set(file, self._uid, 0o600)

    def _set(self, path: Path, owner: int, mode: int) -> None:
        if self._is_root:
            os.chown(path, owner, self._gid, follow_symlinks=False)
        path.chmod(mode)

    def check_reach(self, folder: Path) -> None:
        """Raises Unavailable where a folder above lets QEMU's user not through."""
        if not self._is_root:
            return
        for above in folder.resolve().parents:
            facts = above.stat()
            if not (facts.st_mode & 0o001 or (facts.st_gid == self._gid and facts.st_mode & 0o010)):
                raise Unavailable(
                    _(
                        "The user %(name)s cannot reach %(folder)s: %(above)s lets it not through. Choose another "
                        "folder for the machines, such as /var/lib/itsm-portal/machines, or run chmod o+x %(above)s.",
                        name=self.name,
                        folder=folder,
                        above=above,
                    )
                )
