"""The rollout of a release to its targets: waves, verdicts, events."""

from typing import Any

import pghistory
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from distribution.models import Deployment
from releases.models.release import Release
from tickets.lifecycle import StateField, StatefulModel
from tickets.numbers import format_number


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
    exclude=["updated_at", "waits_for", "freeze_mark", "cascade_mark", "cascade_position"],
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
        BREACH = "breach", _("too many failures")
        GATE = "gate", _("waits for a person between waves")
        STRAGGLERS = "stragglers", _("success threshold not reached")
        WINDOW = "window", _("outside its planned time")

    ACTIVE = (State.PREPARING, State.RUNNING, State.PAUSED, State.ROLLING_BACK, State.ABORTING)
    PREFIX = "ROL"

    release = models.ForeignKey(Release, models.PROTECT, related_name="rollouts")
    state = StateField(default=State.PREPARING, choices=State)
    policy = models.JSONField(help_text=_("As approved; never changed while it runs."))
    targets = models.JSONField(default=dict)
    approved_hash = models.CharField(max_length=64)
    target_count = models.PositiveIntegerField(null=True, blank=True)
    target_hash = models.CharField(max_length=64, blank=True, help_text=_("Over the ids of the frozen CIs."))
    frozen_at = models.DateTimeField(null=True, blank=True)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="started_rollouts")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    pause_kind = models.CharField(max_length=10, choices=PauseKind, blank=True)
    pause_reason = models.TextField(blank=True)
    waits_for = models.CharField(max_length=200, blank=True, help_text=_("Why nothing moves just now, for people."))
    round = models.PositiveSmallIntegerField(default=1, help_text=_("Grows with each resume: verdicts start anew."))
    freeze_mark = models.BigIntegerField(default=0, help_text=_("Id of the last CI that was frozen."))
    # Which coupled changes still run through the tickets, and how far they are (see services.cascade).
    cascade = models.CharField(max_length=20, blank=True)
    cascade_mark = models.CharField(max_length=64, blank=True)
    cascade_position = models.BigIntegerField(default=0, help_text=_("Newest deployment event that it has told."))
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
        indexes = [models.Index(fields=["id"], name="release_rollout_unsettled", condition=Q(settled_at__isnull=True))]

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.number

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


@pghistory.track(model_name="WaveHistory")
class Wave(StatefulModel):
    """A part of the targets, or (kind rollback) the CIs that go back together. One batch each.

    waiting → deploying → soaking (threshold met, the problem-free period runs) → passed; failed; rolled_back.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        DEPLOYING = "deploying", _("deploying")
        SOAKING = "soaking", _("soaking")
        PASSED = "passed", _("passed")
        FAILED = "failed", _("failed")
        ROLLED_BACK = "rolled_back", _("rolled back")

    class Kind(models.TextChoices):
        FORWARD = "forward", _("forward")
        ROLLBACK = "rollback", _("rollback")

    rollout = models.ForeignKey(Rollout, models.PROTECT, related_name="waves")
    number = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.FORWARD)
    state = StateField(default=State.WAITING, choices=State)
    batch = models.OneToOneField("distribution.Batch", models.PROTECT, related_name="wave")
    size = models.PositiveIntegerField(default=0, help_text=_("Frozen number of CIs: the denominator."))
    accepted_failures = models.PositiveIntegerField(
        default=0, help_text=_("Failures that somebody accepted by resuming; they count neither way.")
    )
    undoes = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="rollbacks",
        help_text=_("The wave it takes back."),
    )
    started_at = models.DateTimeField(null=True, blank=True)
    soak_started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["kind", "number"]
        verbose_name = _("wave")
        verbose_name_plural = _("waves")
        constraints = [
            models.UniqueConstraint(fields=["rollout", "kind", "number"], name="release_wave_number_once"),
        ]

    def __str__(self) -> str:
        return f"wave {self.number} of {self.rollout_id}"

    @transition("state", State.WAITING, State.DEPLOYING, custom={"label": _("Open"), "system": True})
    def open(self) -> None:
        """Its batch is offered."""

    @transition("state", State.DEPLOYING, State.SOAKING, custom={"label": _("Soak"), "system": True})
    def soak(self) -> None:
        """The success threshold over all its CIs is met."""

    @transition("state", State.SOAKING, State.DEPLOYING, custom={"label": _("Reopen"), "system": True})
    def reopen(self) -> None:
        """Confirmed success fell below the threshold again."""

    @transition("state", [State.DEPLOYING, State.SOAKING], State.PASSED, custom={"label": _("Pass"), "system": True})
    def succeed(self) -> None:
        """Threshold met and the problem-free period over."""

    @transition(
        "state",
        [State.DEPLOYING, State.SOAKING, State.PASSED],
        State.FAILED,
        custom={"label": _("Fail"), "system": True},
    )
    def fail(self) -> None:
        """Too many of its CIs failed."""

    @transition("state", State.FAILED, State.DEPLOYING, custom={"label": _("Go on"), "system": True})
    def go_on(self) -> None:
        """Somebody resumed the rollout in spite of the failures."""

    @transition(
        "state",
        [State.DEPLOYING, State.SOAKING, State.PASSED, State.FAILED],
        State.ROLLED_BACK,
        custom={"label": _("Rolled back"), "system": True},
    )
    def roll_back(self) -> None:
        """Its CIs went back."""


class Verdict(models.Model):
    """What the engine decided about a wave, with the numbers and the policy it saw; can be recomputed from the log."""

    class Kind(models.TextChoices):
        ERROR = "error", _("error threshold")
        SUCCESS = "success", _("success threshold")
        PASS = "pass", _("wave")

    class Outcome(models.TextChoices):
        PASSED = "passed", _("passed")
        BREACHED = "breached", _("breached")
        INSUFFICIENT = "insufficient", _("not reached")

    wave = models.ForeignKey(Wave, models.PROTECT, related_name="verdicts")
    kind = models.CharField(max_length=8, choices=Kind)
    round = models.PositiveSmallIntegerField(default=1)
    outcome = models.CharField(max_length=12, choices=Outcome)
    numbers = models.JSONField()
    policy = models.JSONField()
    event_position = models.BigIntegerField(help_text=_("Id of the newest deployment event that it took into account."))
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "id"]
        verbose_name = _("verdict")
        verbose_name_plural = _("verdicts")
        constraints = [models.UniqueConstraint(fields=["wave", "kind", "round"], name="release_verdict_once")]

    def __str__(self) -> str:
        return f"{self.kind} of wave {self.wave_id}: {self.outcome}"


class RolloutEvent(models.Model):
    """One thing that happened to a rollout, by whom and why; append-only."""

    class Kind(models.TextChoices):
        STARTED = "started", _("started")
        FROZEN = "frozen", _("targets frozen")
        WAVE_OPENED = "wave_opened", _("wave opened")
        WAVE_SOAKING = "wave_soaking", _("wave soaking")
        WAVE_PASSED = "wave_passed", _("wave passed")
        WAVE_FAILED = "wave_failed", _("wave failed")
        PAUSED = "paused", _("paused")
        RESUMED = "resumed", _("resumed")
        ABORTING = "aborting", _("abort ordered")
        ABORTED = "aborted", _("aborted")
        ROLLBACK_ORDERED = "rollback_ordered", _("rollback ordered")
        ROLLED_BACK = "rolled_back", _("rolled back")
        COMPLETED = "completed", _("completed")
        INCIDENT_OPENED = "incident_opened", _("incident opened")
        RETRY = "retry", _("retry ordered")
        EXCLUDED = "excluded", _("CI excluded")

    rollout = models.ForeignKey(Rollout, models.PROTECT, related_name="events")
    wave = models.ForeignKey(Wave, models.PROTECT, null=True, blank=True, related_name="events")
    kind = models.CharField(max_length=20, choices=Kind)
    text = models.TextField(blank=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "id"]
        verbose_name = _("rollout event")

    def __str__(self) -> str:
        return f"{self.kind} {self.text[:60]}"


class RolloutException(models.Model):
    """A CI without a way back or one whose rollback failed, or a gate that was skipped: who accepted it and why."""

    class Kind(models.TextChoices):
        NO_WAY_BACK = "no_way_back", _("no way back")
        ROLLBACK_FAILED = "rollback_failed", _("rollback failed")
        TEST_SKIPPED = "test_skipped", _("test gate skipped")

    release = models.ForeignKey(Release, models.PROTECT, related_name="exceptions")
    rollout = models.ForeignKey(Rollout, models.PROTECT, null=True, blank=True, related_name="exceptions")
    ci = models.ForeignKey(
        "cmdb.ConfigurationItem", models.PROTECT, null=True, blank=True, related_name="rollout_exceptions"
    )
    kind = models.CharField(max_length=16, choices=Kind)
    reason = models.TextField()
    content_hash = models.CharField(max_length=64, blank=True)
    recorded_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = _("exception")
        constraints = [
            models.UniqueConstraint(
                fields=["rollout", "ci", "kind"], name="release_exception_once", condition=Q(ci__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason[:60]}"
