"""Registering many CIs at once, from a list or from CSV: each row for itself, one bad row does not lose the others."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import Prefetch, QuerySet
from django.utils.translation import gettext as _

from accounts.models import Team, User
from cmdb.models import AgentProfile, CIClass, ConfigurationItem, InstalledVersion
from tickets.csv_export import DANGEROUS, csv_line
from tickets.exceptions import DomainError, InvalidInput
from tickets.lifecycle import check_permission
from tickets.services import validate

MOST_ROWS = 1000
MOST_BYTES = 1024 * 1024
FIELDS = ("name", "ci_class", "lifecycle", "owner", "team", "description", "agent_id", "agent_profile")
# Columns of the export that an import passes over: reports and the portal write them.
SHOWN = ("number", "installed", "last_seen_at")
_REFERENCES: dict[str, tuple[QuerySet[Any], str]] = {
    "ci_class": (CIClass.objects.all(), "slug"),
    "owner": (User.objects.filter(is_active=True), "username"),
    "team": (Team.objects.all(), "name"),
    "agent_profile": (AgentProfile.objects.all(), "name"),
}
_ATTEMPTS = 3


@dataclass(slots=True)
class Row:
    """What became of one row: the CI, or why it was refused. `line` is that of the CSV file, from 1."""

    index: int
    ci: ConfigurationItem | None = None
    refusal: InvalidInput | None = None
    line: int | None = None


def register_many(items: Sequence[Any], *, actor: Any, now: datetime) -> list[Row]:
    """Registers each item that can be; a handful of statements for all of them. At most `MOST_ROWS`.

    An item is an object with `FIELDS`; classes, owners, teams and profiles are named as in the API.
    """
    check_permission(actor, "cmdb.manage_cis", _("register configuration items"))
    if len(items) > MOST_ROWS:
        raise InvalidInput(_("At most %(most)d at once.") % {"most": MOST_ROWS}, field="items")
    rows = [Row(index) for index in range(len(items))]
    known = {field: _named(field, items) for field in _REFERENCES}
    for row, item in zip(rows, items, strict=True):
        try:
            row.ci = _built(item, known, now)
        except InvalidInput as refusal:
            row.refusal = refusal
    for _attempt in range(_ATTEMPTS):
        _refuse_taken(rows)
        made = sorted((row.ci for row in rows if row.ci is not None), key=lambda ci: ci.name)
        try:
            with transaction.atomic():
                ConfigurationItem.objects.bulk_create(made)
        except (IntegrityError, OperationalError):
            # Somebody registered one of them in this moment, and it is found now; or two waited for each other.
            continue
        return rows
    raise DomainError(_("Others register the same CIs at the same time. Send it again."), code="busy")


def _named(field: str, items: Sequence[Any]) -> dict[str, Any]:
    rows, key = _REFERENCES[field]
    given = [item.get(field) for item in items if isinstance(item, Mapping)]
    names = {name for name in given if isinstance(name, str) and "\0" not in name}
    return {getattr(one, key): one for one in rows.filter(**{f"{key}__in": names})} if names else {}


def _built(item: Any, known: Mapping[str, Mapping[str, Any]], now: datetime) -> ConfigurationItem:
    if not isinstance(item, Mapping):
        raise InvalidInput(_("Each item is an object."))
    unknown = sorted(map(str, set(item) - {*FIELDS, *SHOWN}))
    if unknown:
        raise InvalidInput(_("Unknown: %(names)s.") % {"names": ", ".join(unknown)[:200]})
    values: dict[str, Any] = {}
    for field in FIELDS:
        value = item.get(field)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise InvalidInput(_("This is a text."), field=field)
        if field in _REFERENCES and value not in known[field]:
            raise InvalidInput(_("There is no “%(value)s”.") % {"value": value[:64]}, field=field)
        values[field] = known[field][value] if field in _REFERENCES else value
    for field in ("name", "ci_class"):
        if field not in values:
            raise InvalidInput(_("This is needed."), field=field)
    ci = ConfigurationItem(created_at=now, **values)
    validate(ci, exclude=_REFERENCES)
    return ci


def _refuse_taken(rows: list[Row]) -> None:
    """Takes out what has a name or an agent id of another CI, or of an earlier row that is kept."""
    texts = {"name": _("Another configuration item has this name."), "agent_id": _("Another CI's agent has this id.")}
    taken: dict[str, set[str]] = {}
    for field in texts:
        wanted = [getattr(row.ci, field) for row in rows if row.ci is not None and getattr(row.ci, field)]
        found = ConfigurationItem.objects.filter(**{f"{field}__in": wanted}).values_list(field, flat=True)
        taken[field] = set(found) if wanted else set()
    for row in rows:
        if row.ci is None:
            continue
        own = {field: getattr(row.ci, field) for field in texts if getattr(row.ci, field)}
        clash = next((field for field, value in own.items() if value in taken[field]), None)
        if clash is not None:
            row.ci, row.refusal = None, InvalidInput(texts[clash], field=clash)
            continue
        for field, value in own.items():
            taken[field].add(value)


def register_csv(data: bytes, *, actor: Any, now: datetime) -> list[Row]:
    """Registers the rows of a CSV file (UTF-8, comma or semicolon, first line: names of `FIELDS`)."""
    check_permission(actor, "cmdb.manage_cis", _("register configuration items"))
    if len(data) > MOST_BYTES:
        raise InvalidInput(_("The file has more than %(most)d bytes.") % {"most": MOST_BYTES}, field="file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(_("The file is not in UTF-8."), field="file") from error
    if "\0" in text:
        raise InvalidInput(_("The file contains characters that cannot be stored."), field="file")
    head = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        wrong = sorted(set(columns) - {*FIELDS, *SHOWN})
        if wrong or not {"name", "ci_class"} <= set(columns) or len(set(columns)) != len(columns):
            text = _("The first line names the columns, each once: %(fields)s.") % {"fields": ", ".join(FIELDS)}
            raise InvalidInput(text, field="file")
        lines: list[int] = []
        items: list[Any] = []
        last = reader.line_num
        for cells in reader:
            first, last = last + 1, reader.line_num
            if not any(cells):
                continue
            is_whole = len(cells) == len(columns)
            items.append(dict(zip(columns, map(plain, cells), strict=True)) if is_whole else None)
            lines.append(first)
            if len(items) > MOST_ROWS:
                raise InvalidInput(_("At most %(most)d rows at once.") % {"most": MOST_ROWS}, field="file")
    except csv.Error as error:
        raise InvalidInput(_("Line %(line)d is no CSV.") % {"line": reader.line_num}, field="file") from error
    rows = register_many(items, actor=actor, now=now)
    for row, line in zip(rows, lines, strict=True):
        row.line = line
        if items[row.index] is None:
            row.refusal = InvalidInput(_("The line has another number of cells than the first one."))
    return rows


def export_csv(cis: QuerySet[ConfigurationItem]) -> Iterator[str]:
    """The CIs as lines of CSV that `register_csv` understands; no cell is run by a spreadsheet."""
    current = InstalledVersion.objects.filter(valid_to__isnull=True).select_related("product").order_by("product__slug")
    related = cis.select_related("ci_class", "owner", "team", "agent_profile").prefetch_related(
        Prefetch("installed_versions", queryset=current, to_attr="current_versions")
    )
    yield csv_line(["number", *FIELDS, "installed", "last_seen_at"])
    for ci in related.iterator(chunk_size=500):
        installed = " ".join(f"{one.product.slug}/{one.label}" for one in ci.current_versions)  # type: ignore[attr-defined]
        seen = ci.last_seen_at.isoformat() if ci.last_seen_at else ""
        yield csv_line([ci.number, *(_text(ci, field) for field in FIELDS), installed, seen])


def _text(ci: ConfigurationItem, field: str) -> str:
    value = getattr(ci, field)
    if field in _REFERENCES and value is not None:
        value = getattr(value, _REFERENCES[field][1])
    return value or ""


def plain(cell: str) -> str:
    """What `defused` made of it, undone."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(DANGEROUS) else cell
