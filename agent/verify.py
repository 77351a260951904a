"""Whether the signatures that came with a deployment allow what it asks for.

Loaded only when something is to be installed or removed and root keys are pinned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.ed25519 import NoVerifier, Verifier, find_verifier
from agent.envelope import KEYS, RELEASE, ROLLBACK, Envelope, key_id, read_envelope, unusable
from agent.errors import InstallError
from agent.keyset import KeySet, Roots, check_successor, clock, day, read_count, read_key_set, read_time
from agent.offer import Item, Signed
from agent.trust import Release, Trust
from agent.untrusted import read_object

_MAX_SETS = 33


class Approval:
    """Checks the items of one deployment against ``trust``.

    ``current`` tells the version that runs of a product, ``is_in_place`` whether an item is exactly what
    already runs. ``now`` is in seconds since 1970.
    """

    def __init__(
        self,
        trust: Trust,
        current: Callable[[str], str | None],
        is_in_place: Callable[[Item], bool],
        now: float,
    ) -> None:
        self._trust = trust
        self._current = current
        self._is_in_place = is_in_place
        self._now = now
        try:
            self._verifier: Verifier = find_verifier(trust.verify_with)
        except NoVerifier as error:
            raise InstallError("verifier_missing", str(error)) from None

    def approve(self, item: Item, signed: Signed) -> Release | None:
        """The release that is installed when ``item`` is; None for a removal.

        Raises InstallError with the code of the refusal; OSError when a new key set cannot be saved.
        """
        try:
            return self._approve(item, signed)
        except NoVerifier as error:
            raise InstallError("verifier_missing", str(error)) from None

    def _approve(self, item: Item, signed: Signed) -> Release | None:
        keys = self._key_set(signed.keys)
        # A clock that is behind the key set cannot be right.
        now = max(self._now, keys.issued)
        keys.check_fresh(now)
        if item.remove:
            if self._current(item.product) is not None:
                self._check_going_back(item, None, signed.rollback, keys, now)
            return None
        return self._check_release(item, signed, keys, now)

    def _key_set(self, texts: tuple[str, ...]) -> KeySet:
        """The key set that counts from now on: the stored one, or a newer one, which is stored first.

        Sets between the two are taken in their order, as each may name the roots that signed the next.
        """
        trust = self._trust
        stored = read_key_set(read_object(trust.keys)) if trust.keys is not None else None
        if not texts:
            if stored is None:
                raise InstallError("signature_missing", "there is no key set")
            return stored
        newest, *before = texts[:_MAX_SETS]
        for text in sorted(before, key=lambda text: read_key_set(read_envelope(text, KEYS).content()).number):
            stored = self._follow(text, stored, must_be_new=False)
        return self._follow(newest, stored, must_be_new=True)

    def _follow(self, text: str, stored: KeySet | None, *, must_be_new: bool) -> KeySet:
        """The set of ``text`` once it is stored, or the stored one when it is that or (unless it must be) older."""
        envelope = read_envelope(text, KEYS)
        new = read_key_set(envelope.content())
        if stored is not None:
            if envelope.payload.decode() == self._trust.keys or (new.number <= stored.number and not must_be_new):
                return stored
            if new.number <= stored.number:
                why = f"key set {new.number} is not newer than {stored.number}, which is known here"
                raise InstallError("keys_stale", why)
        check_successor(envelope, new, stored.roots if stored else self._pinned(), self._verifier)
        self._trust.adopt(envelope.payload.decode(), new.number)
        return new

    def _pinned(self) -> Roots:
        keys = [bytes.fromhex(key) for key in self._trust.root_keys]
        return Roots({key_id(key): key for key in keys}, self._trust.root_threshold)

    def _check_release(self, item: Item, signed: Signed, keys: KeySet, now: float) -> Release:
        if not signed.release:
            raise InstallError("signature_missing", f"{item.product} {item.version} has no release manifest")
        content, expires = self._signed_content(signed.release, RELEASE, keys)
        _check_product(content, RELEASE, item)
        if content.get("version") != item.version:
            told = str(content.get("version"))[:64]
            raise InstallError("wrong_version", f"the manifest is for {item.product} {told}, not {item.version}")
        if {"filename": item.filename, "size": item.size, "sha256": item.sha256} not in _artifacts(content):
            raise InstallError("artifact_mismatch", f"{item.filename[:100]!r} with this size and sha256 is not signed")
        release = Release(item.version, _counter(content, RELEASE))
        known = self._trust.installed.get(item.product)
        if known is not None and release.counter == known.counter and release.version != known.version:
            raise InstallError("downgrade_refused", f"counter {known.counter} belongs to {known.version}")
        if known is not None and release.counter < known.counter:
            # The decision is younger than the manifest and names it: its date is the one that counts.
            self._check_going_back(item, release, signed.rollback, keys, now)
        elif now >= expires and not self._is_in_place(item):
            raise InstallError("manifest_expired", f"{item.product} {item.version}: on {day(expires)}, {clock(now)}")
        return release

    def _check_going_back(self, item: Item, to: Release | None, text: str, keys: KeySet, now: float) -> None:
        """Raises InstallError unless a valid decision allows this very step."""
        known = self._trust.installed.get(item.product)
        if not text:
            if to is None:
                raise InstallError("signature_missing", f"nothing signed allows to remove {item.product}")
            step = f"from counter {known.counter if known else '?'} to {to.counter}"
            raise InstallError("downgrade_refused", f"{item.product} {to.version}: nothing signed allows {step}")
        content, expires = self._signed_content(text, ROLLBACK, keys)
        _check_product(content, ROLLBACK, item)
        begin, end = _release(content, "from"), _release(content, "to")
        # Software from before the keys were pinned has a version, but no counter.
        is_from_here = begin == known if known is not None else begin and begin.version == self._current(item.product)
        if not is_from_here or end != to:
            here = f"{known.version} (counter {known.counter})" if known else self._current(item.product)
            step = f"from {_words(begin)} to {_words(end)}, asked for is from {here} to {_words(to)}"
            raise InstallError("downgrade_refused", f"{item.product}: the decision is {step}")
        if now >= expires:
            raise InstallError("rollback_expired", f"{item.product}: on {day(expires)}, {clock(now)}")

    def _signed_content(self, text: str, kind: str, keys: KeySet) -> tuple[dict[str, Any], float]:
        """The payload and its expiry, signed by a key that was valid when it was issued."""
        envelope = read_envelope(text, kind)
        content = envelope.content()
        issued, expires = _times(envelope, content)
        keys.check_signed(envelope, issued, self._verifier)
        return content, expires


def _times(envelope: Envelope, content: dict[str, Any]) -> tuple[float, float]:
    try:
        return read_time(content.get("issued")), read_time(content.get("expires"))
    except (ValueError, OverflowError) as error:
        raise unusable(envelope.name, str(error)) from None


def _check_product(content: dict[str, Any], kind: str, item: Item) -> None:
    if content.get("product") != item.product:
        told = str(content.get("product"))[:64]
        raise InstallError("wrong_product", f"the signed {kind} is for {told}, not {item.product}")


def _artifacts(content: dict[str, Any]) -> list[dict[str, Any]]:
    artifacts = content.get("artifacts")
    entries = artifacts if isinstance(artifacts, list) else []
    return [{k: e.get(k) for k in ("filename", "size", "sha256")} for e in entries if isinstance(e, dict)]


def _release(content: dict[str, Any], name: str) -> Release | None:
    raw = content.get(name)
    if raw is None:
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("version"), str):
        raise unusable("rollback decision", f"{name!r} is malformed")
    return Release(raw["version"], _counter(raw, ROLLBACK))


def _counter(content: dict[str, Any], kind: str) -> int:
    try:
        return read_count(content.get("counter"))
    except ValueError as error:
        raise unusable(kind, str(error)) from None


def _words(release: Release | None) -> str:
    return f"{release.version} (counter {release.counter})" if release else "nothing"
