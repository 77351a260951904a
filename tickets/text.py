"""Text from people: markdown without HTML, sanitised."""

from functools import lru_cache

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

TAGS = {
    "p", "br", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])


def as_data(text: str) -> str:
    """What a device said, for a text in markdown: shown letter by letter, on one line, never read as markdown."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def render_markdown(text: str) -> SafeString:
    """The text as HTML that is safe to show: no raw HTML, no scripts, links only to http, https and mailto."""
    html = nh3.clean(
        _parser().render(text or ""),
        tags=TAGS,
        attributes={"a": {"href", "title"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)  # noqa: S308 - sanitised above
