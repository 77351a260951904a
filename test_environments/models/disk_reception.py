"""The reception of a disk: a physical machine sends it, or a person uploads a file; it becomes a golden image."""

from typing import Any

import pghistory
from django.conf import settings
from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from test_environments.models.golden_image import GoldenImage
from tickets.lifecycle import StateField, StatefulModel
from tickets.numbers import format_number

MANAGE = "test_environments.manage_environments"


class DiskReceptionQuerySet(models.QuerySet["DiskReception"]):
    def expected(self) -> "DiskReceptionQuerySet":
        """Those whose disk may still arrive."""
        return self.filter(state__in=DiskReception.EXPECTED)

    def unfinished(self) -> "DiskReceptionQuerySet":
        """Those of which something may still be on the test host."""
        return self.filter(cleared_at__isnull=True)

    def visible_to(self, user: Any) -> "DiskReceptionQuerySet":
        if user.has_perm("test_environments.see_environments"):
            return self
        return self.none()


@pghistory.track(
    exclude=["updated_at", "received_bytes", "token_sha256", "sender"],
    model_name="DiskReceptionHistory",
)
class DiskReception(StatefulModel):
    """A disk of a production CI on its way to the test host.

    requested: the test host is to make a capture medium and to listen · waiting: for the machine, or for the file ·
    receiving: bytes arrive · checking: the file is complete, the test host looks at it · arrived: its golden image is
    asked for and waits for its approval; nothing has opened the disk yet · done: the image holds it, what had arrived
    is gone · revoked, expired, error: ended before it arrived; nothing is kept.
    """

    class State(models.TextChoices):
        REQUESTED = "requested", _("being prepared")
        WAITING = "waiting", _("waiting for the disk")
        RECEIVING = "receiving", _("receiving")
        CHECKING = "checking", _("being checked")
        ARRIVED = "arrived", _("arrived")
        DONE = "done", _("done")
        REVOKED = "revoked", _("revoked")
        EXPIRED = "expired", _("expired")
        ERROR = "error", _("error")

    class Method(models.TextChoices):
        MEDIUM = "medium", _("capture medium on the physical machine")
        UPLOAD = "upload", _("upload of a disk image")

    class Format(models.TextChoices):
        RAW = "raw", _("raw")
        QCOW2 = "qcow2", "qcow2"
        VMDK = "vmdk", "vmdk"
        VHDX = "vhdx", "vhdx"

    PREFIX = "DSK"
    EXPECTED = (State.REQUESTED, State.WAITING, State.RECEIVING)

    # Under which the test host keeps it.
    uuid = models.UUIDField(db_default=RandomUUID(), unique=True, editable=False)
    ci = models.ForeignKey("cmdb.ConfigurationItem", models.PROTECT, related_name="disk_receptions")
    method = models.CharField(max_length=10, choices=Method)
    format = models.CharField(max_length=10, choices=Format, default=Format.RAW)
    conversion = models.CharField(max_length=10, choices=GoldenImage.Conversion, default=GoldenImage.Conversion.KEEP)
    state = StateField(default=State.REQUESTED, choices=State)
    reason = models.CharField(max_length=255, help_text=_("What the copy is needed for; who approves it reads it."))
    # Of the secret that the medium carries; its text was shown once.
    token_sha256 = models.CharField(max_length=64, blank=True)
    expires_at = models.DateTimeField()
    # Where the test host listens, and how the machine comes into the network (empty: DHCP, its only disk).
    port = models.PositiveIntegerField(null=True, blank=True)
    machine_address = models.CharField(max_length=18, blank=True)
    gateway = models.CharField(max_length=15, blank=True)
    disk = models.CharField(max_length=32, blank=True)
    medium_bytes = models.PositiveBigIntegerField(default=0, help_text=_("0: it is not made yet."))
    # How far it is.
    size = models.PositiveBigIntegerField(default=0)
    received_bytes = models.PositiveBigIntegerField(default=0)
    sender = models.CharField(max_length=45, blank=True)
    inventory = models.JSONField(default=dict, blank=True)
    expected_sha256 = models.CharField(max_length=64, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    last_error = models.TextField(blank=True)
    image = models.OneToOneField(GoldenImage, models.PROTECT, null=True, blank=True, related_name="reception")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="disk_receptions")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    arrived_at = models.DateTimeField(null=True, blank=True)
    cleared_at = models.DateTimeField(null=True, blank=True, help_text=_("Nothing of it is left beside its image."))

    objects = DiskReceptionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("disk")
        verbose_name_plural = _("disks")
        constraints = [
            models.UniqueConstraint(
                fields=["ci"],
                name="disk_one_expected_per_ci",
                condition=Q(state__in=["requested", "waiting", "receiving", "checking"]),
            ),
            models.UniqueConstraint(
                fields=["port"],
                name="disk_one_expected_per_port",
                condition=Q(cleared_at__isnull=True, arrived_at__isnull=True),
            ),
            models.CheckConstraint(
                name="disk_arrived_with_checksum",
                condition=~Q(state__in=["arrived", "done"]) | (~Q(sha256="") & Q(image__isnull=False)),
            ),
        ]

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.number

    @property
    def percent(self) -> int:
        """How much of the announced size has arrived."""
        return self.received_bytes * 100 // self.size if self.size else 0

    @transition("state", State.REQUESTED, State.WAITING, custom={"label": _("Prepared"), "system": True})
    def wait(self) -> None:
        """The medium is made and the test host listens, or the upload may begin."""

    @transition("state", State.WAITING, State.RECEIVING, custom={"label": _("Receive"), "system": True})
    def receive(self) -> None:
        """The first bytes have arrived."""

    @transition("state", State.RECEIVING, State.WAITING, custom={"label": _("Wait again"), "system": True})
    def wait_again(self) -> None:
        """The line broke; the machine may send once more."""

    @transition("state", State.RECEIVING, State.CHECKING, custom={"label": _("Check"), "system": True})
    def check_file(self) -> None:
        """All bytes of an upload are there; the test host looks at them."""

    @transition(
        "state",
        [State.WAITING, State.RECEIVING, State.CHECKING],
        State.ARRIVED,
        custom={"label": _("Arrived"), "system": True},
    )
    def arrive(self) -> None:
        """The disk is complete and has its checksum; its golden image is asked for."""

    @transition("state", State.ARRIVED, State.DONE, custom={"label": _("Done"), "system": True})
    def finish(self) -> None:
        """Its image was taken, or will never be: what had arrived is deleted."""

    @transition(
        "state",
        [State.REQUESTED, State.WAITING, State.RECEIVING, State.CHECKING],
        State.REVOKED,
        permission=MANAGE,
        custom={"label": _("Revoke"), "style": "danger"},
    )
    def revoke(self) -> None:
        """Its token is worth nothing any more, what has arrived goes."""

    @transition(
        "state",
        [State.REQUESTED, State.WAITING, State.RECEIVING],
        State.EXPIRED,
        custom={"label": _("Expired"), "system": True},
    )
    def expire(self) -> None:
        """The disk did not arrive in time."""

    @transition(
        "state",
        [State.REQUESTED, State.WAITING, State.RECEIVING, State.CHECKING],
        State.ERROR,
        custom={"label": _("Error"), "system": True},
    )
    def fail(self) -> None:
        """It was refused, or could not be prepared; `last_error` says why. Order a new one."""
