"""`/api/v1/deployments/`: what is on its way to which CI. Read-only; rollouts have the verbs."""

from typing import Any

from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from cmdb.models import ConfigurationItem
from distribution import stopping
from distribution.channels.ansible.models import SEE_LOG
from distribution.channels.ansible.serializers import PushLogSerializer
from distribution.models import Batch, Deployment, DeploymentState
from distribution.serializers import (
    DeploymentDetailSerializer,
    DeploymentEventSerializer,
    DeploymentSerializer,
)
from tickets.api import Call, NumberFilter, ObjectViewSet
from tickets.lifecycle import check_permission
from tickets.serializers import ReasonSerializer


class DeploymentFilter(filters.FilterSet):
    state = filters.MultipleChoiceFilter(choices=DeploymentState.choices)
    open = filters.BooleanFilter(method="only_open", label="Waiting or under way.")
    overdue = filters.BooleanFilter(field_name="overdue_at", lookup_expr="isnull", exclude=True)
    ci = NumberFilter(ConfigurationItem, "ci_id")
    batch = NumberFilter(Batch, "batch_id")
    label = filters.CharFilter(field_name="batch__label", label="Who asked for it: ROL-0000003.")
    purpose = filters.ChoiceFilter(field_name="batch__purpose", choices=Batch.Purpose.choices)
    error_code = filters.CharFilter()

    def only_open(self, rows: Any, name: str, value: bool) -> Any:
        opened = Deployment.objects.open().values("pk")
        return rows.filter(pk__in=opened) if value else rows.exclude(pk__in=opened)


class DeploymentViewSet(ObjectViewSet):
    """Deployments on the CIs that the person may see."""

    model = Deployment
    serializer_class = DeploymentDetailSerializer
    list_serializer_class = DeploymentSerializer
    list_related = ("ci", "batch")
    filterset_class = DeploymentFilter
    ordering_fields = ["id", "state", "moved_at", "finished_at", "ci__name"]
    calls = {
        "cancel": Call(stopping.cancel_deployment, ReasonSerializer, stopping.STOP),
        "force_quit": Call(stopping.force_quit_deployment, ReasonSerializer, stopping.STOP),
    }

    @extend_schema(responses=DeploymentEventSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def events(self, request: Request, **kwargs: object) -> Response:
        """Every step and report of the deployment, oldest first."""
        return self.paged(self.get_object().events.all(), DeploymentEventSerializer)

    @extend_schema(responses=PushLogSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[], url_path="push-log")
    def push_log(self, request: Request, **kwargs: object) -> Response:
        """What the host said in each push run that had the deployment in hand, newest first."""
        deployment = self.get_object()
        check_permission(request.user, SEE_LOG, _("read the logs of push runs"))
        return self.paged(deployment.push_targets.select_related("run").order_by("-run_id"), PushLogSerializer)
