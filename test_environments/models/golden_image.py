"""The golden image: what a production CI was when it was captured; never changed, the base of its clones."""

from typing import Any

import pghistory
from django.conf import settings
from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from tickets.lifecycle import StateField, StatefulModel
from tickets.numbers import format_number


class GoldenImageQuerySet(models.QuerySet["GoldenImage"]):
    def unfinished(self) -> "GoldenImageQuerySet":
        return self.exclude(state=GoldenImage.State.DELETED)

    def usable(self) -> "GoldenImageQuerySet":
        """Images of which a clone may be asked for: taken, or on their way."""
        return self.filter(state__in=GoldenImage.USABLE)

    def visible_to(self, user: Any) -> "GoldenImageQuerySet":
        if user.has_perm("test_environments.see_environments"):
            return self
        return self.none()


@pghistory.track(
    exclude=["uuid", "updated_at", "lease", "leased_until", "task", "task_started_at", "task_deadline"],
    model_name="GoldenImageHistory",
)
class GoldenImage(StatefulModel):
    """A copy of a production CI as it was captured. It holds what production held, so each needs an approval.

    requested: waits for the approval · approved: waits for the test host · capturing: the source is read · ready: may
    be cloned, and is never changed · deleting, deleted: only without a clone · error: offers retry and delete.
    """

    class State(models.TextChoices):
        REQUESTED = "requested", _("waits for approval")
        APPROVED = "approved", _("approved")
        CAPTURING = "capturing", _("being captured")
        READY = "ready", _("ready")
        DELETING = "deleting", _("being deleted")
        DELETED = "deleted", _("deleted")
        ERROR = "error", _("error")

    class Kind(models.TextChoices):
        FILES = "files", _("files of a CI")
        VM = "vm", _("virtual machine")
        PHYSICAL = "physical", _("physical machine")

    class Consistency(models.TextChoices):
        COLD = "cold", _("cold: nothing wrote")
        FROZEN = "frozen", _("file systems frozen")
        CRASH = "crash", _("as after a power failure")

    class Conversion(models.TextChoices):
        KEEP = "keep", _("keeps its own drivers")
        VIRT_V2V = "virt_v2v", _("adapted by virt-v2v")

    class Classification(models.TextChoices):
        PUBLIC = "public", _("public")
        INTERNAL = "internal", _("internal")
        CONFIDENTIAL = "confidential", _("confidential")
        PERSONAL = "personal", _("personal data")

    class Approval(models.TextChoices):
        PERSON = "person", _("by a person, for this copy")
        STANDING = "standing", _("standing: by the administrator who released the source")

    PREFIX = "IMG"
    USABLE = (State.REQUESTED, State.APPROVED, State.CAPTURING, State.READY)

    uuid = models.UUIDField(db_default=RandomUUID(), unique=True, editable=False)
    source = models.ForeignKey("cmdb.ConfigurationItem", models.PROTECT, related_name="golden_images")
    source_snapshot = models.JSONField(
        default=dict, blank=True, help_text=_("The CI in the CMDB when it was captured.")
    )
    driver = models.CharField(max_length=20)
    kind = models.CharField(max_length=10, choices=Kind)
    method = models.CharField(max_length=10)
    location = models.CharField(max_length=255)
    consistency = models.CharField(max_length=10, choices=Consistency)
    conversion = models.CharField(max_length=10, choices=Conversion, default=Conversion.KEEP)
    state = StateField(default=State.REQUESTED, choices=State)
    last_error = models.TextField(blank=True)
    error_from = models.CharField(max_length=32, blank=True)
    reason = models.CharField(max_length=255, blank=True, help_text=_("What the copy is needed for."))
    classification = models.CharField(max_length=20, choices=Classification)
    approval = models.CharField(max_length=10, choices=Approval, blank=True)
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    approved_at = models.DateTimeField(null=True, blank=True)
    format = models.CharField(max_length=10, blank=True)
    expected_sha256 = models.CharField(max_length=64, blank=True)
    source_sha256 = models.CharField(max_length=64, blank=True)
    image_sha256 = models.CharField(max_length=64, blank=True)
    source_bytes = models.PositiveBigIntegerField(default=0)
    image_bytes = models.PositiveBigIntegerField(default=0)
    baseline = models.JSONField(default=dict, blank=True)
    versions = models.JSONField(default=dict, blank=True)
    inventory = models.JSONField(default=dict, blank=True)
    # Masking: what, by which recipes, when; empty without.
    masked = models.JSONField(default=list, blank=True)
    masked_with = models.CharField(max_length=255, blank=True)
    masked_at = models.DateTimeField(null=True, blank=True)
    is_kept = models.BooleanField(default=True, help_text=_("Stays without a clone, until its time is over."))
    retain_until = models.DateTimeField(null=True, blank=True)
    references = models.PositiveIntegerField(default=0, help_text=_("Environments that are not destroyed."))
    lease = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    task = models.CharField(max_length=20, blank=True)
    task_started_at = models.DateTimeField(null=True, blank=True)
    task_deadline = models.DateTimeField(null=True, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="golden_images"
    )
    created_at = models.DateTimeField()
    captured_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = GoldenImageQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("golden image")
        verbose_name_plural = _("golden images")
        permissions = [("approve_copies", "Can approve copies of production CIs")]
        constraints = [
            models.CheckConstraint(
                name="image_never_deleted_while_a_clone_lives",
                condition=Q(references=0) | ~Q(state__in=["deleting", "deleted"]),
            ),
            models.CheckConstraint(
                name="image_captured_only_with_approval",
                condition=~Q(approval="") | Q(state__in=["requested", "deleting", "deleted"]),
            ),
            models.CheckConstraint(
                name="image_has_an_approver",
                condition=~Q(approval="person") | Q(approved_by__isnull=False, approved_at__isnull=False),
            ),
            models.CheckConstraint(
                name="image_ready_with_checksums",
                condition=~Q(state="ready") | (~Q(source_sha256="") & ~Q(image_sha256="")),
            ),
        ]

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.number

    @transition(
        "state",
        State.REQUESTED,
        State.APPROVED,
        permission="test_environments.approve_copies",
        custom={"label": _("Approve"), "style": "primary"},
    )
    def approve(self) -> None:
        """Somebody else than who asked allows this copy of production."""

    @transition("state", State.APPROVED, State.CAPTURING, custom={"label": _("Capture"), "system": True})
    def capture(self) -> None:
        """The test host reads the source."""

    @transition("state", State.CAPTURING, State.READY, custom={"label": _("Captured"), "system": True})
    def become_ready(self) -> None:
        """It is complete, its checksums are known."""

    @transition(
        "state",
        [State.APPROVED, State.CAPTURING, State.READY, State.DELETING],
        State.ERROR,
        custom={"label": _("Error"), "system": True},
    )
    def fail(self) -> None:
        """A step failed; `error_from` and `last_error` say which and why."""

    @transition(
        "state",
        State.ERROR,
        State.APPROVED,
        permission="test_environments.manage_environments",
        custom={"label": _("Retry"), "style": "primary"},
    )
    def retry(self) -> None:
        """Captures again; the approval stays."""

    @transition(
        "state",
        [State.REQUESTED, State.APPROVED, State.CAPTURING, State.READY, State.ERROR],
        State.DELETING,
        permission="test_environments.manage_environments",
        custom={"label": _("Delete"), "style": "danger"},
    )
    def delete_files(self) -> None:
        """What was captured goes; the record stays. Refused while a clone lives."""

    @transition("state", State.DELETING, State.DELETED, custom={"label": _("Deleted"), "system": True})
    def finish_deleting(self) -> None:
        """Nothing of it is left on the host."""
