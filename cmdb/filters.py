"""The filter bar of the CI list."""

from typing import Any

import django_filters
from django.utils.translation import gettext_lazy as _

from cmdb.models import CIClass, CIGroup, ConfigurationItem, GatewayToken, Registration
from tickets.filters import search_filter
from tickets.models import union_of
from tickets.numbers import parse_number
from tickets.searching import having_words


class CIFilter(django_filters.FilterSet):
    """Production CIs unless copies for tests are asked for."""

    q = search_filter(_("Number, name or version"))
    ci_class = django_filters.ModelChoiceFilter(queryset=CIClass.objects.all(), label=_("Class"), empty_label=_("any"))
    lifecycle = django_filters.ChoiceFilter(
        choices=ConfigurationItem.Lifecycle.choices, label=_("Lifecycle"), empty_label=_("any")
    )
    scope = django_filters.ChoiceFilter(
        method="by_scope", label=_("Which"), empty_label=None,
        choices=[
            ("production", _("production")), ("mine", _("mine")), ("drift", _("with drift")),
            ("copies", _("copies for tests")),
        ],
    )  # fmt: skip
    group = django_filters.ModelChoiceFilter(
        method="by_group", queryset=lambda request: CIGroup.objects.visible_to(request.user), label=_("Group"),
        empty_label=_("any"),
    )  # fmt: skip

    class Meta:
        model = ConfigurationItem
        fields = ("q", "scope", "ci_class", "lifecycle", "group")

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        values = data.copy() if data is not None else {}
        if not values.get("scope"):
            values["scope"] = "production"
        super().__init__(values, *args, **kwargs)

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        number = parse_number(value)
        if number and number[0] == ConfigurationItem.PREFIX:
            return queryset.filter(pk=number[1])
        every = ConfigurationItem.objects.all()
        running = every.filter(installed_versions__valid_to__isnull=True, installed_versions__label=value.strip())
        return queryset.filter(pk__in=union_of((having_words(every, "name", value), running)))

    def by_group(self, queryset: Any, name: str, value: CIGroup) -> Any:
        return queryset.filter(pk__in=value.members().values("pk"))

    def by_scope(self, queryset: Any, name: str, value: str) -> Any:
        if value == "copies":
            return queryset.filter(copy_of__isnull=False)
        if value == "mine":
            return queryset.production().filter(owner=self.request.user)
        if value == "drift":
            return queryset.production().drifted()
        return queryset.production()


class CIGroupFilter(django_filters.FilterSet):
    q = search_filter(_("Words of the name"))

    class Meta:
        model = CIGroup
        fields = ("q",)

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(name__icontains=value)


class RegistrationFilter(django_filters.FilterSet):
    """Those that wait, unless others are asked for."""

    q = search_filter(_("Agent id"))
    state = django_filters.ChoiceFilter(choices=Registration.State.choices, label=_("State"), empty_label=None)

    class Meta:
        model = Registration
        fields = ("q", "state")

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        values = data.copy() if data is not None else {}
        if not values.get("state"):
            values["state"] = Registration.State.WAITING
        super().__init__(values, *args, **kwargs)

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(agent_id__icontains=value)


class GatewayFilter(django_filters.FilterSet):
    q = search_filter(_("Name"))

    class Meta:
        model = GatewayToken
        fields = ("q",)

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(name__icontains=value)
