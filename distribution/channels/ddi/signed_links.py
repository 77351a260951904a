"""Short links to files that carry their own permission: for mirrors and content delivery networks.

`<DOWNLOAD_URL>/<artifact>/<until>/<signature>/<name>`. The signature is an HMAC of the artifact, its content and the
moment until which the link works, with a key of its own. For some hours the same file has the same link for every
device, so that a cache in between has to fetch it once. Whoever has the link has the file: it names no device.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from datetime import datetime
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from cmdb.services import ci_of_token
from distribution import device
from distribution.channels.ddi import downloads
from distribution.channels.ddi.pressure import come_back_later
from software.models import Artifact, Version
from software.quarantine import Check, check_before_serving
from tickets.clock import now_of

_SIGNATURE_BYTES = 18


def link(artifact: Artifact, *, now: datetime) -> str | None:
    """Where the file can be had for `DOWNLOAD_SECONDS` to twice as long; None: there is no such place."""
    if not settings.DOWNLOAD_URL:
        return None
    step = settings.DOWNLOAD_SECONDS
    until = (int(now.timestamp()) // step + 2) * step
    name = quote(artifact.filename, safe="")
    return f"{settings.DOWNLOAD_URL}/{artifact.pk}/{until}/{signature(artifact, until)}/{name}"


def signature(artifact: Artifact, until: int) -> str:
    """What the link of this file, valid until this second, has to carry."""
    text = f"{artifact.pk}/{artifact.sha256}/{until}".encode()
    digest = hmac.digest(settings.DOWNLOAD_KEY.encode(), text, hashlib.sha256)
    return urlsafe_b64encode(digest[:_SIGNATURE_BYTES]).decode()


@csrf_exempt
def download(request: HttpRequest, artifact: int, until: int, given: str, filename: str) -> HttpResponseBase:
    """The file of a signed link: 403 for a wrong signature, 410 when its time is over or the version is not offered."""
    if request.method not in {"GET", "HEAD"}:
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    if not settings.DOWNLOAD_KEY:
        return HttpResponse(status=404)
    rows = Artifact.objects.select_related("version").filter(pk=artifact, filename=filename.replace("\x00", ""))
    found = rows.first()
    # An unknown file takes as long as a wrong signature.
    expected = signature(found or Artifact(pk=artifact), until)
    if not hmac.compare_digest(given.encode(), expected.encode()) or found is None:
        return HttpResponse(status=403)
    if until <= now_of(request).timestamp() or found.version.state != Version.State.READY:
        return HttpResponse(status=410)
    state = check_before_serving(found, now=now_of(request))
    if state is not Check.GOOD:
        return come_back_later() if state is Check.BUSY else HttpResponse(status=410)
    response = downloads.send(request, found)
    if response.status_code == 200 and request.method == "GET":
        _note(request, found)
    if response.status_code < 300 and not settings.X_ACCEL_LOCATION:
        # No cache gives it away after its time.
        left = until - int(now_of(request).timestamp())
        response["Cache-Control"] = f"public, max-age={left}, immutable"
    return response


def _note(request: HttpRequest, artifact: Artifact) -> None:
    """Notes the download on the deployment of the device that shows its token; the link itself names none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    ci = ci_of_token(token) if scheme == "TargetToken" and "target_token" in settings.DDI_AUTHENTICATION else None
    if ci is not None:
        deployment = device.fetching(ci, version=artifact.version_id)
        if deployment is not None:
            device.note_download(deployment, filename=artifact.filename, now=now_of(request))
