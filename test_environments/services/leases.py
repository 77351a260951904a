"""The two leases of an environment: when it is stopped, when it is destroyed. Use renews them."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import override

from accounts import language
from notifications.kinds import Kind
from notifications.services import notify
from test_environments.models import TestEnvironment
from test_environments.services.log import log
from tickets.lifecycle import check_permission

# An environment in these states is in nobody's way: an apply is never cut off by a lease.
AT_REST = (TestEnvironment.State.READY, TestEnvironment.State.ERROR)


def first_leases(now: datetime) -> dict[str, Any]:
    """The leases of an environment that is used now, as fields to write."""
    return {
        "stop_at": now + timedelta(hours=settings.TEST_ENVIRONMENT_RUN_HOURS),
        "delete_at": now + timedelta(hours=settings.TEST_ENVIRONMENT_KEEP_HOURS),
        "stop_noticed_at": None,
        "delete_noticed_at": None,
    }


def renew_by_use(environment: TestEnvironment, *, now: datetime) -> bool:
    """Begins both leases anew because somebody, or the test gate, works with it; writes in their second half only."""
    half = timedelta(hours=settings.TEST_ENVIRONMENT_RUN_HOURS) / 2
    if environment.stop_at is not None and environment.stop_at - now > half:
        return False
    return bool(TestEnvironment.objects.filter(pk=environment.pk).update(**first_leases(now)))


def extend_environment(environment: TestEnvironment, *, actor: Any, now: datetime) -> None:
    """Begins both leases anew. Refuses without the right, and when it is destroyed."""
    check_permission(actor, "test_environments.manage_environments", _("extend a test environment"))
    with transaction.atomic():
        rows = TestEnvironment.objects.unfinished().filter(pk=environment.pk)
        if rows.exclude(state=TestEnvironment.State.DESTROYING).update(**first_leases(now)):
            log(environment, language.gettext("The leases begin anew."), now=now, actor=actor)


def give_notice(*, now: datetime) -> int:
    """Tells who asked for an environment, once, that a lease is about to end. Returns how many notices."""
    told = 0
    rows = TestEnvironment.objects.filter(state__in=AT_REST).select_related("requested_by", "source")
    for what, field, hours in (
        ("stop", "stop", settings.TEST_ENVIRONMENT_RUN_HOURS),
        ("delete", "delete", settings.TEST_ENVIRONMENT_KEEP_HOURS),
    ):
        before = min(timedelta(hours=24), timedelta(hours=hours) / 4)
        due = rows.filter(**{f"{field}_at__lte": now + before, f"{field}_noticed_at__isnull": True})
        if what == "stop":
            due = due.filter(is_wanted_running=True)
        for environment in due.order_by("pk"):
            with transaction.atomic():
                told += _notify(environment, what, getattr(environment, f"{field}_at"), now)
                TestEnvironment.objects.filter(pk=environment.pk).update(**{f"{field}_noticed_at": now})
    return told


def _notify(environment: TestEnvironment, what: str, ends_at: datetime, now: datetime) -> int:
    person = environment.requested_by
    if person is None:
        return 0
    with override(getattr(person, "language", None) or None):
        values = {
            "number": environment.number,
            "source": environment.source.name,
            "at": f"{ends_at:%Y-%m-%d %H:%M} UTC",
        }
        if what == "stop":
            subject = _("%(number)s will be stopped at %(at)s") % values
        else:
            subject = _("%(number)s will be destroyed at %(at)s") % values
        text = (
            _(
                "Your copy of %(source)s is not in use: it will be stopped at %(at)s, and destroyed later. Open it and"
                " choose “Extend” to keep it."
            )
            if what == "stop"
            else _("Your copy of %(source)s will be destroyed at %(at)s. Open it and choose “Extend” to keep it.")
        ) % values
    return int(
        notify(
            event=f"environment:{environment.pk}:{what}:{ends_at:%Y%m%d%H%M}",
            recipient=person,
            thread=environment.number,
            subject=subject,
            text=text,
            now=now,
            path=f"/environments/{environment.number}/",
            kind=Kind.ENVIRONMENT,
        )
    )
