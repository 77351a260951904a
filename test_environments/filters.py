"""The filter bar of test environments."""

from typing import Any

import django_filters
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from test_environments.models import DiskReception, GoldenImage, TestEnvironment
from tickets.filters import search_filter, state_filter


class EnvironmentFilter(django_filters.FilterSet):
    q = search_filter(_("Source or purpose"))
    state = state_filter(TestEnvironment)

    class Meta:
        model = TestEnvironment
        fields = ("q", "state")

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(Q(source__name__icontains=value) | Q(purpose__icontains=value))


class ImageFilter(django_filters.FilterSet):
    q = search_filter(_("Source or reason"))
    state = state_filter(GoldenImage)

    class Meta:
        model = GoldenImage
        fields = ("q", "state")

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(Q(source__name__icontains=value) | Q(reason__icontains=value))


class DiskFilter(django_filters.FilterSet):
    q = search_filter(_("CI or reason"))
    state = state_filter(DiskReception)

    class Meta:
        model = DiskReception
        fields = ("q", "state")

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(Q(ci__name__icontains=value) | Q(reason__icontains=value))
