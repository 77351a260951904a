"""The waves of a rollout and the verdicts on them."""

import pghistory
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from releases.models.rollout import Rollout
from tickets.lifecycle import StateField, StatefulModel


@pghistory.track(
    exclude=["seen_ended", "seen_installed", "skipped_by", "skip_reason", "skipped"], model_name="WaveHistory"
)
class Wave(StatefulModel):
    """A part of the targets, or (kind rollback) the CIs that go back together. One batch each.

    waiting → deploying → soaking (threshold met, the problem-free period runs) → passed; failed; rolled_back.
    A failed wave of a rollback waits for a person.
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
    rule = models.JSONField(default=dict, blank=True, help_text=_("Whom it takes, as the policy says it."))
    undoes = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="rollbacks",
        help_text=_("The wave it takes back."),
    )
    started_at = models.DateTimeField(null=True, blank=True)
    soak_started_at = models.DateTimeField(
        null=True, blank=True, help_text=_("When the problem-free period began or went on; empty while paused.")
    )
    soaked_seconds = models.PositiveIntegerField(default=0, help_text=_("Problem-free before the last pause."))
    # What was known when the problem-free period began: more begins it anew.
    soak_failures = models.PositiveIntegerField(default=0)
    accepted_incidents = models.PositiveIntegerField(
        default=0, help_text=_("Incidents in spite of which somebody resumed; later ones count.")
    )
    soak_incidents = models.PositiveIntegerField(default=0)
    # Of a rollback, what was there when nobody else had to go back: with more, it looks again.
    seen_ended = models.PositiveIntegerField(null=True, blank=True)
    seen_installed = models.BigIntegerField(null=True, blank=True)
    # The order to leave it behind, as long as CIs of it still wait; how many were taken out for that.
    skipped_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    skip_reason = models.TextField(blank=True)
    skipped = models.PositiveIntegerField(default=0)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["kind", "number"]
        verbose_name = _("wave")
        verbose_name_plural = _("waves")
        constraints = [
            models.UniqueConstraint(fields=["rollout", "kind", "number"], name="release_wave_number_once"),
        ]
        indexes = [
            models.Index(fields=["finished_at"], name="release_wave_finished", condition=Q(started_at__isnull=False))
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

    @transition(
        "state",
        [State.DEPLOYING, State.SOAKING, State.FAILED],
        State.PASSED,
        custom={"label": _("Override"), "system": True},
    )
    def override(self) -> None:
        """Somebody let the rollout go on without its success or its problem-free period; recorded."""

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
        OVERRIDE = "override", _("decision of a person")

    class Outcome(models.TextChoices):
        PASSED = "passed", _("passed")
        BREACHED = "breached", _("breached")
        INSUFFICIENT = "insufficient", _("not reached")
        OVERRIDDEN = "overridden", _("overridden")

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
