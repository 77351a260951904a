"""Forms of rollouts."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from cmdb.forms import CIField, limit_cis
from releases.models import Wave
from releases.services.log import cis_text
from releases.services.pausing import ACCEPT, AFTER_FAILURES, FREEZE, LET_RUN, RETRY, SKIP
from tickets.forms import LongText, MomentField, PortalForm, ReasonForm


class PauseForm(ReasonForm):
    """How far the pause goes, and why."""

    mode = forms.ChoiceField(
        label=_("What is paused"),
        choices=[
            (FREEZE, _("All offers: nothing new is offered")),
            (LET_RUN, _("The next waves: the open ones run to their end")),
        ],
        widget=forms.RadioSelect,
        initial=FREEZE,
        required=False,
    )
    field_order = ["mode", "reason"]

    def clean_mode(self) -> str:
        return str(self.cleaned_data["mode"] or FREEZE)


class ResumeForm(PortalForm):
    """What becomes of failures, where there were too many, and why it may go on."""

    mode = forms.ChoiceField(
        label=_("What becomes of the failures"),
        choices=[
            (ACCEPT, _("Accept them: they count no longer")),
            (RETRY, _("Try them again")),
            (SKIP, _("Skip the rest of the wave, and go on with the next")),
        ],
        widget=forms.RadioSelect,
        initial=ACCEPT,
        required=False,
    )
    reason = LongText(label=_("Reason"), rows=3, required=False)
    seen_round = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def clean_mode(self) -> str:
        return str(self.cleaned_data["mode"] or ACCEPT)

    def prepare(self) -> None:
        self.initial.setdefault("seen_round", self.instance.round)
        if self.instance.pause_kind not in AFTER_FAILURES:
            mode: Any = self.fields["mode"]
            mode.label, mode.choices = _("How"), [(ACCEPT, _("Go on")), *mode.choices[1:]]


class WaveForm(PortalForm):
    """One wave of the rollout, and why."""

    wave = forms.ModelChoiceField(Wave.objects.none(), label=_("Wave"))
    reason = LongText(label=_("Reason"), rows=3)

    def prepare(self) -> None:
        field: Any = self.fields["wave"]
        field.queryset = Wave.objects.filter(rollout=self.instance, kind=Wave.Kind.FORWARD)
        field.label_from_instance = lambda wave: (
            _("Wave %(number)d: %(cis)s") % {"number": wave.number, "cis": cis_text(wave.size)}
        )


class NextWaveForm(PortalForm):
    """Why the present wave, which the person has before him, need not wait any longer."""

    wave = forms.IntegerField(widget=forms.HiddenInput)
    reason = LongText(label=_("Reason"), rows=3)

    def prepare(self) -> None:
        begun = self.instance.waves.filter(kind=Wave.Kind.FORWARD).exclude(state=Wave.State.WAITING)
        newest = begun.order_by("-number").values_list("number", flat=True).first()
        self.initial.setdefault("wave", newest)


class CIReasonForm(PortalForm):
    """One CI of the rollout, and why."""

    ci = CIField(label=_("CI"))
    reason = LongText(label=_("Reason"), rows=3)

    def prepare(self) -> None:
        limit_cis(self, self.user)


class ContinueRollbackForm(PortalForm):
    """What becomes of a rollback that failed on too many CIs, and why."""

    choice = forms.ChoiceField(
        label=_("How it goes on"),
        widget=forms.RadioSelect,
        initial="go_on",
        choices=[
            ("go_on", _("the rest goes back; what failed stays as it is and is listed")),
            ("retry", _("the rest goes back; what failed is tried once more")),
            ("end", _("it ends here; every CI that is not back is listed")),
        ],
    )
    reason = LongText(label=_("Reason"), rows=3)


class DecideForm(CIReasonForm):
    """What becomes of one CI whose deployment did not succeed, and why."""

    decision = forms.ChoiceField(
        label=_("Decision"),
        choices=[
            ("retry", _("Try it again")),
            ("ignore", _("Ignore the failure")),
            ("exclude", _("Exclude the CI")),
            ("fail", _("Leave it as failed")),
        ],
        widget=forms.RadioSelect,
    )
    field_order = ["ci", "decision", "reason"]


class ScheduleForm(PortalForm):
    start_at = MomentField(label=_("Start on"))

    def prepare(self) -> None:
        if self.instance.start_at is not None:
            self.initial.setdefault("start_at", self.instance.start_at)
