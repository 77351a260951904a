"""The module on the host trusts no archive: each attack is refused with its own code and leaves nothing."""

import importlib.util
import io
import json
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distribution.channels.ansible.run_folder import PLAYBOOKS
from tests.push.conftest import needs_ansible, software

pytestmark = needs_ansible


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("software_module", PLAYBOOKS / "library" / "software.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def tar(*members: tuple[str, dict[str, Any], bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        for name, values, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for key, value in values.items():
                setattr(entry, key, value)
            file.addfile(entry, io.BytesIO(data))
    return content.getvalue()


LINK, HARD, FIFO, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE
ABOUT = ("software.json", {}, b'{"product": "billing", "version": "2.0"}')
ATTACKS = [
    ("unsafe_path", tar(("../evil", {}, b"x"))),
    ("unsafe_path", tar(("/tmp/evil", {}, b"x"))),
    ("unsafe_path", tar(("a/../../evil", {}, b"x"))),
    ("unsafe_path", tar((".complete", {}, b"x"))),
    ("unsafe_path", tar(("a", {"type": LINK, "linkname": "."}, b""), ("a/evil", {}, b"x"))),
    ("unsafe_link", tar(("a", {"type": LINK, "linkname": "/etc"}, b""))),
    ("unsafe_link", tar(("a/b", {"type": LINK, "linkname": "../../x"}, b""))),
    ("unsafe_link", tar(("a", {"type": HARD, "linkname": "/etc/passwd"}, b""))),
    ("unsafe_link", tar(("a", {"type": HARD, "linkname": "../x"}, b""))),
    ("unsafe_member", tar(("a", {"type": FIFO}, b""))),
    ("unsafe_member", tar(("a", {"type": DEVICE}, b""))),
    ("bad_archive", tar(("a", {}, b"x"), ("a", {}, b"y"))),
    ("bad_archive", b"not a tar"),
    ("archive_too_big", tar(("zeros", {}, bytes(20 * 1024 * 1024)))),
    ("wrong_product", software("shop", "2.0")),
    ("wrong_product", software("billing", "2.1")),
    ("bad_software_json", tar(("software.json", {}, b"{"))),
    ("bad_software_json", tar(("software.json", {"type": LINK, "linkname": "other"}, b""))),
]


def item_of(module: ModuleType, root: Path, content: bytes) -> dict[str, Any]:
    """As if the play had copied the archive."""
    (root / ".push").mkdir()
    (root / "archive").write_bytes(content)
    digest = module.sha256_of(str(root / "archive"))
    (root / "archive").rename(root / ".push" / f"{digest}.tar.gz")
    return {"product": "billing", "version": "2.0", "sha256": digest}


@pytest.mark.parametrize(("code", "content"), ATTACKS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(ATTACKS)])
def test_an_attack_is_refused(module: ModuleType, tmp_path: Path, code: str, content: bytes):
    root = tmp_path / "ci"
    root.mkdir()
    with pytest.raises(module.Refused) as refusal:
        module.unpacked(str(root), [item_of(module, root, content)])
    assert refusal.value.code == code, str(refusal.value)
    assert list((root / "billing" / "versions").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_another_file_than_the_announced_is_refused(module: ModuleType, tmp_path: Path):
    item = item_of(module, tmp_path, software("billing", "2.0"))
    next((tmp_path / ".push").iterdir()).write_bytes(software("billing", "2.0", None))
    with pytest.raises(module.Refused, match="announced"):
        module.unpacked(str(tmp_path), [item])


@pytest.mark.parametrize("name", ["../x", "", ".", "a/b", "{{ x }}", "x" * 65])
def test_names_are_plain_or_refused(module: ModuleType, name: str):
    with pytest.raises(module.Refused):
        module.checked([{"product": name, "version": "1", "sha256": None}])
    with pytest.raises(module.Refused):
        module.checked([{"product": "billing", "version": name, "sha256": None}])


def test_what_was_not_put_there_by_the_portal_is_not_replaced(module: ModuleType, tmp_path: Path):
    (tmp_path / "billing" / "current").mkdir(parents=True)
    with pytest.raises(module.Refused) as refusal:
        module.prepared(str(tmp_path), [{"product": "billing", "version": "2.0", "sha256": "0" * 64}])
    assert refusal.value.code == "bad_layout"


def test_permissions_are_tamed_and_current_is_switched_in_one_step(module: ModuleType, tmp_path: Path):
    item = item_of(
        module, tmp_path, tar(ABOUT, ("run", {"mode": 0o6777}, b"#!"), ("l", {"type": LINK, "linkname": "run"}, b""))
    )
    module.unpacked(str(tmp_path), [item])
    module.switched(str(tmp_path), [item])
    current = tmp_path / "billing" / "current"
    assert oct((current / "run").stat().st_mode)[-4:] == "0755"
    assert (current / "l").read_bytes() == b"#!"
    assert json.loads((current / ".complete").read_text()) == {"sha256": item["sha256"]}
    assert module.read(str(tmp_path), [item], True) == {"running": {"billing": "2.0"}, "health": ""}
    module.switched(str(tmp_path), [{**item, "version": None}])
    assert module.read(str(tmp_path), [item], True)["running"] == {"billing": None}
