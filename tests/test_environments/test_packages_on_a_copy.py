"""A package on a copy that a real test host runs: it reaches the copy, not its source."""

import io
import json
import signal

import pytest

from cmdb.models import InstalledVersion
from distribution import services as distribution
from distribution.models import Batch, Deployment, DeploymentState
from software.models import Version
from software.services import create_version, store_artifact
from test_environments import services
from test_environments.models import TestEnvironment
from tests.agent.ci import archive
from tests.factories import make_product, make_user
from tests.test_environments.conftest import request, state_of, until, until_state
from tickets.clock import database_now

pytestmark = pytest.mark.django_db(transaction=True)

State = TestEnvironment.State


def deploy(environment: TestEnvironment, version: Version) -> Deployment:
    """Sends a version to the copy as the test gate does."""
    now = database_now()
    batch = distribution.create_batch(label="REL-0000002", purpose=Batch.Purpose.TEST, now=now)
    package = [(version.product_id, version.pk, 1)]
    queue = distribution.queue_deployments
    assert queue(batch, ci_ids=[environment.copy_id], package=package, fresh=None, now=now) == 1
    services.begin_apply(environment, now=now)
    distribution.open_batch(batch, now=now)
    return Deployment.objects.get(batch=batch)


def make_package(label: str, check: str) -> Version:
    """A version of billing in the media library, with a health check of its own."""
    about = {"product": "billing", "version": label, "health": {"command": ["sh", "c.sh"], "timeout_seconds": 60}}
    files = {"software.json": json.dumps(about), "app.txt": f"billing {label}", "c.sh": check}
    engineer = make_user("engineer", "release engineer")
    version = create_version(make_product("billing"), actor=engineer, now=database_now(), label=label)
    stream = io.BytesIO(archive({name: text.encode() for name, text in files.items()}))
    store_artifact(version, actor=engineer, now=database_now(), filename="billing.tar.gz", stream=stream)
    return version


def test_a_package_reaches_the_copy_and_not_its_source(host, till, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    version = make_package("2.0", "grep -q 2.0 app.txt")
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    deployment = deploy(environment, version)
    until(lambda: Deployment.objects.get(pk=deployment.pk).state == DeploymentState.SUCCEEDED, say=host.says)
    services.end_apply(environment, now=database_now())
    assert state_of(environment) == State.READY
    assert (host.folder_of(environment) / "root/billing/current/app.txt").read_text() == "billing 2.0"
    assert (host.folder / "fleet/till-7/billing/current/app.txt").read_text() == "billing 1.0"
    assert not InstalledVersion.objects.filter(ci=till).exists()


@pytest.mark.slow
def test_a_health_check_under_way_ends_with_its_host(host, till, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    begun = tmp_path / "begun"
    version = make_package("2.0", f"test -e {begun} || {{ touch {begun}; exec sleep 59; }}")
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    deployment = deploy(environment, version)
    until(begun.exists, say=host.says)
    until(lambda: len(host.agents()) >= 2)

    host.end(signal.SIGKILL)
    until(lambda: host.agents() == [])
    host.start()
    until(lambda: Deployment.objects.get(pk=deployment.pk).state == DeploymentState.SUCCEEDED, say=host.says)
    assert state_of(environment) == State.APPLYING
