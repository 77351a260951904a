"""Software reaches hosts without an agent: by real plays over a local connection."""

import pytest

from cmdb.models import InstalledVersion
from distribution.channels.ansible.models import PushRun, PushTarget
from distribution.channels.ansible.worker import push_once
from software.models import Version
from tests.distribution.fleet import history, make_batch, queue
from tests.distribution.invariants import check_deployments
from tests.push.conftest import MakeHost, needs_ansible, running

pytestmark = [pytest.mark.slow, needs_ansible]


def test_a_host_gets_the_version_and_success_is_what_was_read_from_it(make_host: MakeHost, new: Version, settings):
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], new)

    assert push_once()

    assert running(ci) == "2.0"
    assert [row[2] for row in history(deployment)] == [
        "queued", "offered", "downloading", "installing", "confirming", "succeeded",
    ]  # fmt: skip
    current = InstalledVersion.objects.get(ci=ci, valid_to=None)
    assert (current.label, current.source, current.is_drift) == ("2.0", "ROL-0000001", False)
    run = PushRun.objects.get()
    assert (run.kind, run.outcome) == ("install", "finished")
    assert "runs billing 2.0" in PushTarget.objects.get().log
    assert not any(settings.PUSH_FOLDER.iterdir())
    assert not push_once(), "nothing is left to do"
    check_deployments()
