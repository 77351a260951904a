"""A key holder with keys in memory, for tests; his command line is tested by itself."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from signing.documents import (
    Document,
    File,
    KeySet,
    Point,
    Release,
    ReleaseKey,
    Rollback,
    payload_of,
    type_of,
    write_time,
)
from signing.envelope import Envelope, key_id, public_of, sign

START = datetime(2026, 11, 1, tzinfo=UTC)
LATE = datetime(2036, 1, 1, tzinfo=UTC)


def new_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def signed(document: Document, *keys: Ed25519PrivateKey) -> Envelope:
    return sign(type_of(document), payload_of(document), keys)


@dataclass
class Holder:
    """One root key and one release key, and the key sets that they make. Everything is good for years unless said."""

    root: Ed25519PrivateKey = field(default_factory=new_key)
    key: Ed25519PrivateKey = field(default_factory=new_key)
    issued: datetime = START

    @property
    def pins(self) -> list[str]:
        return [public_of(self.root)]

    def key_set(self, number: int = 1, **values: Any) -> KeySet:
        given = {
            "number": number,
            "issued": self.issued,
            "expires": LATE,
            "threshold": 1,
            "roots": (public_of(self.root),),
            "release_keys": (ReleaseKey(public_of(self.key), START - timedelta(days=9), None),),
            "revoked": frozenset(),
        }
        return KeySet(**{**given, **values})

    def keys(self, number: int = 1, **values: Any) -> Envelope:
        return signed(self.key_set(number, **values), self.root)

    def answer(self, request: dict[str, Any]) -> list[Envelope]:
        """Each document of a request file, signed."""
        times = {"issued": write_time(START), "expires": write_time(LATE)}
        kinds = {"release": Release, "rollback": Rollback}
        return [
            signed(kinds[document["kind"]].from_json({"schema": 1, **document, **times}), self.key)
            for document in request["documents"]
        ]

    def revoking(self, number: int = 2, **values: Any) -> Envelope:
        """A key set that revokes the release key."""
        return self.keys(number, revoked=frozenset({key_id(public_of(self.key))}), **values)

    def release(
        self, version: Any, counter: int, /, *, key: Ed25519PrivateKey | None = None, **values: Any
    ) -> Envelope:
        """The manifest of a stored version."""
        files = tuple(sorted(File(a.filename, a.size, a.sha256) for a in version.artifacts.all()))
        given = {
            "product": version.product.slug,
            "version": version.label,
            "counter": counter,
            "issued": self.issued,
            "expires": LATE,
            "files": files,
        }
        return signed(Release(**{**given, **values}), key or self.key)

    def rollback(self, origin: Any, target: Any, /, *, key: Ed25519PrivateKey | None = None, **values: Any) -> Envelope:
        """The decision to go back between two versions whose counters are known (`target` None: removal)."""
        given = {
            "product": origin.product.slug,
            "from_": Point(origin.label, origin.counter),
            "to": Point(target.label, target.counter) if target is not None else None,
            "issued": self.issued,
            "expires": LATE,
        }
        return signed(Rollback(**{**given, **values}), key or self.key)
