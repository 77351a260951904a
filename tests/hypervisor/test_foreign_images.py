"""Disk images are hostile input: none leads to other files of this host, and none exhausts it."""

import os
import struct
import subprocess
from pathlib import Path

import pytest

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Capacity, DriverError, NotFound, Unsupported
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
    assert [path.name for path in place.iterdir() if path.is_file()] == ["disk.qcow2"]


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
    assert disk_images.check_foreign(disk, "qcow2", Bound(60)) == -(-source.stat().st_size // 512) * 512
    with pytest.raises(Unsupported, match="must end in"):
        take(tmp_path / "till.iso", place)


def test_an_image_that_unfolds_too_far_is_refused(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "till.qcow2"
    create(source, "-f", "qcow2", str(source), "8T")
    assert "unfolds to" in refused(source, place)


def test_what_is_small_and_unfolds_to_more_than_there_is_room_for_is_stopped(
    place: Path, tmp_path: Path, monkeypatch
) -> None:
    raw, source = tmp_path / "full.raw", tmp_path / "till.qcow2"
    raw.write_bytes(b"so much of the same" * 2_000_000)
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", "-f", "raw", raw, source], check=True, timeout=60)
    assert source.stat().st_size < raw.stat().st_size / 20
    free = disk_images.shutil.disk_usage(place).free
    monkeypatch.setattr(disk_images, "_RESERVE", free - 10 * MB)
    with pytest.raises(Capacity, match="unfolds to more"):
        take(source, place)


def test_a_damaged_image_is_refused_before_it_is_converted(place: Path, tmp_path: Path) -> None:
    source = create(tmp_path / "till.qcow2", "-f", "qcow2", str(tmp_path / "till.qcow2"), "64M")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 1M", source], check=True, timeout=60, capture_output=True)
    with open(source, "r+b") as image:  # its first table points to where nothing is
        image.seek(40)
        table = struct.unpack(">Q", image.read(8))[0]
        image.seek(table)
        image.write(struct.pack(">Q", (1 << 63) | 1 << 40))
    assert "qemu-img check" in refused(source, place)


def test_no_location_leads_out_of_the_sources(tmp_path: Path, secret: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "link.raw").symlink_to(secret)
    for location in ("link.raw", "../secret", str(secret)):
        with pytest.raises(Unsupported, match="leads out"):
            source_path(sources, location)
    with pytest.raises(NotFound):
        source_path(sources, "nothing.raw")
