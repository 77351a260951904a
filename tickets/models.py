"""What the four processes share: the abstract ticket, its timeline, priority and approvals."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import MinLengthValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from tickets.activities import Activity
from tickets.lifecycle import StatefulModel
from tickets.numbers import format_number


class Level(models.TextChoices):
    """Impact (how much is concerned) and urgency (how soon it hurts)."""

    HIGH = "high", _("high")
    MEDIUM = "medium", _("medium")
    LOW = "low", _("low")


class Priority(models.IntegerChoices):
    CRITICAL = 1, _("P1 critical")
    HIGH = 2, _("P2 high")
    MODERATE = 3, _("P3 moderate")
    LOW = 4, _("P4 low")
    PLANNING = 5, _("P5 planning")


class PriorityRule(models.Model):
    """One cell of the priority matrix; editable. A change re-prioritises open tickets only."""

    impact = models.CharField(_("impact"), max_length=6, choices=Level)
    urgency = models.CharField(_("urgency"), max_length=6, choices=Level)
    priority = models.PositiveSmallIntegerField(_("priority"), choices=Priority)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["impact", "urgency"], name="tickets_priority_cell_once")]
        verbose_name = _("priority rule")
        verbose_name_plural = _("priority matrix")

    def __str__(self) -> str:
        return f"{self.get_impact_display()} / {self.get_urgency_display()}: {self.get_priority_display()}"


class Ticket(StatefulModel):
    """A piece of work with a requester, a state and a timeline. Concrete: incident, problem, change, release.

    A subclass sets `PREFIX`, `WORKERS`, its own `state` with transitions, and an entry model whose `ticket` has
    `related_name="entries"`. `version` counts edits, for optimistic locking in forms.
    """

    PREFIX: ClassVar[str]
    # Rights of which one is enough to work on such tickets: to write notes, to add watchers.
    WORKERS: ClassVar[tuple[str, ...]] = ()

    title = models.CharField(_("title"), max_length=200, validators=[MinLengthValidator(3)])
    description = models.TextField(_("description"), blank=True, help_text=_("Markdown"))
    impact = models.CharField(_("impact"), max_length=6, choices=Level, default=Level.MEDIUM)
    urgency = models.CharField(_("urgency"), max_length=6, choices=Level, default=Level.MEDIUM)
    priority = models.PositiveSmallIntegerField(_("priority"), choices=Priority, default=Priority.MODERATE)
    activity = models.CharField(_("activity"), max_length=12, choices=Activity, default=Activity.REPAIR)
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="requested_%(class)ss", verbose_name=_("requester")
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        related_name="created_%(class)ss",
        verbose_name=_("created by"),
        null=True,
        blank=True,
        help_text=_("Empty when the portal itself opened it."),
    )
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        related_name="assigned_%(class)ss",
        verbose_name=_("assignee"),
        null=True,
        blank=True,
    )
    team = models.ForeignKey(
        "accounts.Team", models.PROTECT, related_name="%(class)ss", verbose_name=_("team"), null=True, blank=True
    )
    watchers = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="watched_%(class)ss", verbose_name=_("watchers"), blank=True
    )
    # Who did not want to watch any more: a mention tells them, and does not make them watch again.
    unfollowed = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="+", blank=True, editable=False)
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("updated"))
    version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        abstract = True

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return f"{self.number} {self.title}"


def union_of(querysets: Iterable[models.QuerySet[Any]]) -> models.QuerySet[Any]:
    """The keys of all of them, to filter by: each is found by its own index."""
    first, *others = (rows.order_by().values("pk") for rows in querysets)
    return first.union(*others)


class Attachment(models.Model):
    """A file that somebody sent to a ticket; what it is, its content says, never its name or its sender.

    It belongs to the one entry that names it, and is as internal as that. Before that it waits for its comment, for its
    sender only: a refused comment loses no file. What waits too long or was removed is deleted by the clean-up.
    """

    # Pictures that browsers show without running anything. Everything else is only ever saved.
    PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
    MOST_BYTES_SHOWN = 4 * 1024 * 1024

    name = models.CharField(max_length=120, help_text=_("As its sender called it, without folders and tricks."))
    file = models.CharField(max_length=100, unique=True, help_text=_("Where it lies in the storage: a random name."))
    size = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    content_type = models.CharField(max_length=64, blank=True)
    uploader = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    attached_at = models.DateTimeField(null=True, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        verbose_name = _("attachment")
        verbose_name_plural = _("attachments")
        indexes = [
            # For the clean-up, and for what still waits for its comment.
            models.Index(
                fields=["uploader", "created_at"], name="tickets_file_waits", condition=models.Q(attached_at=None)
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_picture(self) -> bool:
        """Whether pages show it small."""
        return self.content_type in self.PICTURES and self.size <= self.MOST_BYTES_SHOWN


class EntryKind(models.TextChoices):
    COMMENT = "comment", _("comment")
    NOTE = "note", _("internal note")
    STATE = "state", _("state change")
    LINK = "link", _("link")
    SYSTEM = "system", _("from the portal")


class TimelineEntry(models.Model):
    """One thing that happened to a ticket, in words. Never changed, never deleted.

    `key` makes an entry of the portal unique on its ticket: what writes it may run again.
    """

    kind = models.CharField(max_length=8, choices=EntryKind)
    is_public = models.BooleanField(default=True, help_text=_("Seen by the requester; internal notes are not."))
    text = models.TextField(blank=True)
    from_state = models.CharField(max_length=32, blank=True)
    to_state = models.CharField(max_length=32, blank=True)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField()
    key = models.CharField(max_length=120, blank=True)
    attachments = models.ManyToManyField("tickets.Attachment", related_name="+", blank=True)

    class Meta:
        abstract = True
        ordering = ["created_at", "id"]
        # Pages show the newest first, a part at a time; every kind of entry has a `ticket`.
        indexes = [models.Index(fields=["ticket", "-created_at", "-id"], name="%(class)s_newest")]

    def __str__(self) -> str:
        return f"{self.kind}: {self.text[:60]}"


class Decision(models.TextChoices):
    APPROVED = "approved", _("approved")
    REJECTED = "rejected", _("rejected")


class Approval(models.Model):
    """A person's decision on an exact content. It stands as long as the content's hash is the same."""

    approver = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    decision = models.CharField(max_length=8, choices=Decision)
    content_hash = models.CharField(max_length=64)
    comment = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        abstract = True
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return f"{self.decision} by {self.approver}"


class SavedView(models.Model):
    """A list as somebody wants it again: its filters, order and columns, as they stand in its address.

    `team` shares it with the team's members; only its owner changes it.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="saved_views")
    page = models.CharField(max_length=64, help_text=_("Name of the list's address."))
    name = models.CharField(_("name"), max_length=60)
    query = models.CharField(max_length=1000, blank=True)
    team = models.ForeignKey(
        "accounts.Team",
        models.CASCADE,
        related_name="saved_views",
        verbose_name=_("shared with"),
        null=True,
        blank=True,
    )

    class Meta:
        ordering = ["name", "id"]
        verbose_name = _("saved view")
        verbose_name_plural = _("saved views")
        constraints = [models.UniqueConstraint(fields=["owner", "page", "name"], name="tickets_view_name_once")]

    def __str__(self) -> str:
        return self.name


class IdempotencyKey(models.Model):
    """A key that a client of the API gave with a request, and what that request was answered.

    Written in the transaction of what the request did. Kept for `IDEMPOTENCY_HOURS`; nobody else's row is ever read.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text=_("SHA-256 of method, address, type and body."))
    status = models.PositiveSmallIntegerField(default=0)
    body = models.TextField(blank=True)
    is_secret = models.BooleanField(default=False, help_text=_("The answer held a secret and was not kept."))
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="tickets_idempotency_key_once")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.key}"
