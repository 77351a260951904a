"""`/api/v1/changes/`, `/api/v1/standard-changes/` and `/api/v1/freezes/`."""

from datetime import timedelta
from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changes import freezes, services, standard
from changes.conflicts import find_conflicts, next_slots
from changes.models import Change, Freeze, StandardTemplate
from changes.serializers import (
    ApproveChangeSerializer,
    AskedSlotSerializer,
    AskedTimeSerializer,
    AssessSerializer,
    ChangeListSerializer,
    ChangeSerializer,
    CloseChangeSerializer,
    DraftChangeSerializer,
    EditChangeSerializer,
    FindingsSerializer,
    RescheduleSerializer,
    ScheduleSerializer,
    SlotSerializer,
    StandardTemplateListSerializer,
    StandardTemplateSerializer,
    WriteTemplateSerializer,
)
from changes.serializers_freeze import FreezeSerializer, WriteFreezeSerializer
from problems.models import Problem
from tickets.api import (
    Call,
    MomentFilter,
    NumberFilter,
    ObjectViewSet,
    TicketFilter,
    TicketViewSet,
    comment_call,
    state_filter,
)
from tickets.clock import now_of
from tickets.models import Level
from tickets.serializers import (
    AssignSerializer,
    MandatoryOpinionSerializer,
    OptionalReasonSerializer,
    ReasonSerializer,
    TextSerializer,
)


def may_edit(change: Change, user: Any) -> bool:
    """Those who write RFCs, and those who manage them."""
    return bool(user.has_perm("changes.request_change") or user.has_perm("changes.manage_change"))


class ChangeFilter(TicketFilter):
    state = state_filter(Change)
    change_type = filters.MultipleChoiceFilter(choices=Change.Type.choices)
    risk = filters.MultipleChoiceFilter(choices=Level.choices)
    product = filters.CharFilter(field_name="products__slug", label="Short name of a product that it changes.")
    problem = NumberFilter(Problem, "problems")
    planned_after = MomentFilter(field_name="planned_start", lookup_expr="gte")
    planned_before = MomentFilter(field_name="planned_start", lookup_expr="lt")


class ChangeViewSet(TicketViewSet):
    """RFCs: write, submit, assess, approve, schedule. Nobody approves what he had a part in."""

    model = Change
    see_all = "changes.see_all_changes"
    serializer_class = ChangeSerializer
    list_serializer_class = ChangeListSerializer
    detail_related = (*TicketViewSet.detail_related, "last_editor")
    ordering_fields = [*TicketViewSet.ordering_fields, "planned_start", "risk"]
    filterset_class = ChangeFilter
    creates = Call(services.draft_change, DraftChangeSerializer, "changes.request_change")
    edits = Call(services.edit_change, EditChangeSerializer, may_edit)
    calls = {
        "assign": Call(services.assign_change, AssignSerializer, services.may_assign),
        "submit": Call(services.submit_change),
        "assess": Call(services.assess_change, AssessSerializer),
        "approve": Call(services.approve_change, ApproveChangeSerializer),
        "reject": Call(services.reject_change, MandatoryOpinionSerializer),
        "accept_standard": Call(services.accept_standard_change),
        "schedule": Call(services.schedule_change, ScheduleSerializer),
        "reschedule": Call(services.reschedule_change, RescheduleSerializer, services.may_reschedule),
        "revise": Call(services.revise_change, OptionalReasonSerializer),
        "review": Call(services.review_change, TextSerializer),
        "close": Call(services.close_change, CloseChangeSerializer),
        "cancel": Call(services.cancel_change, ReasonSerializer),
        "comment": comment_call(services.comment_change, see_all),
    }

    @extend_schema(parameters=[AskedTimeSerializer], responses=FindingsSerializer)
    @action(detail=True, methods=["get"], filter_backends=[], pagination_class=None)
    def conflicts(self, request: Request, **kwargs: Any) -> Response:
        """What stands against its planned time, or against another one."""
        change, asked = self.get_object(), self.asked(AskedTimeSerializer)
        own = {} if asked else {"planned_start": change.planned_start, "planned_end": change.planned_end}
        time = {**own, **asked}
        found = find_conflicts(change, time.get("planned_start"), time.get("planned_end"), viewer=request.user)
        return Response(FindingsSerializer(found).data)

    @extend_schema(parameters=[AskedSlotSerializer], responses=SlotSerializer(many=True))
    @action(detail=True, methods=["get"], url_path="free-slots", filter_backends=[], pagination_class=None)
    def free_slots(self, request: Request, **kwargs: Any) -> Response:
        """The next times without a freeze or a change to one of its CIs, inside their maintenance windows."""
        change, asked = self.get_object(), self.asked(AskedSlotSerializer)
        length = timedelta(minutes=asked["minutes"]) if "minutes" in asked else None
        found = next_slots(change, now=now_of(request), after=asked.get("after"), length=length, count=asked["count"])
        slots = [{"planned_start": start, "planned_end": end} for start, end in found]
        return Response(SlotSerializer(slots, many=True).data)


class StandardTemplateFilter(filters.FilterSet):
    q = filters.CharFilter(field_name="name", lookup_expr="icontains", label="Part of the name.")
    product = filters.CharFilter(field_name="products__slug", label="Short name of a product that it is for.")
    is_active = filters.BooleanFilter()


class StandardTemplateViewSet(ObjectViewSet):
    """Standard changes: approved once by the CAB, used by those whom they name."""

    model = StandardTemplate
    serializer_class = StandardTemplateSerializer
    list_serializer_class = StandardTemplateListSerializer
    detail_related = ("last_editor",)
    filterset_class = StandardTemplateFilter
    ordering_fields = ["id", "name"]
    ordering = ["name"]
    creates = Call(standard.write_template, WriteTemplateSerializer, standard.MANAGE)
    edits = Call(standard.edit_template, WriteTemplateSerializer, standard.MANAGE)
    calls = {
        "approve": Call(standard.approve_template, ApproveChangeSerializer, standard.APPROVE),
        "reject": Call(standard.reject_template, MandatoryOpinionSerializer, standard.APPROVE),
    }

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        return rows.prefetch_related("products") if self.action == "list" else rows


class FreezeFilter(filters.FilterSet):
    ends_after = filters.IsoDateTimeFilter(field_name="ends_at", lookup_expr="gt", label="Not over before this time.")
    starts_before = filters.IsoDateTimeFilter(field_name="starts_at", lookup_expr="lt")


class FreezeViewSet(ObjectViewSet):
    """Freezes: while one lasts, rollouts offer nothing new."""

    model = Freeze
    serializer_class = FreezeSerializer
    list_related = ("created_by",)
    filterset_class = FreezeFilter
    ordering_fields = ["id", "starts_at", "ends_at"]
    creates = Call(freezes.declare_freeze, WriteFreezeSerializer, freezes.MANAGE)
    edits = Call(freezes.edit_freeze, WriteFreezeSerializer, freezes.MANAGE)
