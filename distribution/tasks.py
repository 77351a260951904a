"""The push channel's tick, and its runs; see `distribution.channels.ansible`."""

from celery import shared_task
from django.conf import settings

from distribution.channels.ansible import claims
from distribution.channels.ansible.worker import push_once
from tickets.clock import database_now


@shared_task(ignore_result=True, time_limit=30, soft_time_limit=20)
def advance_push() -> None:
    """Ends lost runs and rings for new ones; a ring that nobody hears in time is void."""
    now = database_now()
    claims.advance_push(now=now)
    for _run in range(claims.wanted_runs(now=now)):
        run_push.apply_async(expires=float(settings.TICK_SECONDS))


@shared_task(ignore_result=True, time_limit=settings.PUSH_TIMEOUT_SECONDS + 300)
def run_push() -> None:
    """Claims a few hosts and carries out one run; when there is nothing to claim any more, it does nothing."""
    push_once()
