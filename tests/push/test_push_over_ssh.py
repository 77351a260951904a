"""Hosts by a real SSH server on the loopback: good ones, sick ones, strange ones, and one that is not there."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from cmdb.credentials import set_secret
from cmdb.models import Credential, InstalledVersion
from distribution.channels.ansible.models import PushTarget
from distribution.channels.ansible.worker import push_once
from distribution.models import Deployment
from distribution.services import queue_rollback
from software.models import Product
from tests.distribution.fleet import history, make_batch, queue, state
from tests.distribution.invariants import check_deployments
from tests.factories import NOW
from tests.push.conftest import MakeHost, needs_ansible, needs_sshd, running, software, stored
from tests.push.ssh_server import SshServer, can_set_passwords

pytestmark = [pytest.mark.slow, needs_ansible, needs_sshd, pytest.mark.timeout(400)]

# Healthy unless the host is sick; writes down what could be seen on the host while the run was under way.
CHECK = """
import os, pathlib, sys
root = pathlib.Path(os.environ["AGENT_CI_ROOT"])
seen = [p.read_bytes() for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if os.access(p, os.R_OK)]
(root / "seen").write_bytes(b"\\n".join(seen) + repr(dict(os.environ)).encode())
print("coughs" if (root / "sick").exists() else "well")
sys.exit((root / "sick").exists())
"""


def test_four_hosts_and_four_ends_in_one_run(
    make_host: MakeHost, by_ssh: dict[str, Any], billing: Product, ssh_server: SshServer, settings
):
    new = stored(billing, "2.0", software("billing", "2.0", ["python3", "-c", CHECK]))
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # has a port and does not listen
        good = make_host("good", **by_ssh)
        sick = make_host("sick", **by_ssh)
        away = make_host("away", **{**by_ssh, "port": deaf.getsockname()[1]})
        strange = make_host("strange", **{**by_ssh, "host_key": ssh_server.strange_key})
        (Path(sick.connection.folder) / "sick").touch()
        batch = make_batch()
        deployments = queue(batch, [good, sick, away, strange], new)

        assert push_once()

    ends = [Deployment.objects.get(pk=d.pk) for d in deployments]
    assert [(d.state, d.error_code) for d in ends] == [
        ("succeeded", ""), ("failed", "health_check_failed"), ("failed", "unreachable"), ("failed", "host_key_refused"),
    ]  # fmt: skip
    assert [running(ci) for ci in (good, sick, away, strange)] == ["2.0", "1.0", "1.0", "1.0"]
    assert "coughs" in ends[1].message
    assert InstalledVersion.objects.get(ci=sick, valid_to=None).label == "1.0", "it went back by itself"
    log = PushTarget.objects.get(deployment=deployments[1]).log
    assert "Check health: failed" in log
    assert "Go back: ok" in log
    assert not list(settings.PUSH_FOLDER.iterdir()), "keys are gone with the folder"
    seen = (Path(good.connection.folder) / "seen").read_bytes()
    assert b"PRIVATE KEY" not in seen
    for secret in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY"):
        assert f"'{secret}'".encode() not in seen, "the play's environment is not the portal's"
    check_deployments()

    back = make_batch("ROL-0000001", purpose="rollback")
    assert queue_rollback(back, forward_batch_ids=[batch.pk], now=NOW) == 1, "only one host was changed"
    assert push_once()
    assert running(good) == "1.0"
    assert state(back.deployments.get()) == "succeeded"
    assert InstalledVersion.objects.get(ci=good, valid_to=None).source == "ROL-0000001"


@pytest.mark.skipif(not can_set_passwords(), reason="needs root and mount namespaces: a server with its own password")
def test_a_password_is_data_whatever_it_looks_like_and_stays_secret(
    make_host: MakeHost, by_ssh: dict[str, Any], billing: Product, tmp_path: Path, caplog
):
    password = """{{ lookup('pipe', 'id') }} "x" 'y' \\ # ü😀"""
    server = SshServer(tmp_path / "with-password", password)
    credential = Credential(name="password", kind=Credential.Kind.PASSWORD)
    set_secret(credential, secret=password, actor=None, now=NOW)
    wrong = Credential(name="wrong", kind=Credential.Kind.PASSWORD)
    set_secret(wrong, secret="not the password", actor=None, now=NOW)
    values = {**by_ssh, "port": server.port, "host_key": server.host_key}
    one = make_host("one", **{**values, "credential": credential})
    two = make_host("two", **{**values, "credential": wrong})
    new = stored(billing, "2.0", software("billing", "2.0", ["python3", "-c", CHECK]))
    deployments = queue(make_batch(), [one, two], new)

    assert push_once()
    server.close()

    assert [state(d) for d in deployments] == ["succeeded", "failed"], server.log.read_text()
    failed = Deployment.objects.get(pk=deployments[1].pk)
    assert failed.error_code == "login_refused", failed.message
    assert "Accepted password" in server.log.read_text()
    seen = (Path(one.connection.folder) / "seen").read_bytes()
    logs = "".join(PushTarget.objects.values_list("log", flat=True)) + caplog.text
    for secret in (password, "not the password"):
        assert secret.encode() not in seen, "on a command line or in an environment"
        assert secret not in logs
    assert os.environ["DATABASE_URL"].encode() not in seen
    assert [row[2] for row in history(deployments[1])] == ["queued", "offered", "downloading", "failed"]
