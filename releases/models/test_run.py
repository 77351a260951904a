"""The test run: the gate between a built package and its targets."""

from datetime import datetime, timedelta

import pghistory
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from releases.models.release import Release
from test_environments.models import TestEnvironment
from tickets.lifecycle import StateField, StatefulModel


@pghistory.track(exclude=["updated_at"], model_name="TestRunHistory")
class TestRun(StatefulModel):
    """One try of a package on a copy of a production CI; it owns the soak clock.

    preparing: the copy is being made · applying: the package is on its way to the copy · soaking: the problem-free
    period runs; an incident on the copy, or the package applied again, begins it anew · passed · failed · voided: the
    package was edited.
    """

    __test__ = False

    class State(models.TextChoices):
        PREPARING = "preparing", _("preparing")
        APPLYING = "applying", _("applying")
        SOAKING = "soaking", _("soaking")
        PASSED = "passed", _("passed")
        FAILED = "failed", _("failed")
        VOIDED = "voided", _("voided")

    CURRENT = (State.PREPARING, State.APPLYING, State.SOAKING, State.PASSED)

    release = models.ForeignKey(Release, models.PROTECT, related_name="test_runs")
    environment = models.ForeignKey("test_environments.TestEnvironment", models.PROTECT, related_name="test_runs")
    batch = models.OneToOneField("distribution.Batch", models.PROTECT, null=True, blank=True, related_name="test_run")
    package_hash = models.CharField(max_length=64)
    state = StateField(default=State.PREPARING, choices=State)
    soak_seconds = models.PositiveIntegerField()
    soak_started_at = models.DateTimeField(null=True, blank=True)
    # The period stands still while the copy does not run or its agent is silent; what was reached before is kept.
    soaked_seconds = models.PositiveIntegerField(default=0)
    soak_paused_at = models.DateTimeField(null=True, blank=True)
    soak_pause_reason = models.CharField(max_length=255, blank=True)
    evidence_needed = models.CharField(
        max_length=20, choices=TestEnvironment.Evidence, default=TestEnvironment.Evidence.FILE_COPY
    )
    restarts = models.PositiveSmallIntegerField(default=0)
    counted_incidents = models.ManyToManyField(
        "incidents.Incident",
        related_name="test_runs",
        blank=True,
        help_text=_("Incidents that restarted the period."),
    )
    reason = models.TextField(blank=True)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("test run")
        verbose_name_plural = _("test runs")
        constraints = [
            models.UniqueConstraint(
                fields=["release", "package_hash"],
                name="release_one_current_test_per_package",
                condition=Q(state__in=["preparing", "applying", "soaking", "passed"]),
            )
        ]

    def soaked(self, now: datetime) -> timedelta:
        """How much of the problem-free period is over."""
        since = now - self.soak_started_at if self.soak_started_at and not self.soak_paused_at else timedelta()
        return timedelta(seconds=self.soaked_seconds) + since

    def __str__(self) -> str:
        return f"test {self.pk} of {self.release_id}"

    @transition("state", State.PREPARING, State.APPLYING, custom={"label": _("Apply"), "system": True})
    def apply(self) -> None:
        """The copy is ready; the package is offered to it."""

    @transition("state", State.APPLYING, State.SOAKING, custom={"label": _("Soak"), "system": True})
    def soak(self) -> None:
        """The copy has confirmed the versions; the problem-free period begins."""

    @transition("state", State.SOAKING, State.PASSED, custom={"label": _("Pass"), "system": True})
    def succeed(self) -> None:
        """The whole period went by without an incident on the copy."""

    @transition("state", State.SOAKING, State.PREPARING, custom={"label": _("Start over"), "system": True})
    def start_over(self) -> None:
        """The copy goes back to its image and gets the package again; the problem-free period begins from nothing."""

    @transition(
        "state",
        [State.PREPARING, State.APPLYING, State.SOAKING],
        State.FAILED,
        custom={"label": _("Fail"), "system": True},
    )
    def fail(self) -> None:
        """The package failed on the copy, or the copy could not be made."""

    @transition(
        "state",
        [State.PREPARING, State.APPLYING, State.SOAKING, State.PASSED],
        State.VOIDED,
        custom={"label": _("Void"), "system": True},
    )
    def void(self) -> None:
        """The package was edited after the test began."""


class TestPeriod(models.Model):
    """A problem-free period that did not reach its end: what it came to, and why it began anew; never changed.

    The present one is on the run.
    """

    __test__ = False

    run = models.ForeignKey(TestRun, models.CASCADE, related_name="earlier_periods")
    batch = models.ForeignKey("distribution.Batch", models.PROTECT, null=True, related_name="+")
    seconds = models.PositiveIntegerField(help_text=_("How much of it had gone by without a problem."))
    ended_at = models.DateTimeField()
    why = models.CharField(max_length=500)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("earlier problem-free period")
        verbose_name_plural = _("earlier problem-free periods")

    def __str__(self) -> str:
        return f"{self.seconds} s: {self.why[:60]}"
