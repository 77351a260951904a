"""Forms of test environments."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from cmdb.models import ConfigurationItem
from test_environments.models import CopySource
from tickets.forms import PortalForm


class EnvironmentForm(PortalForm):
    source = forms.ModelChoiceField(
        ConfigurationItem.objects.none(), label=_("Copy of which CI"),
        help_text=_("CIs whose folder an administrator released for copies."),
    )  # fmt: skip
    purpose = forms.CharField(label=_("What for"), max_length=64, required=False)

    def prepare(self) -> None:
        field: Any = self.fields["source"]
        visible = ConfigurationItem.objects.visible_to(self.user).production()
        field.queryset = visible.filter(pk__in=CopySource.objects.values("ci")).order_by("name")
