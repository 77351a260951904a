"""Pages of test environments."""

from typing import Any

from django.db.models import Prefetch
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb.models import InstalledVersion
from test_environments import services
from test_environments.filters import EnvironmentFilter
from test_environments.forms import EnvironmentForm, RevertForm, SnapshotForm
from test_environments.models import CopySource, GoldenImage, TestEnvironment
from test_environments.tables import EnvironmentTable
from test_environments.views_choose import SourceChoice, SourceFormPage
from tickets.clock import now_of
from tickets.numbers import parse_number
from tickets.verbs import VerbPage
from tickets.views import DetailPage, VerbPageView
from tickets.views_list import ListPage

MANAGE = "test_environments.manage_environments"


TASKS = {
    "make": gettext_lazy("it is being made"),
    "start": gettext_lazy("it is being started"),
    "stop": gettext_lazy("it is being stopped"),
    "snapshot": gettext_lazy("its state is being kept"),
    "revert": gettext_lazy("it goes back"),
    "destroy": gettext_lazy("it is being removed"),
}


def _is_off(environment: TestEnvironment, user: Any) -> bool:
    is_ready = environment.state == TestEnvironment.State.READY
    return is_ready and not environment.is_wanted_running and user.has_perm(MANAGE)


def _may_extend(environment: TestEnvironment, user: Any) -> bool:
    gone = {TestEnvironment.State.DESTROYING, TestEnvironment.State.DESTROYED}
    return environment.state not in gone and user.has_perm(MANAGE)


VERBS = {
    "retry": VerbPage(icon="refresh"),
    "start": VerbPage(label=gettext_lazy("Start"), style="primary", icon="player-play", right=MANAGE, allowed=_is_off),
    "stop": VerbPage(
        label=gettext_lazy("Stop"), icon="player-stop", right=MANAGE,
        allowed=lambda environment, user: environment.is_usable and user.has_perm(MANAGE),
    ),
    "snapshot": VerbPage(
        SnapshotForm, icon="archive",
        preview=lambda environment: _("It is stopped for a moment; afterwards it runs again."),
    ),
    "revert": VerbPage(
        RevertForm, icon="arrow-back-up", style="danger",
        preview=lambda environment: _("Everything since then is discarded. It gets a new identity and starts."),
    ),
    "extend": VerbPage(
        label=gettext_lazy("Extend"), icon="clock", right=MANAGE, allowed=_may_extend,
        done=gettext_lazy("The leases begin anew."),
    ),
    "destroy": VerbPage(
        icon="trash",
        preview=lambda environment: (
            _("The copy of %(source)s and its agent go; the record stays.") % {"source": environment.source}
        ),
    ),
}  # fmt: skip


class EnvironmentList(ListPage):
    model = TestEnvironment
    table_class = EnvironmentTable
    filterset_class = EnvironmentFilter
    section = "environment_list"
    title = gettext_lazy("Test environments")
    permission = "test_environments.see_environments"
    template_name = "test_environments/environment_list.html"
    related = ("source", "requested_by")
    create_url_name = "environment_create"
    create_permission = "test_environments.manage_environments"
    create_label = gettext_lazy("Copy a CI")


class EnvironmentDetail(DetailPage):
    model = TestEnvironment
    template_name = "test_environments/environment_detail.html"
    section = "environment_list"
    list_url_name = "environment_list"
    verb_url_name = "environment_verb"
    related = ("source", "copy", "image", "requested_by", "console")
    verbs = VERBS

    def details(self, instance: TestEnvironment) -> dict[str, Any]:
        copy = instance.copy
        installed = []
        if copy is not None:
            installed = list(copy.installed_versions.filter(valid_to__isnull=True).select_related("product"))
        baseline = sorted(instance.baseline.items()) if isinstance(instance.baseline, dict) else []
        may_revert = instance.state in {TestEnvironment.State.READY, TestEnvironment.State.ERROR}
        return {
            "is_active": instance.is_changing,
            "task": TASKS.get(instance.task, instance.task),
            "failed_while": dict(TestEnvironment.State.choices).get(instance.error_from, instance.error_from),
            "installed": installed,
            "baseline": baseline,
            "beside": self.beside(instance),
            "snapshots": list(instance.snapshots.select_related("taken_by")),
            "may_revert": may_revert and self.person.has_perm(MANAGE),
            "proved_at": parse_datetime(str(instance.isolation.get("at", ""))) if instance.isolation else None,
            "events": list(instance.events.select_related("actor")[:50]),
            "console": getattr(instance, "console", None),
        }

    def beside(self, instance: TestEnvironment) -> dict[str, Any]:
        """The environments of the same image with what each runs, to compare them; only if there are several."""
        if instance.image_id is None or instance.destroyed_at is not None:
            return {}
        current = InstalledVersion.objects.filter(valid_to__isnull=True).select_related("product")
        found = list(
            instance.beside.select_related("copy").prefetch_related(
                Prefetch("copy__installed_versions", queryset=current, to_attr="current_versions")
            )[:20]
        )
        if len(found) < 2:
            return {}
        runs = [{row.product.name: row.label for row in getattr(other.copy, "current_versions", ())} for other in found]
        products = sorted(set().union(*runs))
        rows = [(other, [labels.get(p, "") for p in products]) for other, labels in zip(found, runs, strict=True)]
        return {"products": products, "rows": rows}


class EnvironmentVerb(VerbPageView):
    model = TestEnvironment
    section = "environment_list"
    list_url_name = "environment_list"
    verb_url_name = "environment_verb"
    related = ("source", "copy")
    verbs = VERBS
    services = services
    noun = "environment"


class EnvironmentChoice(SourceChoice):
    title = gettext_lazy("Copy a CI for tests")
    intro = gettext_lazy("Of which CI? An administrator has released these for copies.")
    next_url_name = "environment_order"
    list_url_name = "environment_list"


class EnvironmentCreate(SourceFormPage):
    form_class = EnvironmentForm
    list_url_name = "environment_list"
    title_of = gettext_lazy("Copy %(ci)s for tests")
    submit_label = gettext_lazy("Make the copy")
    intro = gettext_lazy("With an agent identity of its own. It is never a target of a rollout.")

    def initial(self, instance: CopySource) -> dict[str, Any]:
        """The image that a link names."""
        found = parse_number(self.request.GET.get("image", ""))
        return {"image": found[1]} if found and found[0] == GoldenImage.PREFIX else {}

    def perform(self, instance: CopySource, data: dict[str, Any]) -> TestEnvironment:
        return services.request_environment(instance.ci, actor=self.request.user, now=now_of(self.request), **data)

    def section_label(self) -> Any:
        return _("Test environments")
