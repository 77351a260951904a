"""Pages of problem management."""

from typing import Any

from django.contrib import messages
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from incidents.models import Incident
from problems import services
from problems.filters import ProblemFilter
from problems.forms import CloseProblemForm, DocumentForm, LinkIncidentsForm, ProblemForm
from problems.models import Problem
from problems.tables import ProblemTable
from tickets.clock import now_of
from tickets.forms import AssignForm, CommentForm, EditForm, OptionalReasonForm
from tickets.numbers import parse_number
from tickets.verbs import VerbPage
from tickets.views import DetailPage, ServiceFormPage, VerbPageView
from tickets.views_bulk import BulkPage
from tickets.views_list import ListPage


def _may_work(problem: Problem, user: Any) -> bool:
    return problem.state != Problem.State.CLOSED and user.has_perm("problems.work_problem")


def _may_link(problem: Problem, user: Any) -> bool:
    has_right = user.has_perm("problems.work_problem") or user.has_perm("problems.open_problem")
    return problem.state != Problem.State.CLOSED and has_right


def _reach(problem: Problem) -> str:
    count = problem.incidents.open().count()  # type: ignore[attr-defined]
    return ngettext(
        "The workaround goes into %(count)d open incident; its requester is told.",
        "The workaround goes into %(count)d open incidents; their requesters are told. Nobody gets a text twice.",
        count,
    ) % {"count": count}


VERBS = {
    "assess": VerbPage(icon="clipboard-check"),
    "analyse": VerbPage(icon="zoom-question"),
    "start_fix": VerbPage(icon="tool"),
    "resolve": VerbPage(icon="check"),
    "reopen": VerbPage(OptionalReasonForm, icon="rotate-clockwise"),
    "close": VerbPage(CloseProblemForm, icon="lock"),
    "edit": VerbPage(EditForm, label=gettext_lazy("Edit"), icon="edit", allowed=_may_work),
    "assign": VerbPage(AssignForm, label=gettext_lazy("Assign"), icon="user", allowed=_may_work),
    "document": VerbPage(
        DocumentForm, label=gettext_lazy("Document"), icon="edit", allowed=_may_work, style="secondary"
    ),
    "communicate": VerbPage(
        label=gettext_lazy("Communicate workaround"),
        icon="speakerphone",
        service="communicate_workaround",
        allowed=lambda problem, user: _may_work(problem, user) and bool(problem.workaround.strip()),
        preview=_reach,
    ),
    "link_incidents": VerbPage(
        LinkIncidentsForm,
        label=gettext_lazy("Link incidents"),
        icon="link",
        service="link_incidents",
        allowed=_may_link,
    ),
    "comment": VerbPage(CommentForm, allowed=lambda problem, user: True),
}


BULK = ("assign", "assess", "analyse", "resolve", "close")


class ProblemList(ListPage):
    model = Problem
    table_class = ProblemTable
    filterset_class = ProblemFilter
    section = "problem_list"
    title = gettext_lazy("Problems")
    related = ("requester", "assignee", "team")
    wide_sorts = ("number", "priority", "updated_at")
    verbs = VERBS
    bulk = BULK
    bulk_url_name = "problem_bulk"
    create_url_name = "problem_create"
    create_permission = "problems.open_problem"
    create_label = gettext_lazy("Open a problem")

    def get_queryset(self) -> Any:
        # Counted for the rows of the page only.
        links = Problem.incidents.through.objects.filter(problem=OuterRef("pk")).order_by().values("problem")
        counted = links.annotate(number=Count("pk")).values("number")  # type: ignore[misc]
        return super().get_queryset().annotate(incident_count=Coalesce(Subquery(counted), 0))


class ProblemDetail(DetailPage):
    model = Problem
    template_name = "problems/problem_detail.html"
    section = "problem_list"
    list_url_name = "problem_list"
    verb_url_name = "problem_verb"
    related = ("requester", "assignee", "team", "created_by")
    verbs = VERBS

    def editable(self, instance: Problem) -> dict[str, str]:
        if not _may_work(instance, self.request.user):
            return {}
        fields = self.inline_of(instance, "edit", "title", "description", "impact", "urgency")
        texts = self.inline_of(instance, "document", "root_cause", "workaround")
        return fields | texts | self.inline_of(instance, "assign", "people")

    def details(self, instance: Problem) -> dict[str, Any]:
        visible = Incident.objects.visible_to(self.request.user).filter(problems=instance)
        return {"incidents": list(visible.select_related("ci", "requester").order_by("-pk")[:50])}


class ProblemVerb(VerbPageView):
    model = Problem
    section = "problem_list"
    list_url_name = "problem_list"
    verb_url_name = "problem_verb"
    detail_page = ProblemDetail
    related = ("requester", "assignee")
    verbs = VERBS
    services = services
    is_versioned = True
    noun = "problem"

    def finish(self, instance: Any, verb: str, page: VerbPage, result: Any) -> HttpResponse:
        if verb == "communicate":
            messages.info(
                self.request,
                ngettext("Posted into %(count)d incident.", "Posted into %(count)d incidents.", result)
                % {"count": result},
            )
        return super().finish(instance, verb, page, result)


class ProblemBulk(BulkPage, ProblemVerb):
    bulk = BULK
    bulk_url_name = "problem_bulk"


class ProblemCreate(ServiceFormPage):
    form_class = ProblemForm
    section = "problem_list"
    list_url_name = "problem_list"
    permission = "problems.open_problem"
    title = gettext_lazy("Open a problem")
    intro = gettext_lazy("The unknown cause behind one or more incidents.")

    def initial(self, instance: Any) -> dict[str, Any]:
        """The incidents named in the address, and a title made of the first one."""
        numbers = [
            parse_number(text)
            for text in [*self.request.GET.getlist("incidents"), *self.request.GET.getlist("pick")][:100]
        ]
        keys = [found[1] for found in numbers if found and found[0] == Incident.PREFIX]
        incidents = list(Incident.objects.visible_to(self.request.user).filter(pk__in=keys).order_by("pk"))
        initial: dict[str, Any] = {"incidents": incidents}
        if incidents:
            initial["title"] = incidents[0].title
            initial["impact"], initial["urgency"] = incidents[0].impact, incidents[0].urgency
        return initial

    def perform(self, instance: Any, data: dict[str, Any]) -> Problem:
        problem: Problem = services.open_problem(actor=self.request.user, now=now_of(self.request), **data)
        return problem

    def section_label(self) -> Any:
        return _("Problems")
