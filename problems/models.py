"""Problems: the unknown cause of incidents; their job is the root cause, and a workaround until it is gone."""

from typing import Any

import pghistory
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from tickets.activities import Process, activity_constraint
from tickets.indexes import list_indexes
from tickets.lifecycle import StateField
from tickets.models import Ticket, TimelineEntry, union_of

# States of problems that nobody has to work on any more.
OVER = ("resolved", "closed")


class ProblemQuerySet(models.QuerySet["Problem"]):
    def open(self) -> "ProblemQuerySet":
        return self.exclude(state__in=OVER)

    def visible_to(self, user: Any) -> "ProblemQuerySet":
        """All with the right; else those behind one's own incidents and one's own requests."""
        if user.has_perm("problems.see_all_problems"):
            return self
        mine = (Problem.objects.filter(requester=user), Problem.objects.filter(incidents__requester=user))
        return self.filter(pk__in=union_of(mine))

    def published_to(self, user: Any) -> "ProblemQuerySet":
        """Known errors that are not over, for whoever may report incidents: title and workaround may be shown to him.

        Marking a problem as a known error publishes these two, and nothing else of it.
        """
        if not user.has_perm("incidents.report_incident"):
            return self.none()
        return self.open().filter(is_known_error=True)


def _has_root_cause(problem: Any) -> bool:
    """Write the root cause first: a fix begins from it."""
    return bool(problem.root_cause.strip())


@pghistory.track(exclude=["updated_at"], model_name="ProblemHistory")
class Problem(Ticket):
    """The cause of one or more incidents.

    new · assessed: worth the work · root_cause_analysis · fix_in_progress: an RFC is on its way · resolved: every RFC
    that fixes it is implemented · closed. `is_known_error` is a flag: root cause and workaround are documented.
    """

    class State(models.TextChoices):
        NEW = "new", _("new")
        ASSESSED = "assessed", _("assessed")
        ROOT_CAUSE_ANALYSIS = "root_cause_analysis", _("root cause analysis")
        FIX_IN_PROGRESS = "fix_in_progress", _("fix in progress")
        RESOLVED = "resolved", _("resolved")
        CLOSED = "closed", _("closed")

    class CloseCode(models.TextChoices):
        FIX_APPLIED = "fix_applied", _("fix applied")
        RISK_ACCEPTED = "risk_accepted", _("risk accepted")
        DUPLICATE = "duplicate", _("duplicate")
        CANCELLED = "cancelled", _("cancelled")

    PREFIX = "PRB"
    WORKERS = ("problems.work_problem", "problems.open_problem")

    state = StateField(default=State.NEW, choices=State)
    incidents = models.ManyToManyField(
        "incidents.Incident", related_name="problems", blank=True, verbose_name=_("incidents")
    )
    root_cause = models.TextField(_("root cause"), blank=True)
    workaround = models.TextField(_("workaround"), blank=True)
    is_known_error = models.BooleanField(_("known error"), default=False)
    close_code = models.CharField(_("close code"), max_length=13, choices=CloseCode, blank=True)
    resolved_by_event = models.CharField(max_length=64, blank=True)

    objects = ProblemQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("problem")
        verbose_name_plural = _("problems")
        constraints = [
            activity_constraint(Process.PROBLEM),
            models.CheckConstraint(
                condition=Q(is_known_error=False) | (~Q(root_cause="") & ~Q(workaround="")),
                name="problem_known_error_is_documented",
            ),
            models.CheckConstraint(condition=~Q(state="closed") | ~Q(close_code=""), name="problem_closed_with_code"),
        ]
        indexes = [
            *list_indexes("problem", OVER),
            # Few of very many, looked through while somebody types.
            models.Index(fields=["id"], name="problem_known", condition=Q(is_known_error=True) & ~Q(state__in=OVER)),
        ]
        permissions = [
            ("see_all_problems", "Can see every problem"),
            ("open_problem", "Can open problems from incidents"),
            ("work_problem", "Can work on problems and communicate workarounds"),
        ]

    @transition(
        "state",
        State.NEW,
        State.ASSESSED,
        permission="problems.work_problem",
        custom={"label": _("Assess"), "style": "primary"},
    )
    def assess(self) -> None:
        """Worth finding the cause."""

    @transition(
        "state",
        State.ASSESSED,
        State.ROOT_CAUSE_ANALYSIS,
        permission="problems.work_problem",
        custom={"label": _("Start analysis"), "style": "primary"},
    )
    def analyse(self) -> None:
        """The root cause is being looked for."""

    @transition(
        "state",
        State.ROOT_CAUSE_ANALYSIS,
        State.FIX_IN_PROGRESS,
        conditions=[_has_root_cause],
        permission="problems.work_problem",
        custom={"label": _("Start fix"), "style": "primary"},
    )
    def start_fix(self) -> None:
        """The cause is known; a change is to remove it."""

    @transition(
        "state",
        [State.ASSESSED, State.ROOT_CAUSE_ANALYSIS],
        State.FIX_IN_PROGRESS,
        custom={"label": _("Fix is being rolled out"), "system": True},
    )
    def fix_by_release(self) -> None:
        """A rollout that fixes it has started."""

    @transition(
        "state",
        [State.ROOT_CAUSE_ANALYSIS, State.FIX_IN_PROGRESS],
        State.RESOLVED,
        permission="problems.work_problem",
        custom={"label": _("Resolve"), "style": "success"},
    )
    def resolve(self) -> None:
        """The cause is gone, or the risk is accepted."""

    @transition(
        "state",
        [State.ASSESSED, State.ROOT_CAUSE_ANALYSIS, State.FIX_IN_PROGRESS],
        State.RESOLVED,
        custom={"label": _("Fix implemented"), "system": True},
    )
    def resolve_by_fix(self) -> None:
        """Every RFC that fixes it is implemented."""

    @transition("state", State.RESOLVED, State.FIX_IN_PROGRESS, custom={"label": _("Fix withdrawn"), "system": True})
    def withdraw_fix(self) -> None:
        """The release that fixed it was rolled back."""

    @transition(
        "state",
        State.RESOLVED,
        State.ROOT_CAUSE_ANALYSIS,
        permission="problems.work_problem",
        custom={"label": _("Reopen"), "style": "warning"},
    )
    def reopen(self) -> None:
        """It came back."""

    @transition(
        "state",
        [State.NEW, State.ASSESSED, State.ROOT_CAUSE_ANALYSIS, State.FIX_IN_PROGRESS, State.RESOLVED],
        State.CLOSED,
        permission="problems.work_problem",
        custom={"label": _("Close"), "style": "secondary"},
    )
    def close(self) -> None:
        """Done, with a close code."""


class ProblemEntry(TimelineEntry):
    """The problem's timeline."""

    ticket = models.ForeignKey(Problem, models.PROTECT, related_name="entries")

    class Meta(TimelineEntry.Meta):
        verbose_name = _("problem entry")
        constraints = [
            models.UniqueConstraint(fields=["ticket", "key"], name="problem_entry_key_once", condition=~Q(key=""))
        ]
