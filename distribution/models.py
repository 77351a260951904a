"""The software distribution system: batches of deployments, one deployment per CI. It knows no release."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Batch(models.Model):
    """A set of deployments that are offered together while `is_open`; who asked stands in `label` as plain
    text.
    """

    class Purpose(models.TextChoices):
        FORWARD = "forward", _("rollout")
        ROLLBACK = "rollback", _("rollback")
        TEST = "test", _("test")

    class Mode(models.TextChoices):
        FORCED = "forced", _("forced")
        SOFT = "soft", _("soft: the device may choose when")
        DOWNLOAD_ONLY = "download_only", _("download only")

    label = models.CharField(max_length=64, help_text=_("For example ROL-0000003."))
    purpose = models.CharField(max_length=8, choices=Purpose)
    is_open = models.BooleanField(default=False)
    weight = models.PositiveSmallIntegerField(default=500, help_text=_("Higher goes first on a CI."))
    mode = models.CharField(max_length=13, choices=Mode, default=Mode.FORCED)
    force_after = models.PositiveIntegerField(
        null=True, blank=True, help_text=_("Seconds after the opening when soft becomes forced; empty: never.")
    )
    ignores_windows = models.BooleanField(
        default=False, help_text=_("Offered also outside the CIs' maintenance windows.")
    )
    max_in_flight = models.PositiveIntegerField(null=True, blank=True)
    max_downloads = models.PositiveIntegerField(
        null=True, blank=True, help_text=_("CIs that may fetch files at the same time; empty: any number.")
    )
    # Seconds; empty: no deadline. Passing one marks the deployment overdue, it does not end it.
    offer_deadline = models.PositiveIntegerField(null=True, blank=True)
    progress_deadline = models.PositiveIntegerField(null=True, blank=True)
    confirm_deadline = models.PositiveIntegerField(null=True, blank=True)
    total_deadline = models.PositiveIntegerField(
        null=True, blank=True, help_text=_("Seconds from its opening until a CI has to be done, whatever it does.")
    )
    cancel_deadline = models.PositiveIntegerField(
        null=True, blank=True, help_text=_("Seconds until a cancellation is closed without its device; empty: never.")
    )
    versions = ArrayField(
        models.BigIntegerField(),
        null=True,
        blank=True,
        help_text=_("Every version that its deployments bring, written with them; empty: nobody knows."),
    )
    cancel_mark = models.BigIntegerField(
        null=True, blank=True, help_text=_("Id of the last CI whose deployment was cancelled; empty: nothing more is.")
    )
    cancel_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    opened_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("batch")
        verbose_name_plural = _("batches")

    def __str__(self) -> str:
        return f"{self.label} ({self.purpose})"

    def mode_at(self, now: datetime) -> str:
        """Forced, soft or download only; soft becomes forced some time after the opening."""
        return mode_at(self.mode, self.force_after, self.opened_at, now)


def mode_at(mode: str, force_after: int | None, opened_at: datetime | None, now: datetime) -> str:
    """`Batch.mode_at` for a caller that has only the columns."""
    if mode != Batch.Mode.SOFT or force_after is None or opened_at is None:
        return mode
    return Batch.Mode.FORCED if now >= opened_at + timedelta(seconds=force_after) else mode


class DeploymentState(models.TextChoices):
    QUEUED = "queued", _("waiting")
    OFFERED = "offered", _("offered")
    DOWNLOADING = "downloading", _("downloading")
    INSTALLING = "installing", _("installing")
    CONFIRMING = "confirming", _("confirming")
    CANCELLING = "cancelling", _("being cancelled")
    UNKNOWN = "unknown", _("unknown")
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")
    SUPERSEDED = "superseded", _("superseded")
    EXCLUDED = "excluded", _("excluded")
    SKIPPED = "skipped", _("already there")


WAITING = (DeploymentState.QUEUED,)
LIVE = (
    DeploymentState.OFFERED,
    DeploymentState.DOWNLOADING,
    DeploymentState.INSTALLING,
    DeploymentState.CONFIRMING,
    DeploymentState.CANCELLING,
    DeploymentState.UNKNOWN,
)
TERMINAL = (
    DeploymentState.SUCCEEDED,
    DeploymentState.FAILED,
    DeploymentState.CANCELLED,
    DeploymentState.SUPERSEDED,
    DeploymentState.EXCLUDED,
    DeploymentState.SKIPPED,
)
OPEN = WAITING + LIVE

# The legal steps of a deployment. A step to itself is a report without a change of state.
LEGAL_STEPS: dict[str, frozenset[str]] = {
    "queued": frozenset({"offered", "succeeded", "cancelled", "superseded", "excluded", "skipped", "failed"}),
    "offered": frozenset(
        {
            "downloading",
            "installing",
            "confirming",
            "cancelling",
            "cancelled",
            "unknown",
            "succeeded",
            "failed",
            "excluded",
        }
    ),
    "downloading": frozenset({"installing", "confirming", "cancelling", "cancelled", "unknown", "succeeded", "failed"}),
    "installing": frozenset({"confirming", "cancelling", "cancelled", "unknown", "succeeded", "failed"}),
    "confirming": frozenset({"succeeded", "failed", "unknown"}),
    "cancelling": frozenset({"cancelled", "offered", "downloading", "installing", "confirming", "succeeded", "failed"}),
    "unknown": frozenset({"offered", "downloading", "installing", "confirming", "succeeded", "failed", "cancelled"}),
}


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    def open(self) -> "DeploymentQuerySet":
        return self.filter(state__in=OPEN)

    def live(self) -> "DeploymentQuerySet":
        return self.filter(state__in=LIVE)

    def visible_to(self, user: Any) -> "DeploymentQuerySet":
        """Deployments on CIs that the person may see."""
        if user.has_perm("cmdb.see_all_cis"):
            return self
        return self.filter(ci__owner=user)


class Deployment(models.Model):
    """The package on its way to one CI: what the device calls its action. A retry is a new row, attempt + 1.

    `overdue_at` is not a state: an overdue deployment counts in the verdict and stays open for catch-up.
    Moved only by conditional set-based UPDATEs, each with its `DeploymentEvent`.
    """

    # Devices read the id into a C int, so it stays within 32 bits.
    id = models.AutoField(primary_key=True)
    # Both without an index of their own: others begin with them, and each is written with every step.
    batch = models.ForeignKey(Batch, models.PROTECT, related_name="deployments", db_index=False)
    ci = models.ForeignKey("cmdb.ConfigurationItem", models.PROTECT, related_name="deployments", db_index=False)
    attempt = models.PositiveSmallIntegerField(default=1)
    state = models.CharField(max_length=11, choices=DeploymentState, default=DeploymentState.QUEUED)
    state_before_cancel = models.CharField(max_length=11, blank=True)
    weight = models.PositiveSmallIntegerField(default=500)
    created_at = models.DateTimeField()
    offered_at = models.DateTimeField(null=True, blank=True)
    moved_at = models.DateTimeField(help_text=_("When the state changed last."))
    reported_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True, help_text=_("When the device closed the action."))
    finished_at = models.DateTimeField(null=True, blank=True)
    overdue_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True, help_text=_("A further attempt waits until then."))
    error_code = models.CharField(max_length=64, blank=True)
    message = models.CharField(max_length=512, blank=True)
    reports = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=200, blank=True, help_text=_("Why it was excluded or cancelled."))

    objects = DeploymentQuerySet.as_manager()

    # What it consists of, where that was read together with it (`distribution.packages`).
    items_read: list[Any] | None = None
    # Whether nothing stood against its offer when it was read; None: not looked at (`distribution.offers`).
    is_free: bool | None = None

    class Meta:
        verbose_name = _("deployment")
        verbose_name_plural = _("deployments")
        constraints = [
            models.UniqueConstraint(fields=["batch", "ci", "attempt"], name="distribution_attempt_once"),
            models.UniqueConstraint(
                fields=["ci"],
                name="distribution_one_live_per_ci",
                condition=Q(state__in=[s.value for s in LIVE]),
            ),
            models.CheckConstraint(
                condition=Q(state__in=DeploymentState.values), name="distribution_deployment_state_known"
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True) ^ Q(state__in=[s.value for s in TERMINAL]),
                name="distribution_finished_means_terminal",
            ),
        ]
        indexes = [
            models.Index(
                fields=["ci", "-weight", "id"],
                name="distribution_open_of_ci",
                condition=Q(state__in=[s.value for s in OPEN]),
            ),
            # Counts, and what has stood in its state for so long.
            models.Index(fields=["batch", "state", "moved_at"], name="distribution_batch_state_since"),
            # They are few: what failed on a CI is not offered to it again.
            models.Index(fields=["ci", "finished_at"], name="distribution_failed", condition=Q(state="failed")),
            models.Index(fields=["finished_at"], name="distribution_failed_since", condition=Q(state="failed")),
            # Few, too: what a count has to look at beside the index.
            models.Index(fields=["batch"], name="distribution_further_attempt", condition=Q(attempt__gt=1)),
            models.Index(
                fields=["batch", "state"],
                name="distribution_overdue",
                condition=Q(overdue_at__isnull=False, finished_at__isnull=True),
            ),
            models.Index(fields=["ci", "-id"], name="distribution_of_ci"),
        ]

    def __str__(self) -> str:
        return f"deployment {self.pk} to {self.ci_id}: {self.state}"


class WayBack(models.TextChoices):
    """How a CI leaves a version again."""

    REINSTALL = "reinstall", _("the version of before is installed again")
    SCRIPT = "script", _("the package undoes what it did, then the version of before is installed again")
    SNAPSHOT = "snapshot", _("what the device kept before is put back, with its data of then")
    IMPOSSIBLE = "impossible", _("there is none")


class DeploymentItem(models.Model):
    """One product within a deployment: to which version, and from which (empty: fresh install; to empty:
    removal).

    `from_version` is what the CI ran when it was queued, and again what it reported when it was offered.
    """

    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="items")
    product = models.ForeignKey("software.Product", models.PROTECT, related_name="+")
    to_version = models.ForeignKey(
        "software.Version", models.PROTECT, null=True, blank=True, related_name="deployments"
    )
    from_version = models.ForeignKey("software.Version", models.PROTECT, null=True, blank=True, related_name="+")
    way_back = models.CharField(max_length=10, choices=WayBack, default=WayBack.REINSTALL, db_default="reinstall")
    position = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["deployment", "product"], name="distribution_item_once"),
            models.CheckConstraint(
                condition=Q(to_version__isnull=False) | Q(from_version__isnull=False),
                name="distribution_item_not_empty",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.product_id}: {self.from_version_id} → {self.to_version_id}"


class DeploymentEvent(models.Model):
    """One step or report of a deployment; append-only, in the order of its id. The history that verdicts are
    checked by.
    """

    class Kind(models.TextChoices):
        CREATED = "created", _("created")
        OFFERED = "offered", _("offered")
        REPORT = "report", _("report of the device")
        CANCEL_REPORT = "cancel_report", _("answer to a cancel")
        ATTRIBUTES = "attributes", _("attributes of the device")
        DOWNLOAD = "download", _("download")
        PUSH = "push", _("push run")
        ENGINE = "engine", _("by the portal")

    # Without an index of its own: the one on (deployment, id) serves it.
    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="events", db_index=False)
    kind = models.CharField(max_length=13, choices=Kind)
    from_state = models.CharField(max_length=11, blank=True)
    to_state = models.CharField(max_length=11)
    at = models.DateTimeField()
    execution = models.CharField(max_length=16, blank=True)
    result = models.CharField(max_length=16, blank=True)
    details = models.JSONField(default=list, blank=True)
    fingerprint = models.CharField(
        max_length=32,
        blank=True,
        db_default="",
        help_text=_("Of the report's body: a repetition has the same."),
    )
    is_duplicate = models.BooleanField(default=False)

    class Meta:
        ordering = ["id"]
        verbose_name = _("deployment event")
        verbose_name_plural = _("deployment events")
        indexes = [models.Index(fields=["deployment", "id"], name="distribution_event_of")]

    def __str__(self) -> str:
        return f"{self.deployment_id}: {self.from_state} → {self.to_state}"


class HealthCheck(models.Model):
    """A question to a CI: is what this deployment brought well? Answered once; `inconclusive` when its time is over."""

    class Outcome(models.TextChoices):
        PASS = "pass", _("pass")
        FAIL = "fail", _("fail")
        INCONCLUSIVE = "inconclusive", _("inconclusive")

    ci = models.ForeignKey("cmdb.ConfigurationItem", models.PROTECT, related_name="health_checks", db_index=False)
    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="health_checks")
    asked_at = models.DateTimeField()
    due_at = models.DateTimeField()
    outcome = models.CharField(max_length=12, choices=Outcome, blank=True)
    detail = models.CharField(max_length=200, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("health check")
        verbose_name_plural = _("health checks")
        constraints = [
            models.UniqueConstraint(fields=["ci"], name="distribution_one_open_check", condition=Q(outcome=""))
        ]
        indexes = [models.Index(fields=["due_at"], name="distribution_check_due", condition=Q(outcome=""))]

    def __str__(self) -> str:
        return f"health of {self.ci_id}: {self.outcome or 'asked'}"


# The models of a channel live in its folder.
from distribution.channels.ansible.models import PushRun, PushTarget  # noqa: E402

__all__ = [
    "LEGAL_STEPS",
    "LIVE",
    "OPEN",
    "TERMINAL",
    "WAITING",
    "Batch",
    "Deployment",
    "DeploymentEvent",
    "DeploymentItem",
    "DeploymentState",
    "HealthCheck",
    "PushRun",
    "PushTarget",
    "WayBack",
]
