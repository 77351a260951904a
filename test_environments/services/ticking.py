"""The tick: what has reported becomes ready, what is stuck ends in an error, what nobody uses ends."""

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.utils.translation import gettext as _

from accounts.language import portal_language
from test_environments.models import GoldenImage, TestEnvironment
from test_environments.services.environments import destroy_environment, fail_environment
from test_environments.services.images import expire_images, fail_image
from test_environments.services.leases import AT_REST, give_notice
from test_environments.services.log import log
from test_environments.services.receptions import expire_receptions
from tickets.exceptions import DomainError, TransitionRefused
from tickets.lifecycle import move

State = TestEnvironment.State

# The test host holds this advisory lock of the database as long as it lives ("TESTHOST").
HOST_LOCK = 0x5445_5354_484F_5354
# How long a request, or a destruction, waits for a test host.
HOST_DEADLINE = timedelta(minutes=10)
# How long the agent of a new copy may take for its first report; an emulated machine boots slowly.
REPORT_DEADLINE = timedelta(minutes=3)
MACHINE_REPORT_DEADLINE = timedelta(minutes=15)
# How long after its deadline a step may still come back by itself.
_GRACE = timedelta(minutes=1)
# How long a host that was killed may take to come back: the next one does its steps again.
COMES_BACK = timedelta(minutes=5)

_MOVING = (
    State.REQUESTED, State.CAPTURING, State.PROVISIONING, State.SNAPSHOTTING, State.REVERTING, State.DESTROYING,
)  # fmt: skip
_IMAGES_MOVING = (GoldenImage.State.APPROVED, GoldenImage.State.CAPTURING, GoldenImage.State.DELETING)


@portal_language()
def advance_test_environments(*, now: datetime) -> int:
    """One tick. Returns how many rows moved."""
    moved = 0
    for image in GoldenImage.objects.filter(state__in=_IMAGES_MOVING).order_by("pk"):
        why = _why_image_stuck(image, now=now)
        if why:
            try:
                fail_image(image, now=now, text=why)
                moved += 1
            except TransitionRefused:
                continue
    rows = TestEnvironment.objects.filter(state__in=_MOVING).select_related("copy", "image")
    for environment in rows.order_by("pk"):
        try:
            moved += _advance(environment, now=now)
        except TransitionRefused:
            continue
    moved += expire_receptions(now=now)
    return moved + give_notice(now=now) + end_leases(now=now) + expire_images(now=now)


def _advance(environment: TestEnvironment, *, now: datetime) -> bool:
    if has_reported(environment):
        with transaction.atomic():
            move(environment, "become_ready", actor=None, now=now)
            log(environment, _("Ready: its agent has reported."), now=now)
        return True
    image = environment.image
    waits = environment.state in {State.REQUESTED, State.CAPTURING}
    if waits and image is not None:
        if image.state == GoldenImage.State.ERROR:
            fail_environment(environment, now=now, text=image.last_error)
            return True
        if image.state in {GoldenImage.State.REQUESTED, GoldenImage.State.APPROVED}:
            return False  # a person takes as long as he takes; then the image's own clock runs
        if environment.state == State.REQUESTED:
            move(environment, "capture", actor=None, now=now)
            return True
        if image.state != GoldenImage.State.READY:
            return False
    why = why_stuck(environment, now=now)
    if why:
        fail_environment(environment, now=now, text=why)
    return bool(why)


def has_reported(environment: TestEnvironment) -> bool:
    """Whether the agent of a copy that was just made has told what it runs."""
    return (
        environment.state == State.PROVISIONING
        and environment.is_wanted_running
        and environment.copy is not None
        and environment.copy.attributes_at is not None
    )


def why_stuck(environment: TestEnvironment, *, now: datetime) -> str:
    """Why nothing more will happen by itself to an unfinished environment; empty while something may."""
    waited = now - environment.updated_at
    if environment.leased_until is not None:
        return _why_lease_lost(environment, now=now)
    if environment.is_wanted_running:
        is_machine = environment.image is not None and environment.image.kind != GoldenImage.Kind.FILES
        deadline = MACHINE_REPORT_DEADLINE if is_machine else REPORT_DEADLINE
        if waited <= deadline:
            return ""
        return _("The copy's agent has not reported within %(minutes)d minutes. Its log is in the copy's folder.") % {
            "minutes": deadline.total_seconds() // 60
        }
    return _why_no_host(waited)


def _why_image_stuck(image: GoldenImage, *, now: datetime) -> str:
    if image.leased_until is not None:
        return _why_lease_lost(image, now=now)
    return _why_no_host(now - image.updated_at)


def _why_lease_lost(row: TestEnvironment | GoldenImage, *, now: datetime) -> str:
    if row.task_deadline is not None and row.task_deadline + _GRACE < now:
        return _("The step “%(task)s” did not end in its time. Retry, or destroy.") % {"task": row.task}
    if row.leased_until is None or row.leased_until + COMES_BACK >= now:
        return ""
    return _("The test host stopped in the middle of its work. See that it runs, then retry.")


def _why_no_host(waited: timedelta) -> str:
    if waited <= HOST_DEADLINE or is_host_running():
        return ""
    return _("No test host runs (manage.py run_test_hosts). Start it, then retry.")


def end_leases(*, now: datetime) -> int:
    """Stops and destroys what nobody used or extended. Returns how many environments."""
    ended = 0
    rows = TestEnvironment.objects.filter(state__in=AT_REST)
    for environment in rows.filter(delete_at__lt=now).order_by("pk"):
        try:
            destroy_environment(environment, actor=None, now=now, why=_("Destroyed: its lease ended."))
            ended += 1
        except DomainError:
            continue
    for environment in rows.filter(stop_at__lt=now, delete_at__gte=now, is_wanted_running=True).order_by("pk"):
        with transaction.atomic():
            still = TestEnvironment.objects.filter(pk=environment.pk, state=environment.state, stop_at__lt=now)
            if still.update(is_wanted_running=False, updated_at=now):
                log(environment, _("Stopped: its lease for running ended."), now=now)
                ended += 1
    return ended


def is_host_running() -> bool:
    """Whether a test host is connected to this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid = %s::bigint::oid AND objid = %s::bigint::oid)",
            [HOST_LOCK >> 32, HOST_LOCK & 0xFFFF_FFFF],
        )
        row = cursor.fetchone()
    return bool(row and row[0])
