"""`/api/v1/components/`: which versions have a part, for example a library with a hole."""

from typing import Any

from django_filters import rest_framework as filters

from software.models import Component
from software.sboms import search_components
from software.serializers import ComponentSerializer
from tickets.api import ObjectViewSet


class ComponentFilter(filters.FilterSet):
    q = filters.CharFilter(method="by_text", label="Part of the name or of the package URL.")
    name = filters.CharFilter(lookup_expr="iexact", label="The whole name.")
    product = filters.CharFilter(field_name="sbom__version__product__slug", label="Short name of the product.")
    label = filters.CharFilter(field_name="sbom__version__label", label="The version of the product.")

    def by_text(self, rows: Any, name: str, value: str) -> Any:
        return rows.filter(pk__in=search_components(value).values("pk"))


class ComponentViewSet(ObjectViewSet):
    """The parts of versions, as their bills of materials name them."""

    model = Component
    serializer_class = ComponentSerializer
    list_related = ("sbom__version__product",)
    filterset_class = ComponentFilter
    ordering_fields = ["id", "name", "version"]
    ordering = ["name", "version", "id"]
