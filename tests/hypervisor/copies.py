"""A portal whose test host has machines: a production CI with a disk, and people who ask for copies of it."""

import signal
from collections.abc import Callable
from pathlib import Path

from cmdb.models import InstalledVersion
from test_environments import services
from test_environments.models import CopySource, EnvironmentEvent, GoldenImage, TestEnvironment
from tests.factories import make_ci, make_product, make_user
from tests.hypervisor.guests import machines_below, until
from tests.hypervisor.scenes import SECONDS
from tests.test_environments.conftest import HostProcess, state_of
from tickets.clock import database_now


class Copies:
    """A production CI whose disk may be copied, and people who ask for copies of it and allow them."""

    def __init__(self, host: HostProcess, machines: Path) -> None:
        self.host = host
        self.machines = machines
        self.engineer = make_user("engineer", "release engineer")
        self.manager = make_user("manager", "release manager")
        self.product = make_product("billing")
        self.till = make_ci("till-7", agent_id="till-7")
        source = {"folder": "till-7.raw", "driver": "libvirt", "method": "disk", "kind": "physical"}
        CopySource.objects.create(ci=self.till, **source)

    def ask(self, **shape: int) -> TestEnvironment:
        now = database_now()
        environment = services.request_environment(self.till, actor=self.engineer, now=now, purpose="A try", **shape)
        image = GoldenImage.objects.get(pk=environment.image_id)
        services.approve_image(image, actor=self.manager, now=now)
        return environment

    def until_state(self, environment: TestEnvironment, *states: str) -> None:
        until(lambda: state_of(environment) in states, seconds=SECONDS, say=lambda: self.tell(environment))
        environment.refresh_from_db()

    def until(self, condition: Callable[[], object], environment: TestEnvironment) -> None:
        until(condition, seconds=SECONDS, say=lambda: self.tell(environment))

    def until_dead(self) -> None:
        """Waits until the test host has come to its failpoint."""
        assert self.host.wait(SECONDS) == -signal.SIGKILL, self.host.says()

    def tell(self, environment: TestEnvironment) -> str:
        found = TestEnvironment.objects.select_related("image", "console").get(pk=environment.pk)
        events = EnvironmentEvent.objects.order_by("pk").values_list("text", flat=True)
        console = found.console.text[-1000:] if hasattr(found, "console") else ""
        facts = (found.state, found.observed_power, found.task, found.last_error, found.image and found.image.state)
        return "\n".join([str(facts), *events, console, self.host.says()])

    def process_of(self, environment: TestEnvironment) -> int | None:
        """The machine, as the host has seen it."""
        return TestEnvironment.objects.values_list("observed_pid", flat=True).get(pk=environment.pk)

    def reports(self, environment: TestEnvironment, label: str) -> bool:
        current = InstalledVersion.objects.filter(ci=environment.copy_id, product=self.product, valid_to=None)
        return list(current.values_list("label", flat=True)) == [label]

    def has_errand(self) -> bool:
        """Whether a small system works for the host just now."""
        for process in machines_below(self.machines):
            try:
                if b"guest=errand-" in Path(f"/proc/{process}/cmdline").read_bytes():
                    return True
            except OSError:
                continue
        return False

    def nothing_is_left(self) -> bool:
        kept = [path for kind in ("environments", "images") for path in (self.machines / kind).glob("*")]
        kept += [*self.machines.glob("h-*"), *self.machines.glob("incoming/*")]
        return not kept and len(machines_below(self.machines)) <= 1  # the owner, without a machine
