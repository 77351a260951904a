"""What is signed: key sets, release manifests, rollback decisions. Read strictly: an unknown or missing member, a wrong
type or a time in another form is refused, so that nobody signs or believes what he does not understand.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from signing.envelope import Envelope, Untrusted, compact, key_id, load_json

KEYS = "application/vnd.itsm-portal.keys+json"
RELEASE = "application/vnd.itsm-portal.release+json"
ROLLBACK = "application/vnd.itsm-portal.rollback+json"

_SLUG = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_MAX_COUNT = 2**53 - 1
_MAX_ENTRIES = 64


def _malformed(what: str) -> Untrusted:
    return Untrusted("malformed", f"The document is not in order: {what}.")


def _members(data: Any, what: str, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(data, dict) or set(data) != names:
        raise _malformed(f"{what} has exactly the members {', '.join(sorted(names))}")
    return data


def _text(value: Any, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _malformed(what)
    return value


def _count(value: Any, what: str, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MAX_COUNT:
        raise _malformed(what)
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
        raise _malformed(f"{what} of at most {_MAX_ENTRIES} entries")
    return value


def read_time(value: Any) -> datetime:
    """A time like 2026-11-23T10:00:00Z."""
    try:
        return datetime.strptime(_text(value, _TIME, "a time is YYYY-MM-DDThh:mm:ssZ"), "%Y-%m-%dT%H:%M:%SZ").replace(
            tzinfo=UTC
        )
    except ValueError as error:
        raise _malformed("a time that does not exist") from error


def write_time(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class ReleaseKey:
    """A key that signs releases, and in which time it may."""

    key: str
    valid_from: datetime
    valid_until: datetime | None

    def may_sign_at(self, at: datetime) -> bool:
        return self.valid_from <= at and (self.valid_until is None or at < self.valid_until)


@dataclass(frozen=True, slots=True)
class KeySet:
    """Which keys count. `threshold` root keys sign the next one; `revoked` ids count for nothing, whenever they
    signed.
    """

    number: int
    issued: datetime
    expires: datetime
    threshold: int
    roots: tuple[str, ...]
    release_keys: tuple[ReleaseKey, ...]
    revoked: frozenset[str]

    @property
    def good_roots(self) -> set[str]:
        return {key for key in self.roots if key_id(key) not in self.revoked}

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "kind": "keys",
            "number": self.number,
            "issued": write_time(self.issued),
            "expires": write_time(self.expires),
            "threshold": self.threshold,
            "roots": list(self.roots),
            "release_keys": [
                {
                    "key": k.key,
                    "valid_from": write_time(k.valid_from),
                    "valid_until": write_time(k.valid_until) if k.valid_until else None,
                }
                for k in self.release_keys
            ],
            "revoked": sorted(self.revoked),
        }

    @classmethod
    def from_json(cls, data: Any) -> "KeySet":
        names = {
            "schema", "kind", "number", "issued", "expires", "threshold", "roots", "release_keys", "revoked",
        }  # fmt: skip
        data = _members(data, "a key set", names)
        _kind(data, "keys")
        roots = tuple(_public(key) for key in _list(data["roots"], "roots is a list"))
        keys = tuple(_release_key(key) for key in _list(data["release_keys"], "release_keys is a list"))
        revoked = frozenset(
            _text(i, _HEX, "revoked names key ids") for i in _list(data["revoked"], "revoked is a list")
        )
        found = cls(
            number=_count(data["number"], "number is a positive whole number"),
            threshold=_count(data["threshold"], "threshold is a positive whole number"),
            roots=roots,
            release_keys=keys,
            revoked=frozenset(_text(keyid, _HEX, "revoked names key ids") for keyid in revoked),
            **_times(data),
        )
        if len(set(roots)) != len(roots) or len(found.good_roots) < found.threshold:
            raise _malformed("it has fewer valid root keys than its threshold")
        return found


def _release_key(data: Any) -> ReleaseKey:
    data = _members(data, "a release key", {"key", "valid_from", "valid_until"})
    until = data["valid_until"]
    return ReleaseKey(_public(data["key"]), read_time(data["valid_from"]), None if until is None else read_time(until))


def _public(value: Any) -> str:
    text = _text(value, _HEX, "a public key is 64 lower-case hex digits")
    key_id(text)
    return text


def _kind(data: Mapping[str, Any], kind: str) -> None:
    if data["schema"] != 1 or isinstance(data["schema"], bool) or data["kind"] != kind:
        raise _malformed(f"it is no {kind} document of schema 1")


def _times(data: Mapping[str, Any]) -> dict[str, datetime]:
    issued, expires = read_time(data["issued"]), read_time(data["expires"])
    if expires <= issued:
        raise _malformed("it expires before it is issued")
    return {"issued": issued, "expires": expires}


@dataclass(frozen=True, slots=True, order=True)
class File:
    filename: str
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return {"filename": self.filename, "size": self.size, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Release:
    """The manifest of a version: exactly these files. `counter` grows per product, so that none goes back unnoticed."""

    product: str
    version: str
    counter: int
    issued: datetime
    expires: datetime
    files: tuple[File, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "kind": "release",
            "product": self.product,
            "version": self.version,
            "counter": self.counter,
            "issued": write_time(self.issued),
            "expires": write_time(self.expires),
            "artifacts": [file.to_json() for file in self.files],
        }

    @classmethod
    def from_json(cls, data: Any) -> "Release":
        names = {"schema", "kind", "product", "version", "counter", "issued", "expires", "artifacts"}
        data = _members(data, "a release manifest", names)
        _kind(data, "release")
        files = tuple(sorted(_file(file) for file in _list(data["artifacts"], "artifacts is a list")))
        if not files or len({file.filename for file in files}) != len(files):
            raise _malformed("it names each file once, and at least one")
        return cls(
            product=_text(data["product"], _SLUG, "the product's short name"),
            version=_text(data["version"], _LABEL, "the version"),
            counter=_count(data["counter"], "counter is a positive whole number"),
            files=files,
            **_times(data),
        )


def _file(data: Any) -> File:
    data = _members(data, "an artifact", {"filename", "size", "sha256"})
    return File(
        _text(data["filename"], _FILENAME, "the name of a file"),
        _count(data["size"], "size is a number of bytes"),
        _text(data["sha256"], _HEX, "sha256 is 64 lower-case hex digits"),
    )


@dataclass(frozen=True, slots=True)
class Point:
    """A version and its counter."""

    version: str
    counter: int

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version, "counter": self.counter}

    @classmethod
    def from_json(cls, data: Any) -> "Point":
        data = _members(data, "from and to", {"version", "counter"})
        return cls(
            _text(data["version"], _LABEL, "the version"),
            _count(data["counter"], "counter is a positive whole number"),
        )


@dataclass(frozen=True, slots=True)
class Rollback:
    """The decision that a CI may go from one version back to another one, or (`to` empty) be rid of the product."""

    product: str
    from_: Point
    to: Point | None
    issued: datetime
    expires: datetime

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "kind": "rollback",
            "product": self.product,
            "from": self.from_.to_json(),
            "to": self.to.to_json() if self.to else None,
            "issued": write_time(self.issued),
            "expires": write_time(self.expires),
        }

    @classmethod
    def from_json(cls, data: Any) -> "Rollback":
        names = {"schema", "kind", "product", "from", "to", "issued", "expires"}
        data = _members(data, "a rollback decision", names)
        _kind(data, "rollback")
        return cls(
            product=_text(data["product"], _SLUG, "the product's short name"),
            from_=Point.from_json(data["from"]),
            to=None if data["to"] is None else Point.from_json(data["to"]),
            **_times(data),
        )


Document = KeySet | Release | Rollback
_TYPES: dict[str, type[KeySet] | type[Release] | type[Rollback]] = {KEYS: KeySet, RELEASE: Release, ROLLBACK: Rollback}


def type_of(document: Document) -> str:
    """The payload type under which the document is signed."""
    return next(name for name, cls in _TYPES.items() if isinstance(document, cls))


def payload_of(document: Document) -> bytes:
    """The bytes that are signed."""
    return compact(document.to_json()).encode()


def read(envelope: Envelope) -> Document:
    """The document in an envelope, whoever signed it. Raises Untrusted: wrong_type, malformed."""
    cls = _TYPES.get(envelope.payload_type)
    if cls is None:
        raise Untrusted("wrong_type", f"Unknown type of document: {envelope.payload_type[:100]!r}.")
    return cls.from_json(load_json(envelope.payload))
