"""Groups of configuration items."""

from typing import Any

import pghistory
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from cmdb.group_filter import condition_of
from cmdb.models.items import CIQuerySet, ConfigurationItem, InstalledVersion
from tickets.numbers import format_number


class CIGroupQuerySet(models.QuerySet["CIGroup"]):
    def visible_to(self, user: Any) -> "CIGroupQuerySet":
        """Groups are for those who see every CI: a group tells of CIs by what they have in common."""
        return self if user.has_perm("cmdb.see_all_cis") else self.none()


@pghistory.track(model_name="CIGroupHistory")
class CIGroup(models.Model):
    """Production CIs that are meant together: named ones, those that fit a filter, or both.

    What fits is asked anew each time; copies for tests are never members. An empty group has no member.
    """

    PREFIX = "GRP"

    name = models.CharField(_("name"), max_length=100, unique=True)
    description = models.TextField(_("description"), blank=True)
    static_members = models.ManyToManyField(
        ConfigurationItem, related_name="static_groups", blank=True, verbose_name=_("named CIs")
    )
    filter = models.JSONField(
        _("filter"), default=dict, blank=True, help_text=_("Checked by `cmdb.group_filter`; empty: only named CIs.")
    )

    objects = CIGroupQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("CI group")
        verbose_name_plural = _("CI groups")

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.name

    def members(self) -> CIQuerySet:
        """The production CIs that belong to it now: one query, whatever the size."""
        named = CIGroup.static_members.through.objects.filter(cigroup_id=self.pk).values("configurationitem_id")
        condition = condition_of(self.filter, InstalledVersion.objects.filter(valid_to__isnull=True))
        is_member = Q(pk__in=named) if condition is None else Q(pk__in=named) | condition
        return ConfigurationItem.objects.production().filter(is_member)

    def contains(self, ci: ConfigurationItem) -> bool:
        """Whether this CI belongs to it now."""
        return self.members().filter(pk=ci.pk).exists()
