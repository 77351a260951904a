"""Forms of test environments and golden images."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from test_environments.drivers.registry import why_no_network
from test_environments.models import CopySource, EnvironmentSnapshot, GoldenImage, TestEnvironment
from tickets.forms import LongText, PortalForm


class EnvironmentForm(PortalForm):
    """A copy of one CI. `instance` is its source of copies; what only machines have is asked for machines only."""

    image = forms.ModelChoiceField(
        GoldenImage.objects.none(), label=_("On which image"), required=False,
        empty_label=_("A new one, taken now, that goes with the copy"),
        help_text=_("Several copies of one image run side by side."),
    )  # fmt: skip
    purpose = forms.CharField(
        label=_("What for"), max_length=64, required=False, help_text=_("Whoever has to approve the copy reads it.")
    )
    clone = forms.ChoiceField(
        label=_("Clone"), choices=TestEnvironment.Clone, initial=TestEnvironment.Clone.LINKED,
        help_text=_("Linked: small and made at once, it reads its image. Full: it holds all of it itself."),
    )  # fmt: skip
    processors = forms.IntegerField(
        label=_("Processors"), min_value=0, max_value=256, initial=0, required=False,
        help_text=_("0: one."),
    )  # fmt: skip
    memory_mb = forms.IntegerField(
        label=_("Memory in MB"), min_value=0, max_value=1_000_000, initial=0, required=False,
        help_text=_("0: the driver's own measure."),
    )  # fmt: skip
    disk_growth_mb = forms.IntegerField(
        label=_("Room that its disk may grow by, in MB"), min_value=0, max_value=10_000_000, initial=0,
        required=False, help_text=_("Must be free when it is made. 0: the driver's own measure."),
    )  # fmt: skip
    network = forms.ChoiceField(
        label=_("Network"), initial=TestEnvironment.Network.ISOLATED,
        choices=[
            (TestEnvironment.Network.ISOLATED.value, TestEnvironment.Network.ISOLATED.label),
            (TestEnvironment.Network.NONE.value, _("none: its agent cannot report either")),
        ],
    )  # fmt: skip
    allowed_endpoints = LongText(
        label=_("Allowed endpoints"), rows=3, required=False,
        help_text=_("What it may reach beside the portal: one host:port a line. Nothing else is reachable."),
    )  # fmt: skip
    endpoints_reason = forms.CharField(
        label=_("Why, if they are production CIs"), max_length=255, required=False,
        help_text=_("It is recorded. Without it, endpoints that are production CIs are refused."),
    )  # fmt: skip

    MACHINE = (
        "clone", "processors", "memory_mb", "disk_growth_mb", "network", "allowed_endpoints", "endpoints_reason",
    )  # fmt: skip
    VERSION = "version_"

    def prepare(self) -> None:
        source: CopySource = self.instance
        found = GoldenImage.objects.visible_to(self.user).usable().filter(source=source.ci_id).order_by("-pk")
        image: Any = self.fields["image"]
        image.queryset = found
        image.label_from_instance = lambda one: f"{one.number}: {one.get_state_display()}, {one.created_at:%Y-%m-%d}"
        if source.method in CopySource.RECEIVED and not source.folder:
            image.required, image.empty_label = True, _("Choose the image of a disk that arrived")
        if source.is_files:
            for name in self.MACHINE:
                del self.fields[name]
        elif why := why_no_network(source.driver):
            self._offer_no_network(why)
        self._add_versions(found)

    def _offer_no_network(self, why: str) -> None:
        network: Any = self.fields["network"]
        network.choices = [choice for choice in network.choices if choice[0] != TestEnvironment.Network.ISOLATED]
        network.initial, network.help_text = TestEnvironment.Network.NONE, why
        for name in ("allowed_endpoints", "endpoints_reason"):
            del self.fields[name]

    def _add_versions(self, images: Any) -> None:
        held: dict[str, set[str]] = {}
        for versions in images.filter(state=GoldenImage.State.READY).values_list("versions", flat=True)[:50]:
            for product, labels in versions.items():
                held.setdefault(product, set()).update(labels)
        for product, labels in sorted(held.items()):
            if len(labels) > 1:
                self.fields[f"{self.VERSION}{product}"] = forms.ChoiceField(
                    label=_("Version of %(product)s") % {"product": product}, required=False,
                    choices=[("", _("What the source ran")), *((label, label) for label in sorted(labels))],
                )  # fmt: skip

    def clean_allowed_endpoints(self) -> list[str]:
        return self.cleaned_data["allowed_endpoints"].split()

    def clean(self) -> dict[str, Any]:
        """Versions in one, empty numbers as zero."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        names = [name for name in data if name.startswith(self.VERSION)]
        data["versions"] = {name.removeprefix(self.VERSION): data[name] for name in names if data[name]}
        for name in names:
            del data[name]
        for name in ("processors", "memory_mb", "disk_growth_mb"):
            if name in data:
                data[name] = data[name] or 0
        return data


def conversion_field() -> forms.ChoiceField:
    """What is done to the system on the disk of another machine; nothing unless somebody says so."""
    return forms.TypedChoiceField(
        label=_("Drivers of the system"), initial=GoldenImage.Conversion.KEEP, required=False,
        empty_value=GoldenImage.Conversion.KEEP.value,
        choices=[
            (GoldenImage.Conversion.KEEP.value, _("It keeps its own")),
            (GoldenImage.Conversion.VIRT_V2V.value, _("virt-v2v puts those for virtual machines into it")),
        ],
        help_text=_("virt-v2v knows the usual systems only, and must be installed on the test host."),
    )  # fmt: skip


class ImageForm(PortalForm):
    """An image of one CI. `instance` is its source of copies."""

    reason = forms.CharField(
        label=_("What for"), max_length=255, required=False,
        help_text=_("Needed where the copy may hold data: whoever approves it reads it."),
    )  # fmt: skip
    consistency = forms.ChoiceField(
        label=_("In what moment"),
        choices=[
            (GoldenImage.Consistency.FROZEN.value, _("With frozen file systems: needs a guest agent in the machine")),
            (GoldenImage.Consistency.CRASH.value, _("As after a power failure: needs nothing")),
        ],
        help_text=_("The machine runs on."),
    )
    expected_sha256 = forms.RegexField(
        r"^[0-9a-f]{64}$", label=_("Checksum of the source"), required=False,
        help_text=_("SHA-256, where the sender has told it; another one refuses the image."),
    )  # fmt: skip
    conversion = conversion_field()

    def prepare(self) -> None:
        source: CopySource = self.instance
        if source.method != CopySource.Method.DOMAIN:
            del self.fields["consistency"]
        else:
            del self.fields["expected_sha256"]
        if source.method not in CopySource.FOREIGN:
            del self.fields["conversion"]
        self.fields["reason"].required = not source.is_files


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
