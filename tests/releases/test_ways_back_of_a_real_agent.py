"""The whole way there and back with the portal's agent as a process of its own, by script and by snapshot."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from cmdb.services import issue_agent_token
from distribution.models import Deployment, DeploymentEvent
from distribution.services import queue_deployments
from releases import services
from releases.invariants import check_invariants
from software.models import Version
from software.services import create_version, store_artifact
from tests.agent.ci import archive
from tests.distribution.fleet import make_batch
from tests.factories import make_ci
from tests.releases.world import BIG_BANG, World, state
from tickets.clock import database_now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
CONVERT = 'echo "$AGENT_VERSION" > "$AGENT_CI_ROOT/billing/data/format"'


class Till:
    """A CI of the world with a real agent, and data that each installation converts."""

    def __init__(self, world: World, folder: Path, url: str) -> None:
        self.world, self.folder = world, folder
        self.ci = make_ci("till-7", agent_id="till-7")
        (folder / "token").write_text(issue_agent_token(self.ci, actor=None, now=database_now()))
        config = {"url": url, "controller_id": "till-7", "token_file": "token", "root": "till"}
        (folder / "agent.json").write_text(json.dumps(config))
        self.data = folder / "till" / "billing" / "data"
        self.data.mkdir(parents=True)
        (self.data / "orders").write_text("day 1")

    def version(self, label: str, **members: Any) -> Version:
        now = database_now()
        version = create_version(self.world.billing, actor=self.world.erik, now=now, label=label)
        post = {"command": ["sh", "-c", CONVERT]}
        info = {"product": "billing", "version": label, "post": post, **members}
        stream = io.BytesIO(archive({"software.json": json.dumps(info).encode(), "app.txt": label.encode()}))
        name = f"billing-{label}.tar.gz"
        store_artifact(version, actor=self.world.erik, now=now, filename=name, stream=stream)
        version.refresh_from_db()
        self.world.now = database_now()
        return version

    def install(self, version: Version) -> None:
        """By hand of the test, as the first installation."""
        batch, product = make_batch("by hand"), self.world.billing.pk
        package = [(product, version.pk, 1)]
        queue_deployments(
            batch, ci_ids=[self.ci.pk], package=package, fresh={self.ci.pk: [product]}, now=database_now()
        )
        self.poll()

    def poll(self) -> None:
        command = [sys.executable, "-m", "agent", "run", "--once", "--config", str(self.folder / "agent.json")]
        result = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=90)
        assert result.returncode == 0, result.stderr

    def tick(self, seconds: float = 0) -> None:
        self.world.now = database_now()
        self.world.tick(seconds)

    def runs(self) -> str:
        return (self.folder / "till" / "billing" / "current" / "app.txt").read_text()


@pytest.fixture
def till(world: World, tmp_path: Path, live_server: Any, settings: Any) -> Till:
    settings.MEDIA_ROOT = tmp_path / "media"
    world.now = database_now()
    till = Till(world, tmp_path, live_server.url)
    till.install(till.version("1.1"))
    assert (till.runs(), world.runs()) == ("1.1", {"till-7": "1.1"})
    return till


@pytest.mark.parametrize("way", ["script", "snapshot"])
def test_a_real_agent_goes_there_and_back(till: Till, way: str) -> None:
    world = till.world
    undo = 'echo "$AGENT_PREVIOUS>$AGENT_VERSION" > "$AGENT_CI_ROOT/undone"'
    new = till.version("1.2", rollback={"command": ["sh", "-c", undo]}, keep=["data"])
    rollout = world.started(new, policy={**BIG_BANG, "soak_seconds": 1}, ways_back={"billing": way})
    till.tick()
    till.tick()
    till.poll()
    till.tick()
    till.tick(20)
    assert (state(rollout), till.runs(), (till.data / "format").read_text()) == ("completed", "1.2", "1.2\n")
    (till.data / "orders").write_text("day 2")

    services.roll_back_rollout(rollout, actor=world.sven, now=database_now(), reason="broken")
    till.tick()
    till.poll()
    till.tick()

    assert (state(rollout), till.runs(), world.runs()) == ("rolled_back", "1.1", {"till-7": "1.1"})
    back = Deployment.objects.get(batch__purpose="rollback")
    assert (back.state, back.error_code) == ("succeeded", "")
    assert not DeploymentEvent.objects.filter(deployment=back, kind="download").exists(), "nothing was fetched again"
    undone, orders = till.folder / "till" / "undone", (till.data / "orders").read_text()
    if way == "script":
        assert (undone.read_text(), orders) == ("1.2>1.1\n", "day 2")
    else:
        assert (undone.exists(), orders) == (False, "day 1")
    assert check_invariants(tolerance=0) == []


def test_a_package_that_cannot_be_left_as_it_says_fails_where_it_comes_first(till: Till) -> None:
    world = till.world
    rollout = world.started(till.version("1.2"), policy=BIG_BANG, ways_back={"billing": "script"})
    till.tick()
    till.tick()
    till.poll()
    till.tick()
    deployment = Deployment.objects.get(batch__wave__rollout=rollout)
    assert (deployment.state, deployment.error_code, till.runs()) == ("failed", "no_rollback_script", "1.1")
