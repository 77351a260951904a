"""The whole way of a signature: the key holder's command, the portal and the agent, as processes of their own."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from cmdb.services import issue_agent_token
from distribution.models import Batch
from distribution.services import queue_deployments, queue_rollback
from itsm_portal.demo.key_holder import KeyHolder
from software.models import RollbackDecision, Version
from software.services import create_version, store_artifact
from software.signatures import accept_envelopes, request_for
from tests.agent.ci import software
from tests.distribution.fleet import make_batch
from tests.factories import make_ci, make_product, make_user
from tickets.clock import database_now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


class Scene:
    """A key holder, a portal that requires signatures, and one till with a real agent that pins his root key."""

    def __init__(self, folder: Path, url: str, settings: Any, verify_with: str) -> None:
        self.folder = folder
        self.holder = KeyHolder(folder / "holder")
        root = self.holder.prepare()
        settings.SIGNING_ROOT_KEYS = [root]
        settings.REQUIRE_SIGNATURES = True
        settings.MEDIA_ROOT = folder / "media"
        self.engineer = make_user("engineer", "release engineer")
        self.product = make_product("app")
        self.ci = make_ci("till-7", agent_id="till-7")
        (folder / "token").write_text(issue_agent_token(self.ci, actor=None, now=database_now()))
        config = {"url": url, "controller_id": "till-7", "token_file": "token", "root": "till", "root_keys": [root]}
        (folder / "agent.json").write_text(json.dumps({**config, "verify_with": verify_with}))
        self.accept(self.holder.key_set())

    def accept(self, envelopes: list[dict[str, Any]]) -> None:
        accept_envelopes([json.dumps(e) for e in envelopes], actor=None, now=database_now())

    def version(self, label: str) -> Version:
        now = database_now()
        version = create_version(self.product, actor=self.engineer, now=now, label=label)
        stream = io.BytesIO(software("app", label))
        store_artifact(version, actor=self.engineer, now=now, filename=f"app-{label}.tar.gz", stream=stream)
        version.refresh_from_db()
        return version

    def sign(self, *versions: Version, ways_back: tuple[tuple[Version, Version | None], ...] = ()) -> None:
        """The request leaves the portal as a file and comes back as envelopes."""
        request = request_for("REL-0000001", versions=versions, ways_back=ways_back, now=database_now())
        self.accept(self.holder.sign(request))

    def deploy(self, label: str, version: Version) -> Batch:
        """Queues the version for the till, also where the product is not there yet."""
        batch, now = make_batch(label), database_now()
        fresh = {self.ci.pk: [self.product.pk]}
        queue_deployments(batch, ci_ids=[self.ci.pk], package=[(self.product.pk, version.pk, 1)], fresh=fresh, now=now)
        return batch

    def take_back(self, label: str, forward: Batch) -> Batch:
        batch = make_batch(label, purpose="rollback")
        assert queue_rollback(batch, forward_batch_ids=[forward.pk], now=database_now()) == 1
        return batch

    def poll(self) -> None:
        """One poll of the agent, a process without anything of the portal."""
        command = [sys.executable, "-m", "agent", "run", "--once", "--config", str(self.folder / "agent.json")]
        result = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=90)
        assert result.returncode == 0, result.stderr

    def runs(self) -> str | None:
        link = self.folder / "till" / "app" / "current"
        return (link / "app.txt").read_text() if link.exists() else None


def state(batch: Batch) -> str:
    return batch.deployments.get().state


def refusal(batch: Batch) -> tuple[str, str]:
    deployment = batch.deployments.get()
    return deployment.state, deployment.error_code


@pytest.fixture(params=["cryptography", "openssl"])
def scene(request, tmp_path: Path, live_server, settings) -> Scene:
    return Scene(tmp_path, live_server.url, settings, request.param)


def test_only_what_was_signed_offline_reaches_the_device(scene: Scene, settings) -> None:
    old, new = scene.version("1.0"), scene.version("2.0")
    first = scene.deploy("ROL-0000001", old)
    scene.poll()
    assert (scene.runs(), state(first)) == (None, "queued"), "the portal does not offer it unsigned"

    scene.sign(old, new, ways_back=((new, old), (old, None)))
    scene.poll()
    assert (scene.runs(), state(first)) == ("app 1.0", "succeeded")
    second = scene.deploy("ROL-0000002", new)
    scene.poll()
    assert (scene.runs(), state(second)) == ("app 2.0", "succeeded")
    trust = json.loads((scene.folder / "till/.agent/trust.json").read_text())
    new.refresh_from_db()
    assert trust["installed"] == {"app": {"version": "2.0", "counter": new.counter}}

    # The portal falls into wrong hands: it offers what nobody signed, and what was signed once.
    settings.REQUIRE_SIGNATURES = False
    RollbackDecision.objects.update(is_trusted=False)
    unsigned, undecided = scene.deploy("ROL-0000003", scene.version("3.0")), scene.take_back("ROL-0000004", second)
    for _ in range(2):
        scene.poll()
        assert scene.runs() == "app 2.0"
    assert refusal(unsigned) == ("failed", "signature_missing")
    assert refusal(undecided) == ("failed", "downgrade_refused")
    settings.REQUIRE_SIGNATURES = True
    RollbackDecision.objects.update(is_trusted=True)

    back = scene.take_back("ROL-0000005", second)
    scene.poll()
    assert (scene.runs(), state(back)) == ("app 1.0", "succeeded")
    gone = scene.take_back("ROL-0000006", first)
    scene.poll()
    assert (scene.runs(), state(gone)) == (None, "succeeded")
