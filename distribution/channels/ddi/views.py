"""The Direct Device Integration API: plain HTTP and JSON, polled by devices. Every view does little and locks
less.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from cmdb.admission import note_attributes
from cmdb.models import ConfigurationItem, Registration
from cmdb.services import Beside
from distribution import device, last_seen
from distribution.attributes import TooManyAttributes
from distribution.channels.ddi import downloads, payload
from distribution.channels.ddi.auth import CHALLENGES, authenticate
from distribution.channels.ddi.messages import (
    Refused,
    action_id,
    number_of,
    read_attributes,
    read_declared,
    read_feedback,
)
from distribution.channels.ddi.pressure import come_back_later, send_it_again, sheds_load
from distribution.models import Batch, Deployment, DeploymentState
from failpoints import failpoint
from software.models import Artifact, Version
from software.quarantine import Check, check_before_serving
from tickets.clock import now_of
from tickets.exceptions import DomainError

log = logging.getLogger(__name__)

JSON = "application/json;charset=UTF-8"
MAX_CONTROLLER_ID = 256

# What the device has closed, or what its attributes have ended, can be read again; it is not offered again.
_READABLE = device.FETCHABLE | {"confirming", "succeeded", "failed"}
_LISTED = device.FETCHABLE | {"succeeded"}
_CANCEL_READABLE = frozenset({"cancelling", "cancelled"})
_STATUS = {
    device.Outcome.ACCEPTED: 200,
    device.Outcome.UNKNOWN: 404,
    device.Outcome.GONE: 410,
    device.Outcome.REFUSED: 405,
    device.Outcome.TOO_MANY: 429,
}
_ACCEPTED_TYPES = ("*/*", "application/*", "application/json", "application/hal+json", "application/octet-stream")

View = Callable[..., HttpResponseBase]


def device_view(
    *methods: str,
    waiting: View | None = None,
    reads: Callable[..., Beside] | None = None,
    busy: Callable[[], HttpResponse] = send_it_again,
) -> Callable[[View], View]:
    """A view for devices: knows the tenant and the method, asks who it is, and turns refusals into answers.

    `waiting` answers devices that wait for approval; without it there is nothing for them. `reads` says, from what the
    address names, what the view needs from the database; the statement that asks who it is brings it along. `busy`
    answers when the database does not.
    """

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def wrapped(request: HttpRequest, tenant: str, controller_id: str, **kwargs: str) -> HttpResponseBase:
            try:
                _check(request, tenant, controller_id, methods)
                who = authenticate(request, controller_id, reads(**kwargs) if reads is not None else None)
                if isinstance(who, Registration):
                    if waiting is None:
                        raise Refused(404)
                    return waiting(request, who)
                return view(request, who, **kwargs) if who is not None else _stranger()
            except Refused as refusal:
                return _refusal(refusal.status, refusal.message, methods)
            except DomainError as refusal:
                return _refusal(refusal.status, refusal.message)
            except OperationalError as error:
                # No connection, or no lock in time.
                log.warning("a device was sent away: %s", error)
                return busy()

        return wrapped

    return decorate


def _stranger() -> HttpResponse:
    challenges = [CHALLENGES[name] for name in settings.DDI_AUTHENTICATION if name in CHALLENGES]
    return HttpResponse(status=401, headers={"WWW-Authenticate": ", ".join(challenges)} if challenges else {})


def poll_waiting(request: HttpRequest, registration: Registration) -> HttpResponseBase:
    """A device that waits for approval: nothing to do, but it may say who it is."""
    stranger = ConfigurationItem(agent_id=registration.agent_id, attributes_wanted=not registration.attributes)
    stranger.window = None
    base = payload.base_url(request, stranger)
    return _json(request, payload.poll(base, stranger, device.Action(), now_of(request)))


def config_data_waiting(request: HttpRequest, registration: Registration) -> HttpResponseBase:
    """What a waiting device says about itself, for whoever approves it."""
    _mode, data = read_attributes(request)
    if not note_attributes(registration, data):
        raise Refused(429, "The device has too many attributes.")
    return HttpResponse(status=200)


def _action(**_: str) -> Beside:
    return device.beside_action()


def _attributes(**_: str) -> Beside:
    return device.beside_attributes()


def _file(module: str, filename: str) -> Beside:
    return device.beside_file(number_of(module) or 0, filename)


def _deployment_to_read(action: str) -> Beside:
    return device.beside_deployment(number_of(action) or 0, with_items=True)


def _deployment_to_report(action: str) -> Beside:
    return device.beside_deployment(number_of(action) or 0)


@sheds_load
@device_view("GET", waiting=poll_waiting, reads=_action, busy=come_back_later)
def poll(request: HttpRequest, ci: ConfigurationItem) -> HttpResponseBase:
    """What to do next. Writes nothing: when the device was seen is written later."""
    now = now_of(request)
    action = device.current_action(ci, now=now)
    last_seen.note(ci, now=now)
    return _json(request, payload.poll(payload.base_url(request, ci), ci, action, now))


@device_view("PUT", waiting=config_data_waiting, reads=_attributes)
def config_data(request: HttpRequest, ci: ConfigurationItem) -> HttpResponseBase:
    """The device's attributes: the proof of what it runs."""
    mode, data = read_attributes(request)
    try:
        device.record_attributes(ci, data=data, mode=mode, now=now_of(request))
        failpoint("attributes.committed")
    except TooManyAttributes:
        raise Refused(429, "The device has too many attributes.") from None
    return HttpResponse(status=200)


@device_view("GET", reads=_deployment_to_read)
def deployment_base(request: HttpRequest, ci: ConfigurationItem, action: str) -> HttpResponseBase:
    """What to install. The first GET is the offer."""
    row = device.find_deployment(ci, action_id(action))
    if row is None or device.is_held(row, ci, now=now_of(request)):
        raise Refused(404)
    if row.state == DeploymentState.QUEUED:
        device.offer(row, ci, now=now_of(request))
        failpoint("offer.committed")
    if row.state not in _READABLE or row.offered_at is None:
        raise Refused(404)
    return _deployment(request, ci, row)


@device_view("GET", reads=_deployment_to_read)
def installed_base(request: HttpRequest, ci: ConfigurationItem, action: str) -> HttpResponseBase:
    """A deployment that succeeded, again."""
    row = device.find_deployment(ci, action_id(action))
    if row is None or row.state != DeploymentState.SUCCEEDED or row.batch.mode == Batch.Mode.DOWNLOAD_ONLY:
        raise Refused(404)
    return _deployment(request, ci, row)


@device_view("PUT")
def declare_installed(request: HttpRequest, ci: ConfigurationItem) -> HttpResponseBase:
    """What the device says it runs: a release of the media library, however it came there."""
    name, label = read_declared(request)
    version = Version.objects.select_related("product").filter(product__slug=name, label=label).first()
    if version is None:
        raise Refused(404, "The media library has no such release.")
    is_new = device.record_declared(ci, version=version, now=now_of(request))
    return HttpResponse(status=201 if is_new else 200)


@device_view("POST", reads=_deployment_to_report)
def feedback(request: HttpRequest, ci: ConfigurationItem, action: str) -> HttpResponseBase:
    """Progress, and at last the result."""
    return _reported(request, ci, action, device.report)


@device_view("GET", reads=_deployment_to_report)
def cancel_action(request: HttpRequest, ci: ConfigurationItem, action: str) -> HttpResponseBase:
    """What to stop."""
    row = device.find_deployment(ci, action_id(action))
    if row is None or row.state not in _CANCEL_READABLE or row.offered_at is None:
        raise Refused(404)
    return _json(request, {"id": str(row.pk), "cancelAction": {"stopId": str(row.pk)}})


@device_view("POST", reads=_deployment_to_report)
def cancel_feedback(request: HttpRequest, ci: ConfigurationItem, action: str) -> HttpResponseBase:
    """Whether it stopped."""
    return _reported(request, ci, action, device.answer_cancel)


@device_view("GET")
def artifacts(request: HttpRequest, ci: ConfigurationItem, module: str) -> HttpResponseBase:
    """The files of a deployment that this device has under way, or of what it runs."""
    found = Artifact.objects.filter(
        version_id=action_id(module),
        format=ci.takes,
        version__deployments__deployment__ci_id=ci.pk,
        version__deployments__deployment__state__in=_LISTED,
    )
    rows = list(found.distinct().order_by("pk"))
    if not rows:
        raise Refused(404)
    base = payload.base_url(request, ci)
    return _json(request, [payload.artifact(base, row, now_of(request)) for row in rows])


@device_view("GET", "HEAD", reads=_file)
def artifact(request: HttpRequest, ci: ConfigurationItem, module: str, filename: str) -> HttpResponseBase:
    """A file of a deployment that this device has under way, or the line with its MD5."""
    found = device.find_file(ci, action_id(module), filename)
    if found is None:
        raise Refused(404)
    if found.version_state != Version.State.READY:
        raise Refused(410, f"The version is {found.version_state}.")
    if found.is_sum:
        return downloads.send_md5(found.artifact)
    state = check_before_serving(found.artifact, now=now_of(request))
    if state is Check.BUSY:
        return come_back_later()
    if state is Check.BAD:
        raise Refused(410, "The version is quarantined.")
    response = downloads.send(request, found.artifact, to=ci.pk)
    if response.status_code == 200 and request.method == "GET":
        device.note_download(found.deployment_id, filename=filename, now=now_of(request))
    return response


def _check(request: HttpRequest, tenant: str, controller_id: str, methods: tuple[str, ...]) -> None:
    if tenant.lower() != settings.DDI_TENANT.lower():
        raise Refused(404)
    if request.method not in methods:
        raise Refused(405)
    if len(controller_id) > MAX_CONTROLLER_ID:
        raise Refused(400, f"A controller id has at most {MAX_CONTROLLER_ID} characters.")
    accept = request.headers.get("Accept", "").lower()
    if accept and not any(kind in accept for kind in _ACCEPTED_TYPES):
        raise Refused(406)


def _reported(
    request: HttpRequest, ci: ConfigurationItem, action: str, take: Callable[..., device.Outcome]
) -> HttpResponseBase:
    number = action_id(action)
    message = read_feedback(request)
    outcome = take(
        ci,
        number,
        execution=message.execution,
        result=message.result,
        details=message.details,
        fingerprint=message.fingerprint,
        now=now_of(request),
    )
    failpoint("report.committed")
    if outcome is device.Outcome.ACCEPTED:
        return HttpResponse(status=200)
    return _refusal(_STATUS[outcome], f"The action is not taken: {outcome.value}.")


def _deployment(request: HttpRequest, ci: ConfigurationItem, row: Deployment) -> HttpResponseBase:
    wanted = request.GET.get("actionHistory", "")
    history = int(wanted) if wanted.removeprefix("-").isdecimal() and wanted.isascii() and len(wanted) < 9 else 0
    return _json(request, payload.deployment(payload.base_url(request, ci), row, ci, history, now_of(request)))


def _json(request: HttpRequest, body: dict[str, Any] | list[Any]) -> HttpResponse:
    content = json.dumps(body, separators=(",", ":")).encode()
    etag = f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"'
    known = {name.strip().removeprefix("W/") for name in request.headers.get("If-None-Match", "").split(",")}
    if etag in known:
        return HttpResponse(status=304, headers={"ETag": etag})
    return HttpResponse(content, content_type=JSON, headers={"ETag": etag})


def _refusal(status: int, message: str = "", methods: tuple[str, ...] = ()) -> HttpResponse:
    body = {"errorCode": f"itsm.device.error.{status}", "message": message}
    response = HttpResponse(json.dumps(body), status=status, content_type=JSON)
    if status == 405 and methods:
        response["Allow"] = ", ".join(methods)
    return response
