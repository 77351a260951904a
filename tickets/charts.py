"""Charts as SVG that the server draws: shapes in percent of their frame, so that a page needs neither script nor style.

`components/_chart.html` shows a `Chart` with its figures as a table beneath, `components/_bars.html` a list of `Bar`s.
Colours are the tones of `tickets.appearance`; what is told by colour stands in the legend and in the table, too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from django.utils.formats import number_format
from django.utils.translation import gettext as _

# The frame of the shapes, as the template says it; its sides are stretched to the width of the page.
WIDTH, HEIGHT = 1000.0, 100.0
_MOST_STEPS = 3
_MOST_LABELS = 5
_BAR = 0.8


@dataclass(frozen=True, slots=True)
class Series:
    """Values over the columns of a chart; None where there is none. Bars, and areas, of a chart stand on each other.

    `shape` is `bar`, `area` or `line`; `tone` one of the tones of states.
    """

    label: str
    tone: str
    values: Sequence[float | None]
    shape: str = "bar"


@dataclass(frozen=True, slots=True)
class Mark:
    """An upright line, at a place between 0 (left) and 1 (right), with few words above."""

    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A path in the frame."""

    tone: str
    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Label:
    """A text at an axis: percent from the left, or pixels from the top."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Chart:
    """Values over time or over categories: one column each, `columns` names them in their order.

    `unit` stands behind numbers (`%`), `decimals` is how many places they have. `highest` fixes the upper end, so that
    two charts can be compared. `first` is the head of the table's first column.
    """

    title: str
    columns: Sequence[str]
    series: Sequence[Series]
    unit: str = ""
    decimals: int = 0
    highest: float | None = None
    marks: Sequence[Mark] = ()
    first: str = ""
    # Pixels; the template's frame of shapes lies between.
    top: int = 20
    height: int = 130

    @property
    def is_empty(self) -> bool:
        """Whether there is no figure at all; a zero is one."""
        return all(value is None for one in self.series for value in one.values)

    @cached_property
    def steps(self) -> list[float]:
        """Where the lines across the chart stand, from 0 to the upper end."""
        most = self.highest if self.highest is not None else max(self._heights(), default=0)
        if most <= 0:
            return [0.0, 1.0]
        step = _round_step(most / _MOST_STEPS, least=10**-self.decimals)
        return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]

    @property
    def lines(self) -> list[Label]:
        """The lines across with their numbers; `at` in pixels from the top."""
        highest = self.steps[-1]
        decimals = 0 if self.steps[1] == int(self.steps[1]) else self.decimals
        return [
            Label(self.top + self.height * (1 - value / highest), self.text_of(value, decimals)) for value in self.steps
        ]

    @property
    def labels(self) -> list[Label]:
        """Names of some columns; `at` in percent from the left."""
        count = len(self.columns)
        every = max(1, math.ceil(count / _MOST_LABELS))
        shown = range(0, count, every)
        return [Label(round(self._x(n) / WIDTH * 100, 2), self.columns[n], self._anchor(n)) for n in shown]

    @property
    def upright(self) -> list[Label]:
        """The marks; `at` in percent from the left."""
        return [Label(round(100 * mark.place, 2), mark.label, _anchor_at(mark.place)) for mark in self.marks]

    @cached_property
    def shapes(self) -> list[Shape]:
        """What is drawn, in the order of the series; lines above all else."""
        below = {"bar": [0.0] * len(self.columns), "area": [0.0] * len(self.columns)}
        drawn = []
        for one in self.series:
            if one.shape == "line":
                drawn.append(Shape(one.tone, "line", self._line(one.values)))
                continue
            base = below[one.shape]
            ends = [low + (value or 0) for low, value in zip(base, one.values, strict=True)]
            path = self._bars(base, ends) if one.shape == "bar" else self._area(base, ends)
            drawn.append(Shape(one.tone, "area", path))
            below[one.shape] = ends
        return sorted(drawn, key=lambda shape: shape.kind == "line")

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The table: the name of each column with the values of all series."""
        values = [[self.text_of(value) for value in one.values] for one in self.series]
        return [(name, [texts[n] for texts in values]) for n, name in enumerate(self.columns)]

    @property
    def summary(self) -> str:
        """For those who cannot see the picture: the highest and the last value of each series."""
        parts = []
        for one in self.series:
            known = [value for value in one.values if value is not None]
            if known:
                text = _("%(label)s: at most %(most)s, at last %(last)s")
                parts.append(
                    text % {"label": one.label, "most": self.text_of(max(known)), "last": self.text_of(known[-1])}
                )
        return "; ".join(parts)

    def text_of(self, value: float | None, decimals: int | None = None) -> str:
        """A value as people write it."""
        if value is None:
            return "–"
        places = self.decimals if decimals is None else decimals
        text = number_format(round(value, places), places, use_l10n=True, force_grouping=True)
        return f"{text} {self.unit}" if self.unit else text

    def _heights(self) -> list[float]:
        """How high each column of each kind reaches."""
        found = [value for one in self.series if one.shape == "line" for value in one.values if value is not None]
        for shape in ("bar", "area"):
            stacked = [one.values for one in self.series if one.shape == shape]
            found += [sum(value or 0 for value in column) for column in zip(*stacked, strict=True)]
        return found

    @cached_property
    def _is_banded(self) -> bool:
        return any(one.shape == "bar" for one in self.series)

    def _x(self, number: int) -> float:
        count = len(self.columns)
        if self._is_banded or count < 2:
            return WIDTH * (number + 0.5) / max(count, 1)
        return WIDTH * number / (count - 1)

    def _anchor(self, number: int) -> str:
        return _anchor_at(self._x(number) / WIDTH)

    def _y(self, value: float) -> float:
        return HEIGHT * (1 - min(value / self.steps[-1], 1.0))

    def _bars(self, lows: Sequence[float], highs: Sequence[float]) -> str:
        width = WIDTH / max(len(self.columns), 1) * _BAR
        parts = []
        for number, (low, high) in enumerate(zip(lows, highs, strict=True)):
            if high > low:
                left, foot, top = self._x(number) - width / 2, self._y(low), self._y(high)
                parts.append(f"M{left:.1f} {foot:.1f}V{top:.1f}h{width:.1f}V{foot:.1f}z")
        return "".join(parts)

    def _area(self, lows: Sequence[float], highs: Sequence[float]) -> str:
        if not any(high > low for low, high in zip(lows, highs, strict=True)):
            return ""
        there = [f"{self._x(n):.1f} {self._y(high):.1f}" for n, high in enumerate(highs)]
        back = [f"{self._x(n):.1f} {self._y(low):.1f}" for n, low in enumerate(lows)]
        return "M" + "L".join([*there, *reversed(back)]) + "z"

    def _line(self, values: Sequence[float | None]) -> str:
        """From value to value; a gap where one is missing, a short stroke for one that stands alone."""
        parts, is_on = [], False
        for number, value in enumerate(values):
            if value is not None:
                parts.append(f"{'L' if is_on else 'M'}{self._x(number):.1f} {self._y(value):.1f}" + "h0" * (not is_on))
            is_on = value is not None
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a list of bars: as long as its share of the largest, `text` is the value for people."""

    label: str
    tone: str
    percent: float
    text: str


def bars(rows: Sequence[tuple[str, str, float | None, str]]) -> list[Bar]:
    """Bars on one scale from (label, tone, value, text); a value None has no end and fills the line."""
    most = max((value for _label, _tone, value, _text in rows if value is not None), default=0)
    return [
        Bar(label, tone, 100.0 if value is None else round(100 * value / most, 2) if most else 0.0, text)
        for label, tone, value, text in rows
    ]


def _anchor_at(place: float) -> str:
    return "start" if place < 0.06 else "end" if place > 0.94 else "middle"


def _round_step(raw: float, *, least: float) -> float:
    """The next of 1, 2, 5, 10, 20, … that is not below; at least `least`."""
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw - 1e-9)
    return max(step, least)
