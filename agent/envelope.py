"""Signed envelopes (DSSE): what was said, word for word, and who signed it."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, NamedTuple

from agent.ed25519 import Verifier
from agent.errors import InstallError
from agent.untrusted import read_object

KEYS = "keys"
RELEASE = "release"
ROLLBACK = "rollback"
_NAMES = {KEYS: "key set", RELEASE: "release manifest", ROLLBACK: "rollback decision"}

_MAX_TEXT = 256 * 1024
# Each costs a check, with the openssl command some milliseconds.
_MAX_SIGNATURES = 16


class Envelope(NamedTuple):
    """One envelope, not verified yet. ``signatures`` maps key ids to signatures."""

    kind: str
    type: str
    payload: bytes
    signatures: dict[str, bytes]

    @property
    def name(self) -> str:
        """What it is, in words for people."""
        return _NAMES[self.kind]

    def signed_bytes(self) -> bytes:
        """What the signatures are over: the payload together with its type."""
        kind = self.type.encode()
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)

    def signers(self, keys: dict[str, bytes], verifier: Verifier) -> set[str]:
        """Ids of those of ``keys`` (id to raw public key) that really signed this."""
        message = self.signed_bytes()
        claimed = [key for key in self.signatures if key in keys]
        return {key for key in claimed if verifier(keys[key], message, self.signatures[key])}

    def content(self) -> dict[str, Any]:
        """The payload as JSON. Raises InstallError signature_invalid when it is not of this kind."""
        try:
            content = read_object(self.payload.decode())
        except ValueError as error:
            raise unusable(self.name, f"not sound JSON ({error})") from None
        if content.get("schema") != 1:
            raise unusable(self.name, f"schema {str(content.get('schema'))[:20]} is not known to this agent")
        if content.get("kind") != self.kind:
            raise unusable(self.name, f"kind {str(content.get('kind'))[:20]!r}")
        return content


def read_envelope(text: str, kind: str) -> Envelope:
    """Reads the JSON text of an envelope of ``kind``. Raises InstallError signature_invalid."""
    name = _NAMES[kind]
    if len(text) > _MAX_TEXT:
        raise unusable(name, "too long")
    try:
        raw = read_object(text)
    except ValueError as error:
        raise unusable(name, f"not sound JSON ({error})") from None
    payload, signatures = _base64(raw.get("payload")), raw.get("signatures")
    if raw.get("payloadType") != f"application/vnd.itsm-portal.{kind}+json":
        raise unusable(name, f"type {str(raw.get('payloadType'))[:80]!r}")
    if payload is None or not isinstance(signatures, list) or not 1 <= len(signatures) <= _MAX_SIGNATURES:
        raise unusable(name, f"needs a payload and 1 to {_MAX_SIGNATURES} signatures")
    found = {}
    for entry in signatures:
        key, signature = (entry.get("keyid"), _base64(entry.get("sig"))) if isinstance(entry, dict) else (None, None)
        if not isinstance(key, str) or signature is None or key in found:
            raise unusable(name, "a signature is malformed or there twice")
        found[key] = signature
    return Envelope(kind, str(raw["payloadType"]), payload, found)


def key_id(key: bytes) -> str:
    """The name of a raw public key."""
    return hashlib.sha256(key).hexdigest()


def unusable(name: str, problem: str) -> InstallError:
    """The error for something that no valid signature could save."""
    return InstallError("signature_invalid", f"the {name}: {problem}")


def _base64(value: object) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        return None
