"""Forms of test environments and golden images."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from cmdb.models import ConfigurationItem
from test_environments.models import CopySource, EnvironmentSnapshot, GoldenImage
from tickets.forms import PortalForm


def _sources(user: Any) -> Any:
    """CIs that the person sees and an administrator released."""
    visible = ConfigurationItem.objects.visible_to(user).production()
    return visible.filter(pk__in=CopySource.objects.values("ci")).order_by("name")


class EnvironmentForm(PortalForm):
    source = forms.ModelChoiceField(
        ConfigurationItem.objects.none(), label=_("Copy of which CI"),
        help_text=_("CIs whose folder an administrator released for copies."),
    )  # fmt: skip
    image = forms.ModelChoiceField(
        GoldenImage.objects.none(), label=_("On which image"), required=False,
        empty_label=_("A new one, taken now, that goes with the copy"),
        help_text=_("Several copies of one image run side by side."),
    )  # fmt: skip
    purpose = forms.CharField(
        label=_("What for"), max_length=64, required=False, help_text=_("Whoever has to approve the copy reads it.")
    )
    memory_mb = forms.IntegerField(
        label=_("Memory in MB"), min_value=0, max_value=1_000_000, initial=0, required=False,
        help_text=_("For machines; 0: the driver's own measure."),
    )  # fmt: skip

    def prepare(self) -> None:
        source: Any = self.fields["source"]
        source.queryset = _sources(self.user)
        image: Any = self.fields["image"]
        image.queryset = GoldenImage.objects.visible_to(self.user).usable().select_related("source").order_by("-pk")
        image.label_from_instance = lambda found: f"{found.number}: {found.source.name}, {found.created_at:%Y-%m-%d}"


class ImageForm(PortalForm):
    source = forms.ModelChoiceField(
        ConfigurationItem.objects.none(), label=_("Capture which CI"),
        help_text=_("CIs whose folder, disk or machine an administrator released for copies."),
    )  # fmt: skip
    reason = forms.CharField(
        label=_("What for"), max_length=255, required=False,
        help_text=_("Needed where the copy may hold data: whoever approves it reads it."),
    )  # fmt: skip
    consistency = forms.ChoiceField(
        label=_("In what moment"), choices=GoldenImage.Consistency.choices, initial=GoldenImage.Consistency.COLD
    )
    expected_sha256 = forms.RegexField(
        r"^[0-9a-f]{64}$", label=_("Checksum of the source"), required=False,
        help_text=_("SHA-256, where the sender has told it; another one refuses the image."),
    )  # fmt: skip

    def prepare(self) -> None:
        source: Any = self.fields["source"]
        source.queryset = _sources(self.user)


class SnapshotForm(PortalForm):
    name = forms.CharField(label=_("Name of the snapshot"), max_length=64)


class RevertForm(PortalForm):
    snapshot = forms.ModelChoiceField(
        EnvironmentSnapshot.objects.none(), label=_("Back to"), required=False, to_field_name="name",
        empty_label=_("What it was when it was made"),
    )  # fmt: skip

    def prepare(self) -> None:
        field: Any = self.fields["snapshot"]
        if self.instance is not None:
            field.queryset = self.instance.snapshots.filter(kept_at__isnull=False)

    def clean_snapshot(self) -> str:
        found = self.cleaned_data["snapshot"]
        return found.name if found else ""
