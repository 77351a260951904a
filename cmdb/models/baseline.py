"""Baselines: the state of a CI as somebody recorded it, to compare with."""

import pgtrigger
from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Baseline(models.Model):
    """What a CI was at a time: `state` is what `cmdb.baselines.state_of` found. Never changed; it may be removed."""

    ci = models.ForeignKey("cmdb.ConfigurationItem", models.PROTECT, related_name="baselines")
    name = models.CharField(_("name"), max_length=100)
    state = models.JSONField(_("state"))
    recorded_at = models.DateTimeField(_("recorded"))
    recorded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("recorded by")
    )

    class Meta:
        ordering = ["-id"]
        verbose_name = _("baseline")
        verbose_name_plural = _("baselines")
        constraints = [models.UniqueConstraint(fields=["ci", "name"], name="cmdb_baseline_name_once")]
        triggers = [pgtrigger.Protect(name="baseline_stays", operation=pgtrigger.Update)]

    def __str__(self) -> str:
        return self.name
