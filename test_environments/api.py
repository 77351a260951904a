"""`/api/v1/environments/` and `/api/v1/images/`."""

from datetime import datetime
from typing import Any

from django_filters import rest_framework as filters

from cmdb.models import ConfigurationItem
from test_environments import services
from test_environments.models import GoldenImage, TestEnvironment
from test_environments.serializers import (
    EnvironmentListSerializer,
    EnvironmentSerializer,
    ImageListSerializer,
    ImageSerializer,
    RequestEnvironmentSerializer,
    RequestImageSerializer,
    RevertSerializer,
    TakeSnapshotSerializer,
)
from tickets.api import Call, NumberFilter, ObjectViewSet, state_filter

MANAGE = "test_environments.manage_environments"


def request_environment(*, actor: Any, now: datetime, source: ConfigurationItem, **values: Any) -> TestEnvironment:
    """Asks for a copy of a production CI; it is made in the background."""
    return services.request_environment(source, actor=actor, now=now, **values)


def request_image(*, actor: Any, now: datetime, source: ConfigurationItem, **values: Any) -> GoldenImage:
    """Asks for a golden image of a production CI; it is taken in the background, once it is approved."""
    return services.request_image(source, actor=actor, now=now, **values)


class EnvironmentFilter(filters.FilterSet):
    state = state_filter(TestEnvironment)
    unfinished = filters.BooleanFilter(method="only_unfinished", label="Not destroyed.")
    source = NumberFilter(ConfigurationItem, "source_id")
    image = NumberFilter(GoldenImage, "image_id")
    purpose = filters.CharFilter(label="Who asked: REL-0000002.")

    def only_unfinished(self, rows: Any, name: str, value: bool) -> Any:
        found = TestEnvironment.objects.unfinished().values("pk")
        return rows.filter(pk__in=found) if value else rows.exclude(pk__in=found)


class EnvironmentViewSet(ObjectViewSet):
    """Copies of production CIs for tests."""

    model = TestEnvironment
    serializer_class = EnvironmentSerializer
    list_serializer_class = EnvironmentListSerializer
    list_related = ("source", "copy", "image", "requested_by")
    detail_related = ("console",)
    filterset_class = EnvironmentFilter
    ordering_fields = ["id", "state", "created_at"]
    creates = Call(request_environment, RequestEnvironmentSerializer, MANAGE)
    calls = {
        "retry": Call(services.retry_environment, permission=MANAGE),
        "start": Call(services.start_environment, permission=MANAGE),
        "stop": Call(services.stop_environment, permission=MANAGE),
        "extend": Call(services.extend_environment, permission=MANAGE),
        "snapshot": Call(services.snapshot_environment, TakeSnapshotSerializer, MANAGE),
        "revert": Call(services.revert_environment, RevertSerializer, MANAGE),
        "destroy": Call(services.destroy_environment, permission=MANAGE),
    }


class ImageFilter(filters.FilterSet):
    state = state_filter(GoldenImage)
    source = NumberFilter(ConfigurationItem, "source_id")


class ImageViewSet(ObjectViewSet):
    """Golden images: what production CIs were when they were captured."""

    model = GoldenImage
    serializer_class = ImageSerializer
    list_serializer_class = ImageListSerializer
    list_related = ("source", "requested_by", "approved_by")
    filterset_class = ImageFilter
    ordering_fields = ["id", "state", "created_at"]
    creates = Call(request_image, RequestImageSerializer, MANAGE)
    calls = {
        "approve": Call(services.approve_image, permission="test_environments.approve_copies"),
        "retry": Call(services.retry_image, permission=MANAGE),
        "delete_files": Call(services.delete_image, permission=MANAGE, summary="Deletes what was captured."),
    }
