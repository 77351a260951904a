"""Pages of rollouts: the list, the live page, the verbs."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy
from django.views.generic import View

from distribution.counting import Counts, counts
from releases import services
from releases.filters import RolloutFilter
from releases.forms_rollout import (
    CIReasonForm,
    ContinueRollbackForm,
    DecideForm,
    NextWaveForm,
    PauseForm,
    ResumeForm,
    WaveForm,
)
from releases.live import failures_of, live_view, mark_of, numbers_text, samples_of, visible_exceptions
from releases.live_parts import parts_of
from releases.models import Rollout, RolloutEvent, Verdict, Wave
from releases.policy import RolloutPolicy
from releases.services.failure_report import FailureReport, failure_report
from releases.services.pausing import FREEZE, STOP
from releases.services.preview_parts import Choice, Preview
from releases.services.previews import preview_rollout
from releases.services.rollbacks import GONE, stopped_waves
from releases.services.rollbacks import RIGHT as ROLL_BACK
from releases.services.rollouts import START
from releases.tables import RolloutTable
from releases.views_stragglers import first_stragglers
from releases.wave_text import wave_text
from releases.windows import blocks
from tickets.clock import database_now, now_of
from tickets.exceptions import DomainError
from tickets.forms import PortalForm, ReasonForm
from tickets.verbs import VerbPage, buttons_for
from tickets.views import DetailPage, PortalPage, VerbPageView
from tickets.views_list import ListPage

_GOES_ON = {Rollout.PauseKind.HELD, *Rollout.OUTSIDE}
_PARTIAL = {"paused", "completed"}
_EXCLUDABLE = {"running", "paused", "preparing"}


def _asked(request: HttpRequest, form: PortalForm) -> dict[str, Any]:
    """The CI and the wave that the form names so far; what it does not name, or names wrongly, is left out."""
    data = request.POST or request.GET
    found: dict[str, Any] = {}
    for name in ("ci", "wave"):
        if name in form.fields and data.get(name):
            with suppress(ValidationError):
                found[name] = form.fields[name].clean(data[name])
    if isinstance(found.get("wave"), Wave):
        found["wave"] = found["wave"].number
    return found


def _preview(verb: str, *needs: str) -> Callable[[Rollout, HttpRequest, PortalForm], Preview | None]:
    """What the verb would do, for its dialog; None as long as the form does not say to what."""

    def panel(rollout: Rollout, request: HttpRequest, form: PortalForm) -> Preview | None:
        asked = _asked(request, form)
        if any(name not in asked for name in needs):
            return None
        try:
            return preview_rollout(rollout, verb, actor=form.user, now=now_of(request), **asked)
        except DomainError as refusal:
            return Preview(verb, [Choice("", "", refusal=refusal.message)])

    return panel


def _preview_pause_for_good(rollout: Rollout, request: HttpRequest, form: PortalForm) -> Preview:
    """Of the ways to pause it, the one that is asked for."""
    found = preview_rollout(rollout, "pause", actor=form.user, now=now_of(request))
    return replace(found, choices=[choice for choice in found.choices if choice.name == FREEZE])


def _failure(rollout: Rollout, request: HttpRequest, form: PortalForm) -> FailureReport | None:
    """What is known about the CI, for the dialog that decides about it."""
    asked = _asked(request, form)
    try:
        return failure_report(rollout, asked["ci"], actor=form.user) if "ci" in asked else None
    except DomainError:
        return None


def _may_pause_for_good(rollout: Rollout, user: Any) -> bool:
    """Of a paused rollout whose waves go on, or which goes on by itself, one may stop that, too."""
    return rollout.state == "paused" and rollout.pause_kind in _GOES_ON and user.has_perm(STOP)


def _may_override_window(rollout: Rollout, user: Any) -> bool:
    if not user.has_perm("releases.override_window"):
        return False
    # Of a running one that waits, only the planned start is a reason; it stands in the change schedule.
    waits = rollout.state == "running" and rollout.waits_for != ""
    return rollout.pause_kind in Rollout.OUTSIDE or (waits and bool(blocks(rollout, database_now())))


def _may_exclude(rollout: Rollout, user: Any) -> bool:
    if rollout.state not in _EXCLUDABLE:
        return False
    return user.has_perm("releases.pause_rollout") or user.owned_cis.exists()


def _may_roll_back_part(rollout: Rollout, user: Any) -> bool:
    return rollout.state in _PARTIAL and user.has_perm(ROLL_BACK)


def _may_continue_rollback(rollout: Rollout, user: Any) -> bool:
    return user.has_perm("releases.roll_back_rollout") and stopped_waves(rollout).exists()


def _may_decide(rollout: Rollout, user: Any) -> bool:
    return rollout.state in {"running", "paused"} and user.has_perm(START)


def _waits_for_a_wave(rollout: Rollout, user: Any) -> bool:
    if rollout.state != "running" or not user.has_perm(START):
        return False
    return rollout.waves.filter(kind=Wave.Kind.FORWARD, state=Wave.State.SOAKING).exists()


_PREVIEW = "releases/_preview.html"
VERBS = {
    "pause": VerbPage(PauseForm, icon="player-pause", panel=_preview("pause"), panel_template=_PREVIEW),
    "resume": VerbPage(ResumeForm, icon="player-play", panel=_preview("resume"), panel_template=_PREVIEW),
    "pause_for_good": VerbPage(
        ReasonForm, label=gettext_lazy("Pause until resumed"), style="warning", icon="player-pause",
        service="pause_rollout", allowed=_may_pause_for_good, right=STOP, panel=_preview_pause_for_good,
        panel_template=_PREVIEW,
    ),
    "abort": VerbPage(ReasonForm, icon="player-stop", panel=_preview("abort"), panel_template=_PREVIEW),
    "roll_back": VerbPage(
        ReasonForm, label=gettext_lazy("Roll back everything"), icon="arrow-back-up", panel=_preview("roll_back"),
        panel_template=_PREVIEW,
    ),
    "next_wave": VerbPage(
        NextWaveForm, label=gettext_lazy("Next wave now"), style="warning", icon="arrow-right",
        service="next_wave", allowed=_waits_for_a_wave, right=START, panel=_preview("next_wave"),
        panel_template=_PREVIEW,
    ),
    "continue_rollback": VerbPage(
        ContinueRollbackForm, label=gettext_lazy("Decide about the rollback"), style="primary", icon="arrow-back-up",
        service="continue_rollback", allowed=_may_continue_rollback, panel=_preview("continue_rollback"),
        panel_template=_PREVIEW,
    ),
    "retry": VerbPage(
        label=gettext_lazy("Retry failed"), icon="refresh", service="retry_failed_cis", right=START,
        panel=_preview("retry_failed"), panel_template=_PREVIEW,
        allowed=lambda rollout, user: rollout.state == "paused" and user.has_perm(START),
    ),
    "decide_failure": VerbPage(
        DecideForm, label=gettext_lazy("Decide on a failure"), icon="tool", service="decide_failure",
        allowed=_may_decide, right=START, panel=_failure, panel_template="releases/_failure.html",
    ),
    "override_window": VerbPage(
        ReasonForm, label=gettext_lazy("Override the window"), style="warning", icon="clock",
        service="override_window", allowed=_may_override_window, panel=_preview("override_window"),
        panel_template=_PREVIEW,
    ),
    "exclude_ci": VerbPage(
        CIReasonForm, label=gettext_lazy("Exclude a CI"), icon="eye-off", service="exclude_ci", allowed=_may_exclude,
        panel=_preview("exclude_ci", "ci"), panel_template=_PREVIEW,
    ),
    "supersede": VerbPage(
        ReasonForm, label=gettext_lazy("Displace older rollouts"), icon="upload", service="supersede_older",
        allowed=lambda rollout, user: rollout.state == "running" and user.has_perm(START), right=START,
        panel=_preview("supersede"), panel_template=_PREVIEW,
    ),
    "roll_back_wave": VerbPage(
        WaveForm, label=gettext_lazy("Roll back a wave"), style="danger", icon="arrow-back-up", right=ROLL_BACK,
        allowed=_may_roll_back_part, panel=_preview("roll_back_wave", "wave"), panel_template=_PREVIEW,
    ),
    "roll_back_ci": VerbPage(
        CIReasonForm, label=gettext_lazy("Roll back a CI"), style="danger", icon="arrow-back-up", right=ROLL_BACK,
        service="roll_back_ci", allowed=_may_roll_back_part, panel=_preview("roll_back_ci", "ci"),
        panel_template=_PREVIEW,
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
            "is_going_back": instance.state in GONE,
            "stragglers": first,
            "policy": policy,
            "waves": wave_text(policy.waves),
            **live_context(instance, self.request),
        }


def live_context(rollout: Rollout, request: HttpRequest) -> dict[str, Any]:
    """What the live fragment needs, on the page and alone."""
    user: Any = request.user
    verdicts = Verdict.objects.filter(wave__rollout=rollout).select_related("wave")
    context = {
        "live": live_view(rollout, user, now=now_of(request)),
        "verdicts": [(verdict, numbers_text(verdict.numbers)) for verdict in verdicts.order_by("-at", "-pk")[:20]],
        "events": list(
            RolloutEvent.objects.filter(rollout=rollout).select_related("actor", "wave").order_by("-pk")[:40]
        ),
        "exceptions": list(visible_exceptions(rollout, user)[:50]),
        "failures": failures_of(rollout, user),
        "samples": samples_of(rollout),
        "may_decide": _may_decide(rollout, user),
        # What is said about single CIs is for those who may see all of them.
        "sees_event_texts": user.has_perm("releases.see_all_releases"),
    }
    buttons = buttons_for(rollout, user, VERBS, "rollout_verb")
    parts = parts_of({**context, "object": rollout, "buttons": buttons}, request)
    return {"live": context["live"], "parts": parts}


class RolloutLive(DetailPage):
    """The live fragment, or the parts of it that are not as in `have`; 204 while nothing has changed since `mark`."""

    model = Rollout
    related = ("release", "started_by", "breach_incident")

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        rollout = self.find(number)
        batch_ids = list(rollout.waves.values_list("batch_id", flat=True))
        if request.GET.get("mark") == mark_of(rollout, batch_ids, now=now_of(request)):
            return HttpResponse(status=204)
        context: dict[str, Any] = {"object": rollout, **live_context(rollout, request)}
        have = request.GET.get("have")
        changed = context["parts"].changed_since(have) if have else None
        if changed is None:
            return render(request, "releases/_live.html", {**context, "is_swapped": bool(have)})
        context |= {"changed": changed, "is_change": True}
        return render(request, "releases/_live_changes.html", context)


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
