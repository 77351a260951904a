"""How a person wants notices: his page, and the address in each mail that switches such mails off."""

import zoneinfo
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.signing import SignatureExpired
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, override
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods
from django.views.generic import View

from notifications.kinds import CHOSEN, MANDATORY, URGENT, Kind, mails_of
from notifications.mail import language_of
from notifications.preferences import (
    Choice,
    Hours,
    choices_of,
    hours_chosen_by,
    read_unsubscribe_token,
    save_preferences,
    save_time_zone,
    switch_mail_off,
)
from tickets.clock import now_of
from tickets.forms import PortalForm
from tickets.views import PortalPage


class TimeInput(forms.TimeInput):
    """The browser's own clock."""

    input_type = "time"

    def __init__(self) -> None:
        super().__init__(format="%H:%M")


class PreferencesForm(PortalForm):
    """A choice for each kind (`mail_fix`, `bell_fix`), and the hours."""

    quiet_from = forms.TimeField(label=gettext_lazy("Quiet from"), required=False, widget=TimeInput)
    quiet_until = forms.TimeField(label=gettext_lazy("Quiet until"), required=False, widget=TimeInput)
    digest_at = forms.TimeField(label=gettext_lazy("Digests come at"), widget=TimeInput)
    digest_weekday = forms.TypedChoiceField(
        label=gettext_lazy("Weekly ones on"), coerce=int, choices=[(n, WEEKDAYS[n]) for n in range(7)]
    )
    time_zone = forms.ChoiceField(label=gettext_lazy("My time zone"))

    def prepare(self) -> None:
        zones = sorted({*zoneinfo.available_timezones(), self.user.time_zone})
        self.fields["time_zone"].choices = [(zone, zone.replace("_", " ")) for zone in zones]  # type: ignore[attr-defined]
        for kind in CHOSEN:
            mails = [(mail.value, mail.label) for mail in mails_of(kind)]
            self.fields[f"mail_{kind}"] = forms.ChoiceField(choices=mails, label=_("Mail"))
            if kind not in MANDATORY:
                self.fields[f"bell_{kind}"] = forms.BooleanField(required=False, label=_("Bell"))

    def rows(self) -> list[dict[str, Any]]:
        """The table: a row for each kind."""
        return [
            {
                "kind": kind,
                "is_urgent": kind in URGENT,
                "mail": self[f"mail_{kind}"],
                "bell": self[f"bell_{kind}"] if kind not in MANDATORY else None,
            }
            for kind in CHOSEN
        ]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if (data.get("quiet_from") is None) != (data.get("quiet_until") is None) and not self.errors:
            raise ValidationError(_("Name both ends of the quiet hours, or leave both empty."))
        return data

    def choices(self) -> dict[Kind, Choice]:
        data = self.cleaned_data
        return {kind: Choice(data[f"mail_{kind}"], data.get(f"bell_{kind}", True)) for kind in CHOSEN}

    def hours(self) -> Hours:
        return Hours(*(self.cleaned_data[name] for name in HOURS))


HOURS = ("quiet_from", "quiet_until", "digest_at", "digest_weekday")


class NoticePreferences(PortalPage, View):
    """Bell and mail for each kind, quiet hours, digests, and the person's time zone."""

    title = gettext_lazy("Notices and quiet hours")

    def crumbs(self) -> list[dict[str, str]]:
        return [{"label": _("Notices"), "url": reverse("notices")}, {"label": str(self.title)}]

    def get(self, request: HttpRequest) -> HttpResponse:
        person = self.person
        hours = hours_chosen_by(person)
        initial: dict[str, Any] = {name: getattr(hours, name) for name in HOURS}
        initial["time_zone"] = person.time_zone
        for kind, choice in choices_of(person).items():
            initial |= {f"mail_{kind}": choice.mail, f"bell_{kind}": choice.bell}
        return self.show(PreferencesForm(initial=initial, user=person))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = PreferencesForm(request.POST, user=request.user)
        if not form.is_valid():
            return self.show(form, status=400)
        save_time_zone(self.person, form.cleaned_data["time_zone"])
        save_preferences(self.person, form.choices(), form.hours(), now=now_of(request))
        messages.success(request, _("From now on, notices come like this."))
        return HttpResponseRedirect(reverse("notice_preferences"))

    def show(self, form: PreferencesForm, status: int = 200) -> HttpResponse:
        context = self.get_context_data(form=form)
        return render(self.request, "portal/notice_preferences.html", context, status=status)


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Switches one kind of mail off for whom the address in a mail was made; mail programs post to it (RFC 8058).

    The address itself is the proof; it can do nothing else, and a GET only asks.
    """
    try:
        found = read_unsubscribe_token(token)
    except SignatureExpired:
        expired = {"title": _("Notices"), "kind": None, "is_expired": True}
        return render(request, "portal/unsubscribe.html", expired, status=410)
    if found is None:
        return render(request, "portal/unsubscribe.html", {"title": _("Notices"), "kind": None}, status=404)
    person, kind = found
    is_done = request.method == "POST"
    if is_done:
        switch_mail_off(person, kind, now=now_of(request))
    with override(language_of(person)):
        context = {"title": _("Notices"), "kind": kind.label, "is_done": is_done, "email": person.email}
        return render(request, "portal/unsubscribe.html", context)
