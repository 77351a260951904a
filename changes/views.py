"""Pages of change management."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_htmx.http import HttpResponseClientRedirect

from changes import services
from changes.conflicts import LONGEST, Findings, find_conflicts, next_slots
from changes.filters import ChangeFilter
from changes.forms import (
    ApproveChangeForm,
    AssessForm,
    ChangeForm,
    CloseChangeForm,
    EditChangeForm,
    RescheduleForm,
    ReviewForm,
    ScheduleForm,
)
from changes.models import Change
from changes.models.change import OVER
from changes.tables import ChangeTable
from incidents.models import Incident
from problems.models import Problem
from software.models import Product
from tickets.clock import now_of
from tickets.forms import AssignForm, CommentForm, OptionalReasonForm, PortalForm, ReasonForm, RejectForm
from tickets.numbers import parse_number
from tickets.verbs import VerbPage
from tickets.views import DetailPage, ObjectPage, ServiceFormPage, VerbPageView
from tickets.views_bulk import BulkPage
from tickets.views_list import ListPage

EDITABLE = {"draft", "rejected", "submitted", "assessed", "authorised", "scheduled"}


def planned_time_panel(change: Change, request: HttpRequest, form: PortalForm) -> dict[str, Any]:
    """What stands against the time in the form, and when it would be free."""
    assert isinstance(form, ScheduleForm)
    start, end = form.moment("planned_start"), form.moment("planned_end")
    length = end - start if start is not None and end is not None and end > start else None
    if start is not None and length is not None and length > LONGEST:
        length = None
    return {
        "is_time": start is not None,
        "findings": find_conflicts(change, start, end, viewer=request.user),
        "slots": next_slots(change, now=now_of(request), after=start, length=length),
        "verb": "reschedule" if isinstance(form, RescheduleForm) else "schedule",
        "back": form["back"].value() if "back" in form.fields else "",
    }


PANEL: dict[str, Any] = {"panel": planned_time_panel, "panel_template": "changes/_planned_time.html"}
VERBS = {
    "submit": VerbPage(icon="send"),
    "assess": VerbPage(AssessForm, icon="clipboard-check"),
    "approve": VerbPage(ApproveChangeForm, icon="thumb-up"),
    "accept_standard": VerbPage(icon="shield-check"),
    "reject": VerbPage(RejectForm, icon="thumb-down"),
    "revise": VerbPage(OptionalReasonForm, icon="edit"),
    "schedule": VerbPage(ScheduleForm, icon="calendar-event", **PANEL),
    "reschedule": VerbPage(
        RescheduleForm,
        label=gettext_lazy("Move the planned time"),
        icon="calendar-event",
        allowed=lambda change, user: change.planned_start is not None and services.may_reschedule(change, user),
        **PANEL,
    ),
    "assign": VerbPage(
        AssignForm,
        label=gettext_lazy("Assign"),
        icon="user",
        allowed=lambda change, user: change.state not in OVER and services.may_assign(change, user),
    ),
    "review": VerbPage(ReviewForm, icon="checklist"),
    "close": VerbPage(CloseChangeForm, icon="lock"),
    "cancel": VerbPage(ReasonForm, icon="ban"),
    "comment": VerbPage(CommentForm, allowed=lambda change, user: True),
}


def may_edit(change: Change, user: Any) -> bool:
    """Who writes RFCs, while this one can still be edited."""
    has_right = user.has_perm("changes.request_change") or user.has_perm("changes.manage_change")
    return change.state in EDITABLE and has_right


BULK = ("submit", "accept_standard", "review", "cancel")


class ChangeList(ListPage):
    model = Change
    table_class = ChangeTable
    filterset_class = ChangeFilter
    template_name = "changes/change_list.html"
    section = "change_list"
    title = gettext_lazy("Changes")
    related = ("requester", "assignee", "team")
    wide_sorts = ("number", "priority", "updated_at")
    verbs = VERBS
    bulk = BULK
    bulk_url_name = "change_bulk"
    create_url_name = "change_create"
    create_permission = "changes.request_change"
    create_label = gettext_lazy("Write a change")


class ChangeDetail(DetailPage):
    model = Change
    template_name = "changes/change_detail.html"
    section = "change_list"
    list_url_name = "change_list"
    verb_url_name = "change_verb"
    related = ("requester", "assignee", "team", "created_by", "last_editor")
    verbs = VERBS

    def editable(self, instance: Change) -> dict[str, str]:
        found: dict[str, str] = {}
        if may_edit(instance, self.request.user):
            texts = ("description", "implementation_plan", "test_plan", "backout_plan")
            found |= self.inline_of(instance, "edit", "title", "impact", "urgency", *texts)
        is_assignable = VERBS["assign"].allowed
        if is_assignable is not None and is_assignable(instance, self.request.user):
            found |= self.inline_of(instance, "assign", "people")
        return found

    def details(self, instance: Change) -> dict[str, Any]:
        user = self.request.user
        return {
            "may_edit": may_edit(instance, user),
            "approvals": list(instance.approvals.select_related("approver")),
            "content_hash": services.change_hash(instance),
            "problems": list(Problem.objects.visible_to(user).filter(changes=instance)[:20]),
            "incidents": list(Incident.objects.visible_to(user).filter(changes=instance).select_related("ci")[:20]),
            "products": list(instance.products.all()),
            "affected_cis": list(instance.affected_cis.visible_to(user)[:51]),
            "findings": self.findings(instance),
        }

    def findings(self, change: Change) -> Findings:
        """What stands against its planned time, until it is done."""
        is_done = change.state not in {*Change.OCCUPYING, Change.State.DRAFT, Change.State.REJECTED}
        start = None if is_done else change.planned_start
        return find_conflicts(change, start, change.planned_end, viewer=self.request.user)


class ChangeVerb(VerbPageView):
    model = Change
    section = "change_list"
    list_url_name = "change_list"
    verb_url_name = "change_verb"
    detail_page = ChangeDetail
    related = ("requester", "created_by", "last_editor")
    verbs = VERBS
    services = services
    is_versioned = True
    noun = "change"

    def call(self, instance: Any, verb: str, page: VerbPage, form: PortalForm) -> Any:
        form.cleaned_data.pop("back", None)
        return super().call(instance, verb, page, form)

    def finish(self, instance: Any, verb: str, page: VerbPage, result: Any) -> HttpResponse:
        """Who came from the calendar goes back to it, as a whole page: it has a style and a script of its own."""
        answer = super().finish(instance, verb, page, result)
        back = self.request.POST.get("back", "")
        if not back.startswith(f"{reverse('calendar')}?"):
            return answer
        return HttpResponseClientRedirect(back) if self.request.htmx else HttpResponseRedirect(back)  # type: ignore[attr-defined]


class ChangeBulk(BulkPage, ChangeVerb):
    bulk = BULK
    bulk_url_name = "change_bulk"


class ChangeCreate(ServiceFormPage):
    form_class = ChangeForm
    template_name = "changes/change_form.html"
    section = "change_list"
    list_url_name = "change_list"
    permission = "changes.request_change"
    title = gettext_lazy("Write a change")
    intro: Any = gettext_lazy("A request for change: what, why, how, and how back. Somebody else approves it.")

    def initial(self, instance: Any) -> dict[str, Any]:
        """Problems and incidents named in the address, and a title made of the first one."""
        found: dict[str, Any] = {}
        for name, model in (("problems", Problem), ("incidents", Incident)):
            numbers = [parse_number(text) for text in self.request.GET.getlist(name)[:100]]
            keys = [number[1] for number in numbers if number and number[0] == model.PREFIX]
            found[name] = list(model.objects.visible_to(self.request.user).filter(pk__in=keys))
        source = next(iter([*found["problems"], *found["incidents"]]), None)
        if source is not None:
            found["title"] = _("Fix: %(title)s") % {"title": source.title}
            found["impact"], found["urgency"] = source.impact, source.urgency
        slugs = [slug.replace("\0", "") for slug in self.request.GET.getlist("products")[:100]]
        found["products"] = list(Product.objects.filter(slug__in=slugs)) if slugs else []
        return found

    def perform(self, instance: Any, data: dict[str, Any]) -> Change:
        change: Change = services.draft_change(actor=self.person, now=now_of(self.request), **data)
        return change

    def section_label(self) -> Any:
        return _("Changes")


class ChangeEdit(ObjectPage, ChangeCreate):
    """Editing after the assessment sends the RFC back to draft and voids its approvals; the form says so."""

    model = Change
    form_class = EditChangeForm
    list_url_name = "change_list"
    detail_page = ChangeDetail
    permission = ""  # `may_edit` decides: authors and change managers
    title = gettext_lazy("Edit")

    def instance(self, **kwargs: Any) -> Change:
        change: Change = self.find(kwargs["number"])
        if not may_edit(change, self.request.user):
            raise Http404
        if change.state in {"assessed", "authorised", "scheduled"}:
            self.intro = _("This RFC was assessed already: another content sends it back to draft and voids approvals.")
        return change

    def initial(self, instance: Change) -> dict[str, Any]:
        names = [
            name for name in ChangeForm.base_fields if name not in {"affected_cis", "problems", "incidents", "products"}
        ]
        values: dict[str, Any] = {name: getattr(instance, name) for name in names}
        for name in ("problems", "incidents", "products"):
            values[name] = list(getattr(instance, name).all())
        values["affected_cis"] = "\n".join(instance.affected_cis.values_list("name", flat=True))
        return {**values, "expected_version": instance.version}

    def perform(self, instance: Change, data: dict[str, Any]) -> Change:
        services.edit_change(instance, actor=self.person, now=now_of(self.request), **data)
        return instance
