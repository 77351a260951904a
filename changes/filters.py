"""The filter bar of the change list."""

from typing import Any

import django_filters
from django.utils.translation import gettext_lazy as _

from changes.models import Change, Freeze, StandardTemplate
from tickets.filters import TicketFilter, search_filter, state_filter


class ChangeFilter(TicketFilter):
    state = state_filter(Change)
    change_type = django_filters.ChoiceFilter(choices=Change.Type.choices, label=_("Type"), empty_label=_("any"))

    class Meta:
        model = Change
        fields = ("q", "scope", "state", "change_type", "priority")


class StandardTemplateFilter(django_filters.FilterSet):
    q = search_filter(_("Words of the name"))

    class Meta:
        model = StandardTemplate
        fields = ("q",)

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(name__icontains=value)


class FreezeFilter(django_filters.FilterSet):
    q = search_filter(_("Words of the name"))

    class Meta:
        model = Freeze
        fields = ("q",)

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(name__icontains=value)
