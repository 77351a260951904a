"""Bills of materials: attached to versions, checked, and searched for what is in them."""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from signing.envelope import Untrusted, load_json
from software.models import Component, Sbom, Version
from software.services import MANAGE
from tickets.exceptions import InvalidInput
from tickets.lifecycle import check_permission

MAX_BYTES = 16 * 1024 * 1024
MAX_COMPONENTS = 20_000
# Values in the document: sixteen million bytes of empty lists would become half a gigabyte of memory.
MAX_VALUES = 1_000_000
SPEC_VERSIONS = ("1.2", "1.3", "1.4", "1.5", "1.6", "1.7")


def attach_sbom(version: Version, *, actor: Any, now: datetime, content: bytes) -> Sbom:
    """Attaches a CycloneDX document (JSON) to a version; one that was there is replaced.

    Refuses with `InvalidInput`, field sbom, what is larger than `MAX_BYTES`, no CycloneDX, or has more than
    `MAX_COMPONENTS` components, nested ones included.
    """
    check_permission(actor, MANAGE, _("attach a bill of materials"))
    document = _read(content)
    rows = list(_components(document))
    with transaction.atomic():
        Version.objects.select_for_update(no_key=True).get(pk=version.pk)
        Sbom.objects.filter(version=version).delete()
        sbom = Sbom.objects.create(
            version=version,
            document=content.decode(),
            sha256=hashlib.sha256(content).hexdigest(),
            spec_version=document["specVersion"],
            uploaded_by=actor,
            uploaded_at=now,
        )
        for row in rows:
            row.sbom = sbom
        Component.objects.bulk_create(rows, batch_size=1000)
    return sbom


def search_components(text: str) -> QuerySet[Component]:
    """Components whose name or package URL contains the text, with the versions that have them."""
    text = text.strip().replace("\0", "")
    rows = Component.objects.select_related("sbom__version__product")
    return rows.filter(Q(name__icontains=text) | Q(purl__icontains=text)) if text else rows


def _wrong(message: str) -> InvalidInput:
    return InvalidInput(message, field="sbom", code="sbom_invalid")


def _read(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise _wrong(_("A bill of materials has at most %d bytes.") % MAX_BYTES)
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise _wrong(_("A bill of materials has at most %d values.") % MAX_VALUES)
    try:
        document = load_json(content.decode())
    except (UnicodeDecodeError, Untrusted) as error:
        raise _wrong(_("This is no JSON: %s") % error) from error
    if not isinstance(document, dict) or document.get("bomFormat") != "CycloneDX":
        raise _wrong(_("This is no CycloneDX document: bomFormat has to be CycloneDX."))
    if document.get("specVersion") not in SPEC_VERSIONS:
        raise _wrong(_("specVersion has to be one of %s.") % ", ".join(SPEC_VERSIONS))
    return document


def _components(document: dict[str, Any]) -> Iterator[Component]:
    """Every component, nested ones too. Walked without recursion: the depth is the sender's."""
    waiting = [document.get("components", [])]
    count = 0
    while waiting:
        listed = waiting.pop()
        if not isinstance(listed, list):
            raise _wrong(_("components is a list."))
        for entry in listed:
            count += 1
            if count > MAX_COMPONENTS:
                raise _wrong(_("A bill of materials has at most %d components.") % MAX_COMPONENTS)
            if not isinstance(entry, dict):
                raise _wrong(_("A component is an object."))
            yield Component(
                name=_text(entry, "name", 255, is_needed=True),
                kind=_text(entry, "type", 32, is_needed=True),
                version=_text(entry, "version", 128),
                purl=_text(entry, "purl", 512),
                licences=", ".join(_licences(entry))[:255],
            )
            if "components" in entry:
                waiting.append(entry["components"])


def _text(entry: dict[str, Any], name: str, limit: int, *, is_needed: bool = False) -> str:
    value = entry.get(name, "")
    if not isinstance(value, str) or (is_needed and not value) or not value.isprintable():
        raise _wrong(_("%(name)s of a component is a text.") % {"name": name})
    return value[:limit]


def _licences(entry: dict[str, Any]) -> Iterator[str]:
    """Ids, names or expressions, as far as they are texts."""
    listed = entry.get("licenses", [])
    for item in listed if isinstance(listed, list) else []:
        if not isinstance(item, dict):
            continue
        inner = item.get("license")
        inner = inner if isinstance(inner, dict) else {}
        found = item.get("expression") or inner.get("id") or inner.get("name")
        if isinstance(found, str) and found.isprintable():
            yield found
