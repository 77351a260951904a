"""Files on tickets: fetched by those who may read the entry that they came with, and removed."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from tickets import attachments
from tickets.clock import now_of
from tickets.downloads import as_download
from tickets.exceptions import DomainError
from tickets.links import page_of_object
from tickets.views_ticket import TicketPart


class TicketFile(TicketPart):
    """One file of a visible ticket; one with an internal note only for those who read these."""

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest, number: str, key: int) -> HttpResponseBase:
        found = attachments.find(self.ticket(number), key, user=self.person)
        if found is None:
            raise Http404
        return as_download(found[0], request.headers.get("If-None-Match"))


class RemoveFile(TicketPart):
    """Removes a file and shows the ticket again."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, number: str, key: int) -> HttpResponse:
        ticket: Any = self.ticket(number)
        found = attachments.find(ticket, key, user=self.person)
        if found is None:
            raise Http404
        try:
            attachments.remove(ticket, key, actor=self.person, now=now_of(request))
            messages.success(request, _("“%(name)s” is removed.") % {"name": found[0].name})
        except DomainError as refusal:
            messages.error(request, refusal.message)
        return HttpResponseRedirect(page_of_object(ticket))
