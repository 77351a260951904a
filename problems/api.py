"""`/api/v1/problems/`."""

from typing import Any

from django_filters import rest_framework as filters

from incidents.models import Incident
from problems import services
from problems.models import Problem
from problems.serializers import (
    CloseProblemSerializer,
    DocumentSerializer,
    LinkIncidentsSerializer,
    OpenProblemSerializer,
    ProblemListSerializer,
    ProblemSerializer,
)
from tickets.api import Call, NumberFilter, TicketFilter, TicketViewSet, comment_call, state_filter
from tickets.serializers import AssignSerializer, EditSerializer, OptionalReasonSerializer

WORK = "problems.work_problem"


def may_group(problem: Problem | None, user: Any) -> bool:
    """Grouping incidents is for those who work on problems and those who open them."""
    return bool(user.has_perm(WORK) or user.has_perm("problems.open_problem"))


class ProblemFilter(TicketFilter):
    state = state_filter(Problem)
    is_known_error = filters.BooleanFilter()
    incident = NumberFilter(Incident, "incidents")


class ProblemViewSet(TicketViewSet):
    """Causes of incidents: group incidents, find the cause, communicate a workaround."""

    model = Problem
    see_all = "problems.see_all_problems"
    serializer_class = ProblemSerializer
    list_serializer_class = ProblemListSerializer
    filterset_class = ProblemFilter
    creates = Call(services.open_problem, OpenProblemSerializer, may_group)
    edits = Call(services.edit_problem, EditSerializer, WORK)
    calls = {
        "assign": Call(services.assign_problem, AssignSerializer, WORK),
        "assess": Call(services.assess_problem),
        "analyse": Call(services.analyse_problem),
        "start_fix": Call(services.start_fix_problem),
        "resolve": Call(services.resolve_problem),
        "reopen": Call(services.reopen_problem, OptionalReasonSerializer),
        "close": Call(services.close_problem, CloseProblemSerializer),
        "document": Call(services.document_problem, DocumentSerializer, WORK),
        "link_incidents": Call(services.link_incidents, LinkIncidentsSerializer, may_group),
        "communicate_workaround": Call(services.communicate_workaround, permission=WORK),
        "comment": comment_call(services.comment_problem, see_all),
    }
