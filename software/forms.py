"""Forms of the software library."""

from django import forms
from django.utils.translation import gettext_lazy as _

from software.models import Format
from tickets.forms import LongText, PortalForm


class ProductForm(PortalForm):
    name = forms.CharField(label=_("Name"), max_length=100)
    slug = forms.SlugField(
        label=_("Short name"), max_length=64, help_text=_("Devices know the product by it; it never changes.")
    )
    description = LongText(label=_("Description"), required=False)


class VersionForm(PortalForm):
    label = forms.CharField(label=_("Version"), max_length=64, help_text=_("For example 2.4.1"))
    notes = LongText(label=_("Release notes"), required=False, rows=6, help_text=_("Markdown"))


class ArtifactForm(PortalForm):
    file = forms.FileField(label=_("File"), help_text=_("An archive for the agent: tar.gz with software.json"))
    sha256 = forms.RegexField(
        r"^[0-9a-fA-F]{64}$", label=_("SHA-256 that it must have"), required=False,
        help_text=_("Empty: whatever arrives is taken as right."),
    )  # fmt: skip
    format = forms.ChoiceField(
        label=_("Format"), required=False, choices=[("", _("As the name's ending tells")), *Format.choices],
        help_text=_("Which agents get it: those whose profile takes this format."),
    )  # fmt: skip
    more = forms.BooleanField(
        label=_("More files follow"), required=False, help_text=_("The version is not ready before the last one.")
    )


class WithdrawForm(PortalForm):
    reason = LongText(label=_("Reason"), rows=2, required=False)
