"""What holds a rollout besides its own numbers: freezes, planned times, incidents, probes."""

from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from changes.freezes import declare_freeze, edit_freeze
from changes.models import Change, Freeze
from incidents.models import Incident
from releases import probing, services
from releases.models import RolloutEvent, Wave
from tests.releases.any_sequence.stage import RARELY, Stage, ci_numbers, people, which_rollout
from tests.releases.any_sequence.time_passes import Killed


class Gates(Stage):
    # --- freezes and planned times --------------------------------------------------------------------
    @rule(chance=RARELY, after=st.sampled_from([0, 20]), seconds=st.sampled_from([30, 1000]))
    def a_freeze(self, chance: bool, after: int, seconds: int) -> None:
        if chance:
            begin = self.world.now + timedelta(seconds=after)
            declare_freeze(
                actor=self.cora, now=self.world.now, name="Year end", reason="The books are closed.",
                starts_at=begin, ends_at=begin + timedelta(seconds=seconds),
            )  # fmt: skip

    @precondition(lambda self: Freeze.objects.filter(ends_at__gt=self.world.now).exists())
    @rule()
    def the_freezes_are_lifted(self) -> None:
        self.lift_freezes()

    def lift_freezes(self) -> None:
        for freeze in Freeze.objects.filter(ends_at__gt=self.world.now):
            ends_at = max(self.world.now, freeze.starts_at)
            edit_freeze(freeze, actor=self.cora, now=self.world.now, ends_at=ends_at)

    @rule(chance=RARELY, seconds=st.sampled_from([20, 30 * 86400]))
    def the_planned_end_is_moved(self, chance: bool, seconds: int) -> None:
        if chance:
            self.move_planned_end(seconds)

    def move_planned_end(self, seconds: int) -> None:
        Change.objects.update(planned_end=self.world.now + timedelta(seconds=seconds))

    @rule(person=people, which=which_rollout)
    def go_on_in_spite_of_the_window(self, person: str, which: str) -> None:
        self.verb(services.override_window, self.rollout(which), person=person)

    def no_wave_opened_in_a_freeze(self) -> None:
        """But for those that somebody let go on in spite of it. Where clocks went back, nobody can tell."""
        if self.tolerance:
            return
        overridden = RolloutEvent.objects.filter(kind="window_overridden").values("rollout")
        waves = Wave.objects.filter(kind="forward", started_at__isnull=False).exclude(rollout__in=overridden)
        for freeze in Freeze.objects.all():
            inside = waves.filter(started_at__gt=freeze.created_at, started_at__lt=freeze.ends_at)
            assert not inside.filter(started_at__gte=freeze.starts_at).exists(), freeze

    # --- incidents and probes -------------------------------------------------------------------------
    @rule(number=ci_numbers)
    def an_incident(self, number: int) -> None:
        self.world.incident(self.ci(number), state="new")

    @rule()
    def the_newest_incident_was_none(self) -> None:
        newest = Incident.objects.filter(created_by__isnull=False, state="new").order_by("pk").last()
        if newest is not None:
            Incident.objects.filter(pk=newest.pk).update(state="cancelled")

    @precondition(lambda self: "probes" in self.extras)
    @rule(answer=st.sampled_from(["pass", "pass", "fail", "inconclusive", "the worker is killed"]))
    def the_probes_answer(self, answer: str) -> None:
        self.ask_probes(answer)

    def ask_probes(self, answer: str) -> None:
        def ask(_probe: Any) -> tuple[str, str]:
            if answer == "the worker is killed":
                raise Killed
            return answer, "simulated"

        with patch.multiple(probing, ask=ask, database_now=lambda: self.world.now), suppress(Killed):
            probing.take_samples()
