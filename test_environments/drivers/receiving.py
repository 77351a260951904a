"""Disks that arrive from elsewhere: what is expected, how far it is, and the medium that a physical machine boots from.

A medium is made without its secret, so that neither the driver nor the database holds it: its place is filled while the
medium is handed out.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOKEN_LENGTH = 43
TOKEN_PLACE = b"the-secret-of-this-medium-is-written-here".ljust(TOKEN_LENGTH, b".")
# Of the disk images that are taken, by the ending of their name.
FORMATS = {".raw": "raw", ".img": "raw", ".qcow2": "qcow2", ".vmdk": "vmdk", ".vhdx": "vhdx"}
_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExpectedDisk:
    """The disk of a physical machine that is to come, under the name that `capture` takes it by (method `medium`).

    `machine_address` with prefix length and `gateway`: how the machine comes into the network, empty by DHCP. `disk`:
    which of its disks (sda), empty for its only one.
    """

    name: str
    token_sha256: str  # of the secret that the medium carries, hex
    address: str  # where the driver listens and the medium sends to
    port: int
    machine_address: str = ""
    gateway: str = ""
    disk: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is. `size` 0: none is under way."""

    size: int = 0
    received: int = 0
    sender: str = ""
    inventory: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""  # why the last one was not taken


@dataclass(frozen=True, slots=True)
class ArrivedDisk:
    """A disk that is complete and has this checksum; nothing but its header has been looked at."""

    sha256: str
    size: int
    inventory: Mapping[str, Any] = field(default_factory=dict)


def with_token(medium: Path, token: str) -> Iterator[bytes]:
    """The blocks of a medium with its secret in place. Raises ValueError, OSError."""
    if len(token) != TOKEN_LENGTH or not token.isascii():
        raise ValueError("not the secret of a medium")
    with open(medium, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(TOKEN_PLACE)
        if place < 0:
            raise ValueError("no medium")
        for start in range(0, len(content), _BLOCK):
            block = bytearray(content[start : start + _BLOCK])
            first, last = max(place, start), min(place + TOKEN_LENGTH, start + len(block))
            if first < last:
                block[first - start : last - start] = token.encode()[first - place : last - place]
            yield bytes(block)
