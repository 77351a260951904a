"""Forms of releases."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from changes.models import Change
from cmdb.forms import CIField, CIListField, limit_cis
from cmdb.models import CIClass, CIGroup, ConfigurationItem
from releases.models import Release, RolloutException
from releases.policy import RolloutPolicy, TargetSelector
from releases.services import left_out_changes, release_hash
from software.models import Product, Version
from test_environments.models import CopySource
from tickets.activities import Process
from tickets.exceptions import InvalidInput
from tickets.forms import ApproveForm, LongText, PortalForm, TicketForm, activity_field

WAVE = re.compile(r"^(?:(?P<percent>\d+(?:\.\d+)?)\s*%|(?P<rest>rest)|(?P<count>\d+))$")


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


class PlanForm(PortalForm):
    """The rollout's policy and its targets."""

    strategy = forms.ChoiceField(
        label=gettext_lazy("Strategy"), widget=forms.RadioSelect,
        choices=[("phased", gettext_lazy("phased: wave by wave")), ("big_bang", gettext_lazy("big bang: all at once"))],
    )  # fmt: skip
    waves = forms.CharField(
        label=gettext_lazy("Waves"), required=False, initial="1, 25%, rest",
        help_text=gettext_lazy("Numbers of CIs, percentages of all, and “rest” as the last one: 1, 25%, rest"),
    )  # fmt: skip
    success_threshold = forms.IntegerField(
        label=gettext_lazy("A wave passes at % of success"), min_value=1, max_value=100
    )
    error_threshold = forms.IntegerField(label=gettext_lazy("Stop above % of failures"), min_value=0, max_value=100)
    on_error = forms.ChoiceField(
        label=gettext_lazy("When it stops"),
        choices=[
            ("pause", gettext_lazy("pause and wait for a person")),
            ("rollback_wave", gettext_lazy("roll the wave back")),
            ("rollback_all", gettext_lazy("roll everything back")),
        ],
    )
    soak_seconds = forms.IntegerField(label=gettext_lazy("Problem-free seconds before the next wave"), min_value=1)
    max_in_flight = forms.IntegerField(
        label=gettext_lazy("CIs under way at once"),
        min_value=1,
        required=False,
        help_text=gettext_lazy("Empty: no cap"),
    )
    max_downloads = forms.IntegerField(
        label=gettext_lazy("Downloads at once"),
        min_value=1,
        required=False,
        help_text=gettext_lazy("Empty: no cap"),
    )
    offer_deadline = forms.IntegerField(label=gettext_lazy("Seconds to fetch it"), min_value=1)
    progress_deadline = forms.IntegerField(label=gettext_lazy("Seconds between reports"), min_value=1)
    confirm_deadline = forms.IntegerField(label=gettext_lazy("Seconds to confirm the version"), min_value=1)
    overdue_counts_as = forms.ChoiceField(
        label=gettext_lazy("A silent CI counts as"),
        choices=[("failure", gettext_lazy("a failure")), ("skipped", gettext_lazy("left aside"))],
    )
    manual_gate = forms.BooleanField(label=gettext_lazy("A person opens each wave"), required=False)
    mode = forms.ChoiceField(
        label=gettext_lazy("Devices"),
        choices=[
            ("forced", gettext_lazy("install at once")),
            ("soft", gettext_lazy("choose the moment, if they can")),
        ],
    )
    force_after = forms.IntegerField(
        label=gettext_lazy("Seconds until soft is forced"),
        min_value=1,
        required=False,
        help_text=gettext_lazy("Counted from the opening of a wave; empty: never"),
    )
    supersede = forms.BooleanField(
        label=gettext_lazy("Older rollouts make way on these CIs"),
        required=False,
        help_text=gettext_lazy("What they have not begun to install; otherwise this one waits for them"),
    )
    cancel_deadline = forms.IntegerField(
        label=gettext_lazy("Seconds to answer a cancellation"),
        min_value=1,
        help_text=gettext_lazy("Then it is closed without the device"),
    )
    ci_classes = forms.ModelMultipleChoiceField(
        CIClass.objects.all(), label=gettext_lazy("Only these classes"), required=False,
        widget=forms.CheckboxSelectMultiple, to_field_name="slug",
    )  # fmt: skip
    groups = forms.ModelMultipleChoiceField(
        CIGroup.objects.none(), label=gettext_lazy("Only members of these groups"), required=False,
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip
    cis = CIListField(
        label=gettext_lazy("Only these CIs"), required=False, widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("One on each line; empty: every CI in operation that runs one of the products."),
    )  # fmt: skip
    exclude = CIListField(
        label=gettext_lazy("Without these CIs"), required=False, widget=forms.Textarea(attrs={"rows": 3})
    )
    fresh = forms.CharField(
        label=gettext_lazy("Install for the first time"), required=False, widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("One CI = product on each line, for CIs that do not have the product yet."),
    )  # fmt: skip
    expected_version = forms.IntegerField(widget=forms.HiddenInput)
    TARGETS = ("ci_classes", "groups", "cis", "exclude", "fresh")

    def prepare(self) -> None:
        limit_cis(self, self.user)
        policy = RolloutPolicy.from_json(self.instance.policy).to_json()
        selector = TargetSelector.from_json(self.instance.targets)
        for name, value in policy.items():
            self.initial.setdefault(name, wave_text(value) if name == "waves" else value)
        keys = {*selector.cis, *selector.exclude, *selector.fresh}
        names = dict(ConfigurationItem.objects.filter(pk__in=keys).values_list("pk", "name")) if keys else {}
        self.initial.setdefault("ci_classes", list(selector.ci_classes))
        groups: Any = self.fields["groups"]
        groups.queryset = CIGroup.objects.visible_to(self.user)
        self.initial.setdefault("groups", list(selector.groups))
        self.initial.setdefault("cis", "\n".join(names.get(key, "") for key in selector.cis))
        self.initial.setdefault("exclude", "\n".join(names.get(key, "") for key in selector.exclude))
        products = {key for keys in selector.fresh.values() for key in keys}
        slugs = dict(Product.objects.filter(pk__in=products).values_list("pk", "slug")) if products else {}
        lines = [f"{names.get(ci)} = {slugs.get(key)}" for ci, keys in selector.fresh.items() for key in keys]
        self.initial.setdefault("fresh", "\n".join(lines))
        self.initial.setdefault("expected_version", self.instance.version)

    def clean_waves(self) -> list[dict[str, Any]]:
        waves: list[dict[str, Any]] = []
        for word in filter(None, (part.strip().lower() for part in self.cleaned_data["waves"].split(","))):
            found = WAVE.match(word)
            if found is None:
                raise ValidationError(_("“%(word)s” is not a wave. Write for example: 1, 25%%, rest") % {"word": word})
            if found["rest"]:
                waves.append({"rest": True})
            elif found["count"]:
                waves.append({"count": int(found["count"])})
            else:
                waves.append(
                    {"percent": int(found["percent"]) if "." not in found["percent"] else float(found["percent"])}
                )
        return waves

    def clean_fresh(self) -> dict[str, list[int]]:
        fresh: dict[str, list[int]] = {}
        visible = ConfigurationItem.objects.visible_to(self.user).production()
        for line in filter(None, (text.strip() for text in self.cleaned_data["fresh"].splitlines())):
            name, _sign, slug = (part.strip() for part in line.partition("="))
            ci = visible.filter(name=name).first()
            product = Product.objects.filter(slug=slug).first()
            if ci is None or product is None:
                raise ValidationError(
                    _("“%(line)s”: write a CI's name, =, and a product's short name.") % {"line": line}
                )
            fresh.setdefault(str(ci.pk), []).append(product.pk)
        return fresh

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if self.errors:
            return data
        policy = {name: data[name] for name in RolloutPolicy.__dataclass_fields__ if name in data}
        if policy["strategy"] == "big_bang":
            policy.pop("waves")
        try:
            checked = RolloutPolicy.from_json(policy).to_json()
        except InvalidInput as error:
            raise ValidationError(error.message) from error
        return {
            "policy": checked,
            "targets": {
                "ci_classes": [ci_class.slug for ci_class in data["ci_classes"]],
                "groups": [group.pk for group in data["groups"]],
                "cis": [ci.pk for ci in data["cis"]],
                "exclude": [ci.pk for ci in data["exclude"]],
                "fresh": data["fresh"],
            },
            "expected_version": data["expected_version"],
        }


def wave_text(waves: Any) -> str:
    """The waves as people write them: `1, 25%, rest`."""
    words = []
    for wave in waves:
        if "rest" in wave:
            words.append("rest")
        elif "percent" in wave:
            words.append(f"{wave['percent']:g}%")
        else:
            words.append(str(wave["count"]))
    return ", ".join(words)


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

    def prepare(self) -> None:
        sources = CopySource.objects.values("ci")
        visible = ConfigurationItem.objects.visible_to(self.user).production()
        field: Any = self.fields["source_ci"]
        field.queryset = visible.filter(pk__in=sources).order_by("name")


class ExceptionForm(PortalForm):
    kind = forms.ChoiceField(
        label=gettext_lazy("What is accepted"),
        choices=[(RolloutException.Kind.NO_WAY_BACK.value, RolloutException.Kind.NO_WAY_BACK.label)],
    )
    ci = CIField(label=gettext_lazy("CI"))
    reason = LongText(label=gettext_lazy("Why the risk is accepted"), rows=3)

    def prepare(self) -> None:
        limit_cis(self, self.user)
