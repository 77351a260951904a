"""The tick of the mails."""

from celery import shared_task
from django.db import connection

from notifications import services


@shared_task(ignore_result=True, time_limit=60, soft_time_limit=50)
def send_notifications() -> None:
    """Sends the mails that are due."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    services.send_notifications(now=now)
