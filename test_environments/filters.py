"""The filter bar of test environments."""

from typing import Any

import django_filters
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from test_environments.models import TestEnvironment
from tickets.filters import search_filter, state_filter


class EnvironmentFilter(django_filters.FilterSet):
    q = search_filter(_("Source or purpose"))
    state = state_filter(TestEnvironment)

    class Meta:
        model = TestEnvironment
        fields = ("q", "state")

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(Q(source__name__icontains=value) | Q(purpose__icontains=value))
