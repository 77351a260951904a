"""Changes (RFCs): requests to add, modify or remove what can affect a CI. They decide what and when."""

from datetime import datetime
from typing import Any

import pghistory
from django.conf import settings
from django.contrib.postgres.fields import DateTimeRangeField
from django.contrib.postgres.indexes import GistIndex
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from tickets.activities import Process, activity_constraint
from tickets.indexes import list_indexes
from tickets.lifecycle import StateField
from tickets.models import Approval, Level, Ticket, TimelineEntry, union_of

# States of RFCs that nobody has to work on any more.
OVER = ("closed", "cancelled")

# As the index has it.
PLANNED_PERIOD = Func(
    F("planned_start"), Coalesce("planned_end", "planned_start"), Value("[]"),
    function="tstzrange", output_field=DateTimeRangeField(),
)  # fmt: skip


class ChangeQuerySet(models.QuerySet["Change"]):
    def open(self) -> "ChangeQuerySet":
        return self.exclude(state__in=OVER)

    def releasable(self) -> "ChangeQuerySet":
        """RFCs that may enter a release: authorised or scheduled."""
        return self.filter(state__in=[Change.State.AUTHORISED, Change.State.SCHEDULED])

    def planned_between(self, start: datetime, end: datetime) -> "ChangeQuerySet":
        """Those whose planned time has a part in [start, end); one without an end is where it starts."""
        touching = self.alias(period=PLANNED_PERIOD).filter(planned_start__isnull=False, period__overlap=(start, end))
        # The index knows closed periods: an end that is the other's start is no part of it.
        return touching.filter(Q(planned_end__gt=start) | Q(planned_end__isnull=True))

    def occupying(self) -> "ChangeQuerySet":
        """Those that somebody counts on: handed over, and not yet done."""
        return self.filter(state__in=Change.OCCUPYING)

    def visible_to(self, user: Any) -> "ChangeQuerySet":
        """All with the right; else one's own requests, and beyond drafts those for one's own CIs or behind one's own
        incidents."""
        if user.has_perm("changes.see_all_changes") or user.has_perm("changes.approve_change"):
            return self
        planned = Change.objects.exclude(state__in=[Change.State.DRAFT, Change.State.REJECTED, Change.State.CANCELLED])
        mine = (
            Change.objects.filter(requester=user),
            Change.objects.filter(created_by=user),
            planned.filter(affected_cis__owner=user),
            planned.filter(problems__incidents__requester=user),
            planned.filter(incidents__requester=user),
        )
        return self.filter(pk__in=union_of(mine))


def _is_normal(change: Any) -> bool:
    """Standard changes are authorised by their template: schedule them at once."""
    return change.change_type != Change.Type.STANDARD


def _is_standard(change: Any) -> bool:
    """Only a standard change goes without assessment and approval."""
    return change.change_type == Change.Type.STANDARD


def _has_plans(change: Any) -> bool:
    """Write the implementation plan and the backout plan first."""
    return bool(change.implementation_plan.strip()) and bool(change.backout_plan.strip())


def _approves(change: Any, user: Any) -> bool:
    """`changes.approve_change`; for an emergency `changes.approve_emergency_change` is enough"""
    is_emergency = change.change_type == Change.Type.EMERGENCY
    return bool(
        user.has_perm("changes.approve_change") or (is_emergency and user.has_perm("changes.approve_emergency_change"))
    )


def _approves_or_assesses(change: Any, user: Any) -> bool:
    """`changes.assess_change`, or the right to approve it"""
    return bool(user.has_perm("changes.assess_change") or _approves(change, user))


def _manages_or_wrote_it(change: Any, user: Any) -> bool:
    """`changes.manage_change`, or being its author"""
    return bool(user.has_perm("changes.manage_change") or change.created_by_id == user.pk)


@pghistory.track(exclude=["updated_at"], model_name="ChangeHistory")
class Change(Ticket):
    """An RFC.

    draft → submitted → assessed → authorised (approved by others) → scheduled → implementing → implemented →
    reviewed → closed. rejected goes back to draft. `content_hash` (services) covers what an approval is bound to.
    """

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        SUBMITTED = "submitted", _("submitted")
        ASSESSED = "assessed", _("assessed")
        AUTHORISED = "authorised", _("authorised")
        SCHEDULED = "scheduled", _("scheduled")
        IMPLEMENTING = "implementing", _("implementing")
        IMPLEMENTED = "implemented", _("implemented")
        REVIEWED = "reviewed", _("reviewed")
        CLOSED = "closed", _("closed")
        REJECTED = "rejected", _("rejected")
        CANCELLED = "cancelled", _("cancelled")

    class Type(models.TextChoices):
        STANDARD = "standard", _("standard")
        NORMAL = "normal", _("normal")
        EMERGENCY = "emergency", _("emergency")

    class CloseCode(models.TextChoices):
        SUCCESSFUL = "successful", _("successful")
        WITH_ISSUES = "with_issues", _("successful with issues")
        UNSUCCESSFUL = "unsuccessful", _("unsuccessful")
        BACKED_OUT = "backed_out", _("backed out")

    OCCUPYING = (State.SUBMITTED, State.ASSESSED, State.AUTHORISED, State.SCHEDULED, State.IMPLEMENTING)
    PREFIX = "CHG"
    WORKERS = (
        "changes.request_change",
        "changes.manage_change",
        "changes.assess_change",
        "changes.approve_change",
        "changes.approve_emergency_change",
    )

    state = StateField(default=State.DRAFT, choices=State)
    change_type = models.CharField(_("type"), max_length=9, choices=Type, default=Type.NORMAL)
    risk = models.CharField(_("risk"), max_length=6, choices=Level, default=Level.MEDIUM)
    risk_reason = models.TextField(_("why this risk"), blank=True)
    problems = models.ManyToManyField(
        "problems.Problem", related_name="changes", blank=True, verbose_name=_("problems")
    )
    incidents = models.ManyToManyField(
        "incidents.Incident", related_name="changes", blank=True, verbose_name=_("incidents")
    )
    products = models.ManyToManyField(
        "software.Product", related_name="changes", blank=True, verbose_name=_("products that it changes")
    )
    affected_cis = models.ManyToManyField(
        "cmdb.ConfigurationItem", related_name="changes", blank=True, verbose_name=_("affected CIs")
    )
    implementation_plan = models.TextField(_("implementation plan"), blank=True)
    test_plan = models.TextField(_("test plan"), blank=True)
    backout_plan = models.TextField(_("backout plan"), blank=True)
    planned_start = models.DateTimeField(_("planned start"), null=True, blank=True)
    planned_end = models.DateTimeField(_("planned end"), null=True, blank=True)
    last_editor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("last editor")
    )
    template = models.ForeignKey(
        "changes.StandardTemplate",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="changes",
        verbose_name=_("made from"),
        help_text=_("The standard change that authorised it."),
    )
    close_code = models.CharField(_("close code"), max_length=12, choices=CloseCode, blank=True)
    implemented_by_event = models.CharField(max_length=64, blank=True)

    objects = ChangeQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("change")
        verbose_name_plural = _("changes")
        constraints = [
            activity_constraint(Process.CHANGE),
            models.CheckConstraint(
                condition=Q(planned_end__isnull=True) | Q(planned_end__gt=F("planned_start")),
                name="change_ends_after_start",
            ),
            models.CheckConstraint(condition=~Q(state="closed") | ~Q(close_code=""), name="change_closed_with_code"),
        ]
        indexes = [
            *list_indexes("change", OVER),
            GistIndex(PLANNED_PERIOD, name="change_planned_period", condition=Q(planned_start__isnull=False)),
        ]
        permissions = [
            ("see_all_changes", "Can see every change"),
            ("request_change", "Can write and submit RFCs"),
            ("assess_change", "Can assess RFCs"),
            ("approve_change", "Can approve or reject RFCs (CAB)"),
            ("approve_emergency_change", "Can approve emergency RFCs"),
            ("manage_change", "Can schedule, review and close RFCs"),
        ]

    @transition(
        "state",
        State.DRAFT,
        State.SUBMITTED,
        conditions=[_has_plans],
        permission="changes.request_change",
        custom={"label": _("Submit"), "style": "primary"},
    )
    def submit(self) -> None:
        """The author hands it over."""

    @transition(
        "state",
        State.SUBMITTED,
        State.ASSESSED,
        conditions=[_is_normal],
        permission="changes.assess_change",
        custom={"label": _("Assess"), "style": "primary"},
    )
    def assess(self) -> None:
        """Risk and impact are known."""

    @transition(
        "state",
        State.ASSESSED,
        State.AUTHORISED,
        permission=_approves,
        custom={"label": _("Approve"), "style": "success"},
    )
    def approve(self) -> None:
        """Approved by somebody who took no part in it."""

    @transition(
        "state",
        State.SUBMITTED,
        State.AUTHORISED,
        conditions=[_is_standard],
        permission="changes.manage_change",
        custom={"label": _("Accept as standard"), "style": "primary"},
    )
    def accept_standard(self) -> None:
        """Pre-authorised by its template."""

    @transition("state", State.DRAFT, State.AUTHORISED, custom={"label": _("Authorised by template"), "system": True})
    def pre_authorise(self) -> None:
        """Made from a standard change that the CAB has approved."""

    @transition(
        "state",
        [State.SUBMITTED, State.ASSESSED],
        State.REJECTED,
        permission=_approves_or_assesses,
        custom={"label": _("Reject"), "style": "danger"},
    )
    def reject(self) -> None:
        """Not like this; the author may revise it."""

    @transition(
        "state",
        [State.REJECTED, State.SUBMITTED, State.ASSESSED, State.AUTHORISED, State.SCHEDULED],
        State.DRAFT,
        permission="changes.request_change",
        custom={"label": _("Revise"), "style": "secondary"},
    )
    def revise(self) -> None:
        """Back to the author; approvals are void."""

    @transition(
        "state",
        State.AUTHORISED,
        State.SCHEDULED,
        permission="changes.manage_change",
        custom={"label": _("Schedule"), "style": "primary"},
    )
    def schedule(self) -> None:
        """Start and end are agreed; the verb asks for both."""

    @transition(
        "state",
        [State.AUTHORISED, State.SCHEDULED],
        State.IMPLEMENTING,
        custom={"label": _("Implementation started"), "system": True},
    )
    def implement(self) -> None:
        """A rollout that contains it has started."""

    @transition("state", State.IMPLEMENTING, State.IMPLEMENTED, custom={"label": _("Implemented"), "system": True})
    def finish(self) -> None:
        """The rollout that contains it has completed."""

    @transition("state", State.IMPLEMENTING, State.SCHEDULED, custom={"label": _("Not begun"), "system": True})
    def return_to_schedule(self) -> None:
        """The rollout was aborted before anything was installed."""

    @transition(
        "state",
        [State.IMPLEMENTING, State.IMPLEMENTED, State.REVIEWED],
        State.AUTHORISED,
        custom={"label": _("Backed out"), "system": True},
    )
    def back_out(self) -> None:
        """Rolled back; the approval stays while the content is the same."""

    @transition(
        "state",
        State.IMPLEMENTED,
        State.REVIEWED,
        permission="changes.manage_change",
        custom={"label": _("Record review"), "style": "primary"},
    )
    def review(self) -> None:
        """The post-implementation review is written."""

    @transition(
        "state",
        State.REVIEWED,
        State.CLOSED,
        permission="changes.manage_change",
        custom={"label": _("Close"), "style": "secondary"},
    )
    def close(self) -> None:
        """Done, with a close code."""

    @transition(
        "state",
        [State.DRAFT, State.SUBMITTED, State.ASSESSED, State.AUTHORISED, State.SCHEDULED, State.REJECTED],
        State.CANCELLED,
        permission=_manages_or_wrote_it,
        custom={"label": _("Cancel"), "style": "danger"},
    )
    def cancel(self) -> None:
        """No longer wanted."""


class ChangeEntry(TimelineEntry):
    """The change's timeline."""

    ticket = models.ForeignKey(Change, models.PROTECT, related_name="entries")

    class Meta(TimelineEntry.Meta):
        verbose_name = _("change entry")
        constraints = [
            models.UniqueConstraint(fields=["ticket", "key"], name="change_entry_key_once", condition=~Q(key=""))
        ]
        indexes = [
            *TimelineEntry.Meta.indexes,
            # When RFCs ended, for reports.
            models.Index(
                fields=["created_at"], name="change_entry_closed", condition=Q(kind="state", to_state="closed")
            ),
        ]


@pghistory.track(model_name="ChangeApprovalHistory")
class ChangeApproval(Approval):
    """A decision on an RFC, bound to its content."""

    change = models.ForeignKey(Change, models.PROTECT, related_name="approvals")

    class Meta(Approval.Meta):
        verbose_name = _("change approval")
