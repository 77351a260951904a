"""What devices get: the JSON of polls and deployments."""

import zlib
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest

from cmdb.models import ConfigurationItem
from distribution.device import Action
from distribution.models import Deployment, DeploymentEvent, DeploymentItem
from distribution.packages import items_of
from distribution.signed import envelopes_of
from software.models import Artifact

MAX_HISTORY = 100
_LONGEST_SLEEP = 23 * 3600 + 59 * 60 + 59


def base_url(request: HttpRequest, ci: ConfigurationItem) -> str:
    """Where this device's resources are, as it reached the portal."""
    controller = quote(ci.agent_id or "", safe="")
    return f"{request.scheme}://{request.get_host()}/{settings.DDI_TENANT}/controller/v1/{controller}"


# A copy is watched while its problem-free period runs: it must not sleep as long as a device in the field.
_COPY_SLEEP = 5


def sleep_time(agent_id: str, *, is_copy: bool = False) -> str:
    """How long to sleep between polls, HH:MM:SS: the wanted time and up to a tenth more, always the same for
    a device.
    """
    seconds = min(settings.DDI_POLL_SECONDS, _COPY_SLEEP) if is_copy else settings.DDI_POLL_SECONDS
    seconds += zlib.crc32(agent_id.encode()) % (seconds // 10 + 1)
    seconds = max(1, min(seconds, _LONGEST_SLEEP))
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def poll(base: str, ci: ConfigurationItem, action: Action) -> dict[str, Any]:
    """The answer to a poll."""
    links = {}
    if action.cancel is not None:
        # Devices append to it: neither query nor slash.
        links["cancelAction"] = f"{base}/cancelAction/{action.cancel}"
    elif action.deploy is not None:
        links["deploymentBase"] = f"{base}/deploymentBase/{action.deploy}?c={action.mark}"
    if action.installed is not None:
        links["installedBase"] = f"{base}/installedBase/{action.installed}"
    if ci.attributes_wanted:
        links["configData"] = f"{base}/configData"
    return {
        "config": {"polling": {"sleep": sleep_time(ci.agent_id or "", is_copy=ci.copy_of_id is not None)}},
        "_links": {name: {"href": href} for name, href in links.items()},
    }


def deployment(base: str, row: Deployment, history: int, takes: str) -> dict[str, Any]:
    """The body of deploymentBase and installedBase, with the files of the format that the device takes and the newest
    `history` messages of the device (< 0: all).
    """
    signed = envelopes_of(row.pk)
    body: dict[str, Any] = {
        "id": str(row.pk),
        "deployment": {
            "download": "forced",
            "update": "forced",
            "chunks": [_chunk(base, item, takes, signed[item.product_id]) for item in items_of(row)],
        },
    }
    if history:
        body["actionHistory"] = _history(row, history)
    return body


def _chunk(base: str, item: DeploymentItem, takes: str, metadata: list[dict[str, str]]) -> dict[str, Any]:
    version = item.to_version or item.from_version
    chunk: dict[str, Any] = {
        "part": item.product.slug,
        "name": item.product.slug,
        "version": version.label if version is not None else "",
        "artifacts": [],
    }
    if item.to_version is None:
        metadata = [{"key": "action", "value": "remove"}, *metadata]
    else:
        chunk["artifacts"] = [_artifact(base, a) for a in item.to_version.artifacts.all() if a.format == takes]
    if metadata:
        chunk["metadata"] = metadata
    return chunk


def _artifact(base: str, artifact: Artifact) -> dict[str, Any]:
    href = f"{base}/softwaremodules/{artifact.version_id}/artifacts/{quote(artifact.filename, safe='')}"
    return {
        "filename": artifact.filename,
        "size": artifact.size,
        "hashes": {"sha1": artifact.sha1, "md5": artifact.md5, "sha256": artifact.sha256},
        "_links": {"download" if base.startswith("https:") else "download-http": {"href": href}},
    }


def _history(row: Deployment, number: int) -> dict[str, Any]:
    events = DeploymentEvent.objects.filter(
        deployment=row, kind__in=[DeploymentEvent.Kind.REPORT, DeploymentEvent.Kind.CANCEL_REPORT]
    ).order_by("-id")
    limit = MAX_HISTORY if number < 0 else min(number, MAX_HISTORY)
    lines = [line for event in events[:limit] for line in reversed(event.details)]
    return {"status": row.state.upper(), "messages": lines[:limit]}
