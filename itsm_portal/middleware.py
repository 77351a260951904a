"""What every request passes: the reader's language and zone, the history's context, refusals of the domain."""

import zoneinfo
from collections.abc import Callable

import pghistory.middleware
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone, translation

from tickets.exceptions import DomainError

GetResponse = Callable[[HttpRequest], HttpResponse]


def is_device_request(request: HttpRequest) -> bool:
    """Requests of agents have no session, no reader and no history context; they are counted in thousands a second."""
    return request.path_info.lower().startswith(f"/{settings.DDI_TENANT.lower()}/controller/")


class ReaderMiddleware:
    """Shows times in the reader's zone and texts in his language."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if is_device_request(request) or not request.user.is_authenticated:
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


class HistoryMiddleware(pghistory.middleware.HistoryMiddleware):
    """Writes who asked, and which request, into the history; not for devices, whose history are deployment events."""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if is_device_request(request):
            return self.get_response(request)
        return super().__call__(request)


class DomainErrorMiddleware:
    """A refusal of the domain that a page did not handle itself becomes a page that says what to do."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, DomainError):
            return None
        messages.error(request, exception.message)
        return render(request, "refused.html", {"error": exception}, status=exception.status)
