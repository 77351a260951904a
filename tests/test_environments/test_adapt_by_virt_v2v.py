"""virt-v2v adapts the system on a foreign disk, where somebody asks for it; a small stand-in plays its part."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Failed, Unsupported
from test_environments.drivers.interface import CaptureOrder, Consistency, Conversion, Image, Kind, Provenance
from test_environments.drivers.libvirt.adapting import adapt, why_not
from test_environments.drivers.libvirt.driver import Libvirt
from test_environments.drivers.libvirt.errands import Report
from test_environments.drivers.libvirt.images import Images
from test_environments.drivers.libvirt.ownership import QemuUser
from test_environments.drivers.libvirt.physical import Incoming
from test_environments.drivers.store import Store

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")
MB = 1024 * 1024
# What virt-v2v is called with and leaves behind; "-i disk" on a system that it does not know ends as "refuses" does.
STAND_IN = """#!/bin/sh
set -eu
test "$1 $2 $3 $4" = "-i disk -if qcow2" && disk=$5 && shift 5
test "$1 $2 $3" = "-o local -os" && test "$5 $6 $7 $8" = "-of qcow2 -on disk"
test "${{DATABASE_URL-none}}" = none && test -w "$TMPDIR"
{what}
echo "[   0.1] Setting up the source: -i disk $disk"
qemu-img convert -f qcow2 -O qcow2 "$disk" "$4/disk-sda"
echo "<domain/>" >"$4/disk.xml"
echo "virt-v2v: warning: no virtio drivers for this system" >&2
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that a program without rights reaches."""
    folder = Path(tempfile.mkdtemp(prefix="itsm-adapt-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def install(place: Path, monkeypatch, what: str = "") -> None:
    program = place / "bin" / "virt-v2v"
    program.parent.mkdir(mode=0o755)
    program.write_text(STAND_IN.format(what=what))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DATABASE_URL", "postgres://a secret of the test host")


def without(place: Path, monkeypatch) -> None:
    """A test host that has everything but virt-v2v."""
    programs = place / "programs"
    programs.mkdir()
    (programs / "qemu-img").symlink_to(str(shutil.which("qemu-img")))
    monkeypatch.setenv("PATH", str(programs))


@pytest.fixture
def disk(place: Path) -> Path:
    raw, disk = place / "raw", place / "disk.qcow2"
    raw.write_bytes(os.urandom(MB) + b"\0" * 3 * MB)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk], check=True, timeout=60)
    return disk


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name not in {"bin", "programs", "raw"})


def test_the_disk_is_replaced_by_what_virt_v2v_made_of_it_and_what_it_said_is_kept(place, disk, monkeypatch):
    before = disk.stat().st_ino
    install(place, monkeypatch)
    said = adapt(disk, Bound(60))
    assert "Setting up the source" in said
    assert "no virtio drivers" in said
    assert disk.stat().st_ino != before
    compare = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", place / "raw", disk]
    assert subprocess.run(compare, capture_output=True, timeout=60).returncode == 0
    assert (disk.stat().st_uid, disk.stat().st_mode & 0o777) == (os.geteuid(), 0o600)
    assert left(place) == ["disk.qcow2"]


def test_without_virt_v2v_it_is_refused_with_what_to_install_and_nothing_else_is_done(place, disk, monkeypatch):
    without(place, monkeypatch)
    with pytest.raises(Unsupported, match="apt install virt-v2v"):
        adapt(disk, Bound(60))
    assert "apt install virt-v2v" in why_not()
    assert left(place) == ["disk.qcow2"]


def test_what_it_says_when_it_refuses_a_disk_is_what_people_read(place, disk, monkeypatch):
    refusal = "virt-v2v: error: inspection could not detect the source guest"
    install(place, monkeypatch, f'echo "{refusal}" >&2; exit 1')
    with pytest.raises(Failed, match=refusal):
        adapt(disk, Bound(60))
    assert left(place) == ["disk.qcow2"]


def test_it_is_not_waited_for_longer_than_the_step_may_take_and_ends_with_its_children(place, disk, monkeypatch):
    install(place, monkeypatch, f"sh -c 'sleep 297; : {place.name}' & sleep 298")
    began = time.monotonic()
    with pytest.raises(Failed, match="did not finish within 1 seconds"):
        adapt(disk, Bound(1))
    assert time.monotonic() - began < 10
    alive = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if is_readable(path)]
    assert not any(place.name.encode() in words for words in alive)
    assert left(place) == ["disk.qcow2"]


def is_readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_a_disk_that_refers_to_others_is_not_taken_from_virt_v2v_either(place, disk, monkeypatch):
    install(place, monkeypatch, 'qemu-img create -q -f qcow2 -F qcow2 -b "$disk" "$4/disk-sda"; exit 0')
    with pytest.raises(Unsupported, match="builds on another file"):
        adapt(disk, Bound(60))


class Errands:
    """No machine looks at the disk here."""

    def run(self, *_arguments, **_options) -> Report:
        return Report(baseline={"billing": "1.0"})


def capture(place: Path, order: CaptureOrder) -> tuple[Images, Image]:
    (place / "images").mkdir(mode=0o711, exist_ok=True)  # as the hypervisor makes it, before
    images = Images(Store(place / "images"), place, Incoming(place / "incoming", place))
    user = QemuUser("nobody")
    return images, images.capture(order, Bound(60), user=user, connection=None, errands=Errands())


@pytest.fixture
def order(disk: Path) -> CaptureOrder:
    of = Provenance("https://portal.example.org", "IMG-0000001", "till-7", "2026")
    return CaptureOrder(uuid4(), Kind.VM, "disk", disk.name, Consistency.COLD, of, conversion=Conversion.VIRT_V2V)


def test_an_image_says_how_it_was_made_and_has_the_checksum_of_what_was_made(place, disk, order, monkeypatch):
    install(place, monkeypatch)
    images, image = capture(place, order)
    about = json.loads((images.disk(order.image).parent / "about.json").read_text())
    assert about["conversion"] == "virt_v2v"
    assert "Setting up the source" in image.said == about["said"]
    found = subprocess.run(["sha256sum", images.disk(order.image)], capture_output=True, text=True, check=True)
    assert found.stdout.split()[0] == image.image_sha256
    assert images.find(order.image) == image
    _images, plain = capture(place, replace(order, image=uuid4(), conversion=Conversion.KEEP))
    assert plain.said == ""
    assert plain.source_sha256 == image.source_sha256


def test_what_is_missing_is_said_before_anything_is_read_and_by_the_capabilities(place, order, monkeypatch):
    without(place, monkeypatch)
    with pytest.raises(Unsupported, match="virt-v2v"):
        capture(place, order)
    assert list((place / "images").iterdir()) == []
    driver = Libvirt(place / "m", portal="x", options={}, say=print)
    hypervisor = SimpleNamespace(
        connection=SimpleNamespace(call=lambda *_: {"uri": "", "libvirt": "", "qemu": ""}), free_memory_mb=lambda _: 1
    )
    monkeypatch.setattr(Libvirt, "_hypervisor", hypervisor)
    (place / "m").mkdir()
    assert driver.capabilities(Bound(10)).conversions == {Conversion.KEEP}
    install(place, monkeypatch)
    assert driver.capabilities(Bound(10)).conversions == set(Conversion)
