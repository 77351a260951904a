"""The rollout of a release to its targets."""

from datetime import datetime
from typing import Any

import pghistory
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from distribution.models import Batch, Deployment
from releases.models.release import Release
from tickets.lifecycle import StateField, StatefulModel
from tickets.numbers import format_number


def ran_between(start: datetime, end: datetime) -> Q:
    """Rollouts, and waves, that ran at some time in [start, end)."""
    return Q(started_at__lt=end) & (Q(finished_at__isnull=True) | Q(finished_at__gte=start))


class RolloutQuerySet(models.QuerySet["Rollout"]):
    def active(self) -> "RolloutQuerySet":
        return self.filter(state__in=Rollout.ACTIVE)

    def visible_to(self, user: Any) -> "RolloutQuerySet":
        """All with the right; else those of visible releases, and those that go to one's own CIs."""
        if user.has_perm("releases.see_all_releases"):
            return self
        to_own = Deployment.objects.filter(ci__owner=user, batch__wave__isnull=False).values("batch__wave__rollout")
        return self.filter(Q(release__in=Release.objects.visible_to(user).values("pk")) | Q(pk__in=to_own))


@pghistory.track(
    exclude=["updated_at", "waits_for", "freeze_wave", "freeze_mark", "cascade_mark", "cascade_ended"],
    model_name="RolloutHistory",
)
class Rollout(StatefulModel):
    """One execution of a release's plan.

    preparing: targets are being frozen · running · paused: nothing new is offered, what is under way goes on ·
    rolling_back: CIs go back to what they ran before · aborting: open deployments are being cancelled · completed ·
    rolled_back · rolled_back_with_exceptions: some CIs could not go back and are listed · aborted.
    """

    class State(models.TextChoices):
        PREPARING = "preparing", _("preparing")
        RUNNING = "running", _("running")
        PAUSED = "paused", _("paused")
        ROLLING_BACK = "rolling_back", _("rolling back")
        ABORTING = "aborting", _("aborting")
        COMPLETED = "completed", _("completed")
        ROLLED_BACK = "rolled_back", _("rolled back")
        ROLLED_BACK_WITH_EXCEPTIONS = "rolled_back_with_exceptions", _("rolled back with exceptions")
        ABORTED = "aborted", _("aborted")

    class PauseKind(models.TextChoices):
        MANUAL = "manual", _("by a person")
        HELD = "held", _("by a person; the waves under way go on")
        BREACH = "breach", _("too many failures")
        GATE = "gate", _("waits for a person between waves")
        STRAGGLERS = "stragglers", _("success threshold not reached")
        WINDOW = "window", _("outside its planned time")
        FREEZE = "freeze", _("a freeze of changes is in force")
        INCIDENTS = "incidents", _("new incidents")
        PROBE = "probe", _("a probe says neither yes nor no")

    ACTIVE = (State.PREPARING, State.RUNNING, State.PAUSED, State.ROLLING_BACK, State.ABORTING)
    # Pauses that end by themselves, as soon as nothing forbids offers any more.
    OUTSIDE = (PauseKind.WINDOW, PauseKind.FREEZE)
    PREFIX = "ROL"

    release = models.ForeignKey(Release, models.PROTECT, related_name="rollouts")
    state = StateField(default=State.PREPARING, choices=State)
    policy = models.JSONField(help_text=_("As approved; never changed while it runs."))
    targets = models.JSONField(default=dict)
    generation = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text=_("Of the release's plan; empty: from before they were kept.")
    )
    approved_hash = models.CharField(max_length=64)
    target_count = models.PositiveIntegerField(null=True, blank=True)
    target_hash = models.CharField(max_length=64, blank=True, help_text=_("Over the ids of the frozen CIs."))
    frozen_at = models.DateTimeField(null=True, blank=True)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="started_rollouts")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    pause_kind = models.CharField(max_length=10, choices=PauseKind, blank=True)
    pause_reason = models.TextField(blank=True)
    overridden = models.JSONField(
        default=list, blank=True, help_text=_("Keys of the freezes and planned times that somebody has overridden.")
    )
    waits_for = models.CharField(max_length=200, blank=True, help_text=_("Why nothing moves just now, for people."))
    round = models.PositiveSmallIntegerField(default=1, help_text=_("Grows with each resume: verdicts start anew."))
    freeze_wave = models.PositiveSmallIntegerField(default=1, help_text=_("Number of the wave that is being filled."))
    freeze_mark = models.BigIntegerField(default=0, help_text=_("Id of the last CI that was frozen into it."))
    # Which coupled changes still run through the tickets, and how far they are (see services.cascade).
    cascade = models.CharField(max_length=20, blank=True)
    cascade_mark = models.CharField(max_length=64, blank=True)
    cascade_ended = models.PositiveIntegerField(
        default=0, help_text=_("How many deployments had ended when it began to tell: with more, it tells again.")
    )
    settled_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text=_("Empty while anything of it is still to be done: the tick looks at it."),
    )
    breach_incident = models.ForeignKey(
        "incidents.Incident", models.PROTECT, null=True, blank=True, related_name="breached_rollouts"
    )
    updated_at = models.DateTimeField()

    objects = RolloutQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("rollout")
        verbose_name_plural = _("rollouts")
        constraints = [
            models.UniqueConstraint(
                fields=["release"],
                name="release_one_active_rollout",
                condition=Q(state__in=["preparing", "running", "paused", "rolling_back", "aborting"]),
            )
        ]
        indexes = [
            models.Index(fields=["id"], name="release_rollout_unsettled", condition=Q(settled_at__isnull=True)),
            models.Index(fields=["finished_at"], name="release_rollout_finished"),
        ]

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.number

    def forward_batch_ids(self) -> list[int]:
        """Batches whose software goes back with it: its own, and those of its release's rollouts aborted before it.

        What an aborted rollout had brought is only skipped by the next one.
        """
        aborted = Q(state=Rollout.State.ABORTED, release=self.release_id, pk__lt=self.pk)
        rollouts = Rollout.objects.filter(Q(pk=self.pk) | aborted)
        batches = Batch.objects.filter(purpose=Batch.Purpose.FORWARD, wave__rollout__in=rollouts)
        return list(batches.order_by("pk").values_list("pk", flat=True))

    @transition("state", State.PREPARING, State.RUNNING, custom={"label": _("Targets frozen"), "system": True})
    def run(self) -> None:
        """Every target has its deployment."""

    @transition(
        "state",
        State.RUNNING,
        State.PAUSED,
        permission="releases.pause_rollout",
        custom={"label": _("Pause"), "style": "warning"},
    )
    def pause(self) -> None:
        """Nothing new is offered; what is under way goes on."""

    @transition(
        "state",
        State.PAUSED,
        State.RUNNING,
        permission="releases.start_rollout",
        custom={"label": _("Resume"), "style": "primary"},
    )
    def resume(self) -> None:
        """Goes on; after an automatic stop by somebody other than the one who started it."""

    @transition(
        "state",
        [State.PREPARING, State.RUNNING, State.PAUSED],
        State.ABORTING,
        permission="releases.pause_rollout",
        custom={"label": _("Abort"), "style": "danger"},
    )
    def abort(self) -> None:
        """Open deployments are cancelled; what is installed stays."""

    @transition(
        "state",
        [State.RUNNING, State.PAUSED, State.COMPLETED, State.ABORTED],
        State.ROLLING_BACK,
        permission="releases.roll_back_rollout",
        custom={"label": _("Roll back"), "style": "danger"},
    )
    def roll_back(self) -> None:
        """Every CI goes back to what it ran before."""

    @transition("state", State.RUNNING, State.COMPLETED, custom={"label": _("Completed"), "system": True})
    def complete(self) -> None:
        """Every wave has passed."""

    @transition("state", State.ABORTING, State.ABORTED, custom={"label": _("Aborted"), "system": True})
    def finish_abort(self) -> None:
        """Nothing is under way any more."""

    @transition("state", State.ROLLING_BACK, State.ROLLED_BACK, custom={"label": _("Rolled back"), "system": True})
    def finish_rollback(self) -> None:
        """Every CI that got the version is back."""

    @transition(
        "state",
        State.ROLLING_BACK,
        State.ROLLED_BACK_WITH_EXCEPTIONS,
        custom={"label": _("Rolled back with exceptions"), "system": True},
    )
    def finish_rollback_with_exceptions(self) -> None:
        """Some CIs could not go back."""
