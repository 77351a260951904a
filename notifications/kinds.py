"""What a notice is about: people choose for each kind how they get it."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Kind(models.TextChoices):
    """In the order of the page of preferences."""

    ANSWER = "answer", _("My answer or my decision is waited for")
    ASSIGNED = "assigned", _("Work is assigned to me")
    FIX = "fix", _("My fix is installed, or was taken back")
    WORKAROUND = "workaround", _("There is a workaround for my incident")
    PROGRESS = "progress", _("My tickets go on: reported, approved, scheduled, resolved, reopened")
    COMMENT = "comment", _("Comments on tickets that concern me")
    MAJOR = "major", _("A major incident is declared")
    ROLLOUT = "rollout", _("A rollout of mine stands still or needs a person")
    ENVIRONMENT = "environment", _("The time of my test environment ends")
    OPERATIONS = "operations", _("Something is wrong with the portal or with software in its library")
    DIGEST = "digest", _("Digest")


# Nobody chooses how digests come: they are what was chosen.
CHOSEN = tuple(kind for kind in Kind if kind is not Kind.DIGEST)
# These do not wait for the end of quiet hours.
URGENT = frozenset({Kind.MAJOR, Kind.ROLLOUT, Kind.OPERATIONS})
# Without these something stands still: the bell always shows them, and they always come by mail, at the latest in a
# digest.
MANDATORY = frozenset({Kind.ANSWER, Kind.ROLLOUT, Kind.OPERATIONS})


class Mail(models.TextChoices):
    """When the mail of a notice goes out."""

    NOW = "now", _("at once")
    DAILY = "daily", _("in a daily digest")
    WEEKLY = "weekly", _("in a weekly digest")
    NEVER = "never", _("never")


def mails_of(kind: str) -> list[Mail]:
    """What may be chosen for a kind."""
    return [mail for mail in Mail if mail is not Mail.NEVER or kind not in MANDATORY]
