"""Forms of disks that are received."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from test_environments.forms import conversion_field
from test_environments.services.receptions import LONGEST
from tickets.forms import PortalForm


class DiskForm(PortalForm):
    """What every order asks for. `instance` is the CI."""

    reason = forms.CharField(
        label=_("What for"), max_length=255, help_text=_("Whoever has to approve the copy reads it.")
    )
    expected_sha256 = forms.RegexField(
        r"^[0-9a-fA-F]{64}$", label=_("Checksum of the disk"), required=False,
        help_text=_("SHA-256, where it is known; another one refuses the disk."),
    )  # fmt: skip

    conversion = conversion_field()


class MediumForm(DiskForm):
    hours = forms.IntegerField(
        label=_("How long it is expected, in hours"), min_value=1, max_value=LONGEST, initial=24,
        help_text=_("Afterwards the medium is worth nothing any more."),
    )  # fmt: skip
    machine_address = forms.CharField(
        label=_("Address of the machine"), max_length=18, required=False,
        help_text=_("With prefix length, such as 192.0.2.20/24; empty: by DHCP."),
    )  # fmt: skip
    gateway = forms.CharField(
        label=_("Gateway"), max_length=15, required=False,
        help_text=_("Where the test host is in another network and there is no DHCP."),
    )  # fmt: skip
    disk = forms.CharField(
        label=_("Which disk"), max_length=32, required=False,
        help_text=_("Such as sda or nvme0n1; empty: the only fixed disk of the machine."),
    )  # fmt: skip


class UploadForm(DiskForm):
    file = forms.FileField(
        label=_("Disk image"), help_text=_("One file that holds the whole disk: .raw, .img, .qcow2, .vmdk or .vhdx.")
    )

    def clean(self) -> dict[str, Any]:
        """Name and size beside the file: services take a stream."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if file := data.get("file"):
            data["filename"], data["size"] = file.name, file.size
        return data


class SecretForm(PortalForm):
    """The secret of an order, for its medium."""

    secret = forms.CharField(
        label=_("Secret"), max_length=43, widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=_("It was shown when the disk was ordered."),
    )  # fmt: skip
