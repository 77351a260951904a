"""The tick of the test environments."""

from celery import shared_task

from test_environments import services
from tickets.clock import database_now


@shared_task
def advance_test_environments() -> None:
    """Moves what has reported or is stuck. Copies themselves are made by the test host."""
    services.advance_test_environments(now=database_now())
