"""What pages of lower apps show of releases."""

from typing import Any

from django import template

from releases.models import TestRun
from tickets.clock import now_of

register = template.Library()


@register.inclusion_tag("releases/_soak_clock.html", takes_context=True)
def soak_clock(context: dict[str, Any], environment: Any) -> dict[str, Any]:
    """The tests that ran or run on a test environment, newest first, each with its problem-free period."""
    request = context["request"]
    now = now_of(request)
    runs = environment.test_runs.select_related("release")[:10]
    if not request.user.has_perm("releases.see_all_releases"):
        runs = runs.filter(pk__in=[])
    return {"runs": [(run, _seconds(run, now), _percent(run, now)) for run in runs]}


def _seconds(run: TestRun, now: Any) -> float:
    if run.state == TestRun.State.PASSED:
        return run.soak_seconds
    return run.soaked(now).total_seconds() if run.state == TestRun.State.SOAKING else run.soaked_seconds


def _percent(run: TestRun, now: Any) -> int:
    return min(100, int(_seconds(run, now) * 100 / run.soak_seconds)) if run.soak_seconds else 100
