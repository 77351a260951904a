"""Forms of releases."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from changes.models import Change
from cmdb.forms import CIField, limit_cis
from cmdb.models import ConfigurationItem
from releases.models import Release, RolloutException
from releases.services import left_out_changes, release_hash
from software.models import Version
from test_environments.models import CopySource, GoldenImage
from tickets.activities import Process
from tickets.forms import ApproveForm, LongText, PortalForm, TicketForm, activity_field


class ReleaseForm(TicketForm):
    """The package: authorised RFCs and the versions that implement them."""

    release_type = forms.ChoiceField(label=gettext_lazy("Type"), choices=Release.Type, initial=Release.Type.MINOR)
    activity = activity_field(Process.RELEASE, "repair")
    changes = forms.ModelMultipleChoiceField(
        Change.objects.none(),
        label=gettext_lazy("Authorised RFCs"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    versions = forms.ModelMultipleChoiceField(
        Version.objects.none(), label=gettext_lazy("Versions, in this order"), required=False,
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip

    def prepare(self) -> None:
        visible = Change.objects.visible_to(self.user)
        newest = list(visible.releasable().values_list("pk", flat=True)[:100])
        chosen = [change.pk for change in self.initial.get("changes", [])]
        changes: Any = self.fields["changes"]
        changes.queryset = visible.filter(pk__in=[*newest, *chosen])
        if not newest and not chosen:
            changes.help_text = _("No authorised RFC waits for a release.")
        offerable = [Version.State.DRAFT, Version.State.READY]
        versions = Version.objects.filter(state__in=offerable).select_related("product")
        latest = list(versions.order_by("-pk").values_list("pk", flat=True)[:60])
        kept = [version.pk for version in self.initial.get("versions", [])]
        field: Any = self.fields["versions"]
        field.queryset = versions.filter(pk__in=[*latest, *kept]).order_by("product__name", "-order")


class EditReleaseForm(ReleaseForm):
    expected_version = forms.IntegerField(widget=forms.HiddenInput)
    left_out_reason = LongText(
        label=gettext_lazy("Why planned changes are taken out"), rows=2, required=False, max_length=2000
    )

    def prepare(self) -> None:
        super().prepare()
        del self.fields["activity"]
        if self.instance.state == Release.State.DRAFT:
            del self.fields["left_out_reason"]  # planning asks


class ApproveReleaseForm(ApproveForm):
    """The approval is bound to the content that the approver has seen."""

    seen_hash = forms.CharField(widget=forms.HiddenInput)

    def prepare(self) -> None:
        self.initial.setdefault("seen_hash", release_hash(self.instance))


class LeftOutForm(PortalForm):
    """A reason for each planned change that the package leaves out."""

    def prepare(self) -> None:
        for change in left_out_changes(self.instance):
            label = _("Why is %(number)s left out? (%(title)s)") % {"number": change.number, "title": change.title}
            self.fields[f"reason_{change.pk}"] = LongText(label=label, rows=2)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        reasons = {int(name.removeprefix("reason_")): text for name, text in data.items() if name.startswith("reason_")}
        return {"left_out": reasons}


class StartTestForm(PortalForm):
    source_ci = forms.ModelChoiceField(
        ConfigurationItem.objects.none(), label=gettext_lazy("Copy of which CI"),
        help_text=gettext_lazy("CIs whose folder an administrator released for copies."),
    )  # fmt: skip
    image = forms.ModelChoiceField(
        GoldenImage.objects.none(), label=gettext_lazy("On which image"), required=False,
        empty_label=gettext_lazy("A new one, taken now"),
        help_text=gettext_lazy("The same image lets several versions be compared."),
    )  # fmt: skip

    def prepare(self) -> None:
        images: Any = self.fields["image"]
        images.queryset = GoldenImage.objects.visible_to(self.user).usable().select_related("source").order_by("-pk")
        images.label_from_instance = lambda image: f"{image.number}: {image.source.name}"
        sources = CopySource.objects.values("ci")
        visible = ConfigurationItem.objects.visible_to(self.user).production()
        field: Any = self.fields["source_ci"]
        field.queryset = visible.filter(pk__in=sources).order_by("name")


class ExceptionForm(PortalForm):
    kind = forms.ChoiceField(
        label=gettext_lazy("What is accepted"),
        choices=[(RolloutException.Kind.NO_WAY_BACK.value, RolloutException.Kind.NO_WAY_BACK.label)],
    )
    ci = CIField(
        label=gettext_lazy("CI"), required=False,
        help_text=gettext_lazy("Empty: the whole package, where it says that it has no way back"),
    )  # fmt: skip
    reason = LongText(label=gettext_lazy("Why the risk is accepted"), rows=3)

    def prepare(self) -> None:
        limit_cis(self, self.user)
