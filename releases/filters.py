"""The filter bars of releases and rollouts."""

from typing import Any

import django_filters
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from releases.models import Release, Rollout
from tickets.filters import TicketFilter, search_filter, state_filter
from tickets.numbers import parse_number


class ReleaseFilter(TicketFilter):
    state = state_filter(Release)
    release_type = django_filters.ChoiceFilter(choices=Release.Type.choices, label=_("Type"), empty_label=_("any"))

    class Meta:
        model = Release
        fields = ("q", "scope", "state", "release_type")


class RolloutFilter(django_filters.FilterSet):
    q = search_filter(_("Number or words of the release"))
    state = state_filter(Rollout)

    class Meta:
        model = Rollout
        fields = ("q", "state")

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        number = parse_number(value)
        words = Q(release__title__icontains=value)
        if number and number[0] == Rollout.PREFIX:
            words |= Q(pk=number[1])
        return queryset.filter(words)
