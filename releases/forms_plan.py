"""The form of a release's plan: policy and targets."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb.forms import CIListField, limit_cis
from cmdb.models import CIClass, CIGroup, ConfigurationItem
from releases.forms_way_back import WayBackForm
from releases.policy import RolloutPolicy
from releases.presets import PRESETS
from releases.probes import probe_lines, read_probe_lines
from releases.selector import TargetSelector
from releases.wave_text import read_waves, wave_text
from software.models import Product
from tickets.exceptions import InvalidInput


class PlanForm(WayBackForm):
    """The rollout's policy, its targets and the way back."""

    strategy = forms.ChoiceField(
        label=gettext_lazy("Strategy"), widget=forms.RadioSelect,
        choices=[("phased", gettext_lazy("phased: wave by wave")), ("big_bang", gettext_lazy("big bang: all at once"))],
    )  # fmt: skip
    waves = forms.CharField(
        label=gettext_lazy("Waves"), required=False, initial="1, 25%, rest",
        help_text=gettext_lazy(
            "Numbers of CIs, percentages of all, class:server, group:Pilot, service:Shop (the CIs below it), "
            "ci:srv-1+srv-2, and “rest” as the last one: 1, group:Pilot, 25%, rest"
        ),
    )  # fmt: skip
    success_threshold = forms.IntegerField(
        label=gettext_lazy("A wave passes at % of success"), min_value=1, max_value=100
    )
    error_threshold = forms.IntegerField(label=gettext_lazy("Stop above % of failures"), min_value=0, max_value=100)
    error_count = forms.IntegerField(
        label=gettext_lazy("Stop above so many failed CIs"),
        min_value=0,
        required=False,
        help_text=gettext_lazy("Of a wave; empty: only the percentage counts"),
    )
    min_sample = forms.IntegerField(
        label=gettext_lazy("Judge failures from so many CIs on"),
        min_value=1,
        required=False,
        help_text=gettext_lazy("Of a wave, with an outcome; or all of it, once it has come to rest"),
    )
    on_error = forms.ChoiceField(
        label=gettext_lazy("When it stops"),
        choices=[
            ("pause", gettext_lazy("pause and wait for a person")),
            ("rollback_wave", gettext_lazy("roll the wave back")),
            ("rollback_all", gettext_lazy("roll everything back")),
        ],
    )
    soak_seconds = forms.IntegerField(label=gettext_lazy("Problem-free seconds before the next wave"), min_value=1)
    incident_count = forms.IntegerField(
        label=gettext_lazy("Stop above so many new incidents"),
        min_value=0,
        required=False,
        help_text=gettext_lazy("On the CIs of a wave, since the installation there; empty: incidents do not stop it"),
    )
    incident_then = forms.ChoiceField(
        label=gettext_lazy("New incidents mean"),
        required=False,
        choices=[
            ("pause", gettext_lazy("pause and wait for a person")),
            ("breach", gettext_lazy("the wave has failed")),
        ],
    )
    early_life_seconds = forms.IntegerField(
        label=gettext_lazy("Seconds of early life support"),
        min_value=0,
        required=False,
        help_text=gettext_lazy("After the last wave, before the rollout is complete; incidents still count"),
    )
    probes = forms.CharField(
        label=gettext_lazy("Probes while a wave soaks"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy(
            "One on each line: an address, if need be with the status that it must answer (https://shop.example.org/ok "
            "204), or the word health: CIs of the wave run the health check of their packages in turn"
        ),
    )
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
    total_deadline = forms.IntegerField(
        label=gettext_lazy("Seconds in all"), min_value=1, required=False,
        help_text=gettext_lazy("From the opening of a wave, whatever a CI waits for; empty: any"),
    )  # fmt: skip
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
    retry_codes = forms.CharField(
        label=gettext_lazy("Try again by itself after these errors"),
        required=False,
        help_text=gettext_lazy("Error codes as agents report them, with commas; empty: none"),
    )
    retry_attempts = forms.IntegerField(
        label=gettext_lazy("Attempts in all"), min_value=2, max_value=10, required=False, initial=3
    )
    retry_backoff = forms.IntegerField(
        label=gettext_lazy("Seconds until the next attempt"),
        min_value=1,
        max_value=86400,
        required=False,
        initial=600,
        help_text=gettext_lazy("Twice as long after each further one"),
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
    again = CIListField(
        label=gettext_lazy("Try again on these CIs"), required=False, widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("What failed on a CI is not offered there again by itself."),
    )  # fmt: skip
    expected_version = forms.IntegerField(widget=forms.HiddenInput)
    TARGETS = ("ci_classes", "groups", "cis", "exclude", "fresh", "again")
    PRESETS = tuple(PRESETS.values())

    def prepare(self) -> None:
        super().prepare()
        limit_cis(self, self.user)
        preset = self.initial.pop("preset", None)
        policy = RolloutPolicy.from_json({"preset": preset} if preset else self.instance.policy)
        selector = TargetSelector.from_json(self.instance.targets)
        for name in RolloutPolicy.__dataclass_fields__:
            self.initial.setdefault(name, getattr(policy, name))
        self.initial["waves"] = wave_text(policy.waves)
        gate = policy.incident_gate or {"count": None, "then": "pause"}
        self.initial["probes"] = probe_lines(policy.probes)
        self.initial.update({"incident_count": gate["count"], "incident_then": gate["then"]})
        if policy.retry is not None:
            self.initial.setdefault("retry_codes", ", ".join(policy.retry["codes"]))
            self.initial.setdefault("retry_attempts", policy.retry["attempts"])
            self.initial.setdefault("retry_backoff", policy.retry["backoff_seconds"])
        keys = {*selector.cis, *selector.exclude, *selector.fresh, *selector.again}
        names = dict(ConfigurationItem.objects.filter(pk__in=keys).values_list("pk", "name")) if keys else {}
        self.initial.setdefault("ci_classes", list(selector.ci_classes))
        groups: Any = self.fields["groups"]
        groups.queryset = CIGroup.objects.visible_to(self.user)
        self.initial.setdefault("groups", list(selector.groups))
        self.initial.setdefault("cis", "\n".join(names.get(key, "") for key in selector.cis))
        self.initial.setdefault("exclude", "\n".join(names.get(key, "") for key in selector.exclude))
        self.initial.setdefault("again", "\n".join(names.get(key, "") for key in selector.again))
        products = {key for keys in selector.fresh.values() for key in keys}
        slugs = dict(Product.objects.filter(pk__in=products).values_list("pk", "slug")) if products else {}
        lines = [f"{names.get(ci)} = {slugs.get(key)}" for ci, keys in selector.fresh.items() for key in keys]
        self.initial.setdefault("fresh", "\n".join(lines))
        self.initial.setdefault("expected_version", self.instance.version)

    def clean_waves(self) -> list[dict[str, Any]]:
        return read_waves(self.cleaned_data["waves"], self.user)

    def clean_probes(self) -> list[dict[str, Any]]:
        stored = RolloutPolicy.from_json(self.instance.policy).probes
        return read_probe_lines(self.cleaned_data["probes"], stored)

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
        # What the form does not show stays as it is.
        stored = RolloutPolicy.from_json(self.instance.policy).to_json()
        policy = {name: value for name, value in stored.items() if name not in self.fields}
        policy |= {name: data[name] for name in RolloutPolicy.__dataclass_fields__ if name in data}
        policy["min_sample"] = policy["min_sample"] or 1
        policy["rollback"] = self.rollback_of(data)
        policy["early_life_seconds"] = policy["early_life_seconds"] or 0
        gate = {"count": data["incident_count"], "then": data["incident_then"] or "pause"}
        policy["incident_gate"] = gate if gate["count"] is not None else None
        if policy["strategy"] == "big_bang":
            policy.pop("waves")
        policy.pop("retry", None)
        if codes := [code.strip() for code in data["retry_codes"].split(",") if code.strip()]:
            attempts, backoff = data["retry_attempts"], data["retry_backoff"]
            policy["retry"] = {"codes": codes, "attempts": attempts, "backoff_seconds": backoff}
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
                "again": [ci.pk for ci in data["again"]],
            },
            "ways_back": self.ways_back_of(data),
            "expected_version": data["expected_version"],
        }
