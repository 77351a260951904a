"""A rollout to hosts and agents alike, moved by `manage.py advance` alone: no broker, no worker."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from cmdb.models import ConfigurationItem, Connection, InstalledVersion
from distribution.channels.ansible.models import PushRun
from distribution.models import Deployment
from releases import services
from releases.invariants import check_invariants
from releases.models import Rollout
from software.models import Version
from tests.factories import make_ci
from tests.push.conftest import needs_ansible, put_in_place, wait_until
from tests.releases.world import POLICY, World, deployments, state
from tickets.clock import database_now

pytestmark = [pytest.mark.slow, needs_ansible, pytest.mark.timeout(400), pytest.mark.django_db(transaction=True)]


def add_host(world: World, name: str, root: Path) -> ConfigurationItem:
    """A host without an agent that runs billing 1.0."""
    put_in_place(root, world.old)
    ci = make_ci(name, channel=ConfigurationItem.Channel.ANSIBLE, created_at=world.now)
    Connection.objects.create(ci=ci, kind=Connection.Kind.LOCAL, folder=str(root))
    InstalledVersion.objects.create(
        ci=ci, product=world.billing, version=world.old, label=world.old.label, valid_from=world.now
    )
    return ci


def run_until_settled(world: World, rollout: Rollout) -> None:
    def step() -> bool:
        world.now = database_now()
        world.work()
        call_command("advance", verbosity=0)
        rollout.refresh_from_db()
        return rollout.settled_at is not None

    wait_until(step, seconds=180)


def current(root: Path) -> str:
    return (root / "billing" / "current").readlink().name


def test_forward_in_waves_and_back_again(tmp_path: Path, settings: Any):
    world = World(now=database_now())
    hosts = {add_host(world, f"host-{n}", tmp_path / "hosts" / str(n)): tmp_path / "hosts" / str(n) for n in (1, 2)}
    world.add_ci("agent-1")
    policy = {**POLICY, "soak_seconds": 1, "offer_deadline": 600, "progress_deadline": 600, "confirm_deadline": 600}

    rollout = world.started(policy=policy)
    run_until_settled(world, rollout)

    assert state(rollout) == "completed"
    assert deployments(rollout) == dict.fromkeys(["host-1", "host-2", "agent-1"], "succeeded")
    assert [current(root) for root in hosts.values()] == ["2.0", "2.0"]
    assert PushRun.objects.count() == 2, "one for each wave"
    assert check_invariants() == []

    services.roll_back_rollout(rollout, actor=world.sven, now=database_now(), reason="it was the wrong one")
    run_until_settled(world, rollout)

    assert state(rollout) == "rolled_back"
    assert [current(root) for root in hosts.values()] == ["1.0", "1.0"]
    assert set(world.runs().values()) == {"1.0"}
    assert Deployment.objects.filter(state="succeeded").count() == 6
    assert Version.objects.filter(state="ready").count() == 2
    assert check_invariants() == []
