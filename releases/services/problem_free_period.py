"""The problem-free period of a test: it accrues only while the copy runs, is heard and is well.

It begins anew after an incident on the copy, and after the package was applied anew; what was before is kept.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from distribution import health
from distribution.models import Deployment, HealthCheck
from releases.models import TestPeriod, TestRun
from test_environments.models import TestEnvironment
from tickets.models import EntryKind
from tickets.services import record

# Agents are asked to poll much more often; shorter gaps are no sign of anything. Seconds.
LEAST_SILENCE = 300
# How often a copy is asked whether it is well: some twenty times in a period. Seconds.
LEAST_PAUSE, LONGEST_PAUSE = 5, 300
ANSWER_SECONDS = 60

_OFF = frozenset({TestEnvironment.Power.OFF, TestEnvironment.Power.PAUSED, TestEnvironment.Power.CRASHED})


def begun(now: datetime | None) -> dict[str, Any]:
    """The fields of a run whose period begins now, or (None) is to begin once the package is on the copy."""
    return {"soak_started_at": now, "soaked_seconds": 0, "soak_paused_at": None, "soak_pause_reason": ""}


def keep_period(run: TestRun, *, now: datetime, why: str) -> None:
    """Writes down what the present period came to, because it begins anew."""
    TestPeriod.objects.create(
        run=run, batch=run.batch, seconds=int(run.soaked(now).total_seconds()), ended_at=now, why=why[:500]
    )


def pause_or_go_on(run: TestRun, now: datetime) -> bool:
    """Stops the clock of a copy that does not run, is not heard or is not well, and starts it again; if that changed.

    Asks for the copy's health when that is due.
    """
    assert run.soak_started_at is not None
    why = _why_not(run, now)
    _ask_for_health(run, now)
    if bool(why) == bool(run.soak_paused_at):
        return False
    if why:
        until = max(run.soak_started_at, min(_known_well(run) or now, now))
        soaked = run.soaked_seconds + int((until - run.soak_started_at).total_seconds())
        change = {"soak_paused_at": now, "soak_pause_reason": why[:255], "soaked_seconds": soaked}
        text = _("The problem-free period stands still: %s") % why
    else:
        change = {"soak_paused_at": None, "soak_pause_reason": "", "soak_started_at": now}
        text = _("The copy runs and is heard again: the problem-free period goes on.")
    TestRun.objects.filter(pk=run.pk).update(**change, updated_at=now)
    record(run.release, kind=EntryKind.SYSTEM, actor=None, now=now, text=text, public=False)
    return True


def _why_not(run: TestRun, now: datetime) -> str:
    """Why the time does not count now; empty when the copy runs, was heard not long ago and is well."""
    environment = run.environment
    if not environment.is_wanted_running or (environment.observed_at and environment.observed_power in _OFF):
        return _("the copy does not run.")
    checks = _checks(run)
    last = checks.exclude(outcome__in=["", HealthCheck.Outcome.INCONCLUSIVE]).order_by("-pk").first()
    if last is not None and last.outcome == HealthCheck.Outcome.FAIL:
        return _("its health check fails: %s") % (last.detail or last.outcome)
    heard = environment.copy.last_seen_at if environment.copy else None
    silence = timedelta(seconds=max(LEAST_SILENCE, 3 * settings.DDI_POLL_SECONDS))
    if heard is not None and now - heard > silence:
        return _("its agent has not been heard for %(minutes)d minutes.") % {
            "minutes": (now - heard).total_seconds() // 60
        }
    if run.soak_paused_at is not None:
        since = max(run.soak_paused_at, environment.observed_at or run.soak_paused_at)
        is_heard = heard is not None and heard > since
        if not is_heard and not checks.filter(outcome=HealthCheck.Outcome.PASS, answered_at__gt=since).exists():
            return run.soak_pause_reason
    return ""


def _known_well(run: TestRun) -> datetime | None:
    """Until when the copy is known to have been well: the time after that does not count. None: nobody ever said."""
    copy = run.environment.copy
    heard = copy.last_seen_at if copy else None
    answers = _checks(run).exclude(outcome__in=["", HealthCheck.Outcome.INCONCLUSIVE]).order_by("-pk")
    last = answers.first()
    if last is None:
        return heard
    if last.outcome == HealthCheck.Outcome.PASS:
        return max(heard, last.answered_at) if heard and last.answered_at else heard or last.answered_at
    well = answers.filter(outcome=HealthCheck.Outcome.PASS).first()
    return well.answered_at if well is not None else run.soak_started_at


def _ask_for_health(run: TestRun, now: datetime) -> None:
    """By its agent, the checks of the packages themselves; one that knows no such question does not answer."""
    assert run.soak_started_at is not None
    every = timedelta(seconds=min(LONGEST_PAUSE, max(LEAST_PAUSE, run.soak_seconds // 20)))
    if now - run.soak_started_at < every or not run.environment.is_wanted_running:
        return
    if _checks(run).filter(asked_at__gt=now - every).exists():
        return
    deployment = Deployment.objects.filter(batch=run.batch_id).order_by("-attempt").first()
    if deployment is not None:
        health.ask(deployment, now=now, due_at=now + timedelta(seconds=ANSWER_SECONDS))


def _checks(run: TestRun) -> Any:
    return HealthCheck.objects.filter(deployment__batch=run.batch_id)
