"""Celery's door to what incidents do by themselves."""

from celery import shared_task

from incidents import drift, services
from tickets.clock import database_now


@shared_task(ignore_result=True, time_limit=60, soft_time_limit=50)
def auto_close_incidents() -> None:
    """Closes what was resolved long enough ago."""
    services.auto_close_incidents(now=database_now())


@shared_task(ignore_result=True, time_limit=60, soft_time_limit=50)
def advance_drift_incidents() -> None:
    """The tick: opens incidents of drifts, and notes which drifts are over."""
    drift.advance_drift_incidents(now=database_now())
