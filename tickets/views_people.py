"""Proposals for fields that take a person by name."""

from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.views.generic import View

from tickets.people import MOST_HITS, having_name, may_look_for_people, written
from tickets.views import PortalPage


class PeopleOptions(PortalPage, View):
    """What is typed so far stands in the field of the request that `field` names; nobody is found without the right."""

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get(request.GET.get("field", ""), "")[:200]
        people = having_name(text)[:MOST_HITS] if may_look_for_people(request.user) else ()
        return HttpResponse(format_html_join("", '<option value="{}"></option>', ((written(one),) for one in people)))
