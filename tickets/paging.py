"""Pages of long lists: each begins behind the last row of the one before, so that the thousandth costs what the first
costs; and counts that stop.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import BooleanField, DateTimeField, Expression, F, Func, Q, QuerySet, Value
from django.db.models.functions import Coalesce

# Further rows are not counted.
MOST_COUNTED = 10_000
_LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sort:
    """By one path of the model and then by its key, so that no two rows are equal. Empty values come first."""

    name: str
    path: str
    is_descending: bool = False

    @property
    def alias(self) -> str:
        """As it stands in addresses."""
        return f"-{self.name}" if self.is_descending else self.name


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a list, and where the next and the previous ones begin (empty: there are none).

    `total` is exact up to `MOST_COUNTED`; one more means that there are more.
    """

    rows: list[Any]
    total: int
    after: str = ""
    before: str = ""

    @property
    def has_more_than_counted(self) -> bool:
        return self.total > MOST_COUNTED

    @property
    def has_other_pages(self) -> bool:
        return bool(self.after or self.before)


def count_some(rows: QuerySet[Any]) -> int:
    """How many there are, at most `MOST_COUNTED` + 1."""
    return rows.order_by().values("pk")[: MOST_COUNTED + 1].count()


def read_page(
    rows: QuerySet[Any], sort: Sort, *, size: int, total: int, after: str = "", before: str = ""
) -> Page:  # fmt: skip
    """The rows behind (or before) a place that an earlier page named; the first ones where it cannot be read."""
    place = _read(rows, sort, after or before)
    goes_back = bool(before) and not after and place is not None
    found = list(_ordered(rows, sort, place, goes_back=goes_back)[: size + 1])
    has_further = len(found) > size
    found = found[:size]
    if goes_back:
        found.reverse()
    if not found:
        # Behind the place nothing is left by now.
        return Page([], total) if place is None else read_page(rows, sort, size=size, total=total)
    has_previous = has_further if goes_back else place is not None
    has_next = goes_back or has_further
    return Page(
        found, total, after=_place(found[-1]) if has_next else "", before=_place(found[0]) if has_previous else ""
    )


def read_all(rows: QuerySet[Any], sort: Sort, *, size: int = 1000) -> Iterator[Any]:
    """Every row in this order, `size` in memory at a time."""
    place: tuple[Any, ...] | None = None
    while True:
        found = list(_ordered(rows, sort, place)[:size])
        yield from found
        if len(found) < size:
            return
        place = (found[-1].sort_value, found[-1].pk)


def _ordered(
    rows: QuerySet[Any], sort: Sort, place: tuple[Any, ...] | None, *, goes_back: bool = False
) -> QuerySet[Any]:
    """The rows behind the place, each with `sort_value`."""
    key = _expression(rows, sort.path)
    is_descending = sort.is_descending != goes_back
    rows = rows.annotate(sort_value=key)
    beyond: Any = None
    if sort.path == "pk":
        columns = ["pk"]
        beyond = Q(**{f"pk__{'lt' if is_descending else 'gt'}": place[1]}) if place else None
    else:
        columns = ["sort_value", "pk"]
        beyond = _Beyond(key, F("pk"), *map(Value, place), operator="<" if is_descending else ">") if place else None
    rows = rows.filter(beyond) if beyond is not None else rows
    return rows.order_by(*(f"-{column}" if is_descending else column for column in columns))


class _Beyond(Func):
    """(a, b) > (x, y): a comparison of rows, which an index on a and b answers."""

    output_field = BooleanField()

    def __init__(self, *expressions: Any, operator: str) -> None:
        super().__init__(*expressions)
        self.operator = operator

    def as_sql(self, compiler: Any, connection: Any, *args: Any, **context: Any) -> Any:
        parts = [compiler.compile(expression) for expression in self.get_source_expressions()]
        texts = [text for text, _params in parts]
        half = len(texts) // 2
        sql = f"({', '.join(texts[:half])}) {self.operator} ({', '.join(texts[half:])})"
        return sql, [param for _text, params in parts for param in params]


def _expression(rows: QuerySet[Any], path: str) -> Expression | F:
    """What is sorted by: the path, with a value in the place of an empty one."""
    field, is_nullable = _field(rows, path)
    if not is_nullable or field is None:
        return F(path)
    if isinstance(field, DateTimeField):
        return Coalesce(F(path), Value(_LONG_AGO))
    return Coalesce(F(path), Value("" if field.get_internal_type() in _TEXTS else -1), output_field=field)


_TEXTS = {"CharField", "TextField", "SlugField", "EmailField"}


def _field(rows: QuerySet[Any], path: str) -> tuple[Any, bool]:
    """The field that the path ends at (none: an annotation), and whether it may be empty."""
    model: Any = rows.model
    is_nullable = False
    field: Any = None
    for part in path.split("__"):
        try:
            field = model._meta.pk if part == "pk" else model._meta.get_field(part)
        except FieldDoesNotExist:
            return None, False
        is_nullable = is_nullable or field.null
        model = field.related_model
    return field, is_nullable


def _place(row: Any) -> str:
    value = row.sort_value
    return json.dumps([value.isoformat() if isinstance(value, datetime) else value, row.pk], separators=(",", ":"))


def _read(rows: QuerySet[Any], sort: Sort, text: str) -> tuple[Any, Any] | None:
    """The place that stands in an address, or None when it is none of this order."""
    field, _is_nullable = _field(rows, sort.path)
    try:
        value, key = json.loads(text)
        if not isinstance(value, str | int | None) or not isinstance(key, int) or abs(key) >= 1 << 63:
            return None
        if isinstance(value, str) and "\0" in value:
            return None
        if field is None and not isinstance(value, int):
            return None
        if field is not None and not field.is_relation:
            value = field.to_python(value)
        return (value, key) if value is not None else None
    except (ValueError, TypeError, ValidationError, OverflowError, RecursionError):
        return None
