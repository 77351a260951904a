"""Push runs: one play over a few hosts, and what it did to each."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

SEE_LOG = "distribution.see_push_log"


class PushRun(models.Model):
    """One run of Ansible over a small batch of CIs. Whoever holds `lease` works on it; nobody else's result counts.

    A run without `ended_at` is under way; one whose lease ran out is ended as `lost` by the tick.
    """

    class Kind(models.TextChoices):
        INSTALL = "install", _("installation")
        PROBE = "probe", _("probe: reads what runs")
        CHECK = "check", _("health check: reads what runs")

    class Outcome(models.TextChoices):
        FINISHED = "finished", _("finished")
        BROKEN = "broken", _("broken off")
        LOST = "lost", _("lost: its worker died")

    kind = models.CharField(max_length=7, choices=Kind)
    lease = models.UUIDField()
    leased_until = models.DateTimeField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=8, choices=Outcome, blank=True)
    note = models.CharField(max_length=512, blank=True, help_text=_("What Ansible said that belongs to no host."))

    class Meta:
        verbose_name = _("push run")
        verbose_name_plural = _("push runs")
        permissions = [("see_push_log", "Can read what hosts said in push runs")]
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) ^ ~Q(outcome=""), name="distribution_push_ended_with_outcome"
            )
        ]
        indexes = [
            models.Index(fields=["leased_until"], name="distribution_push_active", condition=Q(ended_at__isnull=True))
        ]

    def __str__(self) -> str:
        return f"push run {self.pk}"


class PushTarget(models.Model):
    """A deployment in a push run, with the lines that its host said. At most one at a time is under way."""

    run = models.ForeignKey(PushRun, models.PROTECT, related_name="targets")
    deployment = models.ForeignKey("distribution.Deployment", models.PROTECT, related_name="push_targets")
    log = models.TextField(blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("target of a push run")
        verbose_name_plural = _("targets of push runs")
        constraints = [
            models.UniqueConstraint(fields=["run", "deployment"], name="distribution_push_target_once"),
            models.UniqueConstraint(
                fields=["deployment"], name="distribution_push_one_at_a_time", condition=Q(ended_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"deployment {self.deployment_id} in push run {self.run_id}"
