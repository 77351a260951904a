"""Hosts without an agent: folders on this machine, reached by a local connection or by an SSH server of the test."""

import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cmdb import services as cmdb
from cmdb.credentials import set_secret
from cmdb.models import ConfigurationItem, Connection, Credential
from distribution.channels.ansible.claims import claim
from distribution.channels.ansible.models import PushRun
from distribution.channels.ansible.worker import is_installed
from software.models import Product, Version
from software.services import store_artifact
from tests.factories import NOW, make_ci, make_product, make_version
from tests.push.ssh_server import SSHD, USER, SshServer
from tickets.clock import database_now

HEALTHY = ["python3", "-c", "print('well')"]


@pytest.fixture(autouse=True)
def folders(settings, tmp_path: Path) -> None:
    """A media library and a folder of runs of the test's own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.PUSH_FOLDER = tmp_path / "push"


def software(product: str, label: str, health: list[str] | None = HEALTHY, timeout: float = 20) -> bytes:
    """A software archive; the health check is a command."""
    about: dict[str, Any] = {"product": product, "version": label}
    if health:
        about["health"] = {"command": health, "timeout_seconds": timeout}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in (("software.json", json.dumps(about).encode()), ("program.txt", label.encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def stored(product: Product, label: str, content: bytes | None = None) -> Version:
    """A ready version with its archive in the media library."""
    version = make_version(product, label, state=Version.State.DRAFT)
    stream = io.BytesIO(content if content is not None else software(product.slug, label))
    store_artifact(version, actor=None, now=NOW, filename=f"{product.slug}-{label}.tar.gz", stream=stream)
    version.refresh_from_db()
    return version


@pytest.fixture
def billing(transactional_db: None) -> Product:
    return make_product("billing")


@pytest.fixture
def old(billing: Product) -> Version:
    return stored(billing, "1.0")


@pytest.fixture
def new(billing: Product, old: Version) -> Version:
    return stored(billing, "2.0")


def put_in_place(root: Path, version: Version) -> None:
    """The version on the host, as a run would have left it."""
    folder = root / version.product.slug / "versions" / version.label
    folder.mkdir(parents=True)
    artifact = version.artifacts.get()
    with artifact.file.open("rb") as file, tarfile.open(fileobj=file, mode="r:gz") as tar:
        # Python 3.11.0 to 3.11.3 extract without a filter only; the archive is the test's own.
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (folder / ".complete").write_text(json.dumps({"sha256": artifact.sha256}))
    (root / version.product.slug / "current").symlink_to(f"versions/{version.label}")


needs_ansible = pytest.mark.skipif(not is_installed(), reason="no Ansible here: requirements/push.txt")
needs_sshd = pytest.mark.skipif(SSHD is None, reason="no sshd here: apt-get install openssh-server")
MakeHost = Callable[..., ConfigurationItem]


@pytest.fixture
def make_host(tmp_path: Path, old: Version) -> MakeHost:
    """Makes a CI that runs billing 1.0 in a folder of its own on this machine."""

    def make(name: str, **connection: Any) -> ConfigurationItem:
        root = tmp_path / "hosts" / name
        root.mkdir(parents=True)
        put_in_place(root, old)
        ci = make_ci(name, channel=ConfigurationItem.Channel.ANSIBLE)
        Connection.objects.create(ci=ci, folder=str(root), **{"kind": Connection.Kind.LOCAL, **connection})
        cmdb.record_installed(ci, product=old.product, label=old.label, now=NOW)
        return ci

    return make


def running(ci: ConfigurationItem, product: str = "billing") -> str | None:
    """What really runs on the host, read from its disk."""
    link = Path(ci.connection.folder) / product / "current"
    return (link / "program.txt").read_text() if link.is_symlink() else None


def claimed() -> PushRun:
    run = claim(now=database_now())
    assert run is not None
    return run


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[SshServer]:
    server = SshServer(tmp_path / "sshd")
    yield server
    server.close()


@pytest.fixture
def by_ssh(ssh_server: SshServer, transactional_db: None) -> dict[str, Any]:
    """The values of a connection to the test's own SSH server, by its key."""
    credential = Credential(name="key", kind=Credential.Kind.SSH_KEY)
    set_secret(credential, secret=ssh_server.private_key, actor=None, now=NOW)
    return {
        "kind": Connection.Kind.SSH, "address": "127.0.0.1", "port": ssh_server.port, "user": USER,
        "credential": credential, "host_key": ssh_server.host_key, "python": sys.executable,
    }  # fmt: skip


def wait_until(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """Waits for a fact, looking again and again; fails when it does not come true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
