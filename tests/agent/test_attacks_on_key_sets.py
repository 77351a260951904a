"""Key sets that came from somebody else, too late, or by way of other root keys."""

import base64
import json
from collections.abc import Callable

import pytest

from tests.agent.ci import Ci
from tests.agent.ddi_server import Action, DdiServer
from tests.agent.signed_scene import Scene, assert_refused, install, plain
from tests.agent.signer import Key, KeyHolder, moment


def stale_set(holder: KeyHolder) -> str:
    return holder.key_set(0)


def same_number_other_content(holder: KeyHolder) -> str:
    return holder.key_set(1, release_keys=[])


def set_by_a_stranger(holder: KeyHolder) -> str:
    stranger = Key()
    return holder.key_set(2, stranger, roots=[stranger.public])


def set_that_drops_the_trusted_root(holder: KeyHolder) -> str:
    """Signed by a trusted root, but not by its own."""
    return holder.key_set(2, roots=[Key().public])


def set_by_a_release_key(holder: KeyHolder) -> str:
    return holder.key_set(2, holder.release_key)


def set_that_needs_two(holder: KeyHolder) -> str:
    return holder.key_set(2, roots=[holder.root.public, Key().public], threshold=2)


def set_that_cannot_be_met(holder: KeyHolder) -> str:
    return holder.key_set(2, threshold=2)


def expired_set(holder: KeyHolder) -> str:
    return holder.key_set(2, expires=moment(-0.5))


def tampered_set(holder: KeyHolder) -> str:
    raw = json.loads(holder.key_set(2))
    payload = base64.b64decode(raw["payload"]).replace(b'"threshold":1', b'"threshold":0')
    return json.dumps({**raw, "payload": base64.b64encode(payload).decode()})


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (stale_set, "keys_stale"),
        (same_number_other_content, "keys_stale"),
        (set_by_a_stranger, "key_unknown"),
        (set_that_drops_the_trusted_root, "key_unknown"),
        (set_by_a_release_key, "key_unknown"),
        (set_that_needs_two, "signature_invalid"),
        (set_that_cannot_be_met, "signature_invalid"),
        (tampered_set, "signature_invalid"),
    ],
)
def test_bad_key_set_is_refused(scene: Scene, make: Callable[[KeyHolder], str], code: str) -> None:
    ci, server, holder = scene
    action = install(ci, server, holder, "3.0", keys=make(holder))

    assert_refused(scene, action, code)


def test_expired_key_set_stops_everything_until_a_new_one_comes(scene: Scene) -> None:
    ci, server, holder = scene
    action = install(ci, server, holder, "3.0", keys=expired_set(holder))
    assert install(ci, server, holder, "3.1", keys=None).closes[0][1][0].startswith("keys_stale: ")

    holder.keys = holder.key_set(3)
    assert_refused(scene, action, "keys_stale")


def test_revoked_key_signs_nothing_any_more(scene: Scene) -> None:
    ci, server, holder = scene
    old, holder.release_key = holder.release_key, Key()
    keys = [{"key": k.public, "valid_from": moment(-400), "valid_until": None} for k in (old, holder.release_key)]
    holder.keys = holder.key_set(2, release_keys=keys, revoked=[old.id])
    chunk = server.chunk("app", "3.0", plain("3.0"))
    action = server.offer(holder.signed(chunk, release=holder.manifest(chunk, old)))
    ci.cycle()
    replayed = install(ci, server, holder, "3.1", keys=server.actions[0].chunks[0]["metadata"][0]["value"])
    assert replayed.closes[0][1][0].startswith("keys_stale: "), "the set from before the revocation stays dead"

    assert_refused(scene, action, "key_revoked")


def test_roots_roll_over_and_the_old_one_is_worth_nothing_afterwards(scene: Scene) -> None:
    ci, server, holder = scene
    old, holder.root = holder.root, Key()
    holder.keys = holder.key_set(2, old, holder.root)
    assert install(ci, server, holder, "2.1").closes[0][0] == "success"
    holder.decision("app", "2.1", "2.0")
    back = install(ci, server, holder, "2.0", rollback=holder.decision("app", "2.1", "2.0"))
    assert back.closes[0][0] == "success"

    action = install(ci, server, holder, "3.0", keys=holder.key_set(3, old, roots=[old.public]))

    assert_refused(scene, action, "key_unknown")


def test_two_roots_are_enough_where_two_are_asked_for(ci: Ci, server: DdiServer, holder: KeyHolder) -> None:
    second = Key()
    roots = [holder.root.public, second.public]
    ci.configure(root_keys=roots, root_threshold=2)
    lonely = install(ci, server, holder, "1.0", keys=holder.key_set(1, roots=roots))
    assert lonely.closes[0][1][0].startswith("signature_invalid: the key set: signed by 1 of the 2 ")

    both = holder.key_set(2, holder.root, second, roots=roots, threshold=2)

    assert install(ci, server, holder, "1.1", keys=both).closes[0][0] == "success"


@pytest.mark.parametrize("keys", [None, "", "{}"])
def test_first_install_needs_a_key_set(signed_ci: Ci, server: DdiServer, holder: KeyHolder, keys: str | None) -> None:
    action = install(signed_ci, server, holder, "1.0", keys=keys)

    code = "signature_invalid" if keys == "{}" else "signature_missing"
    assert action.closes[0][1][0].startswith(f"{code}: ")
    assert signed_ci.running() is None


def rolled_over(holder: KeyHolder, times: int) -> list[str]:
    """As many key sets, each with a new root that the one before signed; the newest first."""
    sets = []
    for number in range(2, 2 + times):
        old, holder.root = holder.root, Key()
        sets.insert(0, holder.key_set(number, old, holder.root))
    return sets


def offer_with(scene: Scene, sets: list[str]) -> Action:
    """Version 3.0 with these key sets."""
    ci, server, holder = scene
    chunk = holder.signed(server.chunk("app", "3.0", plain("3.0")), keys=None)
    chunk["metadata"] += [{"key": "itsm.keys", "value": text} for text in sets]
    action = server.offer(chunk)
    ci.cycle()
    return action


def test_device_that_slept_through_several_changes_of_roots_follows_them(scene: Scene) -> None:
    ci, _server, holder = scene
    newest, *before = rolled_over(holder, 3)

    assert offer_with(scene, [newest, *reversed(before)]).closes[0][0] == "success"

    assert json.loads((ci.root / ".agent" / "trust.json").read_text())["keys_number"] == 4
    assert offer_with(scene, [newest, *before]).closes[0][0] == "success", "what it knows does not stop it"


def test_no_step_between_two_roots_may_be_left_out(scene: Scene) -> None:
    newest, _middle, oldest = rolled_over(scene[2], 3)
    action = offer_with(scene, [newest, oldest])
    assert action.closes[0][1][0].startswith("key_unknown: ")
    assert scene[0].running() == "2.0"


def test_forged_step_between_two_roots_is_refused(scene: Scene) -> None:
    holder = scene[2]
    stranger, honest = Key(), holder.root
    forged = holder.key_set(2, stranger, roots=[stranger.public])
    holder.root = stranger
    action = offer_with(scene, [holder.key_set(3, stranger), forged])
    holder.root = honest

    assert_refused(scene, action, "key_unknown")
