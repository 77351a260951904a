"""The form of a CI group: the filter as fields that people fill in, the named CIs as lines."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Team, User
from cmdb.forms import CIListField, limit_cis
from cmdb.group_filter import check_filter
from cmdb.models import CIClass, ConfigurationItem
from tickets.exceptions import InvalidInput
from tickets.forms import LongText, PortalForm


def _lines(**kwargs: Any) -> forms.CharField:
    return forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 3}), **kwargs)


class CIGroupForm(PortalForm):
    """What is left empty does not restrict; a filter with nothing in it matches nothing."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    description = LongText(label=gettext_lazy("Description"), rows=2, required=False)
    static_members = CIListField(
        label=gettext_lazy("Named CIs"), required=False, widget=forms.Textarea(attrs={"rows": 4}),
        help_text=gettext_lazy("One name or number on each line; they belong to it whatever the filter says."),
    )  # fmt: skip
    ci_class = forms.ModelMultipleChoiceField(
        CIClass.objects.all(), label=gettext_lazy("Class"), required=False, widget=forms.CheckboxSelectMultiple,
        to_field_name="slug",
    )  # fmt: skip
    lifecycle = forms.MultipleChoiceField(
        label=gettext_lazy("Lifecycle"), choices=ConfigurationItem.Lifecycle.choices, required=False,
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip
    patterns = _lines(
        label=gettext_lazy("Name"), help_text=gettext_lazy("Patterns, one on each line: srv-*, plant-?-*")
    )
    owner = forms.ModelMultipleChoiceField(
        User.objects.filter(is_active=True), label=gettext_lazy("Owner"), required=False, to_field_name="username"
    )
    team = forms.ModelMultipleChoiceField(
        Team.objects.all(), label=gettext_lazy("Team"), required=False, to_field_name="name"
    )
    runs = _lines(
        label=gettext_lazy("Runs"),
        help_text=gettext_lazy("A product's short name, or one version of it: billing or billing/2.0"),
    )
    attributes = _lines(
        label=gettext_lazy("Reported attributes"), help_text=gettext_lazy("key = value, one on each line.")
    )

    def prepare(self) -> None:
        limit_cis(self, self.user)
        if self.instance is None:
            return
        found = self.instance.filter
        self.initial = {
            **self.initial,
            "name": self.instance.name,
            "description": self.instance.description,
            "static_members": "\n".join(self.instance.static_members.order_by("name").values_list("name", flat=True)),
            **{name: found.get(name, []) for name in ("ci_class", "lifecycle", "owner", "team")},
            "patterns": "\n".join(found.get("name", [])),
            "runs": "\n".join(found.get("runs", [])),
            "attributes": "\n".join(
                f"{key} = {value}" for key, values in found.get("attributes", {}).items() for value in values
            ),
        }

    def clean_attributes(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in _words(self.cleaned_data["attributes"]):
            key, sign, value = (part.strip() for part in line.partition("="))
            if not (key and sign and value):
                raise ValidationError(_("“%(line)s”: write key = value.") % {"line": line})
            found.setdefault(key, []).append(value)
        return found

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if self.errors:
            return data
        filled = {
            "ci_class": [one.slug for one in data["ci_class"]],
            "lifecycle": data["lifecycle"],
            "name": _words(data["patterns"]),
            "owner": [one.username for one in data["owner"]],
            "team": [one.name for one in data["team"]],
            "runs": _words(data["runs"]),
            "attributes": data["attributes"],
        }
        try:
            found = check_filter({name: value for name, value in filled.items() if value})
        except InvalidInput as error:
            raise ValidationError(error.message) from error
        return {**{name: data[name] for name in ("name", "description", "static_members")}, "filter": found}


def _words(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
