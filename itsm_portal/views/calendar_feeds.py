"""Calendar feeds: the page on which one makes and revokes one's own, and the address that other programs fetch."""

from typing import Any

from allauth.account.adapter import get_adapter
from django import forms
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import translation
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe
from django.views.generic import View

from accounts.models import CalendarFeed
from accounts.service_tokens import digest
from itsm_portal.calendar.entries import KINDS
from itsm_portal.calendar.feeds import feed_address, feed_of, make_feed, revoke_feed
from itsm_portal.calendar.ical import feed_text
from tickets.clock import now_of
from tickets.exceptions import DomainError
from tickets.forms import PortalForm
from tickets.views import PortalPage, refuse

# Programs ask every few minutes at most; more is an error or somebody who tries.
PER_HOUR = 60
PER_HOUR_AND_SOURCE = 600


class FeedForm(PortalForm):
    name = forms.CharField(label=_("What it is for"), max_length=100, help_text=_("For example: mail program"))
    kinds = forms.MultipleChoiceField(
        label=_("Shows"), choices=list(KINDS.items()), initial=["freeze", "change"], widget=forms.CheckboxSelectMultiple
    )
    only_mine = forms.BooleanField(label=_("Only what I requested, wrote or am assigned to"), required=False)


class CalendarFeeds(PortalPage, View):
    section = "calendar"
    title = _("Calendar feeds")

    def crumbs(self) -> list[dict[str, str]]:
        return [{"label": str(_("Calendar")), "url": reverse("calendar")}, {"label": str(self.title)}]

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(FeedForm(user=request.user))

    def post(self, request: HttpRequest) -> HttpResponse:
        now = now_of(request)
        if "revoke" in request.POST:
            key = request.POST["revoke"]
            own = CalendarFeed.objects.filter(user=self.person)
            feed = get_object_or_404(own, pk=key if key.isdecimal() and len(key) < 19 else 0)
            revoke_feed(feed, actor=self.person, now=now)
            return HttpResponseRedirect(reverse("calendar_feeds"))
        form = FeedForm(request.POST, user=request.user)
        if not form.is_valid():
            return self.show(form, status=400)
        try:
            _feed, secret = make_feed(actor=self.person, now=now, **form.cleaned_data)
        except DomainError as error:
            refuse(form, error)
            return self.show(form, status=error.status)
        return self.show(FeedForm(user=request.user), address=feed_address(secret))

    def show(self, form: FeedForm, status: int = 200, **more: Any) -> HttpResponse:
        feeds = list(CalendarFeed.objects.filter(user=self.person)[:100])
        for feed in feeds:
            feed.labels = ", ".join(str(KINDS[kind]) for kind in feed.kinds if kind in KINDS)  # type: ignore[attr-defined]
        response = render(
            self.request, "portal/calendar_feeds.html", self.get_context_data(form=form, feeds=feeds, **more),
            status=status,
        )  # fmt: skip
        response["Cache-Control"] = "no-store"
        return response


@require_safe
def calendar_feed(request: HttpRequest, secret: str) -> HttpResponse:
    """The feed with this secret; without one that holds, there is nothing (404), whatever the reason."""
    now = now_of(request)
    source = get_adapter().get_client_ip(request)
    if _too_often(f"source:{source}", PER_HOUR_AND_SOURCE) or _too_often(digest(secret), PER_HOUR):
        return _refusal("Too many requests.\n", 429, {"Retry-After": "3600"})
    feed = feed_of(secret, now=now)
    if feed is None:
        return _refusal("There is no such calendar.\n", 404, {})
    with translation.override(feed.user.language):
        text = feed_text(feed, now=now, base=f"{settings.PORTAL_URL}/", domain=settings.MESSAGE_ID_DOMAIN)
    headers = {
        "Content-Disposition": 'inline; filename="calendar.ics"',
        "Cache-Control": "private, max-age=300",
        "ETag": quote_etag(digest(text.decode())),
    }
    response = HttpResponse(text, content_type="text/calendar; charset=utf-8", headers=headers)
    return get_conditional_response(request, etag=headers["ETag"], response=response) or response


def _refusal(text: str, status: int, headers: dict[str, str]) -> HttpResponse:
    response = HttpResponse(text, status=status, content_type="text/plain", headers=headers)
    # Django would write the address into the log, and it is a secret.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def _too_often(key: str, most: int) -> bool:
    """Counts in hours from the first request on."""
    key = f"calendar-feed:{key}"
    if cache.add(key, 1, timeout=3600):
        return False
    try:
        return bool(cache.incr(key) > most)
    except ValueError:  # it has run out between the two
        return False
