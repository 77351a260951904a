"""Forms of incident management."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from cmdb.forms import CIField, limit_cis
from cmdb.models import ConfigurationItem
from incidents.models import Incident
from tickets.forms import EditForm, FilesField, LongText, PersonField, PortalForm, TicketForm

MOST_OWN_CIS = 8


class ReportForm(TicketForm):
    """What a requester says, on one page, his own CIs first; the service desk may name the requester."""

    own_ci = forms.ChoiceField(label=_("Which of your devices or services?"), widget=forms.RadioSelect, required=False)

    ci = CIField(
        label=_("Another machine or service"), required=False, help_text=_("Its name or number, if you know it.")
    )
    requester = PersonField(label=_("On behalf of"), required=False)
    files = FilesField(help_text=_("A screenshot, for example."))  # type: ignore[assignment]
    field_order = ("title", "own_ci", "ci", "description", "files", "impact", "urgency", "requester")

    def prepare(self) -> None:
        limit_cis(self, self.user)
        if not self.user.has_perm("incidents.work_incident"):
            self.fields.pop("requester", None)
        owned = ConfigurationItem.objects.production().filter(owner=self.user).order_by("name")
        self.own_cis = {str(ci.pk): ci for ci in owned[:MOST_OWN_CIS]}
        if not self.own_cis:
            del self.fields["own_ci"]
            return
        choices = [*((key, ci.name) for key, ci in self.own_cis.items()), ("", _("None of these, or I do not know"))]
        self.fields["own_ci"].choices = choices  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """One CI: the one that is named, else the one that is chosen."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        chosen = self.own_cis.get(data.pop("own_ci", "") or "")
        if "ci" in data and data["ci"] is None:
            data["ci"] = chosen
        return data


class EditIncidentForm(EditForm):
    ci = CIField(label=_("Configuration item"), required=False, help_text=_("Which machine or service it is about."))
    field_order = ("title", "ci", "description", "impact", "urgency")

    def prepare(self) -> None:
        limit_cis(self, self.user)
        self.initial.setdefault("ci", self.instance.ci.name if self.instance.ci else "")
        super().prepare()


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
