"""Whatever devices and the engine do, in any order: legal histories, one live deployment per CI, one event per 200."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cmdb.models import ConfigurationItem
from distribution import services
from distribution.models import Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, queue
from tests.distribution.invariants import accepted_reports, check_deployments
from tests.factories import NOW

pytestmark = pytest.mark.django_db

WHICH = st.integers(0, 3)
EXECUTIONS = st.sampled_from(
    ["closed", "proceeding", "download", "downloaded", "scheduled", "resumed", "canceled", "rejected"]
)
RESULTS = st.sampled_from(["success", "failure", "none"])
DEVICE_STEPS = st.one_of(
    st.tuples(st.just("fetch"), WHICH),
    st.tuples(st.just("report"), WHICH, EXECUTIONS, RESULTS, st.integers(0, 1)),
    st.tuples(st.just("answer"), WHICH, EXECUTIONS, RESULTS, st.integers(0, 1)),
    st.tuples(st.just("attributes"), st.sampled_from(["1.0", "2.0", "0.9"]), st.sampled_from(["merge", "replace"])),
    st.tuples(st.just("poll")),
)
ENGINE_STEPS = st.one_of(
    st.tuples(st.sampled_from(["cancel", "close", "open", "overdue", "retry"]), st.integers(0, 1)),
    st.tuples(st.just("exclude"), WHICH),
    st.tuples(st.just("rollback")),
)
STEPS = st.lists(st.one_of(DEVICE_STEPS, DEVICE_STEPS, DEVICE_STEPS, ENGINE_STEPS), max_size=25)


class Story:
    """One CI, two rollouts that want it, and a rollback."""

    def __init__(self, ci: ConfigurationItem, new: Version, device: Device) -> None:
        self.device = device
        self.batches = [
            make_batch(f"ROL-{i}", progress_deadline=1, offer_deadline=1, confirm_deadline=1) for i in (1, 2)
        ]
        self.back = make_batch("ROL-3", purpose="rollback", weight=900)
        for batch in self.batches:
            queue(batch, [ci], new)
        self.taken: Counter[int] = Counter()

    def deployment(self, which: int) -> Deployment:
        rows = list(Deployment.objects.order_by("-id")[:4])
        return rows[which % len(rows)]

    def fetch(self, which: int) -> None:
        deployment = self.deployment(which)
        status = self.device.fetch(deployment).status_code
        deployment.refresh_from_db()
        assert (status == 200) == (
            deployment.offered_at is not None
            and deployment.state not in {"cancelling", "cancelled", "excluded", "superseded"}
        )

    def report(self, which: int, execution: str, result: str, line: int) -> None:
        deployment = self.deployment(which)
        self._count(deployment, self.device.report(deployment, execution, result, f"line {line}"), {404, 410})

    def answer(self, which: int, execution: str, result: str, line: int) -> None:
        deployment = self.deployment(which)
        self._count(deployment, self.device.answer(deployment, execution, result, f"line {line}"), {404, 405, 410})

    def _count(self, deployment: Deployment, response: Any, otherwise: set[int]) -> None:
        assert response.status_code in otherwise | {200}
        self.taken[deployment.pk] += response.status_code == 200

    def attributes(self, label: str, mode: str) -> None:
        assert self.device.attributes({"version.billing": label}, mode=mode).status_code == 200
        assert self.device.ci.installed_versions.get(valid_to=None).label == label

    def poll(self) -> None:
        links = self.device.links()
        if "deploymentBase" in links:
            assert self.device.client.get(links["deploymentBase"], headers=self.device.headers).status_code in {
                200,
                404,
            }

    def cancel(self, batch: int) -> None:
        services.cancel_open([self.batches[batch].pk], now=NOW, reason="abort")

    def close(self, batch: int) -> None:
        services.close_batch(self.batches[batch])

    def open(self, batch: int) -> None:
        services.open_batch(self.batches[batch], now=NOW)

    def overdue(self, batch: int) -> None:
        services.mark_overdue([self.batches[batch].pk], now=NOW.replace(year=2030))
        assert services.mark_overdue([self.batches[batch].pk], now=NOW.replace(year=2031)) == 0

    def retry(self, batch: int) -> None:
        services.retry_failed(self.batches[batch], now=NOW)
        assert services.retry_failed(self.batches[batch], now=NOW) == 0

    def exclude(self, which: int) -> None:
        deployment = self.deployment(which)
        if deployment.state in {"queued", "offered", "excluded"}:
            services.exclude_deployment(deployment, now=NOW, reason="not now")

    def rollback(self) -> None:
        ids = [batch.pk for batch in self.batches]
        services.queue_rollback(self.back, forward_batch_ids=ids, now=NOW)
        assert services.queue_rollback(self.back, forward_batch_ids=ids, now=NOW) == 0


@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_any_sequence(ci: ConfigurationItem, new: Version, device: Device, steps: list[tuple[Any, ...]]) -> None:
    with transaction.atomic():
        story = Story(ci, new, device)
        for name, *arguments in steps:
            step: Callable[..., None] = getattr(story, name)
            step(*arguments)
        check_deployments()
        for deployment in Deployment.objects.all():
            assert accepted_reports(deployment) == story.taken[deployment.pk]
        numbers = services.counts([batch.pk for batch in story.batches])
        assert [n.total for n in numbers.values()] == [1, 1]
        assert all(n.open + n.terminal == n.total for n in numbers.values())
        transaction.set_rollback(True)
