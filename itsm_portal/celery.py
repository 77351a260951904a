"""Celery is the clock and the muscle: beat ticks, a worker calls services. It remembers nothing."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "itsm_portal.settings")
app = Celery("itsm_portal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
