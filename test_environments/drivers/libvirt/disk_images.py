"""Disk images by `qemu-img`: what a foreign image is allowed to be, conversion, overlays.

A foreign image is hostile input: it may name other files of this host as its base or data, or be made to exhaust us.
Its header is read here first, its format is what the caller said and never guessed, and qemu-img runs without
privileges or network, within limits of memory, processor time, time and written bytes.
"""

import hashlib
import json
import os
import shutil
import signal
import struct
from pathlib import Path
from typing import BinaryIO

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Capacity, DriverError, Failed, SourceChanged, Unavailable, Unsupported
from test_environments.drivers.libvirt import programs
from test_environments.drivers.receiving import FORMATS
from test_environments.drivers.texts import Text as _

LARGEST = 4 * 10**12  # bytes that an image may unfold to
_INFO_SECONDS = 30.0
_CHECK_SECONDS = 900.0
_CONVERT_SECONDS = 3600  # of the processor
_MEMORY = 2 * 1024**3  # of qemu-img
_RESERVE = 256 * 1024**2  # bytes that no conversion takes of the disk
_LEAKS = 3  # what `qemu-img check` says of an image that only wastes room
_BLOCK = 4 * 1024 * 1024
_QCOW2_EXTERNAL_DATA = 1 << 2


def format_of(path: Path) -> str:
    """The format that the name says; the content is never asked. Raises Unsupported."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise Unsupported(
            _("%(name)s: the name must end in one of %(endings)s.", name=path.name, endings=", ".join(FORMATS))
        ) from None


def check_header(path: Path, format_: str) -> None:
    """Refuses what would lead out of the file, before any other program reads it. Raises Unsupported, Failed."""
    with open(path, "rb") as image:
        head = image.read(512)
    if format_ == "qcow2":
        _check_qcow2(path, head)
    elif format_ == "vmdk":
        # The other kind is a text that names files; so is one inside a "sparse" file without a capacity.
        if head[:4] != b"KDMV" or struct.unpack_from("<Q", head, 12)[0] == 0:
            raise Unsupported(
                _("%(name)s is not a VMDK in one file; convert it to `monolithicSparse` first.", name=path.name)
            )
    elif format_ == "vhdx" and head[:8] != b"vhdxfile":
        raise Unsupported(_("%(name)s is not a VHDX file.", name=path.name))


def _check_qcow2(path: Path, head: bytes) -> None:
    if len(head) < 104 or head[:4] != b"QFI\xfb":
        raise Unsupported(_("%(name)s is not a qcow2 file.", name=path.name))
    version, base = struct.unpack_from(">IQ", head, 4)
    (encryption,) = struct.unpack_from(">I", head, 32)
    features = struct.unpack_from(">Q", head, 72)[0] if version >= 3 else 0
    if base:
        raise Unsupported(
            _("%(name)s builds on another file; convert it to an image of its own first.", name=path.name)
        )
    if features & _QCOW2_EXTERNAL_DATA:
        raise Unsupported(
            _("%(name)s keeps its data in another file; convert it to an image of its own first.", name=path.name)
        )
    if encryption:
        raise Unsupported(_("%(name)s is encrypted.", name=path.name))


def take_copy(source: Path, target: Path, bound: Bound) -> str:
    """Copies a foreign file, holes included, so that nobody changes it while it is looked at; the sha256 of it.

    Raises SourceChanged, Failed, Interrupted.
    """
    digest = hashlib.sha256()
    with open(source, "rb") as foreign, _new(target) as copy:
        before = os.fstat(foreign.fileno())
        while block := foreign.read(_BLOCK):
            digest.update(block)
            if block.count(0) == len(block):
                copy.seek(len(block), os.SEEK_CUR)
            else:
                copy.write(block)
            bound.check()
        copy.truncate()
        after = os.fstat(foreign.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or copy.tell() != after.st_size:
            raise SourceChanged(
                _("%(name)s changed while it was read; switch its machine off, or try again.", name=source.name)
            )
    return digest.hexdigest()


def _new(path: Path) -> BinaryIO:
    """What it holds is nobody else's."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def check_foreign(copy: Path, format_: str, bound: Bound) -> int:
    """Refuses an image that leads out of its file, unfolds too far or is damaged; its size in bytes when unfolded.

    `copy` is ours alone (see `take_copy`). Raises Unsupported, Unavailable, Failed, Interrupted.
    """
    check_header(copy, format_)
    programs.give_to_nobody(copy)
    found = json.loads(
        _run(["info", "--output=json", "-f", format_, str(copy)], seconds=_INFO_SECONDS, limits=_reading(_INFO_SECONDS))
    )
    special = found.get("format-specific", {}).get("data", {})
    extents = {extent.get("filename") for extent in special.get("extents", [])} - {str(copy)}
    if found.get("backing-filename") or special.get("data-file") or extents or found.get("encrypted"):
        raise Unsupported(
            _("The image refers to other files or is encrypted; convert it to an image of its own first.")
        )
    size = int(found["virtual-size"])
    if not 0 < size <= LARGEST:
        raise Unsupported(
            _("The image unfolds to %(size)s bytes; at most %(most)s are taken.", size=size, most=LARGEST)
        )
    if format_ != "raw":
        check = ["check", "-q", "-f", format_, str(copy)]
        limits = _reading(min(_CHECK_SECONDS, bound.left))
        _run(check, seconds=_CHECK_SECONDS, bound=bound, limits=limits, fine=(0, _LEAKS))
    return size


def convert(copy: Path, format_: str, target: Path, bound: Bound) -> int:
    """Writes a foreign image (our copy of it) as a new qcow2 that depends on nothing; its unfolded size.

    Raises Unsupported, Failed, Capacity, Interrupted.
    """
    size = check_foreign(copy, format_, bound)
    make_empty(target, size)
    programs.give_to_nobody(target)
    # What is small and unfolds to much is stopped before it fills the disk.
    most = max(0, min(shutil.disk_usage(target.parent).free - _RESERVE, size + size // 100 + 64 * 1024**2))
    limits = [f"--cpu={_CONVERT_SECONDS}", f"--fsize={most}"]
    _run(["convert", "-n", "-f", format_, "-O", "qcow2", str(copy), str(target)], bound=bound, limits=limits)
    return size


def make_empty(target: Path, size: int) -> None:
    """A qcow2 of so many bytes without content. Raises Failed, Capacity."""
    _run(["create", "-q", "-f", "qcow2", str(target), str(size)], seconds=_INFO_SECONDS)


def make_overlay(target: Path, base: str) -> None:
    """An empty qcow2 on top of another one, whose path is relative to it. Raises Failed, Capacity."""
    _run(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, str(target)], seconds=_INFO_SECONDS)


def sha256_of(path: Path, bound: Bound) -> str:
    """Of the file as it is. Raises Failed, Interrupted."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            bound.check()
    return digest.hexdigest()


def need_room(folder: Path, needed: int) -> None:
    """Raises Capacity unless so many bytes are free below a folder."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Capacity(
            _(
                "%(needed)s MB are needed on the disk of %(folder)s, %(free)s MB are free. Destroy an "
                "environment or an image, or make room.",
                needed=needed // 10**6 + 1,
                folder=folder,
                free=free // 10**6,
            )
        )


def _reading(seconds: float) -> list[str]:
    """The limits of a program that only looks."""
    return [f"--cpu={max(1, round(seconds))}", "--fsize=0"]


def _run(
    arguments: list[str],
    *,
    seconds: float = 3600.0,
    bound: Bound | None = None,
    limits: list[str] | None = None,
    fine: tuple[int, ...] = (0,),
) -> str:
    """What qemu-img prints. With `limits` (of prlimit) it looks at something foreign: as nobody, without network."""
    command = ["qemu-img", *arguments]
    if limits is not None:
        command = ["prlimit", f"--as={_MEMORY}", "--core=0", "--nofile=64", *limits, "--", *command]
    try:
        ended = programs.run(command, seconds=seconds, bound=bound, as_nobody=limits is not None)
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise Failed(_("qemu-img %(what)s did not finish in time.", what=arguments[0])) from None
        raise Unavailable(
            _("qemu-img cannot be started (%(error)s). On Debian: apt install qemu-utils.", error=error)
        ) from None
    if ended.code not in fine:
        raise _why(arguments[0], ended.code, ended.errors.strip()[-500:])
    return ended.output


def _why(what: str, code: int, text: str) -> DriverError:
    if code == -signal.SIGXFSZ or "File too large" in text or "No space left" in text:
        return Capacity(_("The image unfolds to more than there is room for on the disk. %(text)s", text=text))
    if code == -signal.SIGXCPU:
        return Failed(_("qemu-img %(what)s took more processor time than an image may take.", what=what))
    return Failed(f"qemu-img {what}: {text}")
