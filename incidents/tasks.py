"""Celery's door to what incidents do by themselves."""

from celery import shared_task

from incidents import services
from tickets.clock import database_now


@shared_task(ignore_result=True, time_limit=60, soft_time_limit=50)
def auto_close_incidents() -> None:
    """Closes what was resolved long enough ago."""
    services.auto_close_incidents(now=database_now())
