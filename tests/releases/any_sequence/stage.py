"""What the rules of all features share: the company that every example begins from, and how a person gives an order."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from accounts.models import User
from cmdb.models import ConfigurationItem, MaintenanceWindow
from releases import services
from releases.models import Release, Rollout
from tests.releases.world import Device, World
from tickets.exceptions import DomainError

CIS = 3
PEOPLE = ["sven", "mona", "olga"]
ci_numbers = st.integers(0, CIS - 1)
people = st.sampled_from(PEOPLE)
which_rollout = st.sampled_from(["first", "last"])
# What ends a rollout comes seldom, or nothing else would ever happen.
RARELY = st.sampled_from([True, *[False] * 7])
# Verbs that take no reason.
_WITHOUT_REASON = (services.retry_failed_cis, services.schedule_start, services.cancel_start)


class Stage(RuleBasedStateMachine):
    """Each example begins from the same rows and is taken back at its end."""

    world: ClassVar[World]
    release: ClassVar[Release]
    other: ClassVar[Release]
    began: ClassVar[datetime]
    # Who declares freezes.
    cora: ClassVar[User]
    window: ClassVar[MaintenanceWindow]

    def __init__(self) -> None:
        super().__init__()
        self.sid = transaction.savepoint()
        self.world.now = self.began
        self.world.devices = [Device(agent.ci, {"billing": "1.0"}) for agent in self.world.devices]
        for agent in self.world.devices:
            agent.ci.refresh_from_db()
        self.release.refresh_from_db()
        self.other.refresh_from_db()
        self.said = 0
        # Clocks that went back once excuse times that are off by as much.
        self.tolerance = 0
        # Names of `plans.EXTRAS` that the policy of this example has.
        self.extras: list[str] = []
        self.patient = True

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            transaction.savepoint_rollback(self.sid)

    def everything_ends(self) -> None:
        raise NotImplementedError

    def device(self, number: int) -> Device:
        return self.world.devices[number]

    def ci(self, number: int) -> ConfigurationItem:
        return self.world.devices[number].ci

    def rollout(self, which: str = "last") -> Rollout:
        return getattr(Rollout.objects.order_by("pk"), which)()  # type: ignore[no-any-return]

    def verb(self, call: Any, *objects: Any, person: str, **values: Any) -> None:
        """A verb is done or refused; anything else is a defect."""
        self.said += 1
        reason = {} if call in _WITHOUT_REASON else {"reason": f"reason {self.said}"}
        # A moment later, so that what was offered before is not offered during.
        self.world.now += timedelta(seconds=1)
        with suppress(DomainError):
            call(*objects, actor=getattr(self.world, person), now=self.world.now, **reason, **values)
