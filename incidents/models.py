"""Incidents: unplanned interruptions or losses of quality; their job is to restore service, not to find the cause."""

from typing import Any

import pghistory
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from tickets.activities import Process, activity_constraint
from tickets.indexes import list_indexes
from tickets.lifecycle import StateField
from tickets.models import Level, Ticket, TimelineEntry, union_of

# States of incidents that nobody has to work on any more.
OVER = ("resolved", "closed", "cancelled")


class IncidentQuerySet(models.QuerySet["Incident"]):
    def open(self) -> "IncidentQuerySet":
        return self.exclude(state__in=OVER)

    def visible_to(self, user: Any) -> "IncidentQuerySet":
        """All with the right; else what one reported, or what concerns one's own CIs. Watching opens no door."""
        if user.has_perm("incidents.see_all_incidents"):
            return self
        mine = (
            Incident.objects.filter(requester=user),
            Incident.objects.filter(created_by=user),
            Incident.objects.filter(ci__owner=user),
        )
        # A union of what indexes find: with “or” every incident would be looked at.
        return self.filter(pk__in=union_of(mine))


def _works_on_it_or_asked(incident: Any, user: Any) -> bool:
    """`incidents.work_incident`, or being its requester"""
    return bool(user.has_perm("incidents.work_incident") or incident.requester_id == user.pk)


@pghistory.track(exclude=["updated_at"], model_name="IncidentHistory")
class Incident(Ticket):
    """A disruption on (usually) one CI.

    new: reported · assigned: somebody has it · in_progress: being worked on · on_hold: waiting for `hold_reason` ·
    resolved: service restored, the requester may reopen · closed · cancelled.
    """

    class State(models.TextChoices):
        NEW = "new", _("new")
        ASSIGNED = "assigned", _("assigned")
        IN_PROGRESS = "in_progress", _("in progress")
        ON_HOLD = "on_hold", _("on hold")
        RESOLVED = "resolved", _("resolved")
        CLOSED = "closed", _("closed")
        CANCELLED = "cancelled", _("cancelled")

    class HoldReason(models.TextChoices):
        CALLER = "caller", _("waiting for the caller")
        PROBLEM = "problem", _("waiting for the problem")
        CHANGE = "change", _("waiting for a change")
        RELEASE = "release", _("waiting for a release")
        VENDOR = "vendor", _("waiting for the vendor")

    # Reasons that end when the fix is installed.
    FIX_REASONS = (HoldReason.PROBLEM, HoldReason.CHANGE, HoldReason.RELEASE)
    PREFIX = "INC"
    WORKERS = ("incidents.work_incident",)

    state = StateField(default=State.NEW, choices=State)
    ci = models.ForeignKey(
        "cmdb.ConfigurationItem",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="incidents",
        verbose_name=_("configuration item"),
    )
    is_major = models.BooleanField(_("major incident"), default=False)
    hold_reason = models.CharField(_("on hold because"), max_length=8, choices=HoldReason, blank=True)
    resolution = models.TextField(_("resolution"), blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    # Set when the completion of a rollout resolved it, for the inverse: which event, and what it had waited for.
    resolved_by_event = models.CharField(max_length=64, blank=True)
    hold_reason_before = models.CharField(max_length=8, choices=HoldReason, blank=True)

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        constraints = [
            activity_constraint(Process.INCIDENT),
            models.CheckConstraint(
                condition=(Q(state="on_hold") & ~Q(hold_reason="")) | (~Q(state="on_hold") & Q(hold_reason="")),
                name="incident_hold_has_reason",
            ),
        ]
        indexes = [
            models.Index(fields=["ci", "state"], name="incident_of_ci"),
            # What came up since a rollout began.
            models.Index(fields=["created_at"], name="incident_created_at"),
            # How long it took to restore service, for reports.
            models.Index(fields=["resolved_at"], name="incident_resolved", condition=Q(resolved_at__isnull=False)),
            *list_indexes("incident", OVER),
        ]
        permissions = [
            ("report_incident", "Can report incidents"),
            ("see_all_incidents", "Can see every incident"),
            ("work_incident", "Can work on incidents: assign, hold, resolve, close"),
            ("manage_major_incident", "Can declare a major incident"),
        ]

    @transition(
        "state",
        State.NEW,
        State.ASSIGNED,
        permission="incidents.work_incident",
        custom={"label": _("Assign"), "style": "primary"},
    )
    def assign(self) -> None:
        """A person or a team has it."""

    @transition(
        "state",
        [State.NEW, State.ASSIGNED],
        State.IN_PROGRESS,
        permission="incidents.work_incident",
        custom={"label": _("Start work"), "style": "primary"},
    )
    def start(self) -> None:
        """Somebody works on it."""

    @transition(
        "state",
        [State.ASSIGNED, State.IN_PROGRESS],
        State.ON_HOLD,
        permission="incidents.work_incident",
        custom={"label": _("Put on hold"), "style": "warning"},
    )
    def hold(self) -> None:
        """It waits for somebody or something else."""

    @transition(
        "state",
        State.ON_HOLD,
        State.IN_PROGRESS,
        permission="incidents.work_incident",
        custom={"label": _("Resume"), "style": "primary"},
    )
    def resume(self) -> None:
        """What it waited for has come."""

    @transition(
        "state",
        [State.ASSIGNED, State.IN_PROGRESS, State.ON_HOLD],
        State.RESOLVED,
        permission="incidents.work_incident",
        custom={"label": _("Resolve"), "style": "success"},
    )
    def resolve(self) -> None:
        """Service is restored."""

    @transition(
        "state",
        State.RESOLVED,
        State.IN_PROGRESS,
        permission=_works_on_it_or_asked,
        custom={"label": _("Reopen"), "style": "warning"},
    )
    def reopen(self) -> None:
        """It was not restored after all; the requester may say so, too."""

    @transition(
        "state",
        State.RESOLVED,
        State.CLOSED,
        permission=_works_on_it_or_asked,
        custom={"label": _("Close"), "style": "secondary"},
    )
    def close(self) -> None:
        """The requester confirmed it, or enough days have passed."""

    @transition(
        "state",
        [State.NEW, State.ASSIGNED, State.IN_PROGRESS, State.ON_HOLD],
        State.CANCELLED,
        permission="incidents.work_incident",
        custom={"label": _("Cancel"), "style": "danger"},
    )
    def cancel(self) -> None:
        """Reported by mistake, or a duplicate."""

    @transition("state", State.ON_HOLD, State.RESOLVED, custom={"label": _("Fix installed"), "system": True})
    def resolve_by_fix(self) -> None:
        """The fix that it waited for is installed on its CI."""

    @transition("state", State.RESOLVED, State.ON_HOLD, custom={"label": _("Fix withdrawn"), "system": True})
    def withdraw_fix(self) -> None:
        """The fix was rolled back; it waits again for what it waited for."""


class IncidentEntry(TimelineEntry):
    """The incident's timeline."""

    ticket = models.ForeignKey(Incident, models.PROTECT, related_name="entries")

    class Meta(TimelineEntry.Meta):
        verbose_name = _("incident entry")
        constraints = [
            models.UniqueConstraint(fields=["ticket", "key"], name="incident_entry_key_once", condition=~Q(key=""))
        ]


class DriftRule(models.Model):
    """Drift on these CIs opens an incident. Without a product or a class it is for all of them.

    Of several rules that fit, one with a product goes before one without, then one with a class, then the oldest.
    """

    name = models.CharField(_("name"), max_length=100, unique=True)
    product = models.ForeignKey(
        "software.Product", models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("product")
    )
    ci_class = models.ForeignKey(
        "cmdb.CIClass", models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("class of the CI")
    )
    impact = models.CharField(_("impact"), max_length=6, choices=Level, default=Level.LOW)
    urgency = models.CharField(_("urgency"), max_length=6, choices=Level, default=Level.MEDIUM)
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("requester"),
        help_text=_("In whose name it is opened when the CI has no owner."),
    )  # fmt: skip
    team = models.ForeignKey(
        "accounts.Team", models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("team")
    )
    is_active = models.BooleanField(_("on"), default=True)

    class Meta:
        ordering = ["name"]
        verbose_name = _("drift rule")
        verbose_name_plural = _("drift rules")

    def __str__(self) -> str:
        return self.name


class DriftIncident(models.Model):
    """Which incident stands for a drift. A later drift of the same CI and product joins one that is still open."""

    drift = models.OneToOneField("cmdb.Drift", models.PROTECT, related_name="incident_link")
    incident = models.ForeignKey(Incident, models.PROTECT, related_name="drifts")
    is_told = models.BooleanField(default=False, help_text=_("The incident has a note that the drift is over."))

    class Meta:
        verbose_name = _("incident of a drift")
        indexes = [models.Index(fields=["id"], name="incident_drift_untold", condition=Q(is_told=False))]

    def __str__(self) -> str:
        return f"{self.incident_id}: {self.drift_id}"
