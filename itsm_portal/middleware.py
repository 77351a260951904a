"""What every request passes: the short way of devices, the reader's language and zone, refusals of the domain."""

import zoneinfo
from collections.abc import Callable

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import Resolver404, resolve
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from tickets.attachments import most_bytes
from tickets.exceptions import DomainError

DEVICE_URLS = "distribution.channels.ddi.urls"
# Pages whose forms take files; those of the media library and of disks take larger ones, in pieces.
TICKETS = ("/incidents/", "/problems/", "/changes/", "/releases/")
GetResponse = Callable[[HttpRequest], HttpResponse]


class DeviceMiddleware:
    """Answers devices at once, past everything that pages need: they have no session, no cookies, no reader and no
    history but their events, and come by the thousand a second.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._prefixes = (f"/{settings.DDI_TENANT.lower()}/controller/", "/downloads/")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.lower().startswith(self._prefixes):
            return self.get_response(request)
        try:
            view = resolve(request.path_info, DEVICE_URLS)
        except Resolver404:
            return HttpResponse(status=404)
        translation.activate(
            settings.LANGUAGE_CODE
        )  # what devices cause is written down; the thread had a reader before
        response = view.func(request, *view.args, **view.kwargs)
        if not response.streaming and not response.has_header("Content-Length"):
            response.headers["Content-Length"] = str(len(response.content))
        return response


class ReaderMiddleware:
    """Shows times in the reader's zone and texts in his language."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            return self.get_response(request)
        user = request.user
        if user.language in dict(settings.LANGUAGES):
            translation.activate(user.language)
            request.LANGUAGE_CODE = user.language
        try:
            zone = zoneinfo.ZoneInfo(user.time_zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            zone = zoneinfo.ZoneInfo("UTC")
        with timezone.override(zone):
            return self.get_response(request)


class DomainErrorMiddleware:
    """A refusal of the domain that a page did not handle itself becomes a page that says what to do."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Forms of tickets that announce more than their files may weigh are refused before a byte of them is read."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        if request.path_info.startswith(TICKETS) and (not length.isdecimal() or int(length) > most_bytes()):
            error = DomainError(_("The files are too large together. Send fewer, or smaller ones."), code="too_large")
            messages.error(request, error.message)
            return render(request, "refused.html", {"error": error}, status=413)
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, DomainError):
            return None
        messages.error(request, exception.message)
        return render(request, "refused.html", {"error": exception}, status=exception.status)
