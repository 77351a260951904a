"""The test environment: a copy of a production CI in which a package is tried."""

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


class EnvironmentQuerySet(models.QuerySet["TestEnvironment"]):
    def unfinished(self) -> "EnvironmentQuerySet":
        return self.exclude(state=TestEnvironment.State.DESTROYED)

    def visible_to(self, user: Any) -> "EnvironmentQuerySet":
        if user.has_perm("test_environments.see_environments"):
            return self
        return self.none()


@pghistory.track(
    exclude=[
        "uuid",
        "observed_pid",
        "observed_at",
        "observed_power",
        "updated_at",
        "lease",
        "leased_until",
        "task",
        "task_started_at",
        "task_deadline",
        "revert_to",
        "stop_at",
        "delete_at",
        "stop_noticed_at",
        "delete_noticed_at",
        "isolation",
        "neutralised",
    ],
    model_name="TestEnvironmentHistory",
)
class TestEnvironment(StatefulModel):
    """A copy of one production CI with an agent identity of its own.

    requested: wanted · capturing: the source is read · provisioning: the copy is being made and started ·
    ready: its agent has reported · applying: a package is on its way to it · snapshotting: off, its state is being
    kept · reverting: going back to a kept state · destroying, destroyed · error: remembers where it came from; offers
    retry and destroy. What is wanted (`is_wanted_running`) and what was observed (`observed_power`) are apart: a ready
    environment whose lease for running ended is off.
    """

    __test__ = False  # not a test case, whatever its name

    class State(models.TextChoices):
        REQUESTED = "requested", _("requested")
        CAPTURING = "capturing", _("capturing")
        PROVISIONING = "provisioning", _("provisioning")
        READY = "ready", _("ready")
        APPLYING = "applying", _("applying a package")
        SNAPSHOTTING = "snapshotting", _("taking a snapshot")
        REVERTING = "reverting", _("reverting")
        DESTROYING = "destroying", _("being destroyed")
        DESTROYED = "destroyed", _("destroyed")
        ERROR = "error", _("error")

    class Evidence(models.TextChoices):
        """How much a test in it proves, least first; only a start of the driver sets it."""

        FILE_COPY = "file_copy", _("file copy")
        EMULATED = "emulated", _("emulated machine")
        ACCELERATED = "accelerated", _("accelerated machine")

    class Power(models.TextChoices):
        ABSENT = "absent", _("not there")
        OFF = "off", _("off")
        STARTING = "starting", _("starting")
        RUNNING = "running", _("running")
        PAUSED = "paused", _("paused")
        CRASHED = "crashed", _("crashed")
        UNKNOWN = "unknown", _("unknown")

    class Clone(models.TextChoices):
        LINKED = "linked", _("linked to its image")
        FULL = "full", _("full copy")

    class Network(models.TextChoices):
        HOST = "host", _("the network of the test host")
        ISOLATED = "isolated", _("isolated: the portal and allowed endpoints only")
        NONE = "none", _("none")

    PREFIX = "ENV"
    # On its way to another state; the others wait for a person.
    UNDER_WAY = frozenset(State) - {State.READY, State.DESTROYED, State.ERROR}

    source = models.ForeignKey("cmdb.ConfigurationItem", models.PROTECT, related_name="test_environments")
    copy = models.OneToOneField(
        "cmdb.ConfigurationItem", models.PROTECT, null=True, blank=True, related_name="environment"
    )
    # What drivers and hypervisors know the environment by.
    uuid = models.UUIDField(db_default=RandomUUID(), unique=True, editable=False)
    image = models.ForeignKey(GoldenImage, models.PROTECT, null=True, blank=True, related_name="environments")
    driver = models.CharField(max_length=20, default="file_copy")
    clone = models.CharField(max_length=10, choices=Clone, default=Clone.FULL)
    network = models.CharField(max_length=10, choices=Network, default=Network.HOST)
    allowed_endpoints = models.JSONField(default=list, blank=True, help_text=_("host:port, beside the portal."))
    endpoints_reason = models.CharField(
        max_length=255, blank=True, help_text=_("Why it may reach endpoints that are production CIs.")
    )
    memory_mb = models.PositiveIntegerField(default=0, help_text=_("0: the driver's own measure."))
    processors = models.PositiveSmallIntegerField(default=0)
    disk_growth_mb = models.PositiveIntegerField(default=0, help_text=_("How much more than its image it may write."))
    # Empty until a start has shown it.
    evidence = models.CharField(max_length=20, choices=Evidence, blank=True, default="")
    accelerator = models.CharField(max_length=10, blank=True)
    isolation = models.JSONField(default=dict, blank=True, help_text=_("What a probe inside found it can reach."))
    neutralised = models.JSONField(default=list, blank=True, help_text=_("What was taken out before it ran."))
    state = StateField(default=State.REQUESTED, choices=State)
    error_from = models.CharField(max_length=32, blank=True)
    last_error = models.TextField(blank=True)
    # What the row wants and what the host process observed, apart.
    is_wanted_running = models.BooleanField(default=False)
    observed_power = models.CharField(max_length=10, choices=Power, default=Power.ABSENT)
    observed_pid = models.PositiveIntegerField(null=True, blank=True)
    observed_at = models.DateTimeField(null=True, blank=True)
    versions = models.JSONField(
        default=dict,
        blank=True,
        help_text=_("Product and version that the copy runs instead of the source's own."),
    )
    baseline = models.JSONField(
        default=dict, blank=True, help_text=_("Product and version that the source ran when it was captured.")
    )
    lease = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    # Written before the driver is called.
    task = models.CharField(max_length=20, blank=True)
    task_started_at = models.DateTimeField(null=True, blank=True)
    task_deadline = models.DateTimeField(null=True, blank=True)
    revert_to = models.UUIDField(null=True, blank=True, help_text=_("The snapshot to go back to; none: its image."))
    # The two leases of the people: then it is stopped, then it is destroyed. Use renews them.
    stop_at = models.DateTimeField(null=True, blank=True)
    delete_at = models.DateTimeField(null=True, blank=True)
    stop_noticed_at = models.DateTimeField(null=True, blank=True)
    delete_noticed_at = models.DateTimeField(null=True, blank=True)
    purpose = models.CharField(max_length=64, blank=True, help_text=_("Who asked, in plain text: REL-0000002."))
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="test_environments"
    )
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    destroyed_at = models.DateTimeField(null=True, blank=True)

    objects = EnvironmentQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("test environment")
        verbose_name_plural = _("test environments")
        permissions = [
            ("see_environments", "Can see test environments"),
            ("manage_environments", "Can create and destroy test environments"),
        ]
        constraints = [
            models.CheckConstraint(
                name="environment_leases_in_order",
                condition=Q(stop_at__isnull=True) | Q(delete_at__isnull=True) | Q(delete_at__gte=models.F("stop_at")),
            )
        ]

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.number

    @property
    def beside(self) -> "models.QuerySet[TestEnvironment]":
        """All environments of its image that are not destroyed, itself included: to compare versions."""
        return TestEnvironment.objects.unfinished().filter(image_id=self.image_id).order_by("pk")

    @property
    def is_usable(self) -> bool:
        """Whether a package can be applied to it."""
        return self.state == self.State.READY and self.is_wanted_running

    @property
    def is_changing(self) -> bool:
        """Whether something about it may change soon without a person: not while its image waits for one."""
        if self.task:
            return True
        if self.state == self.State.REQUESTED:
            return self.image is None or self.image.state != GoldenImage.State.REQUESTED
        if self.state == self.State.READY:
            settled = {self.Power.RUNNING} if self.is_wanted_running else {self.Power.OFF, self.Power.ABSENT}
            return self.observed_power not in settled
        return self.state in self.UNDER_WAY

    @transition("state", State.REQUESTED, State.CAPTURING, custom={"label": _("Capture"), "system": True})
    def capture(self) -> None:
        """The host process has taken the request."""

    @transition("state", State.CAPTURING, State.PROVISIONING, custom={"label": _("Provision"), "system": True})
    def provision(self) -> None:
        """The source was read; the copy is made and its agent started."""

    @transition("state", State.PROVISIONING, State.READY, custom={"label": _("Ready"), "system": True})
    def become_ready(self) -> None:
        """The copy's agent has reported what it runs."""

    @transition("state", State.READY, State.APPLYING, custom={"label": _("Apply"), "system": True})
    def apply(self) -> None:
        """A package is on its way to the copy."""

    @transition("state", State.APPLYING, State.READY, custom={"label": _("Applied"), "system": True})
    def applied(self) -> None:
        """The package was installed or refused; the copy is free again."""

    @transition(
        "state",
        State.READY,
        State.SNAPSHOTTING,
        permission="test_environments.manage_environments",
        custom={"label": _("Take a snapshot")},
    )
    def snapshot(self) -> None:
        """It is stopped, its state is kept under a name, and it runs again."""

    @transition(
        "state",
        [State.READY, State.ERROR],
        State.REVERTING,
        permission="test_environments.manage_environments",
        custom={"label": _("Revert")},
    )
    def revert(self) -> None:
        """Everything since a snapshot, or since it was made, is discarded; it gets a new identity and runs again."""

    @transition(
        "state",
        [State.SNAPSHOTTING, State.REVERTING],
        State.PROVISIONING,
        custom={"label": _("Start again"), "system": True},
    )
    def start_again(self) -> None:
        """The state was kept or brought back; its agent is to report anew."""

    @transition(
        "state",
        [
            State.REQUESTED,
            State.CAPTURING,
            State.PROVISIONING,
            State.READY,
            State.APPLYING,
            State.SNAPSHOTTING,
            State.REVERTING,
            State.DESTROYING,
        ],
        State.ERROR,
        custom={"label": _("Error"), "system": True},
    )
    def fail(self) -> None:
        """A step failed; `error_from` and `last_error` say which and why."""

    @transition(
        "state",
        State.ERROR,
        State.REQUESTED,
        permission="test_environments.manage_environments",
        custom={"label": _("Retry"), "style": "primary"},
    )
    def retry(self) -> None:
        """Begins again from its image."""

    @transition(
        "state",
        [
            State.REQUESTED,
            State.CAPTURING,
            State.PROVISIONING,
            State.READY,
            State.APPLYING,
            State.SNAPSHOTTING,
            State.REVERTING,
            State.ERROR,
        ],
        State.DESTROYING,
        permission="test_environments.manage_environments",
        custom={"label": _("Destroy"), "style": "danger"},
    )
    def destroy(self) -> None:
        """The copy and its agent go; the record stays."""

    @transition("state", State.DESTROYING, State.DESTROYED, custom={"label": _("Destroyed"), "system": True})
    def finish_destroying(self) -> None:
        """Nothing is left on the host."""
