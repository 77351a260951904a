"""What the probes of a wave said."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from releases.models.wave import Wave


class ProbeSample(models.Model):
    """One answer to one probe of a wave; append-only, but that the answer comes after the question. A check by a CI
    stands in `health_check`; its answer is copied from there.

    A sample without an outcome was asked for and not answered: its worker is at it, or died. It counts for nothing.
    """

    class Outcome(models.TextChoices):
        PASS = "pass", _("pass")
        FAIL = "fail", _("fail")
        INCONCLUSIVE = "inconclusive", _("inconclusive")

    wave = models.ForeignKey(Wave, models.PROTECT, related_name="samples")
    position = models.PositiveSmallIntegerField(help_text=_("Of the probe in the policy, from 1."))
    round = models.PositiveSmallIntegerField()
    health_check = models.OneToOneField(
        "distribution.HealthCheck", models.PROTECT, null=True, blank=True, related_name="sample"
    )
    asked_at = models.DateTimeField()
    outcome = models.CharField(max_length=12, choices=Outcome, blank=True)
    detail = models.CharField(max_length=200, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        verbose_name = _("probe sample")
        verbose_name_plural = _("probe samples")
        indexes = [models.Index(fields=["wave", "round", "position", "-id"], name="release_samples_of_wave")]

    def __str__(self) -> str:
        return f"probe {self.position}: {self.outcome or 'asked'}"
