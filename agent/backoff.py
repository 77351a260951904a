"""How long to wait before another try."""

import random


def backoff(failures: int, first: float, ceiling: float) -> float:
    """Seconds to wait after that many failures in a row: doubling from ``first``, with jitter downwards."""
    return min(ceiling, first * 2.0 ** min(failures - 1, 20)) * jitter(0.5, 1.0)


def jitter(low: float, high: float) -> float:
    """A factor that spreads many agents over time; it needs no secrecy."""
    return random.uniform(low, high)  # noqa: S311
