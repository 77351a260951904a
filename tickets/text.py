"""Text from people: markdown without HTML, sanitised."""

from functools import lru_cache

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

TAGS = {
    "p", "br", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


# A table with more is shown as it was written. Every row gets as many cells as its head has, so a few kilobytes could
# order tens of thousands.
MOST_CELLS = 2000


@lru_cache(maxsize=2)
def _parser(with_tables: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("strikethrough")
    return parser.enable("table") if with_tables else parser


def _most_cells(text: str) -> int:
    """How many cells the tables of a text may have at most. A table ends at an empty line at the latest."""
    cells = columns = length = 0
    for line in (*text.splitlines(), ""):
        if line.strip():
            length += 1
            if "-" in line and not line.strip(" \t>|:-"):  # what stands between a head and its rows
                columns = max(columns, line.count("|") + 1)
        else:
            cells += columns * length
            columns = length = 0
    return cells


def as_data(text: str) -> str:
    """What a device said, for a text in markdown: shown letter by letter, on one line, never read as markdown."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def render_markdown(text: str) -> SafeString:
    """The text as HTML that is safe to show: no raw HTML, no scripts, links only to http, https and mailto."""
    text = text or ""
    html = nh3.clean(
        _parser(_most_cells(text) <= MOST_CELLS).render(text),
        tags=TAGS,
        attributes={"a": {"href", "title"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)  # noqa: S308 - sanitised above
