"""The filter bar of ticket lists. What stands in `more` is shown when asked for, or while it narrows the list."""

from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar

import django_filters
from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Q, QuerySet
from django.utils.timezone import make_aware
from django.utils.translation import gettext_lazy as _

from accounts.models import Team
from tickets.models import Priority
from tickets.numbers import parse_number
from tickets.searching import having_words

SCOPES = [("open", _("open")), ("mine", _("assigned to me")), ("requested", _("requested by me")), ("all", _("all"))]
NOBODY = "-"


def search_filter(label: Any) -> django_filters.CharFilter:
    """A text field whose method is `by_text`."""
    field = django_filters.CharFilter(method="by_text", label=label)
    field.extra["widget"] = django_filters.widgets.forms.TextInput(attrs={"type": "search"})
    return field


def day_filter(label: Any, **kwargs: Any) -> django_filters.DateFilter:
    """A day, by a field for days."""
    between = [MinValueValidator(date(1900, 1, 1)), MaxValueValidator(date(2999, 1, 1))]
    widget = forms.DateInput(attrs={"type": "date"})
    return django_filters.DateFilter(label=label, widget=widget, validators=between, **kwargs)


class TicketFilter(django_filters.FilterSet):
    """Open tickets unless asked for others; subclasses name their model in `Meta` and add `state`."""

    more: ClassVar[tuple[str, ...]] = ("team", "assignee", "requester", "created_from", "created_to")

    q = search_filter(_("Number or words of the title"))
    scope = django_filters.ChoiceFilter(method="by_scope", label=_("Which"), choices=SCOPES, empty_label=None)
    priority = django_filters.ChoiceFilter(choices=Priority.choices, label=_("Priority"), empty_label=_("any"))
    team = django_filters.ModelChoiceFilter(queryset=Team.objects.all(), label=_("Team"), empty_label=_("any"))
    assignee = django_filters.CharFilter(method="by_assignee", label=_("Assignee (user name; - for nobody)"))
    requester = django_filters.CharFilter(field_name="requester__username", label=_("Requester (user name)"))
    created_from = day_filter(_("Created from"), method="by_first_day")
    created_to = day_filter(_("Created until"), method="by_last_day")

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        values = data.copy() if data is not None else {}
        if not values.get("scope"):
            values["scope"] = "open"
        super().__init__(values, *args, **kwargs)

    @property
    def shows_more(self) -> bool:
        """Whether one of the further fields narrows the list."""
        return any(self.data.get(name) for name in self.more)

    def by_text(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        number = parse_number(value)
        if number and number[0] == self._meta.model.PREFIX:
            return queryset.filter(pk=number[1])
        return having_words(queryset, "title", value)

    def by_assignee(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        wanted = Q(assignee__isnull=True) if value.strip() == NOBODY else Q(assignee__username=value.strip())
        return queryset.filter(wanted)

    def by_first_day(self, queryset: QuerySet[Any], name: str, value: date) -> QuerySet[Any]:
        return queryset.filter(created_at__gte=_begin_of(value))

    def by_last_day(self, queryset: QuerySet[Any], name: str, value: date) -> QuerySet[Any]:
        return queryset.filter(created_at__lt=_begin_of(value + timedelta(days=1)))

    def by_scope(self, queryset: Any, name: str, value: str) -> Any:
        user = self.request.user
        if value == "requested":
            return queryset.filter(requester=user)
        # Who asks for a state that is over wants to see it.
        if value in {"open", "mine"} and not self.data.get("state"):
            queryset = queryset.open()
        return queryset.filter(assignee=user) if value == "mine" else queryset


def _begin_of(day: date) -> datetime:
    """By the reader's clock; as moments, which an index answers."""
    return make_aware(datetime.combine(day, time()))


def state_filter(model: Any) -> django_filters.ChoiceFilter:
    """The states of a model as one choice; naming one lifts the restriction to open ones."""
    return django_filters.ChoiceFilter(choices=model.State.choices, label=_("State"), empty_label=_("any"))
