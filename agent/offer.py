"""What a deployment asks for: the server's JSON turned into checked items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from agent.config import is_segment
from agent.errors import InstallError

SCRIPT, SNAPSHOT = "script", "snapshot"
WAYS_BACK = (SCRIPT, SNAPSHOT)


class Item(NamedTuple):
    """One product of an action: install ``version`` from ``url``, or remove the product.

    ``way_back`` is how it is left again later, or (``is_back``) how what runs now is left: "script", "snapshot", or ""
    for nothing but the new version.
    """

    product: str
    version: str = ""
    remove: bool = False
    url: str = ""
    size: int = 0
    sha256: str = ""
    filename: str = ""
    way_back: str = ""
    is_back: bool = False

    def content(self) -> str:
        """What this item means, without the address it comes from."""
        what = f"{self.product}:remove" if self.remove else f"{self.product}={self.version}@{self.sha256}"
        return f"{what}{'<' if self.is_back else '!'}{self.way_back}" if self.way_back else what


class Signed(NamedTuple):
    """The envelopes that came with a chunk, as text; empty where there was none.

    ``keys``: the key sets, the newest first; the others lead to it from older root keys.
    """

    keys: tuple[str, ...] = ()
    release: str = ""
    rollback: str = ""


class Offer(NamedTuple):
    """A deployment as offered: ``error`` is set when it cannot be carried out at all.

    ``signed`` holds the envelopes by product.
    """

    action: str
    items: tuple[Item, ...]
    may_download: bool
    may_install: bool
    error: InstallError | None
    signed: dict[str, Signed]

    def content(self) -> str:
        """A text that is equal for equal content; action id and content together name a job."""
        if self.error is not None:
            return f"unusable {self.error}"
        return " ".join(item.content() for item in self.items)


def is_action_id(text: object) -> bool:
    """Whether ``text`` is a decimal action id from 1 to 2147483647."""
    return (
        isinstance(text, str) and text.isascii() and text.isdigit() and 1 <= len(text) <= 10 and 0 < int(text) < 2**31
    )


def read_offer(action: str, body: dict[str, Any]) -> Offer:
    """Reads the body of ``deploymentBase/{action}``. What is wrong ends up in ``error``."""
    deployment = body.get("deployment")
    if not isinstance(deployment, dict):
        deployment = {}
    items: tuple[Item, ...] = ()
    signed: dict[str, Signed] = {}
    error: InstallError | None = None
    try:
        items = _read_items(deployment.get("chunks"))
        signed = {chunk["part"]: _read_signed(chunk.get("metadata")) for chunk in deployment["chunks"]}
    except InstallError as problem:
        error = problem
    return Offer(
        action=action,
        items=items,
        may_download=deployment.get("download") != "skip",
        may_install=deployment.get("update") != "skip",
        error=error,
        signed=signed,
    )


def _read_items(chunks: Any) -> tuple[Item, ...]:
    if not isinstance(chunks, list) or not chunks:
        raise InstallError("bad_deployment", "there are no chunks")
    items = tuple(_read_item(chunk) for chunk in chunks)
    if len({item.product for item in items}) != len(items):
        raise InstallError("bad_deployment", "two chunks are for the same product")
    return items


def _read_item(chunk: Any) -> Item:
    if not isinstance(chunk, dict):
        raise InstallError("bad_deployment", "a chunk is not an object")
    product, version = chunk.get("part"), chunk.get("version")
    if not is_segment(product):
        raise InstallError("bad_name", f"part {str(product)[:80]!r} is not a product slug")
    artifacts = chunk.get("artifacts")
    way_back, is_back = _way_back(chunk.get("metadata"))
    if not artifacts and _asks_removal(chunk.get("metadata")):
        return Item(product=str(product), remove=True, way_back=way_back, is_back=is_back)
    if not is_segment(version):
        raise InstallError("bad_name", f"version {str(version)[:80]!r} of {product} is not a version label")
    if not isinstance(artifacts, list) or not artifacts or not isinstance(artifacts[0], dict):
        raise InstallError("bad_deployment", f"{product} has no artifact")
    size, sha256, url = artifacts[0].get("size"), _sha256(artifacts[0]), _url(artifacts[0])
    filename = str(artifacts[0].get("filename") or "")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InstallError("bad_deployment", f"the artifact of {product} has no size")
    if not sha256:
        raise InstallError("missing_sha256", f"the artifact of {product} has no usable sha256")
    if not url:
        raise InstallError("bad_deployment", f"the artifact of {product} has no download link")
    return Item(
        product=str(product),
        version=str(version),
        url=url,
        size=size,
        sha256=sha256,
        filename=filename,
        way_back=way_back,
        is_back=is_back,
    )


def _asks_removal(metadata: Any) -> bool:
    return _value(metadata, "action") == "remove"


def _way_back(metadata: Any) -> tuple[str, bool]:
    """The way back that is asked for, and whether it is to be gone now. What the agent does not know it refuses."""
    order = _value(metadata, "itsm.go_back")
    way = order or _value(metadata, "itsm.way_back")
    if way and way not in WAYS_BACK:
        raise InstallError("way_back_unknown", f"this agent does not know {way[:40]!r}")
    return way, bool(order)


def _read_signed(metadata: Any) -> Signed:
    return Signed(
        keys=tuple(filter(None, _values(metadata, "itsm.keys"))),
        release=_value(metadata, "itsm.release"),
        rollback=_value(metadata, "itsm.rollback"),
    )


def _value(metadata: Any, key: str) -> str:
    """The first value of ``key`` among a chunk's metadata, empty if there is none."""
    return next(_values(metadata, key), "")


def _values(metadata: Any, key: str) -> Iterator[str]:
    for entry in metadata if isinstance(metadata, list) else []:
        if isinstance(entry, dict) and entry.get("key") == key and isinstance(entry.get("value"), str):
            yield str(entry["value"])


def _sha256(artifact: dict[str, Any]) -> str:
    hashes = artifact.get("hashes")
    value = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(value, str) or len(value) != 64 or set(value.lower()) - set("0123456789abcdef"):
        return ""
    return value.lower()


def _url(artifact: dict[str, Any]) -> str:
    links = artifact.get("_links")
    for name in ("download", "download-http"):
        link = links.get(name) if isinstance(links, dict) else None
        href = link.get("href") if isinstance(link, dict) else None
        if isinstance(href, str) and href.startswith(("http://", "https://")):
            return href
    return ""
