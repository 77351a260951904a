"""The key set: which root keys and release keys count, and how one set follows another."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import Any, NamedTuple

from agent.ed25519 import Verifier
from agent.envelope import Envelope, key_id, unusable
from agent.errors import InstallError

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_KEY = re.compile(r"[0-9a-f]{64}")
_MAX_KEYS = 64
_NEVER = float("inf")


class ReleaseKey(NamedTuple):
    """A key that may sign releases and rollback decisions issued in [``valid_from``, ``valid_until``)."""

    key: bytes
    valid_from: float
    valid_until: float


class Roots(NamedTuple):
    """Root keys by id, and how many of them must sign the next key set."""

    keys: dict[str, bytes]
    threshold: int
    revoked: frozenset[str] = frozenset()


class KeySet(NamedTuple):
    """What a key set says. Times are seconds since 1970."""

    number: int
    issued: float
    expires: float
    roots: Roots
    release_keys: dict[str, ReleaseKey]
    revoked: frozenset[str]

    def check_fresh(self, now: float) -> None:
        """Raises InstallError keys_stale once the set has expired."""
        if now >= self.expires:
            raise InstallError("keys_stale", f"key set {self.number} expired on {day(self.expires)}, {clock(now)}")

    def check_signed(self, envelope: Envelope, issued: float, verifier: Verifier) -> None:
        """Raises InstallError key_unknown, key_revoked or signature_invalid unless a release key signed."""
        valid = {
            name: key.key
            for name, key in self.release_keys.items()
            if name not in self.revoked and key.valid_from <= issued < key.valid_until
        }
        if not envelope.signers(valid, verifier):
            raise not_signed(envelope, valid, self.revoked)


def read_key_set(content: dict[str, Any]) -> KeySet:
    """Reads the payload of a key set. Raises InstallError signature_invalid."""
    try:
        number, threshold = read_count(content["number"]), read_count(content.get("threshold", 1))
        revoked = frozenset(_hex(key) for key in _list(content.get("revoked", [])))
        roots = {key_id(key): key for key in (bytes.fromhex(_hex(text)) for text in _list(content["roots"]))}
        release_keys = dict(_release_key(entry) for entry in _list(content["release_keys"]))
        issued, expires = read_time(content["issued"]), read_time(content["expires"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise unusable("key set", f"malformed ({error})") from None
    usable = {name: key for name, key in roots.items() if name not in revoked}
    if not 1 <= threshold <= len(usable):
        raise unusable("key set", f"asks for {threshold} root signatures and has {len(usable)} root keys")
    return KeySet(number, issued, expires, Roots(usable, threshold, revoked), release_keys, revoked)


def check_successor(envelope: Envelope, new: KeySet, trusted: Roots, verifier: Verifier) -> None:
    """Raises InstallError unless enough roots of both ``trusted`` and ``new`` itself signed ``envelope``."""
    signers = envelope.signers({**new.roots.keys, **trusted.keys}, verifier)
    for roots, whose in ((trusted, "trusted"), (new.roots, "its own")):
        count = len(signers & set(roots.keys))
        if count == 0:
            raise not_signed(envelope, roots.keys, roots.revoked)
        if count < roots.threshold:
            text = f"signed by {count} of the {roots.threshold} {whose} root keys that are needed"
            raise unusable(envelope.name, text)


def not_signed(envelope: Envelope, valid: dict[str, bytes], revoked: frozenset[str]) -> InstallError:
    """Why no signature of ``envelope`` counts."""
    if any(key in valid for key in envelope.signatures):
        return unusable(envelope.name, "the signature is wrong")
    for key in envelope.signatures:
        if key in revoked:
            return InstallError("key_revoked", f"the {envelope.name} is signed by the revoked key {key[:16]}")
    key = next(iter(envelope.signatures))
    return InstallError("key_unknown", f"the {envelope.name} is signed by {key[:16]!r}, which is no valid key here")


def read_time(text: object) -> float:
    """Seconds since 1970 of an RFC 3339 time in UTC. Raises ValueError."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ValueError("a time is not like 2026-01-31T12:00:00Z")
    layout = "%Y-%m-%dT%H:%M:%S.%fZ" if "." in text else "%Y-%m-%dT%H:%M:%SZ"
    return datetime.strptime(text, layout).replace(tzinfo=timezone.utc).timestamp()


def read_count(value: object) -> int:
    """A whole number that is not negative. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a counter is not a whole number")
    return value


def day(moment: float) -> str:
    """The date of ``moment``, for messages."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def clock(now: float) -> str:
    """What the clock says: in a refusal by date it may be the culprit."""
    return f"the clock says {day(now)}"


def _release_key(entry: Any) -> tuple[str, ReleaseKey]:
    key = bytes.fromhex(_hex(entry["key"]))
    until = entry.get("valid_until")
    return key_id(key), ReleaseKey(key, read_time(entry["valid_from"]), _NEVER if until is None else read_time(until))


def _hex(text: object) -> str:
    if not isinstance(text, str) or not _KEY.fullmatch(text):
        raise ValueError("a key is not 64 small hexadecimal digits")
    return text


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_KEYS:
        raise ValueError(f"a list is missing or longer than {_MAX_KEYS}")
    return value
