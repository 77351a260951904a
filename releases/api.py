"""`/api/v1/releases/` and `/api/v1/rollouts/`."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changes.models import Change
from distribution.api import DeploymentFilter
from distribution.models import Deployment
from distribution.serializers import DeploymentSerializer, StragglerSerializer
from distribution.stragglers import explain
from releases import services
from releases.dry_run.report import dry_run
from releases.dry_run.targets import ONLY, planned_cis, shown_conflicts
from releases.live import stragglers_of
from releases.models import FailureDecision, ProbeSample, Release, Rollout, Verdict, Wave
from releases.plan_findings import findings
from releases.report import report_of
from releases.serializers import (
    ApproveReleaseSerializer,
    DraftReleaseSerializer,
    EditReleaseSerializer,
    PlanSerializer,
    RecordExceptionSerializer,
    ReleaseListSerializer,
    ReleaseSerializer,
    StartTestSerializer,
)
from releases.serializers_dry_run import DryRunSerializer, PlannedCISerializer, PlannedCIsQuery
from releases.serializers_report import RolloutReportSerializer
from releases.serializers_rollout import (
    ProbeSampleSerializer,
    RolloutEventSerializer,
    RolloutListSerializer,
    RolloutSerializer,
    VerdictSerializer,
)
from releases.serializers_verbs import (
    CIQuerySerializer,
    ContinueRollbackSerializer,
    DecideFailureSerializer,
    FailureDecisionSerializer,
    FailureReportSerializer,
    NextWaveSerializer,
    OneCISerializer,
    PauseSerializer,
    PreviewQuerySerializer,
    PreviewSerializer,
    ResumeSerializer,
    RollBackWaveSerializer,
    ScheduleStartSerializer,
    StartPreviewQuerySerializer,
)
from releases.services.approval import has_right_to_approve
from releases.services.failure_report import failure_report
from releases.services.previews import preview_rollout
from releases.services.start_preview import preview_start
from software.serializers import RequestSerializer
from tickets.api import Call, NumberFilter, ObjectViewSet, TicketFilter, TicketViewSet, comment_call, state_filter
from tickets.clock import now_of
from tickets.exceptions import InvalidInput
from tickets.serializers import (
    MandatoryOpinionSerializer,
    OptionalReasonSerializer,
    ReasonSerializer,
)

EXCEPT = "releases.record_exception"
START = "releases.start_rollout"
ROLL_BACK = "releases.roll_back_rollout"
OVERRIDE = "releases.override_window"


class ReleaseFilter(TicketFilter):
    state = state_filter(Release)
    release_type = filters.MultipleChoiceFilter(choices=Release.Type.choices)
    product = filters.CharFilter(field_name="items__product__slug", label="Short name of a product in the package.")
    change = NumberFilter(Change, "changes")


class ReleaseViewSet(TicketViewSet):
    """Releases: package, test, approve, start. One approval covers release and rollout."""

    model = Release
    see_all = "releases.see_all_releases"
    serializer_class = ReleaseSerializer
    list_serializer_class = ReleaseListSerializer
    detail_related = (*TicketViewSet.detail_related, "last_editor", "start_for")
    filterset_class = ReleaseFilter
    creates = Call(services.draft_release, DraftReleaseSerializer, "releases.build_release")
    edits = Call(services.edit_release, EditReleaseSerializer, "releases.build_release")
    calls = {
        "plan": Call(services.plan_release, PlanSerializer),
        "build": Call(services.build_release),
        "start_test": Call(services.start_test, StartTestSerializer),
        "void_test": Call(services.void_test, OptionalReasonSerializer),
        "apply_again": Call(services.apply_again, ReasonSerializer, "releases.build_release"),
        "skip_test": Call(services.skip_test, ReasonSerializer, EXCEPT),
        "accept_evidence": Call(services.accept_evidence, ReasonSerializer, EXCEPT),
        "approve": Call(services.approve_release, ApproveReleaseSerializer, has_right_to_approve),
        "reject": Call(services.reject_release, MandatoryOpinionSerializer, has_right_to_approve),
        "start_rollout": Call(
            services.start_rollout, permission=START, gives=RolloutSerializer, status=status.HTTP_201_CREATED
        ),
        "schedule_start": Call(services.schedule_start, ScheduleStartSerializer, START),
        "cancel_start": Call(services.cancel_start, permission="releases.pause_rollout"),
        "record_exception": Call(services.record_exception, RecordExceptionSerializer, EXCEPT),
        "close": Call(services.close_release),
        "cancel": Call(services.cancel_release, ReasonSerializer),
        "comment": comment_call(services.comment_release, see_all),
    }

    @extend_schema(parameters=[StartPreviewQuerySerializer], responses=PreviewSerializer)
    @action(detail=True, methods=["get"], filter_backends=[])
    def preview(self, request: Request, **kwargs: Any) -> Response:
        """What the start would do now, or which gate holds it back. Changes nothing."""
        release = self.get_object()
        asked = self.asked(StartPreviewQuerySerializer)
        return Response(
            PreviewSerializer(preview_start(release, actor=request.user, now=now_of(request), **asked)).data
        )

    @extend_schema(operation_id="release_signing_request", responses=RequestSerializer)
    @action(detail=True, methods=["get"], filter_backends=[])
    def signing_request(self, request: Request, **kwargs: Any) -> Response:
        """What the key holder still has to sign: manifests, and the ways back of the targets as they are now."""
        return Response(services.signing_request(self.get_object(), now=now_of(request)))

    @extend_schema(operation_id="release_dry_run", responses=DryRunSerializer)
    def read_plan(self, request: Request, **kwargs: Any) -> Response:
        """What a start of the present plan would do: both strategies on the clock, load, risk, what is in the way."""
        release, now = self.get_object(), now_of(request)
        found = dry_run(release, now=now)
        conflicts = shown_conflicts(found.conflicts, request.user)
        found = replace(found, conflicts=conflicts, findings=tuple(findings(release, now=now)))
        return Response(DryRunSerializer(found).data)

    @extend_schema(
        operation_id="release_planned_cis",
        responses=PlannedCISerializer(many=True),
        parameters=[
            OpenApiParameter("wave", int, description="Only those of this wave of the phased plan."),
            OpenApiParameter("only", str, enum=ONLY),
        ],
    )
    @action(detail=True, methods=["get"], url_path="plan/cis", filter_backends=[])
    def planned_cis(self, request: Request, **kwargs: Any) -> Response:
        """The targets that the person may see, in the order of their waves."""
        given = PlannedCIsQuery(data=request.query_params)
        given.is_valid(raise_exception=True)
        found = planned_cis(self.get_object(), request.user, **given.validated_data)
        rows = found.rows(self.paginate_queryset(found.cis) or [])
        return self.get_paginated_response(PlannedCISerializer(rows, many=True).data)


# The verb “plan” is a POST to the same address.
ReleaseViewSet.do_plan.mapping.get(ReleaseViewSet.read_plan)  # type: ignore[attr-defined]


def roll_back_wave(rollout: Rollout, *, actor: Any, now: datetime, wave: int, reason: str) -> None:
    """Sends the CIs of one wave back to what they ran before."""
    found = rollout.waves.filter(kind=Wave.Kind.FORWARD, number=wave).first()
    if found is None:
        text = _("%(rollout)s has no wave %(wave)d.") % {"rollout": rollout.number, "wave": wave}
        raise InvalidInput(text, field="wave")
    services.roll_back_wave(found, actor=actor, now=now, reason=reason)


class RolloutFilter(filters.FilterSet):
    state = state_filter(Rollout)
    active = filters.BooleanFilter(method="only_active", label="Not finished.")
    release = NumberFilter(Release, "release_id")

    def only_active(self, rows: Any, name: str, value: bool) -> Any:
        found = Rollout.objects.active().values("pk")
        return rows.filter(pk__in=found) if value else rows.exclude(pk__in=found)


class RolloutViewSet(ObjectViewSet):
    """Executions of a release's plan: progress by wave and CI; pause, resume, abort, roll back."""

    model = Rollout
    serializer_class = RolloutSerializer
    list_serializer_class = RolloutListSerializer
    list_related = ("release", "started_by")
    filterset_class = RolloutFilter
    ordering_fields = ["id", "state", "started_at", "finished_at"]
    calls = {
        "pause": Call(services.pause_rollout, PauseSerializer),
        "resume": Call(services.resume_rollout, ResumeSerializer),
        "override_window": Call(services.override_window, ReasonSerializer, OVERRIDE),
        "abort": Call(services.abort_rollout, ReasonSerializer),
        "roll_back": Call(services.roll_back_rollout, ReasonSerializer),
        "roll_back_wave": Call(roll_back_wave, RollBackWaveSerializer, ROLL_BACK),
        "roll_back_ci": Call(services.roll_back_ci, OneCISerializer, ROLL_BACK),
        "continue_rollback": Call(services.continue_rollback, ContinueRollbackSerializer, ROLL_BACK),
        "exclude_ci": Call(services.exclude_ci, OneCISerializer),
        "retry_failed": Call(services.retry_failed_cis, permission=START),
        "next_wave": Call(services.next_wave, NextWaveSerializer, START),
        "supersede": Call(services.supersede_older, ReasonSerializer, START),
        "decide_failure": Call(services.decide_failure, DecideFailureSerializer, START),
    }

    @extend_schema(parameters=[PreviewQuerySerializer], responses=PreviewSerializer)
    @action(detail=True, methods=["get"], filter_backends=[])
    def preview(self, request: Request, **kwargs: Any) -> Response:
        """What a verb would do now: how many CIs, what becomes of those under way, who is told. Changes nothing."""
        rollout, asked = self.get_rollout(), self.asked(PreviewQuerySerializer)
        found = preview_rollout(rollout, asked.pop("verb"), actor=request.user, now=now_of(request), **asked)
        return Response(PreviewSerializer(found).data)

    @extend_schema(parameters=[CIQuerySerializer], responses=FailureReportSerializer)
    @action(detail=True, methods=["get"], filter_backends=[])
    def failure(self, request: Request, **kwargs: Any) -> Response:
        """What is known about one CI of the rollout, and what can be decided about it."""
        report = failure_report(self.get_rollout(), actor=request.user, **self.asked(CIQuerySerializer))
        return Response(FailureReportSerializer(report, context=self.get_serializer_context()).data)

    @extend_schema(responses=FailureDecisionSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def decisions(self, request: Request, **kwargs: Any) -> Response:
        """What people decided about single CIs that the person may see; ignored ones are accepted failures."""
        visible = Deployment.objects.visible_to(request.user).values("pk")
        rows = FailureDecision.objects.filter(wave__rollout=self.get_rollout(), deployment__in=visible)
        return self.paged(rows.select_related("wave", "deployment__ci", "decided_by"), FailureDecisionSerializer)

    @extend_schema(responses=DeploymentSerializer(many=True))
    @action(detail=True, methods=["get"], filterset_class=DeploymentFilter)
    def deployments(self, request: Request, **kwargs: Any) -> Response:
        """The rollout's deployments on CIs that the person may see, every attempt; same filters as `/deployments/`."""
        rollout = self.get_rollout()
        rows: Any = Deployment.objects.visible_to(request.user).filter(batch__wave__rollout=rollout)
        rows = self.filter_queryset(rows.select_related("ci", "batch"))
        return self.paged(rows, DeploymentSerializer)

    @extend_schema(responses=StragglerSerializer(many=True))
    @action(detail=True, methods=["get"], filterset_class=DeploymentFilter, ordering_fields=["ci_id"])
    def stragglers(self, request: Request, **kwargs: Any) -> Response:
        """CIs of the waves that have begun which do not have it, and why; same filters as `/deployments/`."""
        rows = stragglers_of(self.get_rollout(), request.user)
        page = explain(self.paginate_queryset(self.filter_queryset(rows)) or [], now=now_of(request))
        return self.get_paginated_response(StragglerSerializer(page, many=True).data)

    @extend_schema(responses=VerdictSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def verdicts(self, request: Request, **kwargs: Any) -> Response:
        """What the engine decided, wave by wave, with its numbers."""
        rows = Verdict.objects.filter(wave__rollout=self.get_rollout()).select_related("wave")
        return self.paged(rows, VerdictSerializer)

    @extend_schema(responses=ProbeSampleSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def probes(self, request: Request, **kwargs: Any) -> Response:
        """What its probes were asked and what they answered, oldest first."""
        rows = ProbeSample.objects.filter(wave__rollout=self.get_rollout()).select_related("wave__rollout")
        return self.paged(rows, ProbeSampleSerializer)

    @extend_schema(responses=RolloutEventSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def events(self, request: Request, **kwargs: Any) -> Response:
        """What happened to it, by whom and why, oldest first."""
        rows = self.get_rollout().events.select_related("wave", "actor")
        return self.paged(rows, RolloutEventSerializer)

    @extend_schema(responses=RolloutReportSerializer)
    @action(detail=True, methods=["get"], filter_backends=[])
    def report(self, request: Request, **kwargs: Any) -> Response:
        """What was decided, by whom, what became of each CI, and how long it took; while it runs, so far."""
        found = report_of(self.get_rollout(), request.user, now=now_of(request))
        return Response(RolloutReportSerializer(found, context=self.get_serializer_context()).data)

    def get_rollout(self) -> Rollout:
        found: Rollout = self.get_object()
        return found
