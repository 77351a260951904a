"""Archives that are not what they should be: each refused with its own code, nothing left behind."""

import gzip
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from agent.archive import unpack
from agent.errors import InstallError
from agent.package import Limits
from tests.agent.ci import Ci, archive, software
from tests.agent.ddi_server import DdiServer
from tests.agent.signer import KeyHolder

SOFTWARE = {"software.json": b'{"product": "app", "version": "1.0"}', "app.txt": b"x"}


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644, size: int = 0
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode, entry.size = kind, link, mode, size
    return entry


def pack(*members: tarfile.TarInfo, **files: bytes) -> bytes:
    return archive({**SOFTWARE, **files}, *members)


UNSAFE = {
    "parent folder": (pack(member("../evil.txt")), "unsafe_path"),
    "parent folder inside": (pack(member("a/../../evil.txt")), "unsafe_path"),
    "absolute path": (pack(member("/tmp/evil.txt")), "unsafe_path"),
    "backslash": (pack(member("..\\evil.txt")), "unsafe_path"),
    "the agent's marker": (pack(member(".complete")), "unsafe_path"),
    "link to absolute path": (pack(member("l", tarfile.SYMTYPE, "/etc/passwd")), "unsafe_link"),
    "link to parent": (pack(member("l", tarfile.SYMTYPE, "../../x")), "unsafe_link"),
    "link through a link": (
        pack(member("s", tarfile.SYMTYPE, "."), member("t", tarfile.SYMTYPE, "s/../..")),
        "unsafe_link",
    ),
    "file below a link": (pack(member("d", tarfile.SYMTYPE, "."), member("d/evil.txt")), "unsafe_path"),
    "hard link outside": (pack(member("h", tarfile.LNKTYPE, "../../../secret")), "unsafe_link"),
    "hard link to absolute path": (pack(member("h", tarfile.LNKTYPE, "/etc/passwd")), "unsafe_link"),
    "hard link to a link": (
        pack(member("s", tarfile.SYMTYPE, "app.txt"), member("h", tarfile.LNKTYPE, "s")),
        "unsafe_link",
    ),
    "device": (pack(member("null", tarfile.CHRTYPE)), "unsafe_member"),
    "setuid device": (pack(member("null", tarfile.CHRTYPE, mode=0o6777)), "unsafe_member"),
    "block device": (pack(member("disk", tarfile.BLKTYPE)), "unsafe_member"),
    "fifo": (pack(member("pipe", tarfile.FIFOTYPE)), "unsafe_member"),
    "same name twice": (pack(member("app.txt")), "bad_archive"),
    "bomb": (pack(member("zeros", size=40_000_000)), "archive_too_big"),
    "too many members": (pack(*(member(f"f{i}") for i in range(200))), "too_many_members"),
    "not an archive": (b"no archive at all" * 100, "bad_archive"),
    "cut archive": (software("app", "1.0", size=50_000)[:-20_000], "bad_archive"),
    "wrong product": (software("other", "1.0"), "wrong_product"),
    "wrong version": (software("app", "1.1"), "wrong_version"),
    "no software.json": (archive({"app.txt": b"x"}), "bad_software_json"),
    "broken software.json": (archive({"software.json": b"{"}), "bad_software_json"),
    "software.json is a link": (
        archive({"a.json": SOFTWARE["software.json"]}, member("software.json", tarfile.SYMTYPE, "a.json")),
        "bad_software_json",
    ),
    "odd health check": (
        archive({"software.json": json.dumps({"product": "app", "version": "1.0", "health": {}}).encode()}),
        "bad_software_json",
    ),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_archive_is_refused(ci: Ci, server: DdiServer, holder: KeyHolder, name: str) -> None:
    """Although it is signed: the key holder may have been deceived."""
    data, code = UNSAFE[name]
    server.holder = holder
    ci.configure(max_members=100, root_keys=[holder.root.public])
    ci.seed("app", "0.9", "old")
    action = server.offer(server.chunk("app", "1.0", data))

    ci.cycle()

    assert action.closes[0][0] == "failure"
    assert action.closes[0][1][0].startswith(f"{code}: ")
    assert ci.running() == "0.9"
    assert ci.leftovers() == []
    assert [path.name for path in (ci.root / "app" / "versions").iterdir()] == ["0.9"]
    assert not list(ci.folder.rglob("evil*"))
    assert ci.trust()["installed"] == {}
    good = server.offer(server.chunk("app", "1.0", software("app", "1.0", healthy=None)))
    ci.cycle()
    assert (good.closes[0][0], ci.running()) == ("success", "1.0")


def test_bomb_is_stopped_while_it_unpacks(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(pack(member("zeros", size=40_000_000)))

    with pytest.raises(InstallError, match="archive_too_big"):
        unpack(tmp_path / "bomb", tmp_path / "out", Limits(10_000_000, 1_000_000, 100))

    assert (tmp_path / "out" / "zeros").stat().st_size <= 10_000_000


def test_huge_extension_header_is_not_loaded_into_memory(tmp_path: Path) -> None:
    header = member("x", tarfile.XHDTYPE, size=500_000_000).tobuf()
    (tmp_path / "a").write_bytes(gzip.compress(header + b"\0" * 1_000_000))

    with pytest.raises(InstallError, match="bad_archive: an extension header is too big"):
        unpack(tmp_path / "a", tmp_path / "out", Limits(2**40, 2**30, 100))


def test_special_bits_are_dropped_and_good_links_kept(tmp_path: Path) -> None:
    links = [
        member("bin/tool", mode=0o6777),
        member("bin/again", tarfile.LNKTYPE, "bin/tool"),
        member("bin/up", tarfile.SYMTYPE, "../app.txt"),
        member("lib/", tarfile.DIRTYPE, mode=0o1777),
    ]
    (tmp_path / "a").write_bytes(pack(*links))

    unpack(tmp_path / "a", tmp_path / "out", Limits(10**9, 200, 100))

    assert stat.S_IMODE((tmp_path / "out/bin/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out/lib").stat().st_mode) == 0o755
    assert (tmp_path / "out/bin/up").read_text() == "x"
    assert os.path.samefile(tmp_path / "out/bin/again", tmp_path / "out/bin/tool")


def _wrong_hash(chunk: dict[str, Any]) -> None:
    chunk["artifacts"][0]["hashes"]["sha256"] = "0" * 64


def _no_hash(chunk: dict[str, Any]) -> None:
    del chunk["artifacts"][0]["hashes"]["sha256"]


def _too_short_size(chunk: dict[str, Any]) -> None:
    chunk["artifacts"][0]["size"] -= 1


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(_wrong_hash, "wrong_hash"), (_no_hash, "missing_sha256"), (_too_short_size, "artifact_too_long")],
)
def test_artifact_that_is_not_the_announced_one_is_refused(ci: Ci, server: DdiServer, spoil: Any, code: str) -> None:
    chunk = server.chunk("app", "1.0", software("app", "1.0"))
    spoil(chunk)
    action = server.offer(chunk)

    ci.cycle()

    assert action.closes[0][0] == "failure"
    assert action.closes[0][1][0].startswith(f"{code}: ")
    assert ci.running() is None
    assert ci.leftovers() == []
