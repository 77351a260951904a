"""What happened to a rollout, and what was accepted for it."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from releases.models.release import Release
from releases.models.rollout import Rollout
from releases.models.wave import Wave


class RolloutEvent(models.Model):
    """One thing that happened to a rollout, by whom and why; append-only."""

    class Kind(models.TextChoices):
        STARTED = "started", _("started")
        FROZEN = "frozen", _("targets frozen")
        WAVE_OPENED = "wave_opened", _("wave opened")
        WAVE_SOAKING = "wave_soaking", _("wave soaking")
        WAVE_PASSED = "wave_passed", _("wave passed")
        WAVE_FAILED = "wave_failed", _("wave failed")
        PAUSED = "paused", _("paused")
        HELD = "held", _("next waves held")
        RESUMED = "resumed", _("resumed")
        ABORTING = "aborting", _("abort ordered")
        ABORTED = "aborted", _("aborted")
        ROLLBACK_ORDERED = "rollback_ordered", _("rollback ordered")
        ROLLBACK_STOPPED = "rollback_stopped", _("rollback stopped")
        ROLLBACK_CONTINUED = "rollback_continued", _("rollback continued")
        ROLLED_BACK = "rolled_back", _("rolled back")
        COMPLETED = "completed", _("completed")
        INCIDENT_OPENED = "incident_opened", _("incident opened")
        WINDOW_OVERRIDDEN = "window_overridden", _("freeze or planned time overridden")
        RETRY = "retry", _("retry ordered")
        EXCLUDED = "excluded", _("CI excluded")
        UNSIGNED = "unsigned", _("no valid signature")
        SIGNED = "signed", _("signed again")
        WITHDRAWN = "withdrawn", _("version withdrawn")
        DECIDED = "decided", _("failure decided")
        OVERRIDDEN = "overridden", _("wave overridden")
        SUPERSEDED = "superseded", _("older rollouts displaced")

    rollout = models.ForeignKey(Rollout, models.PROTECT, related_name="events")
    wave = models.ForeignKey(Wave, models.PROTECT, null=True, blank=True, related_name="events")
    kind = models.CharField(max_length=20, choices=Kind)
    text = models.TextField(blank=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "id"]
        verbose_name = _("rollout event")

    def __str__(self) -> str:
        return f"{self.kind} {self.text[:60]}"


class RolloutException(models.Model):
    """A CI without a way back or one whose rollback failed, or a gate that was skipped: who accepted it and why."""

    class Kind(models.TextChoices):
        NO_WAY_BACK = "no_way_back", _("no way back")
        ROLLBACK_FAILED = "rollback_failed", _("rollback failed")
        TEST_SKIPPED = "test_skipped", _("test gate skipped")
        WEAKER_EVIDENCE = "weaker_evidence", _("weaker evidence accepted")

    release = models.ForeignKey(Release, models.PROTECT, related_name="exceptions")
    rollout = models.ForeignKey(Rollout, models.PROTECT, null=True, blank=True, related_name="exceptions")
    ci = models.ForeignKey(
        "cmdb.ConfigurationItem", models.PROTECT, null=True, blank=True, related_name="rollout_exceptions"
    )
    kind = models.CharField(max_length=16, choices=Kind)
    reason = models.TextField()
    content_hash = models.CharField(max_length=64, blank=True)
    recorded_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = _("exception")
        constraints = [
            models.UniqueConstraint(
                fields=["rollout", "ci", "kind"], name="release_exception_once", condition=Q(ci__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason[:60]}"
