"""What people order of a rollout: pause, resume, go on, decide, exclude, retry, displace, abort."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from releases import services
from tests.releases.any_sequence.stage import RARELY, Stage, ci_numbers, people, which_rollout


class Orders(Stage):
    @rule(person=people, which=which_rollout, mode=st.sampled_from(["freeze", "let_run"]))
    def pause(self, person: str, which: str, mode: str) -> None:
        self.verb(services.pause_rollout, self.rollout(which), person=person, mode=mode)

    @rule(person=people, which=which_rollout, mode=st.sampled_from(["accept", "retry", "skip"]))
    def resume(self, person: str, which: str, mode: str) -> None:
        self.verb(services.resume_rollout, self.rollout(which), person=person, mode=mode)

    @rule(person=people, which=which_rollout, number=st.integers(1, 2))
    def next_wave(self, person: str, which: str, number: int) -> None:
        self.verb(services.next_wave, self.rollout(which), person=person, wave=number)

    @rule(number=ci_numbers, which=which_rollout, decision=st.sampled_from(["fail", "retry", "ignore", "exclude"]))
    def decide(self, number: int, which: str, decision: str) -> None:
        self.verb(services.decide_failure, self.rollout(which), person="mona", ci=self.ci(number), decision=decision)

    @rule(which=which_rollout)
    def supersede(self, which: str) -> None:
        self.verb(services.supersede_older, self.rollout(which), person="mona")

    @rule(number=ci_numbers, which=which_rollout)
    def exclude(self, number: int, which: str) -> None:
        self.verb(services.exclude_ci, self.rollout(which), person="olga", ci=self.ci(number))

    @rule(which=which_rollout)
    def retry(self, which: str) -> None:
        self.verb(services.retry_failed_cis, self.rollout(which), person="mona")

    @rule(chance=RARELY, which=which_rollout)
    def abort(self, chance: bool, which: str) -> None:
        if chance:
            self.verb(services.abort_rollout, self.rollout(which), person="olga")
