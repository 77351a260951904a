"""Forms of configuration items, and fields that take a CI by name or number: thousands do not fit a menu."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Team
from cmdb.models import AgentProfile, CIClass, ConfigurationItem, MaintenanceWindow
from tickets.forms import LongText, PersonField, PortalForm, SearchInput
from tickets.numbers import parse_number

MOST_CIS = 5000


class CIField(forms.CharField):
    """One CI that the person may see, by name or number. The form sets `visible` to the queryset to choose from."""

    visible: Any = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"widget": SearchInput("ci_options"), **kwargs})

    def clean(self, value: Any) -> ConfigurationItem | None:
        text = super().clean(value)
        if not text:
            return None
        return one_ci(text, self.visible if self.visible is not None else ConfigurationItem.objects.none())


class CIListField(forms.CharField):
    """Several CIs, one name or number on each line."""

    widget = forms.Textarea
    visible: Any = None

    def clean(self, value: Any) -> list[ConfigurationItem]:
        words = [word for word in re.split(r"[\n,;]+", super().clean(value)) if word.strip()]
        if len(words) > MOST_CIS:
            raise ValidationError(_("At most %(most)d CIs at once.") % {"most": MOST_CIS})
        visible = self.visible if self.visible is not None else ConfigurationItem.objects.none()
        names = [word.strip() for word in words]
        keys = [found[1] for found in map(parse_number, names) if found and found[0] == ConfigurationItem.PREFIX]
        by_name = {ci.name: ci for ci in visible.filter(name__in=names)}
        by_key = {ci.pk: ci for ci in visible.filter(pk__in=keys)}
        found_cis: list[ConfigurationItem] = []
        unknown: list[str] = []
        for name in names:
            number = parse_number(name)
            ci = by_name.get(name) or (by_key.get(number[1]) if number else None)
            if ci is None:
                unknown.append(name)
            else:
                found_cis.append(ci)
        if unknown:
            raise ValidationError(_("No CI has this name or number: %(names)s") % {"names": ", ".join(unknown[:5])})
        return list(dict.fromkeys(found_cis))


def one_ci(text: str, visible: Any) -> ConfigurationItem:
    """The CI with this name or number; refuses an unknown one as a field does."""
    ci = visible.filter(name=text.strip()).first()
    number = parse_number(text)
    if ci is None and number and number[0] == ConfigurationItem.PREFIX:
        ci = visible.filter(pk=number[1]).first()
    if ci is None:
        raise ValidationError(_("No CI has this name or number. Type a part of it and choose from the list."))
    found: ConfigurationItem = ci
    return found


def limit_cis(form: forms.Form, user: Any) -> None:
    """Lets the CI fields of a form find only production CIs that the person may see."""
    for field in form.fields.values():
        if isinstance(field, CIField | CIListField):
            field.visible = ConfigurationItem.objects.visible_to(user).production()


class CIForm(PortalForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=128)
    ci_class = forms.ModelChoiceField(CIClass.objects.all(), label=gettext_lazy("Class"))
    owner = PersonField(label=gettext_lazy("Owner"), required=False)
    team = forms.ModelChoiceField(Team.objects.all(), label=gettext_lazy("Team"), required=False)
    agent_id = forms.CharField(
        label=gettext_lazy("Agent id"), max_length=128, required=False,
        help_text=gettext_lazy("How the device names itself to the portal; empty for a CI without an agent."),
    )  # fmt: skip
    agent_profile = forms.ModelChoiceField(
        AgentProfile.objects.all(), label=gettext_lazy("Agent profile"), required=False
    )
    maintenance_window = forms.ModelChoiceField(
        MaintenanceWindow.objects.all(), label=gettext_lazy("Maintenance window"), required=False,
        help_text=gettext_lazy("Empty: that of its class."),
    )  # fmt: skip
    description = LongText(label=gettext_lazy("Description"), required=False)
