"""DSSE envelopes with Ed25519 signatures: a payload, its type, and who signed both.

The signature is over the pre-authentication encoding, so a payload cannot be passed off as one of another type.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_BYTES = 256 * 1024
MAX_SIGNATURES = 16


class Untrusted(Exception):
    """Something that cannot be believed. `code` is stable, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def key_id(public: str) -> str:
    """The id of a public key (64 hex digits): the SHA-256 of its 32 bytes. Raises Untrusted for what is no key."""
    try:
        raw = bytes.fromhex(public)
    except (ValueError, TypeError):
        raw = b""
    if len(raw) != 32 or public != raw.hex():
        raise Untrusted("malformed", "A public key is 64 lower-case hex digits.")
    return hashlib.sha256(raw).hexdigest()


def pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed: DSSE's encoding of type and payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def load_json(text: str | bytes) -> Any:
    """JSON without repeated names and without NaN, so that every reader sees the same. Raises Untrusted."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name is repeated")
        return found

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Untrusted("malformed", f"This is no JSON: {error}") from error


def compact(value: Any) -> str:
    """JSON in its shortest form, the same text each time."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload as it travels. Its signatures are claims until `signers` has checked them."""

    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @classmethod
    def from_json(cls, data: Any) -> "Envelope":
        """Reads an envelope from JSON text or what was made of it. Raises Untrusted (malformed)."""
        if isinstance(data, str | bytes):
            if len(data) > MAX_BYTES:
                raise Untrusted("malformed", f"An envelope has at most {MAX_BYTES} bytes.")
            data = load_json(data)
        try:
            found = cls(
                payload_type=data["payloadType"],
                payload=base64.b64decode(data["payload"], validate=True),
                signatures=tuple(
                    (signature["keyid"], base64.b64decode(signature["sig"], validate=True))
                    for signature in data["signatures"]
                ),
            )
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise Untrusted("malformed", "This is no DSSE envelope.") from error
        ids = [keyid for keyid, _signature in found.signatures]
        if not all(isinstance(text, str) for text in (found.payload_type, *ids)):
            raise Untrusted("malformed", "This is no DSSE envelope.")
        if len(set(ids)) != len(ids) or len(ids) > MAX_SIGNATURES:
            raise Untrusted("malformed", f"An envelope has at most {MAX_SIGNATURES} signatures, one of each key.")
        if len(found.payload) > MAX_BYTES:
            raise Untrusted("malformed", f"An envelope has at most {MAX_BYTES} bytes.")
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [{"keyid": k, "sig": base64.b64encode(s).decode()} for k, s in self.signatures],
        }

    def text(self) -> str:
        """The compact text in which it is stored and sent."""
        return compact(self.to_json())

    def signers(self, keys: Collection[str]) -> set[str]:
        """Which of these public keys have signed it; each counts once."""
        by_id = {key_id(key): key for key in keys}
        message = pae(self.payload_type, self.payload)
        found = set()
        for keyid, signature in self.signatures:
            key = by_id.get(keyid)
            if key is not None and _is_good(key, signature, message):
                found.add(key)
        return found


def _is_good(key: str, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def public_of(private: Ed25519PrivateKey) -> str:
    """The public key (hex) that belongs to a private one."""
    return private.public_key().public_bytes_raw().hex()


def sign(payload_type: str, payload: bytes, keys: Iterable[Ed25519PrivateKey]) -> Envelope:
    """A new envelope around the payload, signed by each of the keys."""
    message = pae(payload_type, payload)
    signatures = tuple((key_id(public_of(key)), key.sign(message)) for key in keys)
    return Envelope(payload_type, payload, signatures)
