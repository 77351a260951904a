"""The file driver on a real disk: what a copy holds, what is never copied, and what it leaves behind."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Capacity, DriverError, Interrupted, SourceChanged
from test_environments.drivers.file_copy import copying
from test_environments.drivers.file_copy.capture import Capture, open_file, open_folder
from test_environments.drivers.file_copy.capture import capture as read_folder
from test_environments.drivers.file_copy.driver import FileCopy
from test_environments.drivers.interface import CaptureOrder, Consistency, CreateOrder, Delivery, Image, Kind
from tests.test_environments.driver_contract import PROVENANCE
from tests.test_environments.source import install, tree

IMAGE, COPY = uuid4(), uuid4()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "fleet").mkdir()
    return tmp_path / "fleet"


@pytest.fixture
def till(sources: Path) -> Path:
    return install(sources / "till-7", "billing", "1.0", "1.1")


def driver_of(till: Path) -> FileCopy:
    """The driver on the folder of sources in which this one lies."""
    root = next(p for p in till.parents if p.name == "fleet").parent
    return FileCopy(root / "copies", portal=PROVENANCE.portal, options={"sources": root / "fleet"}, say=print)


class Stopping(Bound):
    """A bound whose `check` does something else."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__(60)
        self._check = check

    def check(self) -> None:
        self._check()


def capture(till: Path, bound: Bound | None = None) -> Image:
    order = CaptureOrder(IMAGE, Kind.FILES, "folder", till.name, Consistency.COLD, PROVENANCE)
    return driver_of(till).capture(order, bound or Bound(60))


def create(till: Path, *, bound: Bound | None = None, **versions: str) -> Path:
    driver, image = driver_of(till), capture(till)
    order = CreateOrder(COPY, IMAGE, image.image_sha256, PROVENANCE, versions=versions)
    driver.create(order, bound or Bound(60))
    driver.deliver(COPY, Delivery("http://portal", "till-7-copy", "secret"), Bound(60))
    return driver._environments.path(COPY)


def nothing_on_disk(sources: Path) -> bool:
    return not list((sources.parent / "copies").glob("*/*"))


def read(sources: Path, folder: str = "till-7") -> Capture:
    return read_folder(sources, folder)


def test_the_copy_is_the_same_as_the_source(till: Path):
    copy = create(till)
    assert tree(copy / "root") == tree(till)
    assert os.access(copy / "root" / "billing" / "current" / "bin" / "run.sh", os.X_OK)


def test_the_baseline_names_what_the_source_runs(till: Path):
    install(till, "printing", "3.2")
    captured = capture(till)
    assert captured.baseline == {"billing": "1.1", "printing": "3.2"}
    assert captured.versions == {"billing": ("1.0", "1.1"), "printing": ("3.2",)}


def test_a_copy_can_run_an_older_version(till: Path):
    copy = create(till, billing="1.0")
    assert (copy / "root" / "billing" / "current" / "app.txt").read_text() == "billing 1.0"
    assert (till / "billing" / "current" / "app.txt").read_text() == "billing 1.1"


def test_a_version_that_the_source_does_not_hold_is_refused_with_those_it_holds(sources: Path, till: Path):
    with pytest.raises(DriverError, match=r"1\.0, 1\.1"):
        create(till, billing="9.9")
    assert [owned.what for owned in driver_of(till).list_owned(Bound(60))] == ["image"]


def test_token_and_folder_are_for_the_host_only(till: Path):
    copy = create(till)
    assert (copy / "token").stat().st_mode & 0o777 == 0o600
    assert copy.stat().st_mode & 0o777 == 0o700
    assert copy.parent.stat().st_mode & 0o777 == 0o700


def test_the_agents_own_files_and_secrets_of_the_source_stay_there(till: Path):
    (till / ".agent").mkdir()
    (till / ".agent" / "state.json").write_text("{}")
    (till / "token").write_text("secret of production")
    (till / "agent.json").write_text("{}")
    (till / "billing" / "versions" / ".new-2.0").mkdir()
    (till / "data").mkdir()
    (till / "data" / "customers.db").write_text("private")
    names = tree(create(till) / "root")
    assert not [name for name in names if ".agent" in name or "token" in name or ".new" in name or "data" in name]


@pytest.mark.parametrize("folder", ["..", "../till-7", "/etc", "till-7/../till-7", "a//b", "", ".hidden", "a/.b"])
def test_a_folder_in_another_notation_is_refused(till: Path, folder: str):
    with pytest.raises(DriverError, match="folder of sources"):
        read(till.parent, folder)


def test_a_linked_folder_is_refused_even_within_the_sources(sources: Path, till: Path):
    (sources / "alias").symlink_to("till-7")
    with pytest.raises(DriverError, match="link"):
        read(sources, "alias")


def test_a_folder_below_a_link_is_refused(sources: Path, tmp_path: Path):
    install(tmp_path / "elsewhere" / "till", "billing", "1.0")
    (sources / "site").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DriverError, match="link"):
        read(sources, "site/till")


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../secret", "../1.0/app.txt"])
def test_a_link_that_leads_out_of_its_version_is_refused(sources: Path, till: Path, target: str):
    (sources / "secret").write_text("x")
    (till / "billing" / "versions" / "1.1" / "link").symlink_to(target)
    with pytest.raises(DriverError, match="leads out"):
        create(till)
    assert nothing_on_disk(sources)


def test_two_harmless_links_that_lead_out_together_are_refused(sources: Path, till: Path):
    version = till / "billing" / "versions" / "1.1"
    (version / "deep" / "er").mkdir(parents=True)
    (version / "a").symlink_to("deep/er")
    (version / "bin" / "b").symlink_to("../a/../../../x")
    with pytest.raises(DriverError, match="leads out"):
        create(till)
    assert nothing_on_disk(sources)


def test_a_link_within_a_version_is_copied_as_a_link(till: Path):
    (till / "billing" / "versions" / "1.1" / "start").symlink_to("bin/run.sh")
    assert (create(till) / "root" / "billing" / "current" / "start").readlink() == Path("bin/run.sh")


def test_plain_files_that_are_links_are_not_followed(till: Path):
    (till / "hosts.txt").symlink_to("/etc/hosts")
    assert "hosts.txt" not in tree(create(till) / "root")


def test_a_file_swapped_for_a_link_after_it_was_listed_is_not_followed(sources: Path, till: Path):
    captured = read(sources)
    (sources / "secret").write_text("not yours")
    (till / "billing" / "versions" / "1.1" / "app.txt").unlink()
    (till / "billing" / "versions" / "1.1" / "app.txt").symlink_to("../../../../secret")
    with pytest.raises(SourceChanged):
        copying.copy_source(sources, captured, sources / "copy", running={}, check=lambda: None)


@pytest.mark.parametrize("path", ["billing/current/app.txt", "hosts.txt", "billing/versions/1.1"])
def test_only_plain_files_reached_without_a_link_are_opened(till: Path, path: str):
    (till / "hosts.txt").symlink_to("/etc/hosts")
    with open_folder(till.parent, "till-7") as handle, pytest.raises(SourceChanged), open_file(handle, path):
        pass


def test_a_folder_swapped_for_a_link_after_it_was_listed_is_not_followed(sources: Path, till: Path):
    captured = read(sources)
    (till / "billing").rename(sources / "moved")
    (till / "billing").symlink_to("../moved")
    with pytest.raises(SourceChanged):
        copying.copy_source(sources, captured, sources / "copy", running={}, check=lambda: None)


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_a_version_with_a_special_file_is_refused(till: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(till / "billing" / "versions" / "1.1")
    if kind == "fifo":
        os.mkfifo("special")
    else:
        socket.socket(socket.AF_UNIX).bind("special")
    with pytest.raises(DriverError, match="not a plain file"):
        create(till)


def test_a_source_without_software_is_refused(sources: Path):
    (sources / "empty").mkdir()
    with pytest.raises(DriverError, match="no running software"):
        read(sources, "empty")


def test_a_source_in_the_middle_of_an_update_is_to_be_tried_again(till: Path):
    (till / "billing" / "current").unlink()
    (till / "billing" / "current").symlink_to("versions/2.0")
    with pytest.raises(SourceChanged, match="billing/current"):
        read(till.parent)


def test_an_update_during_the_copy_is_noticed(sources: Path, till: Path):
    captured = read(sources)

    def update() -> None:
        (till / "billing" / "versions" / "2.0").mkdir(exist_ok=True)

    with pytest.raises(SourceChanged, match="updated"):
        copying.copy_source(sources, captured, sources / "copy", running={}, check=update)


def test_what_was_written_is_compared_with_what_was_read(sources: Path, till: Path, monkeypatch: pytest.MonkeyPatch):
    def bad_disk(root: int, entry, target: Path, check) -> bytes:
        digest = really(root, entry, target, check)
        target.write_text("damaged")
        return digest

    really = copying._copy_file
    monkeypatch.setattr(copying, "_copy_file", bad_disk)
    with pytest.raises(DriverError, match="check the disk"):
        create(till)
    assert nothing_on_disk(sources)


def test_a_copy_that_does_not_fit_is_refused_before_it_begins(
    sources: Path, till: Path, monkeypatch: pytest.MonkeyPatch
):
    real = copying.shutil.disk_usage
    monkeypatch.setattr(copying.shutil, "disk_usage", lambda path: real(path)._replace(free=3))
    with pytest.raises(Capacity, match="MB"):
        create(till)
    assert nothing_on_disk(sources)


def test_an_interrupted_copy_leaves_nothing(sources: Path, till: Path):
    calls = []

    def stop_in_the_middle() -> None:
        calls.append(1)
        if len(calls) > 8:
            raise Interrupted

    with pytest.raises(Interrupted):
        capture(till, Stopping(stop_in_the_middle))
    assert nothing_on_disk(sources)


def test_a_source_that_is_updated_once_is_copied_again(till: Path):
    updates = iter([lambda: install(till, "billing", "2.0")])
    image = capture(till, Stopping(lambda: next(updates, lambda: None)()))
    assert image.baseline == {"billing": "2.0"}


def test_a_source_that_never_rests_is_given_up(sources: Path, till: Path):
    tries: list[int] = []

    def update_once_a_try() -> None:
        if not list((sources.parent / "copies" / "images").glob(".new-*/root/*")):
            tries.append(1)
            install(till, "billing", f"2.{len(tries)}")

    with pytest.raises(SourceChanged, match="try again"):
        capture(till, Stopping(update_once_a_try))
    assert len(tries) == 3
    assert nothing_on_disk(sources)


def test_read_only_folders_are_copied_and_can_be_destroyed(sources: Path, till: Path):
    (till / "billing" / "versions" / "1.1" / "bin").chmod(0o555)
    copy = create(till)
    assert (copy / "root/billing/versions/1.1/bin").stat().st_mode & 0o777 == 0o555
    driver = driver_of(till)
    driver.destroy(COPY, Bound(60))
    driver.delete_image(IMAGE, Bound(60))
    assert nothing_on_disk(sources)


def test_destroying_never_touches_the_source(sources: Path, till: Path):
    before = tree(till)
    (create(till) / "root" / "way-out").symlink_to(till)
    driver = driver_of(till)
    driver.destroy(COPY, Bound(60))
    driver.destroy(COPY, Bound(60))
    driver.delete_image(IMAGE, Bound(60))
    assert nothing_on_disk(sources)
    assert tree(till) == before


def test_a_new_copy_replaces_what_an_earlier_try_left(till: Path):
    copy = create(till)
    (copy / "root" / "old.txt").write_text("old")
    (copy.parent / f".new-{COPY}").mkdir()
    (copy.parent / f".new-{COPY}" / "half").write_text("half")
    (copy.parent / f".trash-{COPY}").mkdir()
    assert "old.txt" not in tree(create(till) / "root")
    assert os.listdir(copy.parent) == [str(COPY)]


def test_a_half_deleted_copy_is_still_owned(till: Path):
    copy = create(till)
    copy.rename(copy.with_name(f".trash-{COPY}"))
    assert {owned.uuid for owned in driver_of(till).list_owned(Bound(60))} == {COPY, IMAGE}
