"""The file driver keeps the contract of all drivers."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from test_environments.drivers.errors import GuestUnresponsive, Unsupported
from test_environments.drivers.file_copy import agents
from test_environments.drivers.file_copy.driver import FileCopy
from test_environments.drivers.interface import CaptureOrder, Consistency, Evidence, Kind, Power, Recipe, StoppedHow
from tests.test_environments.driver_contract import PROVENANCE, Bench, DriverContract
from tests.test_environments.processes import SLEEPER, processes_of
from tests.test_environments.source import install


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    install(tmp_path / "fleet" / "till-7", "billing", "0.9", "1.0")
    (tmp_path / "fleet" / "till-7" / "mail.json").write_text('{"relay": "mail.example.org"}')
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    opened = []

    def open_driver(portal: str = PROVENANCE.portal) -> FileCopy:
        options = {"sources": tmp_path / "fleet", "agent": tmp_path / "sleeper.py"}
        opened.append(FileCopy(tmp_path / "copies", portal=portal, options=options, say=print))
        return opened[-1]

    def note(environment: UUID) -> Path:
        return tmp_path / "copies" / "environments" / str(environment) / "root" / "billing" / "note.txt"

    yield Bench(
        driver=open_driver(),
        reopen=open_driver,
        foreign=lambda: open_driver("https://another.example.org"),
        capture_order=CaptureOrder(uuid4(), Kind.FILES, "folder", "till-7", Consistency.COLD, PROVENANCE),
        missing_location="till-8",
        evidence=Evidence.FILE_COPY,
        write=lambda environment, text: note(environment).write_text(text) and None,
        read=lambda environment: note(environment).read_text() if note(environment).exists() else "",
    )
    for driver in opened:
        driver.close()
    assert processes_of(tmp_path / "copies") == []


class TestFileCopy(DriverContract):
    """All of them, on a real disk with a process in the agent's place."""


def root_of(bench: Bench, environment: UUID) -> Path:
    return bench.driver._environments.path(environment) / "root"


def test_a_recipe_is_applied_before_the_copy_gets_its_identity(bench: Bench, tmp_path: Path):
    environment = bench.create(bench.capture())
    recipe = Recipe("mail relay", remove=("facts.*",), write={"mail.json": "{}", "cron/none": ""})
    assert bench.deliver(environment, recipe) == ("cron/none", "facts.json", "mail.json")
    assert bench.deliver(environment, recipe) == ()
    assert (root_of(bench, environment) / "mail.json").read_text() == "{}"
    assert not (root_of(bench, environment) / "facts.json").exists()
    assert (tmp_path / "fleet" / "till-7" / "facts.json").exists()


def test_a_recipe_follows_no_link_out_of_the_copy(bench: Bench, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "keep.txt").write_text("keep")
    environment = bench.create(bench.capture())
    (root_of(bench, environment) / "way-out").symlink_to(tmp_path / "outside")
    bench.deliver(environment, Recipe("x", remove=("way-out/keep.txt",), write={"way-out/new.txt": "x"}))
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["keep.txt"]
    with pytest.raises(Unsupported, match="leads out"):
        bench.deliver(environment, Recipe("x", remove=("../*",)))


def test_masking_happens_before_anybody_can_clone_it_and_changes_the_images_checksum(bench: Bench):
    from dataclasses import replace

    order = replace(bench.capture_order, masking=(Recipe("mail", write={"mail.json": "{}"}),))
    image = bench.driver.capture(order, bench.bound())
    assert image.masked == ("mail.json",)
    assert image.source_sha256 != image.image_sha256
    environment = bench.create(image)
    assert (root_of(bench, environment) / "mail.json").read_text() == "{}"


def test_an_image_that_was_changed_on_the_disk_is_not_used(bench: Bench):
    image = bench.capture()
    (bench.driver._images.path(image.image) / "root" / "mail.json").write_text("{ }")
    with pytest.raises(Exception, match="changed on the disk"):
        bench.create(image)


def test_the_identity_is_the_copys_own_and_for_the_runner_only(bench: Bench):
    environment = bench.create(bench.capture())
    bench.deliver(environment)
    folder = bench.driver._environments.path(environment)
    config = json.loads((folder / "agent.json").read_text())
    assert (config["url"], config["controller_id"], config["tenant"]) == ("http://127.0.0.1:9", "till-7-copy", "x")
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_agent_that_does_not_end_by_force_either_is_said_and_ended_later(bench: Bench, monkeypatch):
    environment = bench.running()
    with monkeypatch.context() as stuck:
        stuck.setattr(agents, "KILL_SECONDS", 0.2)
        stuck.setattr(subprocess.Popen, "kill", lambda process: None)
        stuck.setattr(subprocess.Popen, "terminate", lambda process: None)
        with pytest.raises(GuestUnresponsive, match="not even by force"):
            bench.driver.stop(environment, bench.bound(), grace_seconds=0)
    assert bench.power(environment) is Power.RUNNING
    assert bench.driver.stop(environment, bench.bound(), grace_seconds=0) is StoppedHow.FORCED


def test_a_full_disk_is_an_error_with_the_path_and_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    from test_environments.drivers.errors import Capacity
    from test_environments.drivers.file_copy import copying

    real = copying.shutil.disk_usage
    monkeypatch.setattr(copying.shutil, "disk_usage", lambda path: real(path)._replace(free=3))
    with pytest.raises(Capacity, match="MB"):
        bench.capture()
    assert bench.owned() == set()
