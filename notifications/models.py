"""Messages to people: written with the change that causes them, sent later by the tick, as each wants them."""

from datetime import time

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from notifications.kinds import Kind, Mail


class OutboxQuerySet(models.QuerySet["Outbox"]):
    def shown_to(self, person: object) -> "OutboxQuerySet":
        """A person's notices; a digest only repeats some of them."""
        return self.filter(recipient=person).exclude(kind=Kind.DIGEST)


class Outbox(models.Model):
    """One message of one event to one person in one thread; the same event never writes it twice.

    `event` (`rollout:17:completed`) and `thread` (a ticket's number or `CI-0000012`) are plain text: this app knows
    no ticket. The text is complete; sending adds only headers. The row is the person's notice in the portal, too.
    """

    class State(models.TextChoices):
        PENDING = "pending", _("waiting")
        SENT = "sent", _("sent")
        DEAD = "dead", _("given up")
        PORTAL_ONLY = "portal_only", _("only in the portal")
        HELD = "held", _("waits for its time")
        BUNDLED = "bundled", _("in a digest")
        WITHDRAWN = "withdrawn", _("withdrawn")

    event = models.CharField(max_length=120)
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="notices")
    thread = models.CharField(max_length=32)
    kind = models.CharField(max_length=11, choices=Kind, default=Kind.PROGRESS, db_default=Kind.PROGRESS.value)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    html = models.TextField(blank=True)
    path = models.CharField(max_length=200, blank=True, help_text=_("Page of the portal that it is about."))
    state = models.CharField(max_length=11, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    lease = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    read_at = models.DateTimeField(null=True, blank=True)
    digest = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        db_index=False,
        related_name="bundled",
        help_text=_("The digest that it is in."),
    )

    objects = OutboxQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("outbox")
        constraints = [
            models.UniqueConstraint(fields=["event", "recipient", "thread"], name="notifications_outbox_once")
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], name="notifications_due", condition=Q(state="pending")),
            models.Index(fields=["next_attempt_at"], name="notifications_held", condition=Q(state="held")),
            models.Index(fields=["digest"], name="notifications_bundled", condition=Q(digest__isnull=False)),
            models.Index(fields=["recipient", "-created_at"], name="notifications_bell"),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.recipient_id} in {self.thread}"


class NoticePreference(models.Model):
    """How a person wants one kind of notice; without a row: in the bell, and by mail at once."""

    person = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notice_preferences")
    kind = models.CharField(max_length=11, choices=Kind)
    mail = models.CharField(max_length=6, choices=Mail, default=Mail.NOW)
    bell = models.BooleanField(default=True, help_text=_("The bell counts it until it is read."))

    class Meta:
        verbose_name = _("preference for notices")
        verbose_name_plural = _("preferences for notices")
        constraints = [models.UniqueConstraint(fields=["person", "kind"], name="notifications_preference_once")]

    def __str__(self) -> str:
        return f"{self.person_id}: {self.kind}"


class NoticeHours(models.Model):
    """When a person gets mails, on his own clock: quiet hours, and the time of his digests."""

    person = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="notice_hours"
    )
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)
    digest_at = models.TimeField(default=time(8))
    digest_weekday = models.PositiveSmallIntegerField(default=0, help_text=_("Of weekly ones; Monday is 0."))

    class Meta:
        verbose_name = _("hours of notices")
        verbose_name_plural = _("hours of notices")
        constraints = [
            models.CheckConstraint(
                condition=Q(quiet_from__isnull=True, quiet_until__isnull=True)
                | Q(quiet_from__isnull=False, quiet_until__isnull=False),
                name="notifications_quiet_has_both_ends",
            ),
            models.CheckConstraint(condition=Q(digest_weekday__lte=6), name="notifications_weekday_exists"),
        ]

    def __str__(self) -> str:
        return f"{self.person_id}"
