"""The filter bar of ticket lists."""

from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from tickets.models import Priority
from tickets.numbers import parse_number

SCOPES = [("open", _("open")), ("mine", _("assigned to me")), ("requested", _("requested by me")), ("all", _("all"))]


def search_filter(label: Any) -> django_filters.CharFilter:
    """A text field whose method is `by_text`."""
    field = django_filters.CharFilter(method="by_text", label=label)
    field.extra["widget"] = django_filters.widgets.forms.TextInput(attrs={"type": "search"})
    return field


class TicketFilter(django_filters.FilterSet):
    """Open tickets unless asked for others; subclasses name their model in `Meta` and add `state`."""

    q = search_filter(_("Number or words of the title"))
    scope = django_filters.ChoiceFilter(method="by_scope", label=_("Which"), choices=SCOPES, empty_label=None)
    priority = django_filters.ChoiceFilter(choices=Priority.choices, label=_("Priority"), empty_label=_("any"))

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        values = data.copy() if data is not None else {}
        if not values.get("scope"):
            values["scope"] = "open"
        super().__init__(values, *args, **kwargs)

    def by_text(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        number = parse_number(value)
        words = Q(title__icontains=value)
        if number and number[0] == self._meta.model.PREFIX:
            words |= Q(pk=number[1])
        return queryset.filter(words)

    def by_scope(self, queryset: Any, name: str, value: str) -> Any:
        user = self.request.user
        if value == "mine":
            return queryset.filter(assignee=user).open()
        if value == "requested":
            return queryset.filter(requester=user)
        return queryset.open() if value == "open" else queryset


def state_filter(model: Any) -> django_filters.ChoiceFilter:
    """The states of a model as one choice; naming a state lifts the default scope for finished ones by hand."""
    return django_filters.ChoiceFilter(choices=model.State.choices, label=_("State"), empty_label=_("any"))
