"""Devices: what they do, repeat, contradict and leave undone; what happens to them; when they may be changed."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.releases.any_sequence.stage import Stage, ci_numbers

MOODS = ["ok", "fails", "reverts", "offline", "hangs", "mute", "stubborn"]


class Devices(Stage):
    @rule(number=ci_numbers)
    def device_does_one_thing(self, number: int) -> None:
        self.device(number).step(self.world.now)

    @rule(number=ci_numbers)
    def device_does_all_it_can(self, number: int) -> None:
        self.device(number).run(self.world.now)

    @rule()
    def all_devices_work(self) -> None:
        self.world.work()

    @rule(number=ci_numbers, back=st.integers(0, 5))
    def device_says_something_again(self, number: int, back: int) -> None:
        self.device(number).say_again(back, self.world.now)

    @rule(number=ci_numbers)
    def device_contradicts_itself(self, number: int) -> None:
        self.device(number).contradict(self.world.now)

    @rule(number=ci_numbers, mood=st.sampled_from(MOODS))
    def device_changes(self, number: int, mood: str) -> None:
        self.device(number).mood = mood

    @rule(number=ci_numbers, label=st.sampled_from(["1.0", "2.0", "3.0"]))
    def somebody_installs_by_hand(self, number: int, label: str) -> None:
        self.device(number).runs["billing"] = label

    @rule(number=ci_numbers, lifecycle=st.sampled_from(["retired", "in_operation"]))
    def retire(self, number: int, lifecycle: str) -> None:
        self.write(number, lifecycle=lifecycle)

    @rule(number=ci_numbers, has_window=st.booleans())
    def a_maintenance_window(self, number: int, has_window: bool) -> None:
        """Its device may be changed from ten to eleven only; it is nine when the example begins."""
        self.write(number, maintenance_window=self.window if has_window else None)

    def write(self, number: int, **values: object) -> None:
        ci = self.ci(number)
        type(ci).objects.filter(pk=ci.pk).update(**values)
