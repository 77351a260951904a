"""The charts of a dry run as shapes of an SVG picture; colours are classes of the style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from releases.dry_run.forecast import Forecast, Point

# The picture is 340 wide and 216 high, as the template says.
_LEFT, _RIGHT = 44.0, 332.0
_CIS = (18.0, 118.0)
_LOAD = (142.0, 190.0)
_MOST_TICKS = 4
_MOST_WAVES = 8
# Seconds, and how people write so many.
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the time axis, or the beginning of a wave."""

    x: float
    label: str
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Paths: CIs on the new version (a line), CIs at risk and parallel downloads (areas)."""

    updated: str
    at_risk: str
    downloads: str
    ticks: list[Tick]
    waves: list[Tick]
    most_cis: int
    most_downloads: int


def chart_of(forecast: Forecast, *, targets: int, most_downloads: int) -> Chart | None:
    """The picture of a forecast; None without a time line. `most_downloads` is the scale of the load, so that two
    pictures can be compared.
    """
    points = forecast.run.points
    if not points or points[-1].at <= 0:
        return None
    end = points[-1].at
    xs = [_LEFT + (_RIGHT - _LEFT) * point.at / end for point in points]
    cis = max(targets, 1)
    opened = [wave for wave in forecast.run.waves if wave.opens <= end]
    return Chart(
        updated="M" + " L".join(_points(xs, [p.updated / cis for p in points], _CIS)),
        at_risk=_area(xs, [p.at_risk / cis for p in points], _CIS),
        downloads=_area(xs, _shares(points, most_downloads), _LOAD),
        ticks=_ticks(end),
        waves=[
            Tick(_round(_LEFT + (_RIGHT - _LEFT) * wave.opens / end), str(wave.number))
            for wave in (opened if len(opened) <= _MOST_WAVES else [])
        ],
        most_cis=targets,
        most_downloads=most_downloads,
    )


def _shares(points: Sequence[Point], most: int) -> list[float]:
    return [min(point.downloading / most, 1.0) if most else 0.0 for point in points]


def _round(value: float) -> float:
    return round(value, 1)


def _points(xs: Sequence[float], shares: Sequence[float], panel: tuple[float, float]) -> list[str]:
    top, bottom = panel
    return [f"{x:.1f} {bottom - (bottom - top) * share:.1f}" for x, share in zip(xs, shares, strict=True)]


def _area(xs: Sequence[float], shares: Sequence[float], panel: tuple[float, float]) -> str:
    """Steps that stand on the axis: what was so during each part."""
    top, bottom = panel
    parts = [f"M{xs[0]:.1f} {bottom:.1f}"]
    for x, following, share in zip(xs, [*xs[1:], xs[-1]], shares, strict=True):
        y = bottom - (bottom - top) * share
        parts.append(f"L{x:.1f} {y:.1f} L{following:.1f} {y:.1f}")
    return " ".join([*parts, f"L{xs[-1]:.1f} {bottom:.1f}Z"])


def _ticks(end: float) -> list[Tick]:
    step = next((step for step in _STEPS if end / step <= _MOST_TICKS), math.ceil(end / _MOST_TICKS / 86400) * 86400)
    return [
        Tick(_round(_LEFT + (_RIGHT - _LEFT) * second / end), _label(second), is_last=second > 0.9 * end)
        for second in range(0, int(end) + 1, step)
    ]


def _label(second: int) -> str:
    if not second:
        return "0"
    size, unit = next((size, unit) for size, unit in _UNITS if second % size == 0)
    return f"{second // size} {unit}"
