"""Rollouts that start by themselves: at a time that a person chose, or as soon as every gate is open."""

import hashlib
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import translation
from django.utils.translation import gettext as _

from accounts import language
from accounts.models import User
from notifications.kinds import Kind
from notifications.services import notify
from releases.models import Release
from releases.services.approval import has_valid_approval
from releases.services.content import lock_release
from releases.services.rollouts import START, start_rollout
from releases.windows import STAMP
from tickets.exceptions import DomainError, InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.models import Decision, EntryKind
from tickets.services import record

# How many ordered releases one tick starts at most.
STARTS_PER_TICK = 20
# A start that could not happen for so long does not happen in the middle of something else.
LATEST = timedelta(hours=1)
FARTHEST = timedelta(days=366)


def schedule_start(release: Release, *, actor: User, now: datetime, start_at: datetime) -> None:
    """Starts the release's plan at that time, in the name of the one who orders it, if every gate is open then.

    Ordered again, the new time counts. What cannot start within an hour of its time starts no more.
    """
    check_permission(actor, START, _("start a rollout"))
    with transaction.atomic():
        release = lock_release(release)
        check_schedule(release, actor=actor)
        if start_at <= now:
            raise InvalidInput(_("This time has passed. Start it now, or choose a later time."), field="start_at")
        if start_at > now + FARTHEST:
            raise InvalidInput(_("At most a year ahead."), field="start_at")
        if (release.start_at, release.start_for_id) == (start_at, actor.pk):
            return
        Release.objects.filter(pk=release.pk).update(start_at=start_at, start_for=actor, updated_at=now)
        text = language.gettext("The rollout is to start on %s.") % start_at.strftime(STAMP)
        record(release, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text)
    release.refresh_from_db()


def check_schedule(release: Release, *, actor: User) -> None:
    """Refuses unless the release is ready; its approval and the other gates are asked when it starts."""
    check_permission(actor, START, _("start a rollout"))
    if release.state != Release.State.READY:
        raise TransitionRefused(
            _("%(number)s is “%(state)s”; a rollout starts from ready.")
            % {"number": release.number, "state": release.get_state_display()}
        )


def cancel_start(release: Release, *, actor: User, now: datetime) -> None:
    """Takes the order back: the release does not start by itself. One person is enough."""
    check_permission(actor, "releases.pause_rollout", _("cancel a scheduled start"))
    with transaction.atomic():
        release = lock_release(release)
        if _forget(release, now):
            text = language.gettext("It does not start by itself any more.")
            record(release, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text)
    release.refresh_from_db()


def _forget(release: Release, now: datetime) -> bool:
    ordered = Release.objects.filter(pk=release.pk, start_for__isnull=False)
    return bool(ordered.update(start_at=None, start_for=None, updated_at=now))


def start_ordered(*, now: datetime) -> int:
    """Starts ordered releases whose time has come and that are ready and approved, each in the name of its orderer;
    how many started.

    What `start_rollout` refuses stays ordered; the reason is written on the release once. In any order, so that those
    which are refused again and again leave room for the others.
    """
    is_due = Q(start_at__isnull=True) | Q(start_at__lte=now)
    is_ordered = Q(state=Release.State.READY, start_for__isnull=False, approvals__decision=Decision.APPROVED)
    ordered = Release.objects.filter(is_due, is_ordered).order_by().distinct().values("pk")
    keys = Release.objects.filter(pk__in=ordered).order_by("?").values_list("pk", flat=True)
    started = 0
    for key in list(keys[:STARTS_PER_TICK]):
        with transaction.atomic():
            release = Release.objects.select_for_update(skip_locked=True, of=("self",)).filter(is_due, pk=key).first()
            if release is None or not has_valid_approval(release) or release.start_for is None:
                continue
            try:
                with transaction.atomic():
                    start_rollout(release, actor=release.start_for, now=now)
                    started += 1
            except DomainError as refusal:
                said = hashlib.sha256(refusal.message.encode()).hexdigest()[:16]
                text = _("It was ordered but does not start: %(why)s") % {"why": refusal.message}
                record(release, kind=EntryKind.SYSTEM, actor=None, now=now, text=text, key=f"order:{said}")
    return started + _give_up(now)


def _give_up(now: datetime) -> int:
    """Takes back the orders whose time has long passed, and tells who gave them; how many."""
    late = Release.objects.filter(start_at__lt=now - LATEST, start_for__isnull=False)
    given_up = 0
    for key in list(late.values_list("pk", flat=True)[:STARTS_PER_TICK]):
        with transaction.atomic():
            release = late.select_for_update(skip_locked=True, of=("self",)).filter(pk=key).first()
            if release is None or release.start_for is None or release.start_at is None:
                continue
            person, start_at = release.start_for, release.start_at
            given_up += _forget(release, now)
            record(release, kind=EntryKind.SYSTEM, actor=None, now=now, text=_missed(start_at))
            with translation.override(person.language):
                text = _missed(start_at)
            notify(
                event=f"release:{release.pk}:missed:{int(start_at.timestamp())}",
                recipient=person,
                thread=release.number,
                subject=release.title,
                text=text,
                now=now,
                path=f"/releases/{release.number}/",
                kind=Kind.ROLLOUT,
            )
    return given_up


def _missed(start_at: datetime) -> str:
    when = start_at.strftime(STAMP)
    return _("It did not start at its time, %s, and does not start by itself any more.") % when
