"""Tables as files for spreadsheets."""

import csv
import html
import io
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from django.utils.html import strip_tags

# A spreadsheet runs a cell that begins with one of these; an apostrophe in front makes it text.
DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_AT_ONCE = 500


def csv_lines(rows: Iterable[Any], table_of: Callable[[list[Any]], Any]) -> Iterator[str]:
    """A line with the heads and one for each row, as `table_of` shows some rows; never all of them in memory."""
    iterator = iter(rows)
    some = list(islice(iterator, _AT_ONCE))
    table = table_of(some)
    names = [column.name for column in table.columns if not column.column.exclude_from_export]
    # So that spreadsheets know that it is UTF-8.
    yield "\ufeff" + csv_line([table.head(table.columns[name]) for name in names])
    while some:
        for row in table.rows:
            yield csv_line([_text(row.get_cell_value(name)) for name in names])
        some = list(islice(iterator, _AT_ONCE))
        table = table_of(some)


def csv_line(cells: Iterable[str]) -> str:
    """One line, its cells defused."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([defused(cell) for cell in cells])
    return out.getvalue()


def defused(cell: str) -> str:
    """The cell as a spreadsheet shows it and does not run it."""
    return f"'{cell}" if cell.startswith(DANGEROUS) else cell


def _text(value: Any) -> str:
    """What a cell says, without its HTML."""
    if value is None:
        return ""
    text = str(value)
    return " ".join(html.unescape(strip_tags(text)).split()) if hasattr(value, "__html__") else text
