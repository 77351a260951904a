"""Pages of releases."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View
from django_htmx.http import HttpResponseClientRedirect

from changes.models import Change
from cmdb.models import ConfigurationItem
from distribution.models import WayBack
from incidents.models import Incident
from releases import services
from releases.filters import ReleaseFilter
from releases.forms import (
    ApproveReleaseForm,
    EditReleaseForm,
    ExceptionForm,
    LeftOutForm,
    ReleaseForm,
    StartTestForm,
)
from releases.forms_plan import PlanForm
from releases.forms_rollout import ScheduleForm
from releases.live import visible_exceptions
from releases.models import Release, Rollout, TestRun
from releases.plan_findings import findings
from releases.policy import RolloutPolicy
from releases.presets import PRESETS
from releases.release_notes import release_notes
from releases.services.approval import has_right_to_approve
from releases.services.generations import history
from releases.services.pausing import STOP
from releases.services.preview_parts import Preview
from releases.services.rollouts import START
from releases.services.start_preview import preview_start
from releases.tables import ReleaseTable
from releases.targets import failed_before, target_cis, without_way_back
from releases.wave_plan import planned_waves
from releases.wave_text import plan_text, wave_text
from software.models import Version
from tickets.clock import now_of
from tickets.forms import CommentForm, OptionalReasonForm, PortalForm, ReasonForm, RejectForm
from tickets.numbers import parse_number
from tickets.verbs import VerbPage
from tickets.views import DetailPage, ObjectPage, ServiceFormPage, VerbPageView
from tickets.views_list import ListPage

EDITABLE = {"draft", "planned", "built", "testing", "test_failed", "ready"}
TABS = ("package", "test", "plan", "rollout", "review")
TAB_LABELS = {
    "package": gettext_lazy("Package"),
    "test": gettext_lazy("Test"),
    "plan": gettext_lazy("Plan"),
    "rollout": gettext_lazy("Rollout"),
    "review": gettext_lazy("Review"),
}
TAB_OF_STATE = {
    "built": "test", "testing": "test", "test_failed": "test", "ready": "plan", "deploying": "rollout",
    "completed": "rollout", "rolled_back": "rollout", "partially_rolled_back": "rollout", "closed": "review",
}  # fmt: skip


def _may_decide(release: Release, user: Any) -> bool:
    return release.state == Release.State.READY and has_right_to_approve(release, user)


def _may_start(release: Release, user: Any) -> bool:
    return release.state == Release.State.READY and user.has_perm(START)


def _may_cancel_start(release: Release, user: Any) -> bool:
    return release.start_for_id is not None and user.has_perm(STOP)


def _may_except(release: Release, user: Any) -> bool:
    return release.state in EDITABLE and user.has_perm("releases.record_exception")


def _may_apply_again(release: Release, user: Any) -> bool:
    is_tested = release.state == Release.State.TESTING and user.has_perm("releases.build_release")
    return is_tested and release.test_runs.filter(state=TestRun.State.SOAKING).exists()


def _preview(verb: str) -> Callable[[Release, HttpRequest, PortalForm], Preview]:
    """What the start would do, now or at a time to come, for its dialog."""

    def panel(release: Release, request: HttpRequest, form: PortalForm) -> Preview:
        return preview_start(release, verb, actor=form.user, now=now_of(request))

    return panel


VERBS = {
    "plan": VerbPage(LeftOutForm, icon="list-check"),
    "build": VerbPage(icon="package"),
    "start_test": VerbPage(StartTestForm, icon="flask", service="start_test"),
    "void_test": VerbPage(OptionalReasonForm, icon="rotate-clockwise", service="void_test"),
    "apply_again": VerbPage(
        ReasonForm, label=gettext_lazy("Apply again"), icon="refresh", service="apply_again", allowed=_may_apply_again
    ),
    "close": VerbPage(icon="lock"),
    "cancel": VerbPage(ReasonForm, icon="ban"),
    "approve": VerbPage(
        ApproveReleaseForm, label=gettext_lazy("Approve"), style="success", icon="thumb-up", allowed=_may_decide
    ),
    "reject": VerbPage(
        RejectForm, label=gettext_lazy("Reject"), style="danger", icon="thumb-down", allowed=_may_decide
    ),
    "start_rollout": VerbPage(
        label=gettext_lazy("Start rollout"), style="primary", icon="rocket", service="start_rollout", right=START,
        allowed=_may_start, panel=_preview("start_rollout"), panel_template="releases/_preview.html",
    ),
    "schedule_start": VerbPage(
        ScheduleForm, label=gettext_lazy("Schedule the start"), icon="calendar-event", service="schedule_start",
        right=START, allowed=_may_start, panel=_preview("schedule_start"), panel_template="releases/_preview.html",
    ),
    "cancel_start": VerbPage(
        label=gettext_lazy("Cancel the start"), style="warning", icon="x", service="cancel_start", right=STOP,
        allowed=_may_cancel_start,
    ),
    "skip_test": VerbPage(
        ReasonForm, label=gettext_lazy("Skip the test"), style="danger", icon="barrier-block", service="skip_test",
        allowed=lambda release, user: _may_except(release, user) and release.state in {"built", "test_failed"},
    ),
    "accept_evidence": VerbPage(
        ReasonForm, label=gettext_lazy("Accept weaker evidence"), style="danger", icon="barrier-block",
        service="accept_evidence",
        allowed=lambda release, user: _may_except(release, user) and release.state == Release.State.TESTING,
    ),
    "record_exception": VerbPage(
        ExceptionForm, label=gettext_lazy("Record an exception"), icon="barrier-block", service="record_exception",
        allowed=_may_except,
    ),
    "comment": VerbPage(CommentForm, allowed=lambda release, user: True),
}  # fmt: skip


class ReleaseList(ListPage):
    model = Release
    table_class = ReleaseTable
    filterset_class = ReleaseFilter
    template_name = "releases/release_list.html"
    section = "release_list"
    title = gettext_lazy("Releases")
    related = ("requester", "assignee", "team")
    wide_sorts = ("number", "priority", "updated_at")
    create_url_name = "release_create"
    create_permission = "releases.build_release"
    create_label = gettext_lazy("Make a release")

    def get_queryset(self) -> Any:
        return super().get_queryset().prefetch_related("items__version__product")


class ReleaseDetail(DetailPage):
    """The release with one tab open; each tab reads only its own rows."""

    model = Release
    template_name = "releases/release_detail.html"
    section = "release_list"
    list_url_name = "release_list"
    verb_url_name = "release_verb"
    related = ("requester", "assignee", "team", "created_by", "last_editor", "start_for")
    verbs = VERBS

    def details(self, instance: Release) -> dict[str, Any]:
        tab = self.request.GET.get("tab", "")
        tab = tab if tab in TABS else TAB_OF_STATE.get(instance.state, "package")
        may_edit = instance.state in EDITABLE and self.request.user.has_perm("releases.build_release")
        return {
            "tab": tab,
            "tabs": [(name, TAB_LABELS[name]) for name in TABS],
            "tab_template": f"releases/_tab_{tab}.html",
            "approvals": list(instance.approvals.select_related("approver")),
            "content_hash": services.release_hash(instance),
            "may_edit": may_edit,
            **getattr(self, f"tab_{tab}")(instance),
        }

    def tab_package(self, release: Release) -> dict[str, Any]:
        items = release.items.select_related("version__product").prefetch_related("version__artifacts")
        visible = Change.objects.visible_to(self.request.user).values("pk")
        return {
            "items": list(items),
            "changes": list(release.changes.filter(pk__in=visible).select_related("requester").order_by("pk")),
            "left_out": list(release.left_out.filter(change__in=visible).select_related("change")),
            "not_yet_named": list(services.left_out_changes(release).filter(pk__in=visible))
            if release.state == "draft"
            else [],
        }

    def tab_test(self, release: Release) -> dict[str, Any]:
        rows = release.test_runs.select_related("environment__source", "environment__copy", "started_by")
        now = now_of(self.request)
        shown = []
        for run in rows.select_related("environment__image").prefetch_related("earlier_periods")[:20]:
            is_soaking = run.state == TestRun.State.SOAKING
            soaked = run.soaked(now).total_seconds() if is_soaking else None
            shown.append((run, soaked, is_soaking and services.lacks_evidence(run)))
        return {"runs": shown}

    def tab_plan(self, release: Release) -> dict[str, Any]:
        policy = RolloutPolicy.from_json(release.policy)
        items = list(release.items.select_related("version__product"))
        return {
            "policy": policy,
            "waves": wave_text(policy.waves),
            "generations": [
                (row, [(d.field, plan_text(d.field, d.before), plan_text(d.field, d.after)) for d in changes])
                for row, changes in history(release)
            ],
            "ways_back": items,
            "is_impossible": any(item.way_back == WayBack.IMPOSSIBLE for item in items),
            "exceptions": list(visible_exceptions(release, self.request.user)[:20]),
            "is_ahead": release.state in EDITABLE,
            **(self._ahead(release) if release.state in EDITABLE else {}),
        }

    def _ahead(self, release: Release) -> dict[str, Any]:
        """Whom a plan means now and what stands against it: of interest until the rollout has its targets."""
        planned = planned_waves(release)
        lost, failed = without_way_back(release), failed_before(release)
        visible = ConfigurationItem.objects.visible_to(self.request.user).values("pk")
        return {
            "target_count": sum(wave.size for wave in planned),
            "wave_sizes": [wave.size for wave in planned if wave.size],
            "findings": findings(release, now=now_of(self.request), planned=planned),
            "some_targets": list(target_cis(release).filter(pk__in=visible).order_by("name")[:30]),
            "lost_count": lost.count(),
            "lost": list(lost.filter(pk__in=visible)[:20]),
            "failed_count": failed.count(),
            "failed_cis": list(failed.filter(pk__in=visible)[:20]),
            "unsigned": self._unsigned(release),
        }

    def _unsigned(self, release: Release) -> list[str]:
        """What a key holder still has to sign, while that can be asked for."""
        if not settings.REQUIRE_SIGNATURES:
            return []
        return services.missing_signatures(release, now=now_of(self.request)).lines()

    def tab_rollout(self, release: Release) -> dict[str, Any]:
        return {"rollouts": list(release.rollouts.select_related("started_by").order_by("-pk")[:20])}

    def tab_review(self, release: Release) -> dict[str, Any]:
        # The lists name CIs: they are for those who may see every incident, not for one of the requesters.
        sees_all = self.request.user.has_perm("incidents.see_all_incidents")
        incidents = Incident.objects.select_related("ci") if sees_all else Incident.objects.none()
        behind = Q(problems__changes__releases=release) | Q(changes__releases=release)
        return {
            "caused": list(incidents.filter(caused_by_releases=release)[:50]),
            "initiating": list(incidents.filter(behind).distinct()[:50]),
            "exceptions": list(visible_exceptions(release, self.request.user)[:50]),
        }


class SigningRequest(ObjectPage, View):
    """The request file for the key holder."""

    model = Release

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        release: Release = self.find(number)
        content = services.signing_request(release, now=now_of(request))
        name = f"sign-{release.number}.json"
        return JsonResponse(content, headers={"Content-Disposition": f'attachment; filename="{name}"'})


class ReleaseNotes(ObjectPage, View):
    """The release notes, to read and print; with `?as=markdown` as a file."""

    model = Release
    section = "release_list"
    list_url_name = "release_list"

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        release: Release = self.find(number)
        notes = release_notes(release, request.user)
        if request.GET.get("as") == "markdown":
            disposition = {"Content-Disposition": f'attachment; filename="{release.number}.md"'}
            return HttpResponse(notes, content_type="text/markdown; charset=utf-8", headers=disposition)
        context = self.get_context_data(
            object=release,
            notes=notes,
            title=_("Release notes of %s") % release.number,
            breadcrumbs=self.crumbs_of(release, _("Release notes")),
        )
        return render(request, "releases/release_notes.html", context)


class ReleaseVerb(VerbPageView):
    model = Release
    section = "release_list"
    list_url_name = "release_list"
    verb_url_name = "release_verb"
    related = ("requester", "created_by", "last_editor")
    verbs = VERBS
    services = services
    noun = "release"

    def finish(self, instance: Any, verb: str, page: VerbPage, result: Any) -> HttpResponse:
        response = super().finish(instance, verb, page, result)
        if isinstance(result, Rollout):
            address = reverse("rollout_detail", args=[result.number])
            # Another page: the address of the browser has to follow.
            is_fragment = bool(getattr(self.request, "htmx", False))
            return HttpResponseClientRedirect(address) if is_fragment else HttpResponseRedirect(address)
        return response


class ReleaseCreate(ServiceFormPage):
    form_class = ReleaseForm
    template_name = "releases/release_form.html"
    section = "release_list"
    list_url_name = "release_list"
    permission = "releases.build_release"
    title = gettext_lazy("Make a release")
    intro: Any = gettext_lazy("All planned changes to its products, with the versions that implement them.")

    def initial(self, instance: Any) -> dict[str, Any]:
        numbers = [parse_number(text) for text in self.request.GET.getlist("changes")[:100]]
        keys = [found[1] for found in numbers if found and found[0] == Change.PREFIX]
        changes = list(Change.objects.visible_to(self.request.user).filter(pk__in=keys).order_by("pk"))
        return {"changes": changes, "title": changes[0].title} if changes else {}

    def perform(self, instance: Any, data: dict[str, Any]) -> Release:
        release: Release = services.draft_release(actor=self.person, now=now_of(self.request), **data)
        return release

    def section_label(self) -> Any:
        return _("Releases")


class ReleaseEdit(ObjectPage, ReleaseCreate):
    """The package; an edit after the test began voids test and approval, and the form says so."""

    model = Release
    form_class: Any = EditReleaseForm
    list_url_name = "release_list"
    title: Any = gettext_lazy("Edit")

    def instance(self, **kwargs: Any) -> Release:
        release: Release = self.find(kwargs["number"])
        if release.state not in EDITABLE:
            raise Http404
        if release.state in {"testing", "test_failed", "ready"}:
            self.intro = _("Testing has begun: another package voids the test and the approval.")
        return release

    def initial(self, instance: Release) -> dict[str, Any]:
        names = ("title", "description", "release_type", "impact", "urgency")
        return {
            **{name: getattr(instance, name) for name in names},
            "changes": list(instance.changes.all()),
            "versions": list(Version.objects.filter(package_items__release=instance)),
            "expected_version": instance.version,
        }

    def perform(self, instance: Release, data: dict[str, Any]) -> Release:
        services.edit_release(instance, actor=self.person, now=now_of(self.request), **data)
        return instance


class ReleasePlan(ReleaseEdit):
    """Policy and targets."""

    form_class = PlanForm
    template_name = "releases/plan_form.html"
    title = gettext_lazy("Plan the rollout")
    intro = gettext_lazy("Who gets it when, what stops it, and how it goes back. Another plan needs a new approval.")

    def initial(self, instance: Release) -> dict[str, Any]:
        """With `?preset=`, the policy to begin from; nothing is saved by that."""
        preset = self.request.GET.get("preset", "")
        return {"preset": preset} if preset in PRESETS else {}

    def success_url(self, instance: Any, result: Any) -> str:
        return reverse("release_detail", args=[result.number]) + "?tab=plan"
