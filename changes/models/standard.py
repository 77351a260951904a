"""Standard changes: low-risk changes that the CAB has authorised once for all, by a template."""

from typing import Any

import pghistory
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from tickets.models import Approval
from tickets.numbers import format_number


class StandardTemplateQuerySet(models.QuerySet["StandardTemplate"]):
    def visible_to(self, user: Any) -> "StandardTemplateQuerySet":
        """All with the right to see or decide on changes; else those that one may use."""
        if user.has_perm("changes.see_all_changes") or user.has_perm("changes.approve_change"):
            return self
        return self.usable_by(user)

    def usable_by(self, user: Any) -> "StandardTemplateQuerySet":
        """Those in use that name the person or one of his teams, approved or not."""
        named = StandardTemplate.users.through.objects.filter(user_id=user.pk).values("standardtemplate_id")
        teams = StandardTemplate.teams.through.objects.filter(team__members=user.pk).values("standardtemplate_id")
        return self.filter(Q(pk__in=named) | Q(pk__in=teams), is_active=True)


@pghistory.track(model_name="StandardTemplateHistory")
class StandardTemplate(models.Model):
    """A kind of change that needs no decision of its own: which products, on which CIs, how and how back, by whom.

    A CAB member who took no part in it approves exactly this content; an edit, or another definition of one of its
    groups, voids that. Who uses it is somebody else than who approved it.
    """

    PREFIX = "TPL"

    name = models.CharField(_("name"), max_length=100, unique=True)
    description = models.TextField(_("description"), blank=True)
    implementation_plan = models.TextField(_("implementation plan"))
    backout_plan = models.TextField(_("backout plan"))
    products = models.ManyToManyField("software.Product", related_name="+", verbose_name=_("products"))
    groups = models.ManyToManyField("cmdb.CIGroup", related_name="+", verbose_name=_("CIs of these groups"))
    users = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="+", blank=True, verbose_name=_("used by these people")
    )
    teams = models.ManyToManyField("accounts.Team", related_name="+", blank=True, verbose_name=_("used by these teams"))
    most_cis = models.PositiveIntegerField(_("CIs at most"), default=100)
    soak_seconds = models.PositiveIntegerField(_("problem-free seconds after it"), default=300)
    needs_test = models.BooleanField(
        _("only tested versions"), default=True, help_text=_("A version that has passed a test on a copy before.")
    )
    is_active = models.BooleanField(_("in use"), default=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    last_editor = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("updated"))

    objects = StandardTemplateQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("standard change")
        verbose_name_plural = _("standard changes")

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.name


@pghistory.track(model_name="StandardTemplateApprovalHistory")
class StandardTemplateApproval(Approval):
    """A CAB member's decision on a template, bound to its content."""

    template = models.ForeignKey(StandardTemplate, models.PROTECT, related_name="approvals")

    class Meta(Approval.Meta):
        verbose_name = _("approval of a standard change")
