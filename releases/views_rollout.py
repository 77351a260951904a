"""Pages of rollouts: the list, the live page, the verbs."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.generic import View

from distribution.counting import Counts, counts
from releases import services
from releases.filters import RolloutFilter
from releases.forms_rollout import CIReasonForm, ContinueRollbackForm, WaveForm
from releases.live import live_view, mark_of, visible_exceptions
from releases.models import Rollout, RolloutEvent, Verdict, Wave
from releases.policy import RolloutPolicy
from releases.services.rollbacks import stopped_waves
from releases.tables import RolloutTable
from releases.views_stragglers import first_stragglers
from releases.wave_text import wave_text
from tickets.clock import now_of
from tickets.forms import OptionalReasonForm, PortalForm, ReasonForm
from tickets.verbs import VerbPage, buttons_for
from tickets.views import DetailPage, ListPage, PortalPage, VerbPageView

_PARTIAL = {"paused", "completed"}
_EXCLUDABLE = {"running", "paused", "preparing"}


def _forward(rollout: Rollout) -> Counts:
    batches = rollout.waves.filter(kind=Wave.Kind.FORWARD).values_list("batch_id", flat=True)
    return sum(counts(batches).values(), Counts())


def _pause_preview(rollout: Rollout) -> str:
    number = _forward(rollout)
    return _("%(queued)d CIs wait and get nothing until it is resumed; %(live)d under way go on.") % {
        "queued": number.queued,
        "live": number.live,
    }


def _abort_preview(rollout: Rollout) -> str:
    number = _forward(rollout)
    return _(
        "%(open)d open deployments are cancelled (%(live)d of them are under way). %(done)d CIs keep the new version."
    ) % {"open": number.open, "live": number.live, "done": number.succeeded}


def _roll_back_preview(rollout: Rollout) -> str:
    number = _forward(rollout)
    text = ngettext(
        "%(done)d CI goes back to its previous version, and so do those of the %(live)d under way that got it.",
        "%(done)d CIs go back to their previous versions, and so do those of the %(live)d under way that got it.",
        number.succeeded,
    )
    return text % {"done": number.succeeded, "live": number.live}


def _retry_preview(rollout: Rollout) -> str:
    failed = _forward(rollout).failed
    text = ngettext(
        "%(count)d failed CI gets it once more, as soon as the rollout is resumed.",
        "%(count)d failed CIs get it once more, as soon as the rollout is resumed.",
        failed,
    )
    return text % {"count": failed}


def _may_override_window(rollout: Rollout, user: Any) -> bool:
    is_stopped = rollout.pause_kind == "window" or (rollout.state == "running" and rollout.waits_for != "")
    return is_stopped and user.has_perm("releases.override_window")


def _may_exclude(rollout: Rollout, user: Any) -> bool:
    if rollout.state not in _EXCLUDABLE:
        return False
    return user.has_perm("releases.pause_rollout") or user.owned_cis.exists()


def _may_roll_back_part(rollout: Rollout, user: Any) -> bool:
    return rollout.state in _PARTIAL and user.has_perm("releases.roll_back_rollout")


def _may_continue_rollback(rollout: Rollout, user: Any) -> bool:
    return user.has_perm("releases.roll_back_rollout") and stopped_waves(rollout).exists()


VERBS = {
    "pause": VerbPage(ReasonForm, icon="player-pause", preview=_pause_preview),
    "resume": VerbPage(OptionalReasonForm, icon="player-play"),
    "abort": VerbPage(ReasonForm, icon="player-stop", preview=_abort_preview),
    "roll_back": VerbPage(
        ReasonForm, label=gettext_lazy("Roll back everything"), icon="arrow-back-up", preview=_roll_back_preview
    ),
    "continue_rollback": VerbPage(
        ContinueRollbackForm, label=gettext_lazy("Decide about the rollback"), style="primary", icon="arrow-back-up",
        service="continue_rollback", allowed=_may_continue_rollback,
    ),
    "retry": VerbPage(
        label=gettext_lazy("Retry failed"), style="primary", icon="refresh", service="retry_failed_cis",
        preview=_retry_preview,
        allowed=lambda rollout, user: rollout.state == "paused" and user.has_perm("releases.start_rollout"),
    ),
    "override_window": VerbPage(
        ReasonForm, label=gettext_lazy("Override the window"), style="warning", icon="clock",
        service="override_window", allowed=_may_override_window,
    ),
    "exclude_ci": VerbPage(
        CIReasonForm, label=gettext_lazy("Exclude a CI"), icon="eye-off", service="exclude_ci", allowed=_may_exclude
    ),
    "roll_back_wave": VerbPage(
        WaveForm, label=gettext_lazy("Roll back a wave"), style="danger", icon="arrow-back-up",
        allowed=_may_roll_back_part,
    ),
    "roll_back_ci": VerbPage(
        CIReasonForm, label=gettext_lazy("Roll back a CI"), style="danger", icon="arrow-back-up",
        service="roll_back_ci", allowed=_may_roll_back_part,
    ),
}  # fmt: skip


class RolloutList(ListPage):
    model = Rollout
    table_class = RolloutTable
    filterset_class = RolloutFilter
    section = "rollout_list"
    title = gettext_lazy("Rollouts")
    related = ("release", "started_by")
    intro = gettext_lazy("Each is one execution of a release's plan; it starts on the release's page.")


class RolloutDetail(DetailPage):
    model = Rollout
    template_name = "releases/rollout_detail.html"
    section = "rollout_list"
    list_url_name = "rollout_list"
    verb_url_name = "rollout_verb"
    related = ("release", "started_by", "breach_incident")
    verbs = VERBS

    def details(self, instance: Rollout) -> dict[str, Any]:
        policy = RolloutPolicy.from_json(instance.policy)
        count, first = first_stragglers(instance, self.request.user, now_of(self.request))
        return {
            "straggler_count": count,
            "stragglers": first,
            "policy": policy,
            "waves": wave_text(policy.waves),
            **live_context(instance, self.request.user),
        }


def live_context(rollout: Rollout, user: Any) -> dict[str, Any]:
    """What the live fragment needs, on the page and alone."""
    return {
        "live": live_view(rollout, user),
        "verdicts": list(
            Verdict.objects.filter(wave__rollout=rollout).select_related("wave").order_by("-at", "-pk")[:20]
        ),
        "events": list(
            RolloutEvent.objects.filter(rollout=rollout).select_related("actor", "wave").order_by("-pk")[:40]
        ),
        "exceptions": list(visible_exceptions(rollout, user)[:50]),
        # What is said about single CIs is for those who may see all of them.
        "sees_event_texts": user.has_perm("releases.see_all_releases"),
    }


class RolloutLive(DetailPage):
    """The live fragment; 204 while nothing has changed since `mark`."""

    model = Rollout
    related = ("release", "started_by", "breach_incident")

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        rollout = self.find(number)
        batch_ids = list(rollout.waves.values_list("batch_id", flat=True))
        if request.GET.get("mark") == mark_of(rollout, batch_ids):
            return HttpResponse(status=204)
        buttons = buttons_for(rollout, request.user, VERBS, "rollout_verb")
        context = {"object": rollout, "buttons": buttons, **live_context(rollout, request.user)}
        return render(request, "releases/_live.html", context)


class RolloutVerb(VerbPageView):
    model = Rollout
    section = "rollout_list"
    list_url_name = "rollout_list"
    verb_url_name = "rollout_verb"
    related = ("release", "started_by")
    verbs = VERBS
    services = services
    noun = "rollout"

    def call(self, instance: Any, verb: str, page: VerbPage, form: PortalForm) -> Any:
        if verb == "roll_back_wave":
            data = form.cleaned_data
            return services.roll_back_wave(
                data["wave"], actor=self.person, now=now_of(self.request), reason=data["reason"]
            )
        return super().call(instance, verb, page, form)


class RunningRollouts(PortalPage, View):
    """The strip in the frame: active rollouts with a tiny bar each."""

    def get(self, request: HttpRequest) -> HttpResponse:
        visible = Rollout.objects.visible_to(request.user).active().select_related("release")
        rollouts = list(visible.order_by("-pk")[:3])
        waves = Wave.objects.filter(rollout__in=rollouts, kind=Wave.Kind.FORWARD).values_list("rollout_id", "batch_id")
        batches = list(waves)
        found = counts(batch for _rollout, batch in batches)
        for rollout in rollouts:
            total = sum((found[batch] for key, batch in batches if key == rollout.pk), Counts())
            rollout.done = total.terminal  # type: ignore[attr-defined]
            rollout.total = max(total.total, 1)  # type: ignore[attr-defined]
        return render(request, "components/_running.html", {"rollouts": rollouts})
