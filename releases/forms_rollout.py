"""Forms of rollouts."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from cmdb.forms import CIField, limit_cis
from releases.models import Wave
from releases.services.log import cis_text
from tickets.forms import LongText, PortalForm


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
