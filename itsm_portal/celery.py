"""Celery is the clock and the muscle: beat ticks, a worker calls services. It remembers nothing."""

import os
import time
from typing import Any

from celery import Celery
from celery.signals import heartbeat_sent, task_postrun, task_prerun

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "itsm_portal.settings")
app = Celery("itsm_portal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@heartbeat_sent.connect
def _worker_lives(sender: Any = None, **_kwargs: Any) -> None:
    from itsm_portal import heartbeats

    heartbeats.beat(heartbeats.WORKER, sender.eventer.hostname)


@task_prerun.connect
def _task_begins(task: Any = None, **_kwargs: Any) -> None:
    task.request.began = time.monotonic()


@task_postrun.connect
def _task_ended(task: Any = None, **_kwargs: Any) -> None:
    from itsm_portal import heartbeats

    began = getattr(task.request, "began", None)
    heartbeats.beat(heartbeats.TICK, task.name, None if began is None else time.monotonic() - began)
