"""Forms of incident management."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Team
from cmdb.forms import CIField, limit_cis
from incidents.models import Incident
from tickets.forms import LongText, PersonField, PortalForm, TicketForm


class ReportForm(TicketForm):
    """What a requester says; the service desk may name the requester."""

    ci = CIField(label=_("Configuration item"), required=False, help_text=_("Which machine or service it is about."))
    requester = PersonField(label=_("On behalf of"), required=False)
    field_order = ("title", "ci", "description", "impact", "urgency", "requester")

    def prepare(self) -> None:
        limit_cis(self, self.user)
        if not self.user.has_perm("incidents.work_incident"):
            del self.fields["requester"]


class AssignForm(PortalForm):
    assignee = PersonField(label=_("Person"), required=False)
    team = forms.ModelChoiceField(Team.objects.all(), label=_("Team"), required=False)

    def prepare(self) -> None:
        self.initial.setdefault("assignee", self.instance.assignee_id or self.user.pk)
        self.initial.setdefault("team", self.instance.team_id)


class HoldForm(PortalForm):
    reason = forms.ChoiceField(label=_("Reason"), choices=Incident.HoldReason)
    note = LongText(label=_("Note"), rows=3, required=False)


class ResolveForm(PortalForm):
    resolution = LongText(label=_("What restored the service"), help_text=_("The requester reads this. Markdown."))


class IncidentsField(forms.ModelMultipleChoiceField):
    """Open incidents that the person may see, as a list with check boxes. Its value in addresses is the number."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(queryset=Incident.objects.none(), **kwargs)

    def offer(self, user: Any, chosen: list[int]) -> None:
        """Offers the newest open ones, and those already chosen."""
        visible = Incident.objects.visible_to(user)
        newest = list(visible.open().values_list("pk", flat=True)[:100])
        self.queryset = visible.filter(pk__in=[*newest, *chosen])
