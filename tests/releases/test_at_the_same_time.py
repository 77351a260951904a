"""Several workers, devices and people at once, each with a connection of its own, on the real clock."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from accounts.models import User
from incidents.models import Incident
from notifications.models import Outbox
from releases import executor, services
from releases.invariants import check_invariants
from releases.models import Release, Rollout
from test_environments.models import TestEnvironment
from tests.releases.world import BIG_BANG, POLICY, Device, World, state, waves
from tickets.clock import database_now
from tickets.exceptions import DomainError

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def company(transactional_db: None, media: Any) -> Iterator[World]:
    world = World()
    world.now = database_now()
    yield world
    assert check_invariants() == []


def at_once(*jobs: Callable[[], None]) -> None:
    """Runs the jobs in threads that begin together; the first error of any of them is raised here."""
    errors: list[BaseException] = []
    together = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        try:
            together.wait(20)
            job()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


@pytest.mark.parametrize("workers", [2, 5])
def test_ticks_at_the_same_time_do_everything_once(company: World, workers: int) -> None:
    world = company
    cis = world.add_cis(4)
    incidents = [world.incident(ci) for ci in cis]
    world.mood("fails", cis[1])
    change = world.change(world.problem(*incidents))
    policy = {**POLICY, "error_threshold": 0, "waves": [{"count": 2}, {"rest": True}]}
    rollout = world.started(changes=[change], policy=policy)

    def ticks() -> None:
        for _ in range(3):
            executor.run_ticks(now=world.now)

    at_once(*[ticks] * workers)
    assert waves(rollout) == ["deploying", "waiting"]
    world.work()
    at_once(*[ticks] * workers)
    assert waves(rollout) == ["failed", "waiting"]
    assert Incident.objects.filter(created_by=None).count() == 1
    assert rollout.events.filter(kind="wave_failed").count() == 1
    services.resume_rollout(Rollout.objects.get(), actor=world.mona, now=world.now, reason="known")
    for _ in range(4):
        world.work()
        at_once(*[ticks] * workers)
        world.now += timedelta(seconds=POLICY["soak_seconds"] + 1)
    assert state(rollout) == "completed"
    assert [state(i) for i in incidents] == ["resolved", "on_hold", "resolved", "resolved"]
    event = f"rollout:{rollout.pk}:completed"
    assert Outbox.objects.filter(event=event, thread__startswith="INC").count() == 3
    for incident in incidents:
        assert incident.entries.count() == 2


def test_a_pause_and_the_last_success_in_the_same_moment(company: World) -> None:
    world = company
    world.add_cis(1)
    for _ in range(6):
        rollout = world.started(policy={**BIG_BANG, "soak_seconds": 1}, changes=[world.change()])
        executor.run_ticks(now=database_now())

        def pause(rollout: Rollout = rollout) -> None:
            time.sleep(random.random() / 50)
            services.pause_rollout(
                Rollout.objects.get(pk=rollout.pk), actor=world.olga, now=database_now(), reason="stop"
            )

        def install() -> None:
            for agent in world.devices:
                agent.run(database_now())

        def tick() -> None:
            for _ in range(4):
                executor.run_ticks(now=database_now())

        at_once(pause, install, tick, tick)
        assert state(rollout) == "paused"
        services.roll_back_rollout(
            Rollout.objects.get(pk=rollout.pk), actor=world.sven, now=database_now(), reason="next round"
        )
        until(world, lambda rollout=rollout: state(rollout) == "rolled_back")
        assert world.runs() == {"srv-1": "1.0"}


def until(world: World, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        executor.run_ticks(now=database_now())
        for agent in world.devices:
            agent.run(database_now())


@pytest.mark.parametrize("order", ["pause", "resume", "abort", "roll_back", "retry", "decide", "next_wave", "start"])
def test_two_people_who_give_the_same_order_at_once_give_it_once(company: World, order: str) -> None:
    world = company
    one, _ = world.add_cis(2)
    release = world.approved(policy={**BIG_BANG, "soak_seconds": 10_000})
    if order != "start":
        services.start_rollout(release, actor=world.sven, now=world.now)
        world.mood("fails" if order in {"retry", "decide", "resume"} else "ok", one)
        executor.run_ticks(now=database_now())
        world.work()
        executor.run_ticks(now=database_now())
    paul = User.objects.create(username="paul")
    paul.groups.set(world.mona.groups.all())

    def by(person: User) -> Callable[[], None]:
        def give() -> None:
            said = {"actor": person, "now": database_now()}
            if order == "start":
                services.start_rollout(Release.objects.get(), **said)
                return
            rollout = Rollout.objects.get()
            if order == "retry":
                services.retry_failed_cis(rollout, **said)
            elif order == "decide":
                services.decide_failure(rollout, ci=one, decision="ignore", reason="known", **said)
            elif order == "next_wave":
                services.next_wave(rollout, wave=1, reason="urgent", **said)
            else:
                getattr(services, f"{order}_rollout")(rollout, reason="both", **said)

        return give

    first, second = (world.sven, paul) if order == "start" else (world.mona, paul)
    at_once(by(first), by(second))
    kinds = {
        "pause": "paused", "resume": "resumed", "abort": "aborting", "roll_back": "rollback_ordered", "retry": "retry",
        "decide": "decided", "next_wave": "overridden", "start": "started",
    }  # fmt: skip
    assert Rollout.objects.get().events.filter(kind=kinds[order], actor__isnull=False).count() == 1


def test_an_abort_and_the_last_success_in_the_same_moment(company: World) -> None:
    world = company
    world.add_cis(1)
    for _ in range(6):
        rollout = world.started(policy={**BIG_BANG, "soak_seconds": 1}, changes=[world.change()])
        executor.run_ticks(now=database_now())

        def abort(rollout: Rollout = rollout) -> None:
            time.sleep(random.random() / 20)
            mine = Rollout.objects.get(pk=rollout.pk)
            services.abort_rollout(mine, actor=world.olga, now=database_now(), reason="stop")

        def install() -> None:
            for agent in world.devices:
                agent.run(database_now())

        def tick() -> None:
            for _ in range(4):
                executor.run_ticks(now=database_now())

        at_once(abort, install, tick, tick)
        until(world, lambda rollout=rollout: state(rollout) == "aborted")
        runs = {agent.runs["billing"] for agent in world.devices}
        assert set(world.runs().values()) == runs, "what was installed stays, and is known"
        if runs == {"2.0"}:
            mine = Rollout.objects.get(pk=rollout.pk)
            services.roll_back_rollout(mine, actor=world.sven, now=database_now(), reason="next round")
            until(world, lambda rollout=rollout: state(rollout) == "rolled_back")
        assert world.runs() == {"srv-1": "1.0"}


def test_a_new_start_and_the_rollback_of_the_aborted_one_do_not_block_each_other(company: World) -> None:
    world = company
    world.add_cis(2)
    release = world.approved(policy=BIG_BANG)
    for _ in range(4):
        rollout = services.start_rollout(Release.objects.get(), actor=world.sven, now=database_now())
        until(world, lambda: world.runs()["srv-1"] == "2.0")
        services.abort_rollout(rollout, actor=world.olga, now=database_now(), reason="stop")
        until(world, lambda rollout=rollout: state(rollout) == "aborted")
        refused: list[str] = []

        def ordered(call: Callable[..., Any], what: Any, refused: list[str] = refused, **values: Any) -> None:
            try:
                call(what, actor=world.sven, now=database_now(), **values)
            except DomainError as error:
                refused.append(str(error))

        at_once(
            lambda rollout=rollout, ordered=ordered: ordered(
                services.roll_back_rollout, Rollout.objects.get(pk=rollout.pk), reason="back"
            ),
            lambda ordered=ordered: ordered(services.start_rollout, Release.objects.get()),
            lambda: executor.run_ticks(now=database_now()) and None,
        )
        assert len(refused) == 1, "one was first, and the other one was told"
        assert Rollout.objects.active().count() == 1
        for active in Rollout.objects.active().exclude(state="rolling_back"):
            services.abort_rollout(active, actor=world.olga, now=database_now(), reason="next round")
            until(world, lambda active=active: state(active) == "aborted")
            services.roll_back_rollout(active, actor=world.sven, now=database_now(), reason="next round")
        until(world, lambda: not Rollout.objects.active().exists())
        if state(release) != "ready":
            return  # the rollback was first: the release is rolled back, and starts no more


def test_devices_workers_and_people_in_any_order(company: World) -> None:
    """Ten devices, three workers and an operator who pauses, resumes, takes CIs back, until it has ended."""
    world = company
    cis = world.add_cis(10)
    incidents = [world.incident(ci) for ci in cis]
    policy = {**POLICY, "waves": [{"count": 2}, {"percent": 30}, {"rest": True}], "soak_seconds": 1, "max_in_flight": 2}
    rollout = world.started(changes=[world.change(incidents=incidents)], policy=policy)
    over = threading.Event()
    give_up = time.monotonic() + 75

    def is_over() -> bool:
        return over.is_set() or time.monotonic() > give_up

    def work(agent: Device) -> None:
        while not is_over():
            agent.step(database_now())
            time.sleep(0.02)

    def tick() -> None:
        while not is_over():
            executor.run_ticks(now=database_now())
            if state(rollout) == "completed" and Rollout.objects.get(pk=rollout.pk).settled_at:
                over.set()

    def operate() -> None:
        chance = random.Random(7)
        for _ in range(12):
            if is_over():
                return
            mine = Rollout.objects.get(pk=rollout.pk)
            verb = chance.choice(["pause", "resume", "ci"])
            try:
                if verb == "pause":
                    services.pause_rollout(mine, actor=world.olga, now=database_now(), reason="a look")
                elif verb == "resume":
                    services.resume_rollout(mine, actor=world.mona, now=database_now(), reason="go on")
                else:
                    ci = chance.choice(cis)
                    services.roll_back_ci(mine, ci=ci, actor=world.sven, now=database_now(), reason="here")
            except DomainError:
                pass
            time.sleep(0.2)
        while not is_over():
            try:
                mine = Rollout.objects.get(pk=rollout.pk)
                services.resume_rollout(mine, actor=world.mona, now=database_now(), reason="go on")
            except DomainError:
                pass
            time.sleep(0.2)

    at_once(operate, tick, tick, tick, *[lambda agent=agent: work(agent) for agent in world.devices])
    assert over.is_set(), (state(rollout), waves(rollout), Rollout.objects.get().waits_for)
    runs = world.runs()
    for ci, incident in zip(cis, incidents, strict=True):
        agent = next(a for a in world.devices if a.ci == ci)
        assert runs[ci.name] == agent.runs["billing"]
        assert state(incident) == ("resolved" if runs[ci.name] == "2.0" else "on_hold")


def test_an_edit_of_the_release_and_the_tick_of_its_test_do_not_block_each_other(company: World) -> None:
    world = company
    world.add_cis(1)
    release = world.built()
    run = release.test_runs.model.objects.create(
        release=release,
        environment=_environment(world),
        package_hash="x",
        soak_seconds=1,
        started_by=world.erik,
        created_at=world.now,
        updated_at=world.now,
    )
    type(release).objects.filter(pk=release.pk).update(state="testing")

    def edit() -> None:
        versions = [world.new, world.newer]
        for n in range(8):
            with transaction.atomic():
                services.edit_release(
                    type(release).objects.get(pk=release.pk),
                    actor=world.erik,
                    now=world.now,
                    versions=[versions[(n + 1) % 2]],
                )
            type(release).objects.filter(pk=release.pk).update(state="testing")
            type(run).objects.filter(pk=run.pk).update(state="preparing", finished_at=None)

    def tick() -> None:
        for _ in range(30):
            executor.run_ticks(now=world.now)

    at_once(edit, tick, tick)


def _environment(world: World) -> Any:
    times = {"created_at": world.now, "updated_at": world.now}
    return TestEnvironment.objects.create(source=world.devices[0].ci, state="error", **times)
