"""Celery's door to what the shared part does by itself."""

from celery import shared_task

from tickets import attachments, idempotency
from tickets.clock import database_now


@shared_task(ignore_result=True, time_limit=60, soft_time_limit=50)
def forget_expired_keys() -> None:
    """Deletes answers that nobody may ask for again."""
    idempotency.forget_expired_keys(now=database_now())


@shared_task(ignore_result=True, time_limit=60, soft_time_limit=50)
def forget_files() -> None:
    """Deletes files that were removed from tickets, and those whose comment never came."""
    attachments.forget_files(now=database_now())
