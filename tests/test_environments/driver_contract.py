"""What every driver of test environments does: a base class of tests, without Django and without a database.

A driver's own test module derives a class from `DriverContract` and gives it a fixture `bench`.
"""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import pytest

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Capacity, Conflict, Failed, Interrupted, NotFound, Unsupported
from test_environments.drivers.interface import (
    CaptureOrder,
    Clone,
    CreateOrder,
    Delivery,
    Driver,
    Evidence,
    Image,
    NetworkMode,
    Owned,
    Power,
    Provenance,
    Recipe,
    StoppedHow,
)

PROVENANCE = Provenance(portal="https://portal.example.org", number="ENV-0000005", source="till-7", created_at="2026")


@dataclass
class Bench:
    """A driver with a source to copy.

    `reopen` gives a new driver on the same folder, as after the runner was killed, `foreign` one of another portal.
    `write` and `read` put a text into an environment that is off, and find it again.
    """

    driver: Driver
    reopen: Callable[[], Driver]
    foreign: Callable[[], Driver]
    capture_order: CaptureOrder
    missing_location: str
    evidence: Evidence
    clone: Clone = Clone.FULL
    network: NetworkMode = NetworkMode.HOST
    write: Callable[[UUID, str], None] | None = None
    read: Callable[[UUID], str] | None = None
    seconds: float = 60.0

    def bound(self) -> Bound:
        return Bound(self.seconds)

    def capture(self) -> Image:
        return self.driver.capture(self.capture_order, self.bound())

    def order(self, image: Image, environment: UUID) -> CreateOrder:
        return CreateOrder(
            environment, image.image, image.image_sha256, PROVENANCE, clone=self.clone, network=self.network
        )

    def create(self, image: Image) -> UUID:
        environment = uuid4()
        self.driver.create(self.order(image, environment), self.bound())
        return environment

    def deliver(self, environment: UUID, *recipes: Recipe) -> tuple[str, ...]:
        delivery = Delivery("http://127.0.0.1:9", "till-7-copy", "secret", {"tenant": "x"}, recipes)
        return self.driver.deliver(environment, delivery, self.bound())

    def running(self) -> UUID:
        environment = self.create(self.capture())
        self.deliver(environment)
        self.driver.start(environment, self.bound())
        self.until(environment, Power.RUNNING)
        return environment

    def until(self, environment: UUID, power: Power) -> None:
        seen = []
        bound = self.bound()
        is_there = bound.wait(lambda: seen.append(self.power(environment)) or seen[-1] is power)
        assert is_there, f"it never was {power}, last {seen[-1]}"

    def power(self, environment: UUID) -> Power:
        return self.driver.observe(environment, self.bound()).power

    def owned(self) -> set[tuple[UUID, str]]:
        return {(owned.uuid, owned.what) for owned in self.driver.list_owned(self.bound())}


class DriverContract:
    """Derive, and define the fixture `bench`; it must leave nothing behind."""

    def test_capabilities_name_what_the_driver_then_does(self, bench: Bench):
        able = bench.driver.capabilities(bench.bound())
        assert bench.capture_order.kind in able.kinds
        assert bench.capture_order.method in able.methods
        assert bench.clone in able.clones
        assert bench.network in able.networks
        assert able.evidence is bench.evidence

    def test_an_image_is_taken_once_and_is_the_same_afterwards(self, bench: Bench):
        first, again = bench.capture(), bench.capture()
        assert first == again == bench.reopen().capture(bench.capture_order, bench.bound())
        assert len(first.source_sha256) == len(first.image_sha256) == 64
        assert first.source_bytes > 0
        assert (first.image, "image") in bench.owned()

    def test_a_source_that_does_not_exist_is_not_found_and_leaves_nothing(self, bench: Bench):
        order = replace(bench.capture_order, location=bench.missing_location)
        with pytest.raises(NotFound):
            bench.driver.capture(order, bench.bound())
        assert bench.owned() == set()

    def test_a_checksum_that_is_not_the_senders_refuses_the_image(self, bench: Bench):
        with pytest.raises(Failed, match="checksum"):
            bench.driver.capture(replace(bench.capture_order, expected_sha256="0" * 64), bench.bound())
        assert bench.owned() == set()

    def test_a_job_that_is_to_end_ends_in_every_long_verb(self, bench: Bench):
        stopped = Bound(bench.seconds, lambda: True)
        with pytest.raises(Interrupted):
            bench.driver.capture(bench.capture_order, stopped)
        image = bench.capture()
        with pytest.raises(Interrupted):
            bench.driver.create(bench.order(image, uuid4()), stopped)

    def test_a_verb_whose_time_is_up_fails_or_is_done_and_is_done_when_it_is_called_again(self, bench: Bench):
        driver, environment, kept = bench.driver, uuid4(), uuid4()
        with pytest.raises(Failed, match="did not finish"):
            driver.capture(bench.capture_order, Bound(0))
        image = bench.capture()
        with pytest.raises(Failed, match="did not finish"):
            driver.create(bench.order(image, environment), Bound(0))
        delivery = Delivery("http://127.0.0.1:9", "till-7-copy", "secret", {"tenant": "x"})
        for step in (
            lambda bound: driver.create(bench.order(image, environment), bound),
            lambda bound: driver.snapshot(environment, kept, bound),
            lambda bound: driver.deliver(environment, delivery, bound),
            lambda bound: driver.start(environment, bound),
            lambda bound: driver.observe(environment, bound),
            lambda bound: driver.stop(environment, bound, grace_seconds=0),
            lambda bound: driver.revert(environment, kept, bound),
            driver.capabilities,
            driver.list_owned,
            lambda bound: driver.destroy(environment, bound),
            lambda bound: driver.delete_image(image.image, bound),
        ):
            with contextlib.suppress(Failed):
                step(Bound(0))
            step(bench.bound())
        assert bench.owned() == set()

    def test_what_there_is_no_room_for_is_refused_before_anything_is_made(self, bench: Bench, monkeypatch):
        image, disk_usage = bench.capture(), shutil.disk_usage
        monkeypatch.setattr(shutil, "disk_usage", lambda path: disk_usage(path)._replace(free=3))
        with pytest.raises(Capacity, match="MB are free"):
            bench.driver.create(bench.order(image, uuid4()), bench.bound())
        assert bench.owned() == {(image.image, "image")}

    def test_an_environment_is_made_off_and_made_again_over_what_was_left(self, bench: Bench):
        image = bench.capture()
        environment = bench.create(image)
        assert bench.power(environment) is Power.OFF
        bench.driver.create(bench.order(image, environment), bench.bound())
        assert bench.power(environment) is Power.OFF
        assert bench.owned() == {(image.image, "image"), (environment, "environment")}

    def test_an_image_that_is_missing_or_another_one_is_refused(self, bench: Bench):
        image = bench.capture()
        with pytest.raises(NotFound):
            bench.driver.create(replace(bench.order(image, uuid4()), image=uuid4()), bench.bound())
        with pytest.raises(Conflict):
            bench.driver.create(replace(bench.order(image, uuid4()), image_sha256="0" * 64), bench.bound())
        assert bench.owned() == {(image.image, "image")}

    def test_what_the_driver_cannot_give_is_refused_and_nothing_else_is_given(self, bench: Bench):
        image = bench.capture()
        with pytest.raises(Unsupported):
            bench.driver.create(replace(bench.order(image, uuid4()), accelerator="warp"), bench.bound())

    def test_without_an_identity_it_does_not_start(self, bench: Bench):
        environment = bench.create(bench.capture())
        with pytest.raises(Conflict):
            bench.driver.start(environment, bench.bound())

    def test_verbs_on_an_environment_that_is_not_there(self, bench: Bench):
        nobody = uuid4()
        assert bench.power(nobody) is Power.ABSENT
        assert bench.driver.stop(nobody, bench.bound(), grace_seconds=0) is StoppedHow.ALREADY
        bench.driver.destroy(nobody, bench.bound())
        bench.driver.delete_image(nobody, bench.bound())
        for verb in (bench.driver.start, lambda key, bound: bench.driver.revert(key, None, bound)):
            with pytest.raises(NotFound):
                verb(nobody, bench.bound())
        with pytest.raises(NotFound):
            bench.deliver(nobody)
        assert bench.owned() == set()

    def test_a_start_says_what_evidence_it_is_and_again_changes_nothing(self, bench: Bench):
        environment = bench.running()
        before = bench.driver.observe(environment, bench.bound())
        assert before.evidence is bench.evidence
        assert bench.driver.start(environment, bench.bound()).evidence is bench.evidence
        assert bench.driver.observe(environment, bench.bound()).process == before.process

    def test_what_runs_is_neither_made_again_nor_changed_under_its_feet(self, bench: Bench):
        image = bench.capture()
        environment = bench.running()
        for refused in (
            lambda: bench.driver.create(bench.order(image, environment), bench.bound()),
            lambda: bench.deliver(environment),
            lambda: bench.driver.snapshot(environment, uuid4(), bench.bound()),
            lambda: bench.driver.revert(environment, None, bench.bound()),
        ):
            with pytest.raises(Conflict):
                refused()
        assert bench.power(environment) is Power.RUNNING

    def test_a_stop_says_which_it_was(self, bench: Bench):
        environment = bench.running()
        assert bench.driver.stop(environment, bench.bound(), grace_seconds=0) is StoppedHow.FORCED
        assert bench.power(environment) is Power.OFF
        assert bench.driver.stop(environment, bench.bound(), grace_seconds=0) is StoppedHow.ALREADY
        bench.driver.start(environment, bench.bound())
        bench.until(environment, Power.RUNNING)
        assert bench.driver.stop(environment, bench.bound(), grace_seconds=bench.seconds / 2) is StoppedHow.GRACEFUL
        assert bench.power(environment) is Power.OFF

    def test_a_revert_brings_back_what_was_and_takes_the_identity(self, bench: Bench):
        if bench.write is None or bench.read is None:
            pytest.skip("this bench cannot write into an environment")
        environment, kept = bench.create(bench.capture()), uuid4()
        bench.deliver(environment)
        bench.write(environment, "first")
        bench.driver.snapshot(environment, kept, bench.bound())
        bench.driver.snapshot(environment, kept, bench.bound())
        bench.write(environment, "second")
        bench.driver.revert(environment, kept, bench.bound())
        assert bench.read(environment) == "first"
        with pytest.raises(Conflict):
            bench.driver.start(environment, bench.bound())
        bench.driver.revert(environment, None, bench.bound())
        assert bench.read(environment) == ""
        bench.driver.revert(environment, kept, bench.bound())
        assert bench.read(environment) == "first"

    def test_a_snapshot_that_does_not_exist_is_not_found(self, bench: Bench):
        environment = bench.create(bench.capture())
        with pytest.raises(NotFound):
            bench.driver.revert(environment, uuid4(), bench.bound())
        assert bench.power(environment) is Power.OFF

    def test_an_image_is_not_deleted_while_a_clone_lives(self, bench: Bench):
        image = bench.capture()
        one, other = bench.create(image), bench.create(image)
        bench.driver.destroy(one, bench.bound())
        with pytest.raises(Conflict):
            bench.driver.delete_image(image.image, bench.bound())
        bench.driver.destroy(other, bench.bound())
        for _ in range(2):
            bench.driver.delete_image(image.image, bench.bound())
        assert bench.owned() == set()

    def test_what_runs_is_destroyed_too_and_again_is_fine(self, bench: Bench):
        environment = bench.running()
        for _ in range(2):
            bench.driver.destroy(environment, bench.bound())
            assert bench.power(environment) is Power.ABSENT
        assert bench.owned() == {(bench.capture_order.image, "image")}

    def test_two_environments_of_one_image_run_side_by_side(self, bench: Bench):
        one, other = bench.running(), bench.running()
        bench.driver.destroy(one, bench.bound())
        assert bench.power(other) is Power.RUNNING

    def test_what_a_killed_runner_left_is_found_by_the_next_one(self, bench: Bench):
        image = bench.capture()
        environment = bench.create(image)
        found = bench.reopen().list_owned(bench.bound())
        assert sorted(found, key=lambda owned: owned.what) == [
            Owned(environment, "environment", PROVENANCE),
            Owned(image.image, "image", bench.capture_order.provenance),
        ]

    def test_things_of_another_portal_are_not_ours(self, bench: Bench):
        bench.create(bench.capture())
        assert bench.foreign().list_owned(bench.bound()) == []

    def test_an_unknown_option_is_refused(self, bench: Bench, tmp_path):
        with (
            pytest.raises(Unsupported, match="colour"),
            contextlib.closing(type(bench.driver)(tmp_path, portal="x", options={"colour": "red"}, say=print)),
        ):
            pass
