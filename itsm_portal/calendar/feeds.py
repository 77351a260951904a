"""Calendar feeds: a person's calendar behind an address that only he knows. Made, shown once, revoked, found again."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.models import CalendarFeed, User
from accounts.service_tokens import MAX_LENGTH, digest, new_secret
from itsm_portal.calendar.entries import KINDS
from tickets.exceptions import InvalidInput, PermissionRefused
from tickets.services import required, validate

# How many a person has at the same time.
MOST_FEEDS = 10
# `last_used_at` is written at most once in so long.
USED_STEP = timedelta(minutes=5)


def make_feed(
    *, actor: Any, now: datetime, name: str, kinds: Iterable[str], only_mine: bool = False
) -> tuple[CalendarFeed, str]:
    """A new feed of the actor's own and its secret, which is shown now or never. Refuses unknown kinds and too many,
    and service accounts: a token would get an address that outlives it and knows no scopes.
    """
    if actor.is_service_account:
        raise PermissionRefused(_("Feeds are for people. A service account reads the calendar with its token."))
    wanted = [kind for kind in KINDS if kind in set(kinds)]
    if not wanted or set(kinds) - set(KINDS):
        text = _("Choose what it shows: %(kinds)s.") % {"kinds": ", ".join(KINDS)}
        raise InvalidInput(text, field="kinds")
    text, sha256 = new_secret()
    feed = CalendarFeed(
        user=actor, name=required(name, "name", _("Say what it is for.")), sha256=sha256, kinds=wanted,
        only_mine=only_mine, created_at=now,
    )  # fmt: skip
    validate(feed, exclude=())
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).only("pk").get(pk=actor.pk)
        if CalendarFeed.objects.filter(user=actor, revoked_at=None).count() >= MOST_FEEDS:
            raise InvalidInput(_("You have %(most)d feeds. Revoke one that you do not use.") % {"most": MOST_FEEDS})
        feed.save(force_insert=True)
    return feed, text


def revoke_feed(feed: CalendarFeed, *, actor: Any, now: datetime) -> None:
    """Ends a feed at once; only its owner finds it. One that has ended stays as it is."""
    CalendarFeed.objects.filter(pk=feed.pk, user=actor, revoked_at=None).update(revoked_at=now)


def feed_address(secret: str) -> str:
    """The whole address of a feed, as other programs take it."""
    return f"{settings.PORTAL_URL}{reverse('calendar_feed', args=[secret])}"


def feed_of(secret: str, *, now: datetime) -> CalendarFeed | None:
    """The feed with this secret, if it is not revoked and its owner is active. Found by the digest, like a token."""
    if len(secret) > MAX_LENGTH:
        return None
    rows = CalendarFeed.objects.select_related("user").filter(revoked_at=None)
    rows = rows.filter(user__is_active=True, user__is_service_account=False)
    feed = rows.filter(sha256=digest(secret)).first()
    if feed is not None:
        unused = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_STEP)
        CalendarFeed.objects.filter(unused, pk=feed.pk).update(last_used_at=now)
    return feed
