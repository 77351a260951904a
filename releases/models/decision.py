"""What people decided about single CIs of a rollout whose deployment did not succeed."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from distribution.models import Deployment
from releases.models.wave import Verdict, Wave


class FailureDecision(models.Model):
    """One decision on one failed, overdue or cancelled deployment: by whom and why; append-only.

    failed: it stays one, and is not tried again by itself · retried: one more attempt · ignored: it is accepted and
    counts against its wave no longer, as long as this is the CI's newest attempt · excluded: its CI is out of it.
    """

    class Kind(models.TextChoices):
        FAILED = "failed", _("left as failed")
        RETRIED = "retried", _("tried again")
        IGNORED = "ignored", _("ignored")
        EXCLUDED = "excluded", _("excluded")

    wave = models.ForeignKey(Wave, models.PROTECT, related_name="decisions")
    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="decisions")
    kind = models.CharField(max_length=8, choices=Kind)
    reason = models.TextField()
    # Decisions and verdicts of a rollout are written under its lock, so this is their order.
    after_verdict = models.ForeignKey(
        Verdict,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text=_("The rollout's newest verdict before it: later ones took it into account."),
    )
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        verbose_name = _("decision on a failure")
        verbose_name_plural = _("decisions on failures")
        constraints = [models.UniqueConstraint(fields=["deployment", "kind"], name="release_failure_decided_once")]

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason[:60]}"
