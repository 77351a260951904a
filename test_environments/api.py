"""`/api/v1/environments/`."""

from datetime import datetime
from typing import Any

from django_filters import rest_framework as filters

from cmdb.models import ConfigurationItem
from test_environments import services
from test_environments.models import TestEnvironment
from test_environments.serializers import (
    EnvironmentListSerializer,
    EnvironmentSerializer,
    RequestEnvironmentSerializer,
)
from tickets.api import Call, NumberFilter, ObjectViewSet, state_filter

MANAGE = "test_environments.manage_environments"


def request_environment(*, actor: Any, now: datetime, source: ConfigurationItem, **values: Any) -> TestEnvironment:
    """Asks for a copy of a production CI; it is made in the background."""
    return services.request_environment(source, actor=actor, now=now, **values)


class EnvironmentFilter(filters.FilterSet):
    state = state_filter(TestEnvironment)
    unfinished = filters.BooleanFilter(method="only_unfinished", label="Not destroyed.")
    source = NumberFilter(ConfigurationItem, "source_id")
    purpose = filters.CharFilter(label="Who asked: REL-0000002.")

    def only_unfinished(self, rows: Any, name: str, value: bool) -> Any:
        found = TestEnvironment.objects.unfinished().values("pk")
        return rows.filter(pk__in=found) if value else rows.exclude(pk__in=found)


class EnvironmentViewSet(ObjectViewSet):
    """Copies of production CIs for tests."""

    model = TestEnvironment
    serializer_class = EnvironmentSerializer
    list_serializer_class = EnvironmentListSerializer
    list_related = ("source", "copy", "requested_by")
    filterset_class = EnvironmentFilter
    ordering_fields = ["id", "state", "created_at"]
    creates = Call(request_environment, RequestEnvironmentSerializer, MANAGE)
    calls = {
        "retry": Call(services.retry_environment, permission=MANAGE),
        "destroy": Call(services.destroy_environment, permission=MANAGE),
    }
