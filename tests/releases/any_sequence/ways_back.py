"""Rollbacks: of everything, a wave, a CI; those that fail, stop, and wait for a person."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from releases import services
from releases.models import Wave
from tests.releases.any_sequence.stage import RARELY, Stage, ci_numbers, people, which_rollout

STOPPED = {"kind": Wave.Kind.ROLLBACK, "state": Wave.State.FAILED}


class WaysBack(Stage):
    @rule(chance=RARELY, which=which_rollout, sick=st.sets(ci_numbers))
    def roll_back(self, chance: bool, which: str, sick: set[int]) -> None:
        """On some of the CIs it will fail."""
        if chance:
            for number in sick:
                self.device(number).mood = "fails"
            self.verb(services.roll_back_rollout, self.rollout(which), person="sven")

    @rule(number=st.integers(1, 2), which=which_rollout)
    def roll_back_wave(self, number: int, which: str) -> None:
        wave = Wave.objects.filter(rollout=self.rollout(which), kind="forward", number=number).first()
        if wave is not None:
            self.verb(services.roll_back_wave, wave, person="sven")

    @rule(number=ci_numbers, which=which_rollout)
    def roll_back_ci(self, number: int, which: str) -> None:
        self.verb(services.roll_back_ci, self.rollout(which), person="sven", ci=self.ci(number))

    @precondition(lambda self: Wave.objects.filter(**STOPPED).exists())
    @rule(person=people, choice=st.sampled_from(["go_on", "retry", "end"]))
    def a_person_decides_about_the_rollback(self, person: str, choice: str) -> None:
        wave = Wave.objects.filter(**STOPPED).select_related("rollout").order_by("pk")[0]
        self.verb(services.continue_rollback, wave.rollout, person=person, choice=choice)
