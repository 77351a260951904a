"""A test of a release on a copy: the test host and the copy's agent are played."""

from releases.models import TestRun
from test_environments.models import TestEnvironment
from tests.releases.world import Device, World, state

# Of the release type of `source`. Seconds.
SOAK = 60


def make_ready(world: World, run: TestRun) -> Device:
    """Plays the test host: the copy is made, its agent has reported."""
    copy = run.environment.copy
    assert copy is not None
    agent = Device(copy, {"billing": "1.0"})
    agent._tell(world.now)
    world.devices.append(agent)
    TestEnvironment.objects.filter(pk=run.environment_id).update(
        state="ready", is_wanted_running=True, evidence=run.environment.evidence or "file_copy"
    )
    return agent


def soaking(world: World, run: TestRun) -> Device:
    agent = make_ready(world, run)
    world.tick()
    agent.run(world.now)
    world.tick()
    assert state(run) == "soaking"
    return agent
