"""The health of hosts without an agent: a real play over a local connection that only reads."""

from datetime import timedelta
from pathlib import Path

import pytest

from cmdb.models import ConfigurationItem
from distribution import health
from distribution.channels.ansible.models import PushRun
from distribution.channels.ansible.worker import push_once
from distribution.models import Deployment, HealthCheck
from software.models import Version
from tests.distribution.fleet import history, make_batch, queue
from tests.push.conftest import MakeHost, needs_ansible, running, software, stored
from tickets.clock import database_now

pytestmark = [pytest.mark.slow, needs_ansible]
# Well unless somebody has put a file beside it.
CHECK = ["sh", "-c", 'test ! -e "$AGENT_CI_ROOT/sick"']


@pytest.fixture
def installed(make_host: MakeHost, old: Version) -> Deployment:
    new = stored(old.product, "2.0", software("billing", "2.0", CHECK))
    (deployment,) = queue(make_batch(), [make_host("shop-1")], new)
    assert push_once()
    deployment.refresh_from_db()
    assert deployment.state == "succeeded"
    return deployment


def asked(deployment: Deployment) -> tuple[str, str]:
    """Asks, lets a worker run, and tells the answer."""
    now = database_now()
    check = health.ask(deployment, now=now, due_at=now + timedelta(minutes=10))
    assert check is not None
    assert push_once()
    check.refresh_from_db()
    return check.outcome, check.detail


def test_a_host_is_asked_by_a_play_that_changes_nothing(installed: Deployment) -> None:
    ci, before = installed.ci, history(installed)
    assert asked(installed) == ("pass", "")
    root = Path(ci.connection.folder)
    (root / "sick").touch()
    outcome, detail = asked(installed)
    assert (outcome, detail.split(":")[0]) == ("fail", "health_check_failed")
    (root / "billing" / "current").unlink()
    (root / "billing" / "current").symlink_to("versions/1.0")
    assert asked(installed)[0] == "fail", "another version runs"
    assert list(PushRun.objects.order_by("pk").values_list("kind", "outcome")[1:]) == [("check", "finished")] * 3
    assert (running(ci), history(installed)) == ("1.0", before), (
        "nothing was installed, and the deployment is as it was"
    )


def test_a_host_that_cannot_be_read_says_neither_yes_nor_no(installed: Deployment, settings) -> None:
    settings.PUSH_ALLOW_LOCAL = False
    outcome, detail = asked(installed)
    assert (outcome, detail.split(":")[0]) == ("inconclusive", "local_refused")
    assert not push_once(), "it is not asked again by itself"


def test_a_question_whose_time_is_over_is_not_asked_any_more(installed: Deployment) -> None:
    now = database_now()
    assert health.ask(installed, now=now, due_at=now)
    assert health.ask(installed, now=now, due_at=now) is None, "one question at a time"
    assert not push_once()
    assert health.expire(now=now) == 1
    assert HealthCheck.objects.get().outcome == "inconclusive"
    assert ConfigurationItem.objects.get(pk=installed.ci_id).health_request is None
