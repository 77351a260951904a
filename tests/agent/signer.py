"""The key holder of the tests: makes key sets, release manifests and rollback decisions, good and bad."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Key:
    """One throw-away key pair."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        raw = self._private.public_key().public_bytes_raw()
        self.public = raw.hex()
        self.id = hashlib.sha256(raw).hexdigest()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def moment(days: float = 0.0) -> str:
    """The time in ``days`` from now, as envelopes write it."""
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def envelope(kind: str, content: dict[str, Any], *keys: Key) -> str:
    """The compact JSON text of ``content`` signed by ``keys``."""
    type_ = f"application/vnd.itsm-portal.{kind}+json"
    payload = json.dumps(content, separators=(",", ":")).encode()
    message = b"DSSEv1 %d %s %d %s" % (len(type_), type_.encode(), len(payload), payload)
    signatures = [{"keyid": key.id, "sig": base64.b64encode(key.sign(message)).decode()} for key in keys]
    body = {"payloadType": type_, "payload": base64.b64encode(payload).decode(), "signatures": signatures}
    return json.dumps(body, separators=(",", ":"))


class KeyHolder:
    """One root key, one release key, and a counter per version label in the order of first use."""

    def __init__(self) -> None:
        self.root = Key()
        self.release_key = Key()
        self.counters: dict[tuple[str, str], int] = {}
        self.keys = self.key_set(1)

    def counter(self, product: str, version: str) -> int:
        return self.counters.setdefault((product, version), 1 + len(self.counters))

    def key_set(self, number: int, *signers: Key, **changes: Any) -> str:
        content = {
            "schema": 1,
            "kind": "keys",
            "number": number,
            "issued": moment(-1),
            "expires": moment(30),
            "threshold": 1,
            "roots": [self.root.public],
            "release_keys": [{"key": self.release_key.public, "valid_from": moment(-400), "valid_until": None}],
            "revoked": [],
            **changes,
        }
        return envelope("keys", content, *(signers or (self.root,)))

    def manifest(self, chunk: dict[str, Any], *signers: Key, **changes: Any) -> str:
        artifact = chunk["artifacts"][0]
        content = {
            "schema": 1,
            "kind": "release",
            "product": chunk["part"],
            "version": chunk["version"],
            "counter": self.counter(chunk["part"], chunk["version"]),
            "issued": moment(-1),
            "expires": moment(30),
            "artifacts": [
                {
                    "filename": artifact["filename"],
                    "size": artifact["size"],
                    "sha256": artifact["hashes"]["sha256"],
                }
            ],
            **changes,
        }
        return envelope("release", content, *(signers or (self.release_key,)))

    def decision(self, product: str, begin: str, end: str | None, /, *signers: Key, **changes: Any) -> str:
        content = {
            "schema": 1,
            "kind": "rollback",
            "product": product,
            "from": {"version": begin, "counter": self.counter(product, begin)},
            "to": {"version": end, "counter": self.counter(product, end)} if end is not None else None,
            "issued": moment(-1),
            "expires": moment(30),
            **changes,
        }
        return envelope("rollback", content, *(signers or (self.release_key,)))

    def signed(self, chunk: dict[str, Any], **replaced: str | None) -> dict[str, Any]:
        """``chunk`` with its envelopes. ``keys``, ``release``, ``rollback`` replace one; None leaves it out."""
        values = {"keys": self.keys, **replaced}
        if chunk["artifacts"] and "release" not in values:
            values["release"] = self.manifest(chunk)
        added = [{"key": f"itsm.{name}", "value": value} for name, value in values.items() if value is not None]
        return {**chunk, "metadata": [*chunk.get("metadata", []), *added]}


def removal(product: str) -> dict[str, Any]:
    """A chunk that asks for the removal of ``product``."""
    return {"part": product, "artifacts": [], "metadata": [{"key": "action", "value": "remove"}]}
