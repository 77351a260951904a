"""Forms of change management."""

from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from changes.models import Change
from changes.services import change_hash
from cmdb.forms import CIListField, limit_cis
from incidents.forms import IncidentsField
from problems.models import Problem
from software.models import Product
from tickets.activities import Process
from tickets.forms import ApproveForm, LongText, MomentField, PortalForm, TicketForm, activity_field
from tickets.models import Level


class ChangeForm(TicketForm):
    """An RFC: what, why, on which CIs, how, and how back."""

    change_type = forms.ChoiceField(label=_("Type"), choices=Change.Type, initial=Change.Type.NORMAL)
    activity = activity_field(Process.CHANGE, "repair")
    problems = forms.ModelMultipleChoiceField(
        Problem.objects.none(), label=_("Problems that it solves"), required=False, widget=forms.CheckboxSelectMultiple
    )
    incidents = IncidentsField(label=_("Incidents that it solves directly"), required=False)
    products = forms.ModelMultipleChoiceField(
        Product.objects.all(), label=_("Products that it changes"), required=False, widget=forms.CheckboxSelectMultiple
    )
    affected_cis = CIListField(
        label=_("Affected CIs"), required=False, widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("One name or number on each line."),
    )  # fmt: skip
    implementation_plan = LongText(label=_("Implementation plan"), required=False)
    test_plan = LongText(label=_("Test plan"), required=False)
    backout_plan = LongText(label=_("Backout plan"), required=False, help_text=_("How to return to what was before."))
    planned_start = MomentField(label=_("Planned start"), required=False)
    planned_end = MomentField(label=_("Planned end"), required=False)

    def prepare(self) -> None:
        limit_cis(self, self.user)
        self._offer("problems", Problem)
        self.fields["incidents"].offer(self.user, self._chosen("incidents"))  # type: ignore[attr-defined]

    def _chosen(self, name: str) -> list[int]:
        return [row.pk for row in self.initial.get(name, [])]

    def _offer(self, name: str, model: Any) -> None:
        visible = model.objects.visible_to(self.user)
        newest = list(visible.open().values_list("pk", flat=True)[:100])
        field: Any = self.fields[name]
        field.queryset = visible.filter(pk__in=[*newest, *self._chosen(name)])
        if not newest and not self._chosen(name):
            field.help_text = _("None is open.")


class EditChangeForm(ChangeForm):
    expected_version = forms.IntegerField(widget=forms.HiddenInput)


class AssessForm(PortalForm):
    risk = forms.ChoiceField(label=_("Risk"), choices=Level)
    risk_reason = LongText(label=_("Why this risk"), rows=3)

    def prepare(self) -> None:
        self.initial.setdefault("risk", self.instance.risk)
        self.initial.setdefault("risk_reason", self.instance.risk_reason)


class ApproveChangeForm(ApproveForm):
    """The approval is bound to the content that the approver has seen."""

    seen_hash = forms.CharField(widget=forms.HiddenInput)

    def prepare(self) -> None:
        self.initial.setdefault("seen_hash", change_hash(self.instance))


class ScheduleForm(PortalForm):
    planned_start = MomentField(label=_("Planned start"))
    planned_end = MomentField(label=_("Planned end"))

    def prepare(self) -> None:
        change, has_end = self.instance, "planned_end" in self.initial
        self.initial.setdefault("planned_start", change.planned_start)
        self.initial.setdefault("planned_end", change.planned_end)
        start = self.moment("planned_start")
        if not has_end and start and change.planned_start and change.planned_end:
            # Another start alone moves all of it.
            self.initial["planned_end"] = start + (change.planned_end - change.planned_start)

    def moment(self, name: str) -> datetime | None:
        """What the field says just now, typed or from before; None: nothing that is a time."""
        try:
            return self.fields[name].clean(self[name].value()) or None
        except ValidationError:
            return None


class BesideForm(forms.HiddenInput):
    """Its input stands in the panel beside the form, which is drawn anew when what is asked for changes."""

    def render(self, *args: Any, **kwargs: Any) -> SafeString:
        return SafeString("")


class RescheduleForm(ScheduleForm):
    """Another planned time, in spite of conflicts only if the person has ticked them; back to where he came from."""

    expected_version = forms.IntegerField(widget=forms.HiddenInput)
    seen_conflicts = forms.CharField(widget=BesideForm, required=False, max_length=64)
    back = forms.CharField(widget=forms.HiddenInput, required=False, max_length=500)

    def prepare(self) -> None:
        super().prepare()
        self.initial.setdefault("expected_version", self.instance.version)


class ReviewForm(PortalForm):
    text = LongText(label=_("Review: did it reach its aim, what went wrong, what to do better"), rows=5)


class CloseChangeForm(PortalForm):
    close_code = forms.ChoiceField(label=_("Close code"), choices=Change.CloseCode)
