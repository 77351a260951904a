"""The request file that the portal exports: what has to be signed, as documents without their times."""

import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from signing.documents import File, Release, Rollback, write_time
from signing.envelope import Untrusted, load_json

_BLOCK = 1024 * 1024


def read_request(path: Path, *, now: datetime, days: int, rollback_days: int) -> list[Release | Rollback]:
    """The documents of a request, issued now and good for so many days. Raises Untrusted (malformed)."""
    data = load_json(path.read_bytes())
    if not isinstance(data, dict) or data.get("kind") != "request" or data.get("schema") != 1:
        raise Untrusted("malformed", f"{path} is no signing request of schema 1.")
    return [_document(entry, now, days, rollback_days) for entry in data.get("documents", [])]


def _document(entry: Any, now: datetime, days: int, rollback_days: int) -> Release | Rollback:
    if not isinstance(entry, dict) or entry.get("kind") not in {"release", "rollback"}:
        raise Untrusted("malformed", "A request holds release manifests and rollback decisions.")
    is_release = entry["kind"] == "release"
    times = {
        "issued": write_time(now),
        "expires": write_time(now + timedelta(days=days if is_release else rollback_days)),
    }
    data = {"schema": 1, **entry, **times}
    return Release.from_json(data) if is_release else Rollback.from_json(data)


def measure(path: Path) -> File:
    """Name, size and SHA-256 of a file, read in blocks."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return File(path.name, size, digest.hexdigest())


def compare(release: Release, folder: Path) -> list[str]:
    """What differs between a manifest and the key holder's own files in `folder/<product>/<version>/` or `folder/`."""
    problems = []
    for file in release.files:
        places = (folder / release.product / release.version / file.filename, folder / file.filename)
        own = next((place for place in places if place.is_file()), None)
        if own is None:
            problems.append(f"{file.filename}: you have no such file")
        elif measure(own) != file:
            problems.append(f"{file.filename}: yours has another content")
    return problems


def describe(document: Release | Rollback) -> str:
    """One document as the key holder reads it before he signs."""
    until = f"until {write_time(document.expires)}"
    if isinstance(document, Rollback):
        origin = f"{document.product} {document.from_.version} ({document.from_.counter})"
        target = f"{document.to.version} ({document.to.counter})" if document.to else "nothing: removal"
        return f"way back  {origin} → {target}, {until}"
    lines = [f"release   {document.product} {document.version}, counter {document.counter}, {until}"]
    lines += [f"          {file.filename}  {file.size} bytes  sha256 {file.sha256}" for file in document.files]
    return "\n".join(lines)
