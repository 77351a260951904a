"""The form of a CI's connection."""

from django import forms
from django.utils.translation import gettext_lazy as _

from cmdb.models import Connection, Credential
from tickets.forms import PortalForm


class ConnectionForm(PortalForm):
    kind = forms.ChoiceField(label=_("Connection"), choices=Connection.Kind.choices)
    address = forms.CharField(label=_("Address"), max_length=253, required=False)
    port = forms.IntegerField(label=_("Port"), min_value=1, max_value=65535, initial=22)
    user = forms.CharField(label=_("User"), max_length=64, required=False)
    credential = forms.ModelChoiceField(
        Credential.objects.all(), label=_("Credential"), required=False, help_text=_("Kept in the admin.")
    )
    host_key = forms.CharField(
        label=_("Host key"), required=False, max_length=8000, widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("As in a .pub file, one per line: “ssh-ed25519 AAAA…”. Any other key is refused."),
    )  # fmt: skip
    folder = forms.CharField(
        label=_("Folder"), max_length=255,
        help_text=_("Where the software goes; it must be there and belong to the user."),
    )  # fmt: skip
    python = forms.CharField(label=_("Python"), max_length=255, initial="/usr/bin/python3")
