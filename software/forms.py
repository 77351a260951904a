"""Forms of the software library."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from signing.envelope import Untrusted, load_json
from software.models import Format
from software.sboms import MAX_BYTES as MAX_SBOM_BYTES
from tickets.forms import LongText, PortalForm

# A release with some hundred ways back takes less.
MAX_ENVELOPE_BYTES = 16 * 1024 * 1024


class ProductForm(PortalForm):
    name = forms.CharField(label=_("Name"), max_length=100)
    slug = forms.SlugField(
        label=_("Short name"), max_length=64, help_text=_("Devices know the product by it; it never changes.")
    )
    description = LongText(label=_("Description"), required=False)


class VersionForm(PortalForm):
    label = forms.CharField(label=_("Version"), max_length=64, help_text=_("For example 2.4.1"))
    notes = LongText(label=_("Release notes"), required=False, rows=6, help_text=_("Markdown"))
    must_not_skip = forms.BooleanField(
        label=_("It must not be skipped"),
        required=False,
        help_text=_("A CI that runs an older version gets this one before any later one."),
    )


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


class EnvelopesForm(PortalForm):
    file = forms.FileField(label=_("File"), help_text=_("The JSON file with the envelopes."))

    def clean_file(self) -> list[Any]:
        """The envelopes in the file."""
        file = self.cleaned_data["file"]
        if file.size > MAX_ENVELOPE_BYTES:
            raise forms.ValidationError(_("The file is larger than %d bytes.") % MAX_ENVELOPE_BYTES)
        try:
            data = load_json(file.read())
        except Untrusted as error:
            raise forms.ValidationError(str(error)) from error
        envelopes = data.get("envelopes", [data]) if isinstance(data, dict) else data
        if not isinstance(envelopes, list):
            raise forms.ValidationError(_("The file holds no envelopes."))
        return envelopes


class SbomForm(PortalForm):
    file = forms.FileField(label=_("File"), help_text=_("CycloneDX as JSON; one that is there is replaced."))

    def clean_file(self) -> bytes:
        """What is in the file."""
        file = self.cleaned_data["file"]
        if file.size > MAX_SBOM_BYTES:
            raise forms.ValidationError(_("The file is larger than %d bytes.") % MAX_SBOM_BYTES)
        content: bytes = file.read()
        return content


class WithdrawForm(PortalForm):
    reason = LongText(label=_("Reason"), rows=2, required=False)


class RestoreForm(PortalForm):
    reason = LongText(label=_("What was wrong, and who mended it"), rows=2)
