"""Somebody who owns the server, but no key: every lie is refused, reported, and changes nothing."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.agent.ci import Ci
from tests.agent.ddi_server import Action, DdiServer
from tests.agent.signed_scene import Scene, assert_refused, install, plain
from tests.agent.signer import Key, KeyHolder, envelope, moment, removal


def test_signed_version_is_installed_and_remembered(scene: Scene) -> None:
    ci, server, holder = scene

    assert ci.running() == "2.0"
    trust = json.loads((ci.root / ".agent" / "trust.json").read_text())
    assert trust["installed"] == {"app": {"version": "2.0", "counter": holder.counter("app", "2.0")}}
    assert server.attributes is not None
    assert (server.attributes["signatures"], server.attributes["signatures.keys"]) == ("required", "1")


def manifest(change: Callable[[KeyHolder], dict[str, Any]]) -> Callable[[KeyHolder, dict[str, Any]], str]:
    return lambda holder, chunk: holder.manifest(chunk, **change(holder))


def flip_payload(holder: KeyHolder, chunk: dict[str, Any]) -> str:
    raw = json.loads(holder.manifest(chunk))
    payload = base64.b64decode(raw["payload"]).replace(b'"counter":', b'"counter" :')
    return json.dumps({**raw, "payload": base64.b64encode(payload).decode()})


def foreign_signature(holder: KeyHolder, chunk: dict[str, Any]) -> str:
    """The right key id over the signature of another key."""
    raw = json.loads(holder.manifest(chunk, Key()))
    raw["signatures"][0]["keyid"] = holder.release_key.id
    return json.dumps(raw)


def decision_as_manifest(holder: KeyHolder, chunk: dict[str, Any]) -> str:
    """A real signature, made for something else."""
    raw = json.loads(holder.decision("app", "2.0", "1.0"))
    raw["payloadType"] = "application/vnd.itsm-portal.release+json"
    return json.dumps(raw)


BAD_MANIFESTS: dict[str, tuple[Any, str]] = {
    "none": (None, "signature_missing"),
    "of another product": (manifest(lambda _: {"product": "lib"}), "wrong_product"),
    "of another version": (manifest(lambda _: {"version": "2.9"}), "wrong_version"),
    "of another artifact": (
        manifest(lambda _: {"artifacts": [{"filename": "app.tar.gz", "size": 10, "sha256": "0" * 64}]}),
        "artifact_mismatch",
    ),
    "without artifacts": (manifest(lambda _: {"artifacts": None}), "artifact_mismatch"),
    "expired": (manifest(lambda _: {"expires": moment(-0.5)}), "manifest_expired"),
    "with a lower counter": (manifest(lambda holder: {"counter": holder.counter("app", "1.0")}), "downgrade_refused"),
    "with a counter in use": (manifest(lambda holder: {"counter": holder.counter("app", "2.0")}), "downgrade_refused"),
    "by an unknown key": (lambda holder, chunk: holder.manifest(chunk, Key()), "key_unknown"),
    "by a root key": (lambda holder, chunk: holder.manifest(chunk, holder.root), "key_unknown"),
    "issued before its key": (manifest(lambda _: {"issued": moment(-500)}), "key_unknown"),
    "changed after signing": (flip_payload, "signature_invalid"),
    "with a foreign signature": (foreign_signature, "signature_invalid"),
    "that is a decision": (decision_as_manifest, "signature_invalid"),
    "with a counter that is no number": (manifest(lambda _: {"counter": "7"}), "signature_invalid"),
    "of a later format": (manifest(lambda _: {"schema": 2}), "signature_invalid"),
    "with a repeated name": (
        lambda holder, chunk: holder.manifest(chunk)[:-1] + ',"payload":"e30="}',
        "signature_invalid",
    ),
    "that is garbage": (lambda *_: "{", "signature_invalid"),
    "that is a list": (lambda *_: "[]", "signature_invalid"),
    "nested without end": (lambda *_: '{"a":' * 20_000, "signature_invalid"),
    "too long": (lambda *_: " " * 300_000 + "{}", "signature_invalid"),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_bad_release_manifest_is_refused(scene: Scene, name: str) -> None:
    ci, server, holder = scene
    make, code = BAD_MANIFESTS[name]
    chunk = server.chunk("app", "3.0", plain("3.0"))
    downloads = sum("/artifacts/" in path for _, path, _ in server.requests)
    action = server.offer(holder.signed(chunk, release=make and make(holder, chunk)))

    ci.cycle()

    assert sum("/artifacts/" in path for _, path, _ in server.requests) == downloads, "refused before any download"
    assert_refused(scene, action, code)


def test_manifest_of_another_version_does_not_cover_this_artifact(scene: Scene) -> None:
    """Mix and match: everything is authentic, only not together."""
    ci, server, holder = scene
    old = server.chunk("app", "3.0", plain("3.0"))
    new = server.chunk("app", "3.1", plain("3.1"))
    action = server.offer(holder.signed(new, release=holder.manifest(old)))
    ci.cycle()

    assert_refused(scene, action, "wrong_version")


def test_signed_archive_of_another_version_is_refused_after_unpacking(scene: Scene) -> None:
    ci, server, holder = scene
    action = server.offer(holder.signed(server.chunk("app", "3.0", plain("2.5"))))
    ci.cycle()

    assert_refused(scene, action, "wrong_version")


def test_replayed_old_manifest_is_a_downgrade(scene: Scene) -> None:
    """The very offer that was good once, under a new action number."""
    ci, server, _ = scene
    action = server.offer(*server.actions[0].chunks)
    ci.cycle()

    assert_refused(scene, action, "downgrade_refused")


def test_replay_after_a_removal_is_still_a_downgrade(scene: Scene) -> None:
    ci, server, holder = scene
    gone = server.offer(holder.signed(removal("app"), rollback=holder.decision("app", "2.0", None)))
    ci.cycle()
    assert (gone.closes[0][0], ci.running()) == ("success", None)

    action = server.offer(*server.actions[0].chunks)
    ci.cycle()

    assert action.closes[0][1][0].startswith("downgrade_refused: ")
    assert ci.running() is None


def rolled_back(scene: Scene, decision: str | None, *, remove: bool = False) -> Action:
    """Offers the way back from 2.0 to 1.0, or the removal."""
    ci, server, holder = scene
    chunk = removal("app") if remove else server.chunk("app", "1.0", plain("1.0"))
    action = server.offer(holder.signed(chunk, rollback=decision))
    ci.cycle()
    return action


@pytest.mark.parametrize("remove", [False, True])
def test_signed_decision_opens_the_way_back(scene: Scene, remove: bool) -> None:
    ci, _, holder = scene
    end = None if remove else "1.0"
    action = rolled_back(scene, holder.decision("app", "2.0", end), remove=remove)

    assert action.closes[0][0] == "success"
    assert ci.running() == end


def test_way_back_works_although_the_old_manifest_expired(scene: Scene) -> None:
    ci, server, holder = scene
    chunk = server.chunk("app", "1.0", plain("1.0"))
    old = holder.manifest(chunk, expires=moment(-0.5))
    action = server.offer(holder.signed(chunk, release=old, rollback=holder.decision("app", "2.0", "1.0")))
    ci.cycle()

    assert (action.closes[0][0], ci.running()) == ("success", "1.0")


def tampered_decision(holder: KeyHolder, end: str | None) -> str:
    raw = json.loads(holder.decision("app", "2.0", end, expires=moment(-0.5)))
    payload = base64.b64decode(raw["payload"]).replace(moment(-0.5)[:4].encode(), b"2099")
    return json.dumps({**raw, "payload": base64.b64encode(payload).decode()})


Decide = Callable[[KeyHolder, str | None], str | None]
BAD_DECISIONS: dict[str, tuple[Decide, str]] = {
    "none": (lambda holder, end: None, "downgrade_refused"),
    "tampered": (tampered_decision, "signature_invalid"),
    "expired": (lambda h, end: h.decision("app", "2.0", end, expires=moment(-0.5)), "rollback_expired"),
    "by an unknown key": (lambda h, end: h.decision("app", "2.0", end, Key()), "key_unknown"),
    "by a root key": (lambda h, end: h.decision("app", "2.0", end, h.root), "key_unknown"),
    "for another product": (lambda h, end: h.decision("app", "2.0", end, product="lib"), "wrong_product"),
    "from another version": (lambda h, end: h.decision("app", "1.5", end), "downgrade_refused"),
    "from another counter": (
        lambda h, end: h.decision("app", "2.0", end, **{"from": {"version": "2.0", "counter": 77}}),
        "downgrade_refused",
    ),
    "to another version": (lambda h, end: h.decision("app", "2.0", "0.9"), "downgrade_refused"),
    "to the other end": (lambda h, end: h.decision("app", "2.0", None if end else "1.0"), "downgrade_refused"),
    "without a start": (lambda h, end: h.decision("app", "2.0", end, **{"from": None}), "downgrade_refused"),
    "malformed": (lambda h, end: h.decision("app", "2.0", end, **{"from": "2.0"}), "signature_invalid"),
    "that is a manifest": (lambda h, end: envelope("release", {}, h.release_key), "signature_invalid"),
}


@pytest.mark.parametrize("remove", [False, True], ids=["downgrade", "removal"])
@pytest.mark.parametrize("name", BAD_DECISIONS)
def test_bad_rollback_decision_is_refused(scene: Scene, name: str, remove: bool) -> None:
    make, code = BAD_DECISIONS[name]
    action = rolled_back(scene, make(scene[2], None if remove else "1.0"), remove=remove)

    assert_refused(scene, action, "signature_missing" if name == "none" and remove else code)


def test_decision_cannot_be_used_again_once_the_ci_moved_on(scene: Scene) -> None:
    ci, server, holder = scene
    decision = holder.decision("app", "2.0", "1.0")
    holder.counter("app", "3.0")
    assert install(ci, server, holder, "3.0").closes[0][0] == "success"

    action = rolled_back(scene, decision)

    assert action.closes[0][1][0].startswith("downgrade_refused: ")
    assert ci.running() == "3.0"


def test_software_from_before_the_keys_is_removed_by_its_version(
    signed_ci: Ci, server: DdiServer, holder: KeyHolder
) -> None:
    signed_ci.seed("app", "0.9", "by hand")
    wrong = server.offer(holder.signed(removal("app"), rollback=holder.decision("app", "0.8", None)))
    signed_ci.cycle()
    assert (wrong.closes[0][0], signed_ci.running()) == ("failure", "0.9")

    right = server.offer(holder.signed(removal("app"), rollback=holder.decision("app", "0.9", None)))
    signed_ci.cycle()

    assert (right.closes[0][0], signed_ci.running()) == ("success", None)


def test_expired_manifest_of_what_runs_already_is_no_failure(scene: Scene) -> None:
    ci, server, holder = scene
    chunk = server.actions[1].chunks[0]
    bare = {key: value for key, value in chunk.items() if key != "metadata"}
    action = server.offer(holder.signed(bare, release=holder.manifest(bare, expires=moment(-0.5))))
    ci.cycle()

    assert (action.closes[0][0], ci.running()) == ("success", "2.0")


def test_other_pinned_keys_begin_anew_and_keep_the_counters(scene: Scene) -> None:
    ci, server, holder = scene
    holder.root = Key()
    ci.configure(root_keys=[holder.root.public])
    assert install(ci, server, holder, "2.1").closes[0][1][0].startswith("key_unknown: ")
    holder.keys = holder.key_set(1)
    assert install(ci, server, holder, "2.2").closes[0][0] == "success"

    action = server.offer(holder.signed(server.chunk("app", "1.0", plain("1.0"))))
    ci.cycle()

    assert action.closes[0][1][0].startswith("downgrade_refused: ")


def test_device_without_a_verifier_refuses_everything(
    ci: Ci, server: DdiServer, holder: KeyHolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ci.configure(root_keys=[holder.root.public], verify_with="openssl")
    monkeypatch.setenv("PATH", "/nonexistent")

    action = install(ci, server, holder, "1.0")

    assert action.closes[0][1][0].startswith("verifier_missing: openssl: cannot be run")
    assert ci.running() is None


def test_openssl_that_says_yes_to_everything_is_not_used(
    ci: Ci, server: DdiServer, holder: KeyHolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ci.configure(root_keys=[holder.root.public], verify_with="openssl")
    (ci.folder / "openssl").write_text("#!/bin/sh\nexit 0\n")
    (ci.folder / "openssl").chmod(0o755)
    monkeypatch.setenv("PATH", str(ci.folder), prepend=":")

    action = install(ci, server, holder, "1.0")

    assert action.closes[0][1][0].startswith("verifier_missing: openssl: does not know Ed25519")
