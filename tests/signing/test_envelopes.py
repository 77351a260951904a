"""Envelopes and key sets under attack: forged, swapped, replayed, expired, of another type, too few signatures."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signing.documents import KEYS, RELEASE, ROLLBACK, File, KeySet, Point, Release, ReleaseKey, Rollback, read
from signing.envelope import Envelope, Untrusted, key_id, pae, public_of, sign
from signing.trust import accept_key_set, check
from tests.signing.holder import LATE, START, Holder, new_key, signed

# No test here depends on how busy the machine is.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
HOLDER = Holder()
SET = HOLDER.key_set()
MANIFEST = Release("billing", "2.0", 2, START, LATE, (File("billing.tar.gz", 10, "a" * 64),))
DECISION = Rollback("billing", Point("2.0", 2), Point("1.0", 1), START, LATE)


def refused(code: str, call: Any, *args: Any, **values: Any) -> None:
    with pytest.raises(Untrusted) as refusal:
        call(*args, **values)
    assert refusal.value.code == code


@given(kind=st.text(), payload=st.binary(max_size=200))
@settings(CALM, max_examples=100)
def test_what_was_signed_comes_back_and_is_of_its_signer(kind: str, payload: bytes) -> None:
    envelope = sign(kind, payload, [HOLDER.key])
    again = Envelope.from_json(envelope.text())
    assert again == envelope
    assert again.signers({public_of(HOLDER.key), public_of(HOLDER.root)}) == {public_of(HOLDER.key)}


@given(st.text(max_size=20), st.binary(max_size=40), st.text(max_size=20), st.binary(max_size=40))
@settings(CALM)
def test_no_two_contents_are_signed_as_the_same_bytes(kind: str, payload: bytes, other: str, further: bytes) -> None:
    assert (pae(kind, payload) == pae(other, further)) == ((kind, payload) == (other, further))


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), part=st.sampled_from(["payload", "signature"]))
@settings(CALM, max_examples=100)
def test_one_turned_bit_and_nobody_signed_it(position: int, bit: int, part: str) -> None:
    envelope = signed(MANIFEST, HOLDER.key)
    ((keyid, signature),) = envelope.signatures
    content = bytearray(envelope.payload if part == "payload" else signature)
    content[position % len(content)] ^= 1 << bit
    forged = (
        replace(envelope, payload=bytes(content))
        if part == "payload"
        else replace(envelope, signatures=((keyid, bytes(content)),))
    )
    assert forged.signers({public_of(HOLDER.key)}) == set()


@pytest.mark.parametrize("other", [RELEASE, ROLLBACK, KEYS, "text/plain", ""])
def test_a_payload_is_not_taken_for_one_of_another_type(other: str) -> None:
    for document in (MANIFEST, DECISION, SET):
        envelope = signed(document, HOLDER.key)
        if envelope.payload_type != other:
            assert replace(envelope, payload_type=other).signers({public_of(HOLDER.key)}) == set()


def test_a_signature_counts_once_and_only_under_its_own_id() -> None:
    envelope = signed(MANIFEST, HOLDER.key)
    (entry,) = envelope.to_json()["signatures"]
    refused("malformed", Envelope.from_json, {**envelope.to_json(), "signatures": [entry, entry]})
    swapped = replace(envelope, signatures=((key_id(public_of(HOLDER.root)), envelope.signatures[0][1]),))
    assert swapped.signers({public_of(HOLDER.key), public_of(HOLDER.root)}) == set()


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "1", '"x"', "{", '{"payload": 1}', "[" * 100_000,
        '{"payloadType": "x", "payload": "!!", "signatures": []}',
        '{"payloadType": "x", "payload": "", "signatures": [{"keyid": 1, "sig": ""}]}',
        '{"payloadType": 1, "payload": "", "signatures": []}',
        '{"payloadType": "x", "payloadType": "x", "payload": "", "signatures": []}',
        '{"payloadType": "x", "payload": "", "signatures": {}, "n": NaN}',
        '{"payloadType": "x", "payload": "' + "A" * 400_000 + '", "signatures": []}',
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused(text: str) -> None:
    refused("malformed", Envelope.from_json, text)


def documents() -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, {**document.to_json(), **change})
        for document in (SET, MANIFEST, DECISION)
        for name in document.to_json()
        for change in ({name: None}, {name: "x y"}, {name: -1}, {name: True}, {name: [1]}, {name: {"version": "1"}})
        # A decision without a target is a removal; an empty list revokes nothing.
        if not (name == "to" and change[name] is None)
    ]


@pytest.mark.parametrize(("name", "content"), documents())
def test_a_document_with_a_wrong_member_is_refused(name: str, content: dict[str, Any]) -> None:
    payload_type = KEYS if "roots" in content else RELEASE if "artifacts" in content else ROLLBACK
    refused("malformed", read, sign(payload_type, json.dumps(content).encode(), [HOLDER.key]))


def test_a_repeated_or_unknown_member_is_refused() -> None:
    payload = json.dumps(MANIFEST.to_json())
    doubled = payload[:-1] + ', "version": "1.0"}'
    refused("malformed", read, sign(RELEASE, doubled.encode(), [HOLDER.key]))
    more = json.dumps({**MANIFEST.to_json(), "extra": 1})
    refused("malformed", read, sign(RELEASE, more.encode(), [HOLDER.key]))
    refused("wrong_type", read, sign("text/plain", payload.encode(), [HOLDER.key]))


# --- the chain of key sets --------------------------------------------------------------------------
def accept(envelope: Envelope, trusted: KeySet | None = None, **values: Any) -> KeySet:
    return accept_key_set(envelope, pinned=HOLDER.pins, trusted=trusted, **values)


def test_the_first_set_is_believed_under_a_pinned_root_only() -> None:
    assert accept(HOLDER.keys()) == SET
    refused("signature_invalid", accept, Holder().keys())
    refused("no_root", accept_key_set, HOLDER.keys(), pinned=[], trusted=None)


def test_a_set_of_a_stranger_that_names_the_pinned_root_is_refused() -> None:
    stranger = new_key()
    forged = HOLDER.key_set(roots=(public_of(HOLDER.root), public_of(stranger)))
    refused("signature_invalid", accept, signed(forged, stranger))


@given(number=st.integers(1, 9), trusted=st.integers(1, 9))
@settings(CALM, max_examples=60)
def test_only_a_newer_set_follows(number: int, trusted: int) -> None:
    envelope, before = HOLDER.keys(number), HOLDER.key_set(trusted)
    if number > trusted:
        assert accept(envelope, before).number == number
    else:
        refused("keys_stale", accept, envelope, before)


def test_an_expired_set_is_refused() -> None:
    late = LATE + timedelta(seconds=1)
    refused("keys_stale", accept, HOLDER.keys(), now=late)
    refused("keys_stale", accept, HOLDER.keys(), now=LATE)


@given(signers=st.sets(st.integers(0, 4)), threshold=st.integers(1, 3), old=st.integers(1, 3))
@settings(CALM, max_examples=80)
def test_enough_old_and_enough_new_roots_have_to_sign(signers: set[int], threshold: int, old: int) -> None:
    """Roots 0 to 2 are of the set before, 2 to 4 of the new one."""
    keys = ROOTS
    before = HOLDER.key_set(1, roots=tuple(public_of(key) for key in keys[:3]), threshold=old)
    new = HOLDER.key_set(2, roots=tuple(public_of(key) for key in keys[2:]), threshold=threshold)
    envelope = signed(new, *(keys[n] for n in sorted(signers)))
    if len(signers & {0, 1, 2}) >= old and len(signers & {2, 3, 4}) >= threshold:
        assert accept(envelope, before) == new
    else:
        refused("signature_invalid", accept, envelope, before)


ROOTS = [new_key() for _ in range(5)]


def test_after_a_change_of_roots_the_old_root_is_worth_nothing() -> None:
    new_root = new_key()
    moved = HOLDER.key_set(2, roots=(public_of(new_root),))
    trusted = accept(signed(moved, HOLDER.root, new_root), SET)
    refused("signature_invalid", accept, HOLDER.keys(3), trusted)


def test_a_revoked_root_does_not_count() -> None:
    other = new_key()
    both = (public_of(HOLDER.root), public_of(other))
    before = HOLDER.key_set(1, roots=both, revoked=frozenset({key_id(public_of(HOLDER.root))}))
    after = HOLDER.key_set(2, roots=(public_of(other),))
    refused("signature_invalid", accept, signed(after, HOLDER.root), before)
    assert accept(signed(after, other), before) == after


# --- manifests and decisions -----------------------------------------------------------------------------
@pytest.mark.parametrize("document", [MANIFEST, DECISION])
def test_a_release_key_of_the_set_counts_and_no_other(document: Release | Rollback) -> None:
    assert check(signed(document, HOLDER.key), SET) == document
    refused("key_unknown", check, signed(document, new_key()), SET)
    refused("key_unknown", check, signed(document, HOLDER.root), SET)
    refused("signature_missing", check, signed(document), SET)
    refused("wrong_type", check, HOLDER.keys(), SET)
    revoked = replace(SET, revoked=frozenset({key_id(public_of(HOLDER.key))}))
    refused("key_revoked", check, signed(document, HOLDER.key), revoked)


def test_a_forged_signature_under_a_known_id_is_refused() -> None:
    envelope = signed(MANIFEST, new_key())
    forged = replace(envelope, signatures=((key_id(public_of(HOLDER.key)), envelope.signatures[0][1]),))
    refused("signature_invalid", check, forged, SET)


@given(begin=st.integers(-5, 5), end=st.integers(-5, 5))
@settings(CALM, max_examples=60)
def test_a_key_counts_for_what_was_issued_in_its_time(begin: int, end: int) -> None:
    span = ReleaseKey(public_of(HOLDER.key), START + timedelta(days=begin), START + timedelta(days=end))
    key_set = replace(SET, release_keys=(span,))
    if begin <= 0 < end:
        assert check(signed(MANIFEST, HOLDER.key), key_set) == MANIFEST
    else:
        refused("signature_invalid", check, signed(MANIFEST, HOLDER.key), key_set)


def test_the_sample_of_the_dsse_specification_is_encoded_the_same() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert base64.b64encode(pae("", b"")) == b"RFNTRXYxIDAgIDAg"
