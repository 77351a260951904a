"""Freezes: times in which nothing is to be changed."""

from datetime import datetime
from typing import Any

import pghistory
from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from tickets.numbers import format_number


class FreezeQuerySet(models.QuerySet["Freeze"]):
    def visible_to(self, user: Any) -> "FreezeQuerySet":
        """Everybody may know when nothing is changed."""
        return self

    def in_force(self, now: datetime) -> "FreezeQuerySet":
        return self.filter(starts_at__lte=now, ends_at__gt=now)


@pghistory.track(model_name="FreezeHistory")
class Freeze(models.Model):
    """A blackout: rollouts that run into it let what is under way finish, offer nothing new, and go on after it.

    Emergency releases are free of it unless `binds_emergencies`; rollbacks always are.
    """

    PREFIX = "FRZ"

    name = models.CharField(_("name"), max_length=100)
    reason = models.TextField(_("reason"))
    starts_at = models.DateTimeField(_("starts"))
    ends_at = models.DateTimeField(_("ends"))
    binds_emergencies = models.BooleanField(_("also for emergencies"), default=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("declared by")
    )
    created_at = models.DateTimeField(_("declared"))

    objects = FreezeQuerySet.as_manager()

    class Meta:
        ordering = ["-starts_at"]
        verbose_name = _("freeze")
        verbose_name_plural = _("freezes")
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gte=F("starts_at")), name="change_freeze_ends_after_its_start")
        ]
        indexes = [models.Index(fields=["ends_at"], name="change_freeze_end")]

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.name
