"""Hosts without an agent: folders on this machine, reached by a local connection or by an SSH server of the test."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmdb import services as cmdb
from cmdb.models import ConfigurationItem, Connection
from distribution.channels.ansible.claims import claim
from distribution.channels.ansible.models import PushRun
from distribution.channels.ansible.worker import is_installed
from software.models import Product, Version
from software.services import store_artifact
from tests.factories import NOW, make_ci, make_product, make_version
from tickets.clock import database_now

HEALTHY = ["python3", "-c", "print('well')"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not is_installed():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="Ansible is not installed: requirements/push.txt"))


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
        tar.extractall(folder, filter="data")
    (folder / ".complete").write_text(json.dumps({"sha256": artifact.sha256}))
    (root / version.product.slug / "current").symlink_to(f"versions/{version.label}")


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
