"""Whom to believe: the chain of key sets from the pinned root keys on, and release keys within the newest one."""

from collections.abc import Collection
from datetime import datetime

from signing.documents import KeySet, Release, Rollback, read
from signing.envelope import Envelope, Untrusted, key_id


def accept_key_set(
    envelope: Envelope,
    *,
    pinned: Collection[str],
    pinned_threshold: int = 1,
    trusted: KeySet | None,
    now: datetime | None = None,
) -> KeySet:
    """The key set in the envelope, if it may follow the `trusted` one (None: the first, under the pinned root keys, of
    which `pinned_threshold` have to sign).

    It needs the signatures of enough roots of the set before it and of enough of its own. Raises Untrusted: wrong_type,
    malformed, keys_stale (not newer, or expired at `now`), no_root (nothing is pinned), signature_invalid.
    """
    document = read(envelope)
    if not isinstance(document, KeySet):
        raise Untrusted("wrong_type", "This is no key set.")
    if trusted is None and not pinned:
        raise Untrusted("no_root", "No root key is pinned, so no key set can be believed.")
    if trusted is not None and document.number <= trusted.number:
        text = f"Key set {document.number} is not newer than the trusted one, {trusted.number}."
        raise Untrusted("keys_stale", text)
    if now is not None and document.expires <= now:
        raise Untrusted("keys_stale", f"Key set {document.number} has expired.")
    before = set(pinned) if trusted is None else trusted.good_roots
    needed = pinned_threshold if trusted is None else trusted.threshold
    found = len(envelope.signers(before))
    if found < needed:
        text = f"Key set {document.number} is signed by {found} of the known root keys; it needs {needed}."
        raise Untrusted("signature_invalid", text)
    own = len(envelope.signers(document.good_roots))
    if own < document.threshold:
        text = f"Key set {document.number} is signed by {own} of its own root keys; it needs {document.threshold}."
        raise Untrusted("signature_invalid", text)
    return document


def check(envelope: Envelope, key_set: KeySet) -> Release | Rollback:
    """The manifest or decision in the envelope, if a release key of the set signed it in that key's time.

    Whether it has expired is another question. Raises Untrusted: wrong_type, malformed, signature_missing, key_unknown,
    key_revoked, signature_invalid.
    """
    document = read(envelope)
    if isinstance(document, KeySet):
        raise Untrusted("wrong_type", "This is a key set, no release manifest or rollback decision.")
    if not envelope.signatures:
        raise Untrusted("signature_missing", "It is not signed.")
    ids = {keyid for keyid, _signature in envelope.signatures}
    good = {k.key: k for k in key_set.release_keys if key_id(k.key) not in key_set.revoked}
    if not ids & {key_id(key) for key in good}:
        if ids & key_set.revoked:
            raise Untrusted("key_revoked", "The key that signed it is revoked.")
        raise Untrusted("key_unknown", f"No release key of key set {key_set.number} signed it.")
    if not any(good[key].may_sign_at(document.issued) for key in envelope.signers(set(good))):
        raise Untrusted("signature_invalid", "The signature is wrong, or made when its key was not valid.")
    return document
