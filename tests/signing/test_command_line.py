"""The key holder's tool, as he uses it: keys, a request, its result."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from signing import keyfile
from signing.__main__ import main
from signing.documents import KeySet, Release, Rollback, read
from signing.envelope import Envelope, key_id
from signing.trust import accept_key_set, check

PASSPHRASE = "a phrase for tests only"


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """The key holder's folder with a passphrase, a root key and a release key."""
    (tmp_path / "phrase").write_text(PASSPHRASE + "\n")
    for name in ("root", "release"):
        assert run(tmp_path, "keygen", tmp_path / name) == 0
    return tmp_path


def run(room: Path, command: str, *arguments: object) -> int:
    return main([command, "--passphrase-file", str(room / "phrase"), *map(str, arguments)])


def public(room: Path, name: str) -> str:
    return (room / f"{name}.pub").read_text().strip()


def envelopes(path: Path) -> list[Envelope]:
    return [Envelope.from_json(entry) for entry in json.loads(path.read_text())["envelopes"]]


def first_set(room: Path, *more: object) -> Path:
    out = room / "keys.json"
    options = ("--root", room / "root.pub", "--release-key", room / "release.pub", *more)
    assert run(room, "keys", "--key", room / "root", "--out", out, *options) == 0
    return out


def trusted(room: Path, *files: Path) -> KeySet:
    found = None
    for file in files:
        (envelope,) = envelopes(file)
        found = accept_key_set(envelope, pinned=[public(room, "root")], trusted=found)
    assert found is not None
    return found


def test_a_private_key_is_encrypted_and_private(room: Path) -> None:
    path = room / "root"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in path.read_bytes()
    with pytest.raises(keyfile.KeyFileError, match="passphrase is wrong"):
        keyfile.load(path, "another phrase")


def test_a_key_is_never_overwritten_and_never_without_a_passphrase(room: Path, capsys) -> None:
    before = (room / "root").read_bytes()
    assert run(room, "keygen", room / "root") == 1
    assert "never overwritten" in capsys.readouterr().err
    assert (room / "root").read_bytes() == before
    (room / "phrase").write_text("short")
    assert run(room, "keygen", room / "third") == 1
    assert not (room / "third").exists()


def test_a_key_that_others_can_read_is_not_used(room: Path, capsys) -> None:
    os.chmod(room / "root", 0o644)
    options = ("--root", room / "root.pub", "--release-key", room / "release.pub")
    assert run(room, "keys", "--key", room / "root", "--out", room / "keys.json", *options) == 1
    assert "chmod 600" in capsys.readouterr().err
    assert not (room / "keys.json").exists()


def test_keys_roll_over_and_are_revoked(room: Path) -> None:
    first = first_set(room)
    run(room, "keygen", room / "release2")
    second, third = room / "keys2.json", room / "keys3.json"
    roll_over = ("--previous", first, "--release-key", room / "release2.pub", "--retire", room / "release.pub")
    assert run(room, "keys", "--key", room / "root", "--out", second, *roll_over) == 0
    revoke = ("--previous", second, "--revoke", room / "release.pub")
    assert run(room, "keys", "--key", room / "root", "--out", third, *revoke) == 0

    rolled, revoked = trusted(room, first, second), trusted(room, first, second, third)
    assert [rolled.number, revoked.number] == [2, 3]
    ends = {key.key: key.valid_until is not None for key in rolled.release_keys}
    assert ends == {public(room, "release"): True, public(room, "release2"): False}
    assert revoked.revoked == {key_id(public(room, "release"))}


def test_the_root_itself_can_be_replaced(room: Path) -> None:
    first, second = first_set(room), room / "keys2.json"
    run(room, "keygen", room / "root2")
    options = ("--previous", first, "--root", room / "root2.pub", "--drop-root", room / "root.pub")
    assert run(room, "keys", "--key", room / "root", "--key", room / "root2", "--out", second, *options) == 0
    assert trusted(room, first, second).roots == (public(room, "root2"),)


def request(room: Path) -> Path:
    (room / "billing.tar.gz").write_bytes(b"billing")
    manifest = {
        "kind": "release", "product": "billing", "version": "2.0", "counter": 2,
        "artifacts": [
            {"filename": "billing.tar.gz", "size": 7,
             "sha256": "0c97ca9e4d7a2a1d6ddb30e6b6a9ad2b5c8ef2a7a5c3db39f5fbb1b2b4dd1e1f"}
        ],
    }  # fmt: skip
    way_back = {
        "kind": "rollback", "product": "billing",
        "from": {"version": "2.0", "counter": 2}, "to": {"version": "1.0", "counter": 1},
    }  # fmt: skip
    path = room / "request.json"
    path.write_text(json.dumps({"schema": 1, "kind": "request", "for": "x", "documents": [manifest, way_back]}))
    return path


def test_a_request_is_shown_and_signed_when_the_holder_agrees(room: Path, monkeypatch, capsys) -> None:
    key_set = trusted(room, first_set(room))
    asked, out = request(room), room / "signed.json"
    for answer, code in (("", 1), ("n", 1), ("y", 0)):
        monkeypatch.setattr("builtins.input", lambda _text, answer=answer: answer)
        assert run(room, "sign", "--key", room / "release", "--out", out, asked) == code
        assert out.exists() == (code == 0)
    shown = capsys.readouterr().out
    assert "release   billing 2.0, counter 2" in shown
    assert "way back  billing 2.0 (2) → 1.0 (1)" in shown
    manifest, decision = (check(envelope, key_set) for envelope in envelopes(out))
    assert isinstance(manifest, Release)
    assert isinstance(decision, Rollback)
    assert (manifest.expires - manifest.issued).days == 365
    assert (decision.expires - decision.issued).days == 90


def test_what_differs_from_the_holders_own_build_is_not_signed(room: Path, capsys) -> None:
    asked, out = request(room), room / "signed.json"
    assert run(room, "sign", "--key", room / "release", "--out", out, "--yes", "--files", room, asked) == 1
    assert "another content" in capsys.readouterr().err
    (room / "billing.tar.gz").unlink()
    assert run(room, "sign", "--key", room / "release", "--out", out, "--yes", "--files", room, asked) == 1
    assert "no such file" in capsys.readouterr().err
    assert not out.exists()


def test_a_manifest_is_made_from_the_files_themselves(room: Path) -> None:
    file, out = room / "billing.tar.gz", room / "signed.json"
    file.write_bytes(b"billing")
    options = ("--product", "billing", "--version", "2.0", "--counter", 2, file)
    assert run(room, "release", "--key", room / "release", "--out", out, *options) == 0
    (envelope,) = envelopes(out)
    manifest = read(envelope)
    assert isinstance(manifest, Release)
    assert [(f.filename, f.size) for f in manifest.files] == [("billing.tar.gz", 7)]
    back = ("--product", "billing", "--from", "2.0:2", "--to", "removal")
    assert run(room, "rollback", "--key", room / "release", "--out", out, *back) == 0
    (envelope,) = envelopes(out)
    assert read(envelope).to is None
    assert main(["show", str(out)]) == 0


def test_nonsense_is_refused(room: Path) -> None:
    out = room / "signed.json"
    back = ("--product", "billing", "--from", "2.0", "--to", "1.0:1")
    assert run(room, "rollback", "--key", room / "release", "--out", out, *back) == 1
    (room / "request.json").write_text("{}")
    assert run(room, "sign", "--key", room / "release", "--out", out, room / "request.json") == 1
    assert not out.exists()


def test_it_runs_without_django(tmp_path: Path) -> None:
    code = "import sys, signing.__main__, signing.trust; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
