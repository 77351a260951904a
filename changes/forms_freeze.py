"""The form of a freeze."""

from django import forms
from django.utils.translation import gettext_lazy as _

from changes.freezes import FIELDS
from tickets.forms import LongText, PortalForm


class FreezeForm(PortalForm):
    name = forms.CharField(label=_("Name"), max_length=100)
    reason = LongText(label=_("Reason"), rows=3)
    starts_at = forms.DateTimeField(
        label=_("Starts (UTC)"), widget=forms.DateTimeInput(attrs={"type": "datetime-local"})
    )
    ends_at = forms.DateTimeField(
        label=_("Ends (UTC)"),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text=_("A time that has passed ends it now."),
    )
    binds_emergencies = forms.BooleanField(label=_("Emergency releases are bound by it, too"), required=False)

    def prepare(self) -> None:
        if self.instance is not None:
            self.initial = {**self.initial, **{name: getattr(self.instance, name) for name in FIELDS}}
