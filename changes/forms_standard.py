"""Forms of standard changes."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User
from changes.standard import FIELDS, LINKS, template_hash
from cmdb.models import CIGroup
from software.models import Product
from tickets.forms import ApproveForm, LongText, PortalForm


class StandardTemplateForm(PortalForm):
    name = forms.CharField(label=_("Name"), max_length=100)
    description = LongText(label=_("Description"), required=False)
    products = forms.ModelMultipleChoiceField(
        Product.objects.all(), label=_("Products"), widget=forms.CheckboxSelectMultiple
    )
    groups = forms.ModelMultipleChoiceField(
        CIGroup.objects.all(), label=_("CIs of these groups"), widget=forms.CheckboxSelectMultiple
    )
    users = forms.ModelMultipleChoiceField(
        User.objects.filter(is_active=True).order_by("username"), label=_("Used by these people"), required=False
    )
    teams = forms.ModelMultipleChoiceField(
        Team.objects.all(), label=_("Used by these teams"), required=False, widget=forms.CheckboxSelectMultiple
    )
    most_cis = forms.IntegerField(label=_("CIs at most"), min_value=1, max_value=5000, initial=100)
    soak_seconds = forms.IntegerField(label=_("Problem-free seconds after it"), min_value=1, initial=300)
    needs_test = forms.BooleanField(
        label=_("Only versions that have passed a test on a copy"), required=False, initial=True
    )
    implementation_plan = LongText(label=_("Implementation plan"))
    backout_plan = LongText(label=_("Backout plan"))
    is_active = forms.BooleanField(label=_("In use"), required=False, initial=True)

    def prepare(self) -> None:
        if self.instance is not None:
            values: dict[str, Any] = {name: getattr(self.instance, name) for name in FIELDS}
            values |= {name: list(getattr(self.instance, name).all()) for name in LINKS}
            self.initial = {**self.initial, **values}


class ApproveTemplateForm(ApproveForm):
    """The approval is bound to the content that the approver has seen."""

    seen_hash = forms.CharField(widget=forms.HiddenInput)

    def prepare(self) -> None:
        self.initial.setdefault("seen_hash", template_hash(self.instance))
