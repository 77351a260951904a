"""Celery's door to the rollout engine."""

from celery import shared_task

from releases import executor, probing, retention, self_check
from software.uploads import sweep_uploads
from tickets.clock import database_now


@shared_task(ignore_result=True, time_limit=30, soft_time_limit=20)
def advance_rollouts() -> None:
    """The ticks. Missed or repeated, they do no harm: the rows know what is to be done."""
    executor.run_ticks(now=database_now())


@shared_task(ignore_result=True, time_limit=150, soft_time_limit=140)
def take_probe_samples() -> None:
    """Asks the probes of soaking waves that are due, outside of any transaction; the tick decides on the answers."""
    probing.take_samples()


@shared_task(ignore_result=True, time_limit=60, soft_time_limit=50)
def sweep_library() -> None:
    """Removes abandoned uploads, and files of versions that nothing needs."""
    now = database_now()
    sweep_uploads(now=now)
    retention.sweep(now=now)


@shared_task(ignore_result=True, time_limit=900, soft_time_limit=870)
def check_itself() -> None:
    """Looks for broken invariants when it is time for it."""
    self_check.check_when_due(now=database_now())
