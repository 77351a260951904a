"""The filter bar of the software library."""

from typing import Any

import django_filters
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from software.models import Product
from tickets.filters import search_filter


class ProductFilter(django_filters.FilterSet):
    q = search_filter(_("Name or version"))

    class Meta:
        model = Product
        fields = ("q",)

    def by_text(self, queryset: Any, name: str, value: str) -> Any:
        named = Product.objects.filter(versions__label=value.strip()).values("pk")
        return queryset.filter(Q(name__icontains=value) | Q(slug__icontains=value) | Q(pk__in=named))
