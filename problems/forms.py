"""Forms of problem management."""

from django import forms
from django.utils.translation import gettext_lazy as _

from incidents.forms import IncidentsField
from problems.models import Problem
from tickets.activities import Process
from tickets.forms import LongText, PortalForm, TicketForm, activity_field


class ProblemForm(TicketForm):
    activity = activity_field(Process.PROBLEM, "repair")
    incidents = IncidentsField(label=_("Incidents that it causes"), required=False)

    def prepare(self) -> None:
        chosen = [incident.pk for incident in self.initial.get("incidents", [])]
        self.fields["incidents"].offer(self.user, chosen)  # type: ignore[attr-defined]


class LinkIncidentsForm(PortalForm):
    incidents = IncidentsField(label=_("Incidents that it causes"))

    def prepare(self) -> None:
        field = self.fields["incidents"]
        field.offer(self.user, [])  # type: ignore[attr-defined]
        field.queryset = field.queryset.exclude(problems=self.instance)  # type: ignore[attr-defined]


class DocumentForm(PortalForm):
    root_cause = LongText(label=_("Root cause"), required=False, rows=5, help_text=_("Markdown"))
    workaround = LongText(
        label=_("Workaround"),
        required=False,
        rows=5,
        help_text=_("Everybody who may report incidents reads it once this is a known error."),
    )
    is_known_error = forms.BooleanField(
        label=_("Known error: publish title and workaround to everybody who may report incidents"), required=False
    )
    expected_version = forms.IntegerField(widget=forms.HiddenInput)

    def prepare(self) -> None:
        for name in ("root_cause", "workaround", "is_known_error"):
            self.initial.setdefault(name, getattr(self.instance, name))
        self.initial.setdefault("expected_version", self.instance.version)


class CloseProblemForm(PortalForm):
    close_code = forms.ChoiceField(label=_("Close code"), choices=Problem.CloseCode)
