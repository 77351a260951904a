"""What the portal found when it checked its own invariants."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class SelfCheck(models.Model):
    """One run of the invariants over this database. `violations` are `{"invariant": "I2", "text": …}`; `error` says why
    it could not be finished.
    """

    started_at = models.DateTimeField()
    seconds = models.FloatField()
    violations = models.JSONField(default=list, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("self-check")
        verbose_name_plural = _("self-checks")
        permissions = [("see_operations", _("May see how the portal itself does"))]

    def __str__(self) -> str:
        return f"self-check {self.pk}: {len(self.violations)} violations"

    @property
    def is_sound(self) -> bool:
        """Finished, and nothing was found."""
        return not self.violations and not self.error
