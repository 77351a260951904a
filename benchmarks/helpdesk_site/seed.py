"""Fills django-helpdesk: `python -m benchmarks.helpdesk_site.seed TICKETS`; prints as JSON what the benchmark needs."""

import json
import sys
from datetime import timedelta

import django

CHUNK = 5_000
PEOPLE = 200


def seed(tickets: int) -> dict[str, object]:
    """Tickets with two entries each, as the portal's are seeded: a tenth is open, each has its person."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.sessions.backends.db import SessionStore
    from django.db import connection
    from django.utils import timezone
    from helpdesk.models import FollowUp, Queue, Ticket

    make = get_user_model().objects.create  # one by one: each gets django-helpdesk's settings of its own by a signal
    people = [
        make(username=f"desk-{n}", email=f"desk-{n}@helpdesk.invalid", is_staff=True, is_superuser=not n)
        for n in range(PEOPLE)
    ]
    queue = Queue.objects.create(title="Service desk", slug="desk", allow_public_submission=True)
    now = timezone.now()
    for first in range(0, tickets, CHUNK):
        rows = Ticket.objects.bulk_create(
            [
                Ticket(
                    title=f"The printer of floor {n % 40} does not answer ({n})",
                    queue=queue,
                    submitter_email=f"person-{n % 5000}@helpdesk.invalid",
                    assigned_to=people[n % PEOPLE],
                    status=Ticket.OPEN_STATUS if n % 10 == 0 else Ticket.CLOSED_STATUS,
                    description="Since this morning nothing is printed. The display shows E4711.",
                    priority=n % 5 + 1,
                )
                for n in range(first, min(first + CHUNK, tickets))
            ]
        )
        Ticket.objects.filter(pk__gte=rows[0].pk).update(created=now - timedelta(minutes=tickets - first))
        FollowUp.objects.bulk_create(
            [
                FollowUp(ticket=row, date=now, title=title, comment="We look at it.", public=True, user=row.assigned_to)
                for row in rows
                for title in ("Ticket Opened", "Comment")
            ]
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    store = SessionStore()
    store[SESSION_KEY] = str(people[0].pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = people[0].get_session_auth_hash()
    store.create()
    open_ones = Ticket.objects.filter(status=Ticket.OPEN_STATUS).order_by("-pk").values_list("pk", flat=True)[:200]
    cookie = f"{settings.SESSION_COOKIE_NAME}={store.session_key}"
    return {"cookie": cookie, "tickets": list(open_ones), "queue": queue.pk}


if __name__ == "__main__":
    django.setup()
    print(json.dumps(seed(int(sys.argv[1]))))
