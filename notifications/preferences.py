"""How people want their notices: read and written here, and followed by everything that sends."""

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time

from django.core import signing
from django.db import transaction

from accounts.models import User
from notifications.held import hours_of
from notifications.kinds import CHOSEN, MANDATORY, Kind, Mail, mails_of
from notifications.mail import UNSUBSCRIBE_MAX_AGE, UNSUBSCRIBE_SALT
from notifications.models import NoticeHours, NoticePreference, Outbox


@dataclass(frozen=True, slots=True)
class Choice:
    """How one kind of notice comes."""

    mail: str = Mail.NOW
    bell: bool = True


@dataclass(frozen=True, slots=True)
class Hours:
    """The person's hours; both ends of the quiet ones, or neither."""

    quiet_from: time | None = None
    quiet_until: time | None = None
    digest_at: time = time(8)
    digest_weekday: int = 0


def choices_of(person: User) -> dict[Kind, Choice]:
    """What the person chose for each kind."""
    chosen = {row.kind: Choice(row.mail, row.bell) for row in person.notice_preferences.all()}
    return {kind: chosen.get(kind, Choice()) for kind in CHOSEN}


def hours_chosen_by(person: User) -> Hours:
    """The hours of the person."""
    row = hours_of(person)
    return Hours(row.quiet_from, row.quiet_until, row.digest_at, row.digest_weekday)


def save_preferences(
    person: User, choices: Mapping[Kind, Choice], hours: Hours | None = None, *, now: datetime
) -> None:
    """Keeps choices and hours (None: as they were), also for what waits already; kinds that are not named stay.

    Raises `ValueError` for what nobody may choose: a mandatory kind without mail or bell, one end of quiet hours.
    """
    for kind, choice in choices.items():
        if choice.mail not in mails_of(kind) or (kind in MANDATORY and not choice.bell) or kind not in CHOSEN:
            raise ValueError(f"{kind} cannot come like this: {choice}")
    if hours is not None and (hours.quiet_from is None) != (hours.quiet_until is None):
        raise ValueError("Quiet hours have a beginning and an end.")
    with transaction.atomic():
        for kind, choice in choices.items():
            NoticePreference.objects.update_or_create(
                person=person, kind=kind, defaults={"mail": choice.mail, "bell": choice.bell}
            )
        if hours is not None:
            NoticeHours.objects.update_or_create(
                person=person,
                defaults={
                    "quiet_from": hours.quiet_from,
                    "quiet_until": hours.quiet_until,
                    "digest_at": hours.digest_at,
                    "digest_weekday": hours.digest_weekday,
                },
            )
        _apply_to_what_waits(person, choices, now)


def _apply_to_what_waits(person: User, choices: Mapping[Kind, Choice], now: datetime) -> None:
    """What is held is looked at anew; what is never to be mailed any more is not.

    What a worker has under way is left to it: who claims a mail asks for the choice.
    """
    waiting = Outbox.objects.filter(recipient=person)
    never = [kind for kind, choice in choices.items() if choice.mail == Mail.NEVER]
    unsent = waiting.filter(state__in=[Outbox.State.PENDING, Outbox.State.HELD], lease__isnull=True)
    unsent.filter(kind__in=never).update(state=Outbox.State.PORTAL_ONLY)
    waiting.filter(state=Outbox.State.HELD).update(next_attempt_at=now)


def read_unsubscribe_token(token: str) -> tuple[User, Kind] | None:
    """Whom and what such an address is about; None when it is not ours. Raises `SignatureExpired` for one too old."""
    try:
        key, kind = signing.loads(token, salt=UNSUBSCRIBE_SALT, max_age=UNSUBSCRIBE_MAX_AGE)
        person = User.objects.filter(pk=key, is_active=True).first()
        return (person, Kind(kind)) if person is not None and kind in CHOSEN and kind not in MANDATORY else None
    except signing.SignatureExpired:
        raise
    except (signing.BadSignature, ValueError, TypeError):
        return None


def switch_mail_off(person: User, kind: Kind, *, now: datetime) -> None:
    """No more mails of this kind; the portal goes on to show them."""
    bell = choices_of(person)[kind].bell
    save_preferences(person, {kind: Choice(Mail.NEVER, bell)}, now=now)


def save_time_zone(person: User, time_zone: str) -> None:
    """Keeps the zone (an IANA name) of the person's clock; raises `ValueError` for an unknown one."""
    try:
        zoneinfo.ZoneInfo(time_zone)
    except zoneinfo.ZoneInfoNotFoundError as error:
        raise ValueError(f"No such time zone: {time_zone}") from error
    User.objects.filter(pk=person.pk).update(time_zone=time_zone)
    person.time_zone = time_zone
