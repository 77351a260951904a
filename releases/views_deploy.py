"""The page that deploys one version to one CI or group."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from changes.models import Change, StandardTemplate
from cmdb.forms import CIField, limit_cis
from cmdb.models import CIGroup
from releases import services
from releases.services.deploy import Ordered
from software.models import Version
from tickets.clock import now_of
from tickets.forms import LongText, PortalForm
from tickets.links import page_of_object
from tickets.views import ServiceFormPage


class DeployForm(PortalForm):
    """One target and one authorisation."""

    version = forms.ModelChoiceField(Version.objects.none(), label=gettext_lazy("Version"))
    ci = CIField(label=gettext_lazy("To this CI"), required=False)
    group = forms.ModelChoiceField(CIGroup.objects.none(), label=gettext_lazy("or to this group"), required=False)
    template = forms.ModelChoiceField(
        StandardTemplate.objects.none(), label=gettext_lazy("By this standard change"), required=False,
        help_text=gettext_lazy("Starts at once: the CAB has approved it."),
    )  # fmt: skip
    change = forms.ModelChoiceField(
        Change.objects.none(), label=gettext_lazy("or by this authorised RFC"), required=False,
        help_text=gettext_lazy("Starts by itself once the release has passed its test and somebody else approved it."),
    )  # fmt: skip
    is_fresh = forms.BooleanField(label=gettext_lazy("Also where the product is not installed yet"), required=False)
    reason = LongText(label=gettext_lazy("Why"), rows=2, required=False, max_length=2000)
    left_out_reason = LongText(
        label=gettext_lazy("Why other authorised RFCs of the product stay out"), rows=2, required=False, max_length=2000
    )

    def prepare(self) -> None:
        limit_cis(self, self.user)
        newest = Version.objects.ready().order_by("-pk").values_list("pk", flat=True)[:100]
        choices: dict[str, Any] = {
            "version": Version.objects.filter(pk__in=list(newest)).select_related("product"),
            "group": CIGroup.objects.visible_to(self.user),
            "template": StandardTemplate.objects.usable_by(self.user),
            "change": Change.objects.visible_to(self.user).releasable(),
        }
        for name, queryset in choices.items():
            field: Any = self.fields[name]
            field.queryset = queryset


class DeployPage(ServiceFormPage):
    form_class = DeployForm
    section = "release_list"
    list_url_name = "release_list"
    title = gettext_lazy("Deploy one version")
    intro = gettext_lazy("Makes a release and a rollout to all targets at once; every gate and every right holds.")

    def is_permitted(self, user: Any) -> bool:
        return user.has_perm("releases.build_release") and user.has_perm("releases.start_rollout")

    def perform(self, instance: Any, data: dict[str, Any]) -> Ordered:
        return services.deploy(actor=self.person, now=now_of(self.request), **data)

    def done(self, result: Ordered) -> str:
        if result.rollout is not None:
            return _("%(rollout)s has started.") % {"rollout": result.rollout.number}
        return _("%(release)s starts by itself once it is tested and approved.") % {"release": result.release.number}

    def success_url(self, instance: Any, result: Ordered) -> str:
        return page_of_object(result.rollout or result.release)

    def section_label(self) -> Any:
        return _("Releases")
