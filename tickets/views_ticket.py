"""What the pages of all tickets ask for in pieces: older and new entries, who else is here, previews, people."""

from typing import Any

from django.apps import apps
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from tickets import watching
from tickets.attachments import works_on
from tickets.clock import now_of
from tickets.exceptions import DomainError, PermissionRefused
from tickets.forms import PersonField, PortalForm
from tickets.links import page_of_object
from tickets.mentions import MOST_PROPOSALS, proposals
from tickets.models import Ticket
from tickets.numbers import parse_number
from tickets.presence import meet
from tickets.text import render_markdown
from tickets.timeline import NOTHING, read_part, sees_notes
from tickets.views import PortalPage

LONGEST_TEXT = 20_000


def ticket_of(number: str, user: Any) -> Any:
    """The visible ticket of any process with this number, else 404."""
    found = parse_number(number)
    models = [model for model in apps.get_models() if issubclass(model, Ticket)]
    model = next((model for model in models if found and found[0] == model.PREFIX), None)
    if found is None or model is None:
        raise Http404
    related = ("requester", "assignee")
    ticket = model._default_manager.visible_to(user).select_related(*related).filter(pk=found[1]).first()  # type: ignore[attr-defined]
    if ticket is None:
        raise Http404
    return ticket


def key_from(text: str) -> int | None:
    """A key in an address; anything else is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


class TicketPart(PortalPage, View):
    """A part of a ticket's page; what the person may not see does not exist for him."""

    def ticket(self, number: str) -> Any:
        return ticket_of(number, self.request.user)


class OlderEntries(TicketPart):
    """More of the timeline, or another choice of it. Without scripts it is a part of the page itself."""

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        ticket = self.ticket(number)
        before = key_from(request.GET.get("before", ""))
        part = read_part(ticket, request.user, only=request.GET.get("only", ""), before=before)
        template = "tickets/_entries.html" if before is not None else "tickets/_timeline_entries.html"
        return render(
            request,
            template,
            {
                "object": ticket,
                "part": part,
                "sees_notes": sees_notes(ticket, self.person),
                "works_on": works_on(ticket, self.person),
            },
        )


class LiveTicket(TicketPart):
    """What is new since the page was drawn, and who else has it open; 204 when nothing is. Pages ask all the time:
    one row is read in the database, and none written. A page that shows an older part asks for no entries (`none`).
    """

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        ticket = self.ticket(number)
        after, read = (key_from(request.GET.get(name, "")) for name in ("after", "version"))
        is_staff = sees_notes(ticket, request.user)
        others = meet(ticket.number, request.user, is_writing="writing" in request.GET, now=now_of(request))
        # Who asked for help need not know who looks at it.
        others = others if is_staff else []
        only = request.GET.get("only", "")
        is_older = request.GET.get("entries") == "none"
        part = NOTHING if is_older else read_part(ticket, request.user, only=only, after=after or 0)
        is_changed = read is not None and ticket.version != read
        seen = "; ".join(f"{other.name}{'*' if other.is_writing else ''}" for other in others)
        seen += " +" if is_changed else ""
        if not part.entries and seen == request.GET.get("seen", ""):
            return HttpResponse(status=204)
        context = {"object": ticket, "part": part, "others": others, "is_changed": is_changed, "seen": seen}
        context["works_on"] = works_on(ticket, request.user)
        return render(request, "tickets/_live.html", {**context, "after": part.newest or after, "read": read})


class TextPreview(PortalPage, View):
    """Markdown as it will be shown, by the code that shows what is stored."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        text = request.POST.get("text", "")[:LONGEST_TEXT]
        return HttpResponse(render_markdown(text) or _("Nothing to show yet."))


class People(TicketPart):
    """Whom one may mention in a comment, or with `note` in an internal note."""

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        ticket = self.ticket(number)
        found = proposals(
            ticket, request.GET.get("q", "")[:200], asked_by=request.user, public="note" not in request.GET
        )
        people = [{"username": one.username, "name": one.label} for one in found[:MOST_PROPOSALS]]
        return JsonResponse({"people": people})


class WatcherForm(PortalForm):
    person = PersonField(label=gettext_lazy("Add a watcher"), help_text="")


class Watchers(TicketPart):
    """Following, and adding or removing others; each shows the ticket again."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, number: str) -> HttpResponse:
        ticket, actor = self.ticket(number), self.person
        try:
            if "follow" in request.POST:
                watching.follow(ticket, actor=actor)
            elif "unfollow" in request.POST:
                watching.unfollow(ticket, actor=actor)
            elif "remove" in request.POST:
                key = key_from(request.POST["remove"])
                if (person := ticket.watchers.filter(pk=key).first()) is not None:
                    watching.remove_watcher(ticket, actor=actor, person=person)
            else:
                self.add(ticket)
        except DomainError as refusal:
            messages.error(request, refusal.message)
        return HttpResponseRedirect(page_of_object(ticket))

    def add(self, ticket: Any) -> None:
        form = WatcherForm(self.request.POST, user=self.request.user)
        if "person" not in form.fields:
            raise PermissionRefused(_("Only those who work on it add watchers. You can follow it yourself."))
        if form.is_valid():
            person = form.cleaned_data["person"]
            watching.add_watcher(ticket, actor=self.person, now=now_of(self.request), person=person)
        else:
            messages.error(self.request, " ".join(str(text) for text in form.errors["person"]))
