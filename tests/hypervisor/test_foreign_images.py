"""Disk images are hostile input: none leads to other files of this host, and none exhausts it."""

import os
import struct
import subprocess
from pathlib import Path

import pytest

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError, NotFound, Unsupported
from test_environments.drivers.interface import Consistency
from test_environments.drivers.libvirt import disk_images
from test_environments.drivers.libvirt.capturing import source_path, take_file

MB = 1024 * 1024
SECRET = b"a secret of this host\n" * 4096


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET.ljust(MB, b"\0"))
    return path


def create(path: Path, *arguments: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", *arguments], check=True, timeout=60)
    return path


def take(source: Path, place: Path) -> Path:
    return take_file(source, place, Bound(60), Consistency.COLD).disk


def refused(source: Path, place: Path) -> str:
    with pytest.raises(DriverError) as refusal:
        take(source, place)
    (place / f"source{source.suffix}").unlink()  # our copy, which the driver removes with its folder
    assert not any(SECRET[:20] in path.read_bytes() for path in place.rglob("*") if path.is_file())
    return str(refusal.value)


@pytest.mark.parametrize("suffix", [".raw", ".qcow2", ".vmdk", ".vhdx"])
def test_an_image_of_each_format_becomes_a_qcow2_of_its_own(place: Path, tmp_path: Path, suffix: str) -> None:
    raw = tmp_path / "source.img"
    raw.write_bytes(os.urandom(MB) + b"\0" * 15 * MB)
    source = tmp_path / f"till{suffix}"
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", suffix[1:], raw, source], check=True, timeout=60
    )  # fmt: skip
    disk = take(source, place)
    compare = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, disk]
    assert subprocess.run(compare, capture_output=True, timeout=60).returncode == 0
    assert [path.name for path in place.iterdir()] == ["disk.qcow2"]


def test_a_base_elsewhere_is_refused(place: Path, tmp_path: Path, secret: Path) -> None:
    source = tmp_path / "till.qcow2"
    create(source, "-f", "qcow2", "-F", "raw", "-b", str(secret), str(source))
    assert "builds on another file" in refused(source, place)


def test_data_elsewhere_is_refused(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "till.qcow2"
    create(source, "-f", "qcow2", "-o", f"data_file={tmp_path}/data", str(source), "1M")
    assert "data in another file" in refused(source, place)


def test_a_vmdk_that_names_files_is_refused(place: Path, tmp_path: Path, secret: Path) -> None:
    source = tmp_path / "till.vmdk"
    source.write_text(
        '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW 2048 FLAT "{secret}" 0\n'
    )
    assert "not a VMDK in one file" in refused(source, place)
    # The same text inside what begins like a sparse file; its capacity is zero.
    text = source.read_bytes()
    source.write_bytes(
        struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 0, 128, 1, len(text) // 512 + 1).ljust(512, b"\0") + text
    )
    assert "not a VMDK in one file" in refused(source, place)


def test_an_encrypted_image_is_refused(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "till.qcow2"
    arguments = ["-f", "qcow2", "--object", "secret,id=s,data=x", "-o", "encrypt.format=luks,encrypt.key-secret=s"]
    create(source, *arguments, str(source), "4M")
    assert "encrypted" in refused(source, place)


def test_the_name_says_the_format_and_a_raw_disk_stays_raw_whatever_is_written_on_it(
    place: Path, tmp_path: Path, secret: Path
) -> None:
    inner = tmp_path / "inner.qcow2"
    create(inner, "-f", "qcow2", "-F", "raw", "-b", str(secret), str(inner))
    source = tmp_path / "till.raw"
    source.write_bytes(inner.read_bytes())
    disk = take(source, place)
    assert disk_images.check_foreign(disk, "qcow2") == -(-source.stat().st_size // 512) * 512
    with pytest.raises(Unsupported, match="must end in"):
        take(tmp_path / "till.iso", place)


def test_an_image_that_unfolds_too_far_is_refused(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "till.qcow2"
    create(source, "-f", "qcow2", str(source), "8T")
    assert "unfolds to" in refused(source, place)


def test_no_location_leads_out_of_the_sources(tmp_path: Path, secret: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "link.raw").symlink_to(secret)
    for location in ("link.raw", "../secret", str(secret)):
        with pytest.raises(Unsupported, match="leads out"):
            source_path(sources, location)
    with pytest.raises(NotFound):
        source_path(sources, "nothing.raw")
