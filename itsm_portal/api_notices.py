"""`/api/v1/notices/`: a person's own messages, as the bell in the portal shows them.

It is here because `notifications` knows neither tickets nor their clock.
"""

from typing import Any

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from notifications import services
from notifications.models import Outbox
from notifications.serializers import CountSerializer, MarkReadSerializer, NoticeSerializer
from tickets.api import ObjectViewSet
from tickets.clock import now_of


class NoticeFilter(filters.FilterSet):
    unread = filters.BooleanFilter(field_name="read_at", lookup_expr="isnull")
    thread = filters.CharFilter(label="INC-0000042 or CI-0000012.")


class NoticeViewSet(ObjectViewSet):
    """Own notices, newest first; nobody reads another's."""

    model = Outbox
    serializer_class = NoticeSerializer
    filterset_class = NoticeFilter

    def visible(self) -> QuerySet[Outbox]:
        if getattr(self, "swagger_fake_view", False):
            return Outbox.objects.none()
        return Outbox.objects.shown_to(self.request.user.pk)

    @extend_schema(responses=CountSerializer)
    @action(detail=False, methods=["get"], filter_backends=[], pagination_class=None)
    def unread_count(self, request: Request) -> Response:
        """How many are unread."""
        return Response({"count": self.visible().filter(read_at__isnull=True).count()})

    @extend_schema(request=MarkReadSerializer, responses=CountSerializer)
    @action(detail=False, methods=["post"], filter_backends=[], pagination_class=None)
    def mark_read(self, request: Request) -> Response:
        """Marks own notices as read: those of `ids`, or all. Answers how many were unread."""
        ids: Any = self.read(MarkReadSerializer).get("ids")
        return Response({"count": services.mark_read(request.user, now=now_of(request), ids=ids)})
