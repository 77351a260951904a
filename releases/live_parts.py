"""The live page of a rollout in parts: a browser says what it has, and gets only the parts that are different.

Each part is one element with an id of its own. `have` is what a browser sends back: a digest of which parts there are,
then one of each of them; where there are many, neighbours share one, for a request line has an end.
"""

import math
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from releases.live import SOLID, Cell, Lane
from tickets.links import PAGES
from tickets.templatetags.portal import icon

# So many cells are sent again when one of them has changed.
BLOCK = 100
# Of eight characters each; servers take a request line of 4,094.
MOST_DIGESTS = 100
# Masked anew for each answer.
_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="[^"]*"')


@dataclass(frozen=True, slots=True)
class Part:
    """One element of the page; `html` begins with its tag, which has the id."""

    id: str
    html: SafeString

    @property
    def digest(self) -> str:
        return _digest(_TOKEN.sub("", self.html))

    @property
    def replacement(self) -> SafeString:
        """Told to take the place of the one that the browser has."""
        swap = f'id="{self.id}" hx-swap-oob="true"'
        return mark_safe(self.html.replace(f'id="{self.id}"', swap, 1))  # noqa: S308 - rendered by a template


@dataclass(frozen=True, slots=True)
class LaneParts:
    """A wave: its head with the bar, and its cells in blocks."""

    head: Part
    blocks: list[Part]
    is_grouped: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts of the page, where they belong."""

    head: Part
    charts: Part
    lanes: list[LaneParts]
    failures: Part
    verdicts: Part
    events: Part

    def __iter__(self) -> Iterator[Part]:
        yield from (self.head, self.charts)
        for lane in self.lanes:
            yield lane.head
            yield from lane.blocks
        yield from (self.failures, self.verdicts, self.events)

    @property
    def have(self) -> str:
        """What a browser that shows all of this sends back."""
        shared = [_digest("".join(part.digest for part in parts)) for parts in self._shares()]
        return ".".join([_digest(" ".join(part.id for part in self)), *shared])

    def changed_since(self, have: str) -> list[Part] | None:
        """The parts that are different; None when there are other parts than then, so that all has to be sent."""
        mine, theirs = self.have.split("."), have.split(".")
        if mine[0] != theirs[0] or len(mine) != len(theirs):
            return None
        pairs = zip(self._shares(), mine[1:], theirs[1:], strict=True)
        return [part for parts, one, other in pairs if one != other for part in parts]

    def _shares(self) -> list[list[Part]]:
        """The parts in order, those that share a digest together."""
        parts = list(self)
        size = math.ceil(len(parts) / MOST_DIGESTS)
        return [parts[at : at + size] for at in range(0, len(parts), size)]


def parts_of(context: dict[str, Any], request: HttpRequest) -> Parts:
    """Renders the parts from the context of the live page."""

    def part(name: str, template: str, **more: Any) -> Part:
        return Part(name, render_to_string(f"releases/{template}.html", {**context, **more}, request))

    def lane(one: Lane) -> LaneParts:
        key = one.wave.pk
        blocks = [one.cells[at : at + BLOCK] for at in range(0, len(one.cells), BLOCK)]
        return LaneParts(
            head=part(f"lane-{key}", "_lane_head", lane=one),
            blocks=[Part(f"cells-{key}-{n}", _cells(f"cells-{key}-{n}", cells)) for n, cells in enumerate(blocks)],
            is_grouped=one.is_grouped,
        )

    return Parts(
        head=part("live-head", "_live_head"),
        charts=part("live-charts", "_live_charts"),
        lanes=[lane(one) for one in context["live"].lanes],
        failures=part("live-failures", "_failures"),
        verdicts=part("live-verdicts", "_live_verdicts"),
        events=part("live-events", "_live_events"),
    )


def _cells(name: str, cells: Iterable[Cell]) -> SafeString:
    """A block of the map. There may be thousands of cells, so they are no template."""
    icons: dict[str, SafeString] = {}
    shown = []
    for cell in cells:
        looks = f"cell tone-{cell.look.tone}{' is-solid' * (cell.state in SOLID)}{' is-overdue' * cell.is_overdue}"
        text = escape(cell.text)
        if not cell.number:
            shown.append(f'<li><span class="{looks}" title="{text}">{cell.size}</span></li>')
            continue
        if cell.look.icon not in icons:
            icons[cell.look.icon] = icon(cell.look.icon)
        address = reverse(PAGES["CI"], args=[cell.number])
        shown.append(f'<li><a class="{looks}" href="{address}" title="{text}">{icons[cell.look.icon]}</a></li>')
    return mark_safe(f'<ul class="cells" id="{name}">{"".join(shown)}</ul>')  # noqa: S308 - escaped above


def _digest(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
