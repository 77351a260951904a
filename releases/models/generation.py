"""The generations of a release's plan."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from releases.models.release import Release


class PlanGeneration(models.Model):
    """One version of a release's plan, policy and targets, with the one who made it; never changed.

    Every edit of the plan makes the next one, and asks for a new approval; a rollout names the one it runs.
    """

    release = models.ForeignKey(Release, models.PROTECT, related_name="generations")
    number = models.PositiveSmallIntegerField(_("generation"))
    policy = models.JSONField()
    targets = models.JSONField()
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["-number"]
        verbose_name = _("generation of a plan")
        verbose_name_plural = _("generations of plans")
        constraints = [models.UniqueConstraint(fields=["release", "number"], name="release_generation_once")]

    def __str__(self) -> str:
        return f"{self.release_id}: generation {self.number}"
