"""Messages to people: written with the change that causes them, sent later by the tick."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


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

    event = models.CharField(max_length=120)
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="notices")
    thread = models.CharField(max_length=32)
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

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("outbox")
        constraints = [
            models.UniqueConstraint(fields=["event", "recipient", "thread"], name="notifications_outbox_once")
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], name="notifications_due", condition=models.Q(state="pending")),
            models.Index(fields=["recipient", "-created_at"], name="notifications_bell"),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.recipient_id} in {self.thread}"
