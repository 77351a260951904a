"""The private folder of one run: inventory, keys, host keys, and the portal's leaves. 0700, gone when the run is over.

Every value of a host stands below the tag `!unsafe`: Ansible takes it as text, never as a template. The names of
variables and of hosts are ours; nothing that a device or a person wrote becomes one.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from cmdb.credentials import reveal
from cmdb.models import Connection, Credential
from distribution.channels.ansible.models import PushRun
from distribution.channels.ansible.processes import end_processes
from distribution.models import Deployment, DeploymentItem
from software.models import Artifact, Format
from tickets.exceptions import DomainError

PLAYBOOKS = Path(__file__).resolve().parent / "playbooks"
_SURROGATES = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")


@dataclass
class RunFolder:
    """Where the run's files are, its hosts by name, those that cannot be reached at all, and what must stay secret."""

    path: Path
    mark: str
    hosts: dict[str, Deployment] = field(default_factory=dict)
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)

    def leave(self, host: str, what: str) -> None:
        """Lets the host's play go on (`begin`, `switch`) or makes it end (`stop`)."""
        (self.path / "leave" / f"{host}.{what}").touch()

    def environment(self) -> dict[str, str]:
        """All that the play's processes see of our environment: no address or password of the portal's servers."""
        path = os.environ.get("PATH", os.defpath)
        return {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{path}",
            "HOME": str(self.path),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.path / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.path / "tmp"),
            "ITSM_PUSH_RUN": self.mark,
            "ITSM_PUSH_FORKS": str(settings.PUSH_FORKS),
        }


@contextmanager
def run_folder(run: PushRun) -> Iterator[RunFolder]:
    """Writes the folder of the run; whatever happens, its processes and the folder are gone afterwards."""
    sweep()
    folder = RunFolder(settings.PUSH_FOLDER / run.lease.hex, run.lease.hex)
    folder.path.mkdir(mode=0o700)
    try:
        (folder.path / "leave").mkdir()
        _write_hosts(folder, run)
        yield folder
    finally:
        end_processes(folder.mark)
        shutil.rmtree(folder.path, ignore_errors=True)


def sweep() -> None:
    """Removes what runs left whose worker and guard were both killed on this machine."""
    settings.PUSH_FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    active = {lease.hex for lease in PushRun.objects.filter(ended_at=None).values_list("lease", flat=True)}
    for entry in settings.PUSH_FOLDER.iterdir():
        if entry.name not in active:
            end_processes(entry.name)
            shutil.rmtree(entry, ignore_errors=True)


def _write_hosts(folder: RunFolder, run: PushRun) -> None:
    targets = run.targets.select_related("deployment__ci__connection__credential", "deployment__batch")
    hosts: dict[str, dict[str, Any]] = {}
    host_keys: list[str] = []
    for target in targets.order_by("deployment_id"):
        deployment = target.deployment
        host = f"h{deployment.pk}"
        try:
            connection = deployment.ci.connection
            variables = _local() if connection.kind == Connection.Kind.LOCAL else _ssh(folder, host, connection)
            variables["itsm_leave"] = str(folder.path / "leave")
            variables["itsm"] = {"root": connection.folder, "items": _items(folder, deployment, run)}
        except DomainError as error:
            folder.refused[deployment.pk] = (error.code, error.message)
            continue
        host_keys += [f"{host} {line}\n" for line in connection.host_key.splitlines()]
        hosts[host] = variables
        folder.hosts[host] = deployment
    _write(folder.path / "known_hosts", "".join(host_keys))
    lines = [f"    {host}: !unsafe {quoted(variables)}\n" for host, variables in hosts.items()]
    _write(folder.path / "inventory.yml", "all:\n  hosts:\n" + "".join(lines))


def quoted(value: Any) -> str:
    """JSON that YAML reads as the same value."""
    text = json.dumps(value).replace("\x7f", "\\u007f")
    return _SURROGATES.sub(lambda pair: "\\U{:08x}".format(ord(json.loads(f'"{pair[0]}"'))), text)


def _local() -> dict[str, Any]:
    if not settings.PUSH_ALLOW_LOCAL:
        raise DomainError("PUSH_ALLOW_LOCAL is off: the worker's own machine is no host.", code="local_refused")
    return {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def _ssh(folder: RunFolder, host: str, connection: Connection) -> dict[str, Any]:
    credential = connection.credential
    if credential is None or not connection.host_key:
        raise DomainError("The connection has no credential or no host key.", code="no_credential")
    secret = reveal(credential)
    options = f"-o UserKnownHostsFile={folder.path}/known_hosts -o HostKeyAlias={host} "
    variables: dict[str, Any] = {
        "ansible_connection": "ssh",
        "ansible_host": connection.address,
        "ansible_port": connection.port,
        "ansible_user": connection.user,
        "ansible_python_interpreter": connection.python,
    }
    if credential.kind == Credential.Kind.PASSWORD:
        folder.secrets.add(secret)
        variables["ansible_password"] = secret
        options += "-o PubkeyAuthentication=no"
    else:
        key = folder.path / f"key-{credential.pk}"
        _write(key, secret)
        variables["ansible_ssh_private_key_file"] = str(key)
        options += "-o IdentitiesOnly=yes -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no"
    variables["ansible_ssh_common_args"] = options
    return variables


def _items(folder: RunFolder, deployment: Deployment, run: PushRun) -> list[dict[str, Any]]:
    rows = DeploymentItem.objects.filter(deployment=deployment).select_related("product", "to_version")
    return [_item(folder, row, with_file=run.kind == PushRun.Kind.INSTALL) for row in rows]


def _item(folder: RunFolder, row: DeploymentItem, *, with_file: bool) -> dict[str, Any]:
    if row.to_version is None:
        return {"product": row.product.slug, "version": None, "sha256": None, "archive": None}
    artifact = row.to_version.artifacts.filter(format=Format.ARCHIVE).order_by("pk").first()
    if artifact is None:
        raise DomainError(f"{row.product.slug} {row.to_version.label} has no archive.", code="artifact_missing")
    return {
        "product": row.product.slug,
        "version": row.to_version.label,
        "sha256": artifact.sha256,
        "archive": _path_of(folder, artifact) if with_file else None,
    }


def _path_of(folder: RunFolder, artifact: Artifact) -> str:
    """Where the file is on this machine; a storage elsewhere is copied into the run's folder first."""
    try:
        return str(artifact.file.path)
    except NotImplementedError:
        copy = folder.path / f"artifact-{artifact.pk}"
        if not copy.exists():
            with artifact.file.open("rb") as source, copy.open("xb") as target:
                shutil.copyfileobj(source, target, 1024 * 1024)
        return str(copy)


def _write(path: Path, text: str) -> None:
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
