"""What devices get: the JSON of polls and deployments."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest

from cmdb.models import ConfigurationItem
from distribution.channels.ddi import signed_links
from distribution.channels.ddi.pace import sleep_time
from distribution.device import Action, modes
from distribution.models import Deployment, DeploymentEvent
from distribution.packages import Item, items_of
from distribution.ways_back import metadata as way_back_metadata
from software.models import Artifact

MAX_HISTORY = 100
# The protocol's words for the states of an action that a device can read.
_STATUS = {
    "offered": "RETRIEVED",
    "downloading": "DOWNLOAD",
    "installing": "RUNNING",
    "unknown": "RUNNING",
    "confirming": "FINISHED",
    "succeeded": "FINISHED",
    "failed": "ERROR",
}


def base_url(request: HttpRequest, ci: ConfigurationItem) -> str:
    """Where this device's resources are, as it reached the portal."""
    controller = quote(ci.agent_id or "", safe="")
    return f"{request.scheme}://{request.get_host()}/{settings.DDI_TENANT}/controller/v1/{controller}"


def poll(base: str, ci: ConfigurationItem, action: Action, now: datetime) -> dict[str, Any]:
    """The answer to a poll."""
    links = {}
    if action.cancel is not None:
        # Devices append to it: neither query nor slash.
        links["cancelAction"] = f"{base}/cancelAction/{action.cancel}"
    elif action.deploy is not None:
        links["deploymentBase"] = f"{base}/deploymentBase/{action.deploy}?c={action.mark}"
    if action.installed is not None:
        links["installedBase"] = f"{base}/installedBase/{action.installed}"
    if ci.attributes_wanted or ci.health_request is not None:
        # Agents make the address of the PUT themselves; one that knows the number answers with it.
        asked = f"?health={ci.health_request}" if ci.health_request is not None else ""
        links["configData"] = f"{base}/configData{asked}"
    return {
        "config": {"polling": {"sleep": sleep_time(ci, now, is_idle=action.is_idle)}},
        "_links": {name: {"href": href} for name, href in links.items()},
    }


def deployment(base: str, row: Deployment, ci: ConfigurationItem, history: int, now: datetime) -> dict[str, Any]:
    """The body of deploymentBase and installedBase: the files of the format that the device takes, and the newest
    `history` messages of the device (< 0: all).
    """
    download, update, is_window_open = modes(row, ci, now=now)
    body: dict[str, Any] = {
        "id": str(row.pk),
        "deployment": {
            "download": download,
            "update": update,
            "chunks": [_chunk(base, item, ci.takes, row.batch.purpose, now) for item in items_of(row)],
        },
    }
    if is_window_open is not None:
        body["deployment"]["maintenanceWindow"] = "available" if is_window_open else "unavailable"
    if history:
        body["actionHistory"] = _history(row, history)
    return body


def _chunk(base: str, item: Item, takes: str, purpose: str, now: datetime) -> dict[str, Any]:
    metadata = [*way_back_metadata(item.way_back, purpose), *item.metadata]
    if item.is_removal:
        metadata.insert(0, {"key": "action", "value": "remove"})
    return {
        "part": item.product,
        "name": item.product,
        "version": item.version,
        "artifacts": [artifact(base, file, now) for file in item.files if file.format == takes],
        **({"metadata": metadata} if metadata else {}),
    }


def artifact(base: str, row: Artifact, now: datetime) -> dict[str, Any]:
    """A file as deploymentBase and the list of a module name it: at a mirror, where there is one."""
    own = f"{base}/softwaremodules/{row.version_id}/artifacts/{quote(row.filename, safe='')}"
    href = signed_links.link(row, now=now) or own
    return {
        "filename": row.filename,
        "size": row.size,
        "hashes": {"sha1": row.sha1, "md5": row.md5, "sha256": row.sha256},
        "_links": {f"download{_protocol(href)}": {"href": href}, f"md5sum{_protocol(own)}": {"href": f"{own}.MD5SUM"}},
    }


def _protocol(href: str) -> str:
    """The name of a link says by which protocol; agents that know both take the first."""
    return "" if href.startswith("https:") else "-http"


def _history(row: Deployment, number: int) -> dict[str, Any]:
    events = DeploymentEvent.objects.filter(
        deployment=row, kind__in=[DeploymentEvent.Kind.REPORT, DeploymentEvent.Kind.CANCEL_REPORT]
    ).order_by("-id")
    limit = MAX_HISTORY if number < 0 else min(number, MAX_HISTORY)
    lines = [line for event in events[:limit] for line in reversed(event.details)]
    return {"status": _STATUS[row.state], "messages": lines[:limit]}
