"""What `make demo VM=1` does where there is no hypervisor, and what it removes."""

import argparse
import os
from pathlib import Path

import pytest

from itsm_portal.demo import machines
from itsm_portal.demo.__main__ import Demo


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machines, "_ROOM", tmp_path)
    return machines.folder_of(tmp_path / "data")


def test_a_host_without_a_hypervisor_is_left_as_it_is(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    before = dict(os.environ)
    assert machines.prepare(tmp_path / "data") in {"qemu-system-x86_64", "root's rights"}
    assert not folder.exists()
    assert dict(os.environ) == before


def test_it_says_in_one_line_what_copies_are_why_and_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PORTAL_URL", "http://127.0.0.1:8000")
    demo = Demo(tmp_path, argparse.Namespace(vm=True), 0.0, lacks_for_machines="qemu-img")
    said: list[str] = []
    monkeypatch.setattr(demo, "say", said.append)
    assert not demo._has_machine(seed=None)
    [line] = said
    assert line.startswith("Releases are tried on file copies: virtual machines need qemu-img (as root: apt install ")


def test_what_somebody_else_has_put_in_the_place_is_not_used(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(machines, "what_is_missing", lambda: "")
    folder.symlink_to(tmp_path)
    before = dict(os.environ)
    assert "belongs to somebody else" in machines.prepare(tmp_path / "data")
    assert dict(os.environ) == before


def test_disks_that_are_left_are_told_and_kept_until_all_is_renewed(folder, tmp_path):
    disk = folder / "environments" / "x" / "disk-1.qcow2"
    disk.parent.mkdir(parents=True)
    disk.write_bytes(b"overlay")
    assert machines.left_over(tmp_path / "data") == machines.end(tmp_path / "data") == [str(disk)]
    assert disk.exists()
    machines.remove(tmp_path / "data")
    assert not folder.exists()
    assert machines.end(tmp_path / "data") == []


def test_what_somebody_else_has_put_in_the_place_is_neither_told_nor_removed(folder, tmp_path):
    disk = tmp_path / "theirs" / "disk.qcow2"
    disk.parent.mkdir()
    disk.write_bytes(b"precious")
    folder.symlink_to(disk.parent)
    assert machines.left_over(tmp_path / "data") == machines.end(tmp_path / "data") == []
    machines.remove(tmp_path / "data")
    assert disk.read_bytes() == b"precious"
    assert folder.is_symlink()
