"""Forms of gateways and of devices that wait for approval."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from accounts.models import Team
from cmdb.models import AgentProfile, CIClass, CIGroup
from tickets.forms import PersonField, PortalForm


class ApprovalForm(PortalForm):
    """What the device is to be as a CI; filled in with what its gateway or authority proposes."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=128)
    ci_class = forms.ModelChoiceField(CIClass.objects.all(), label=gettext_lazy("Class"))
    agent_profile = forms.ModelChoiceField(
        AgentProfile.objects.all(), label=gettext_lazy("Agent profile"), required=False,
        help_text=gettext_lazy("If in doubt “Generic DDI agent”; without a profile it counts as the portal's agent."),
    )  # fmt: skip
    owner = PersonField(label=gettext_lazy("Owner"), required=False)
    team = forms.ModelChoiceField(Team.objects.all(), label=gettext_lazy("Team"), required=False)

    def prepare(self) -> None:
        source: Any = self.instance.admitted_by
        self.initial.setdefault("name", self.instance.agent_id)
        self.initial.setdefault("ci_class", source.ci_class_id)
        self.initial.setdefault("agent_profile", source.agent_profile_id)


class RejectionForm(PortalForm):
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=200, required=False)


class GatewayForm(PortalForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    group = forms.ModelChoiceField(
        CIGroup.objects.all(), label=gettext_lazy("CI group"),
        help_text=gettext_lazy("It speaks for every CI of this group and for no other."),
    )  # fmt: skip
    may_register = forms.BooleanField(
        label=gettext_lazy("Lets new devices wait for approval"), required=False, initial=True
    )
    ci_class = forms.ModelChoiceField(CIClass.objects.all(), label=gettext_lazy("Class of new CIs"), required=False)
    agent_profile = forms.ModelChoiceField(
        AgentProfile.objects.all(), label=gettext_lazy("Profile of new CIs"), required=False
    )
