"""What the start of a release's plan would do now, or what still holds it back. Read-only; the same checks."""

from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from distribution.models import OPEN, Deployment
from releases.models import Release
from releases.policy import RolloutPolicy
from releases.services.preview_parts import Choice, Effect, Preview
from releases.services.rollouts import START, check_start, started
from releases.services.schedule import check_schedule
from releases.targets import target_cis, without_way_back
from releases.wave_plan import planned_waves
from tickets.exceptions import DomainError, InvalidInput
from tickets.lifecycle import check_permission

VERBS = ("start_rollout", "schedule_start")


def preview_start(release: Release, verb: str, *, actor: Any, now: datetime) -> Preview:
    """What the verb would do; refuses an unknown one. For a time to come, closed gates are warnings."""
    if verb not in VERBS:
        raise InvalidInput(_("One of: %s.") % ", ".join(VERBS), field="verb")
    policy = RolloutPolicy.from_json(release.policy)
    targets = target_cis(release)
    sizes = [wave.size for wave in planned_waves(release) if wave.size]
    count = sum(sizes)
    lost = without_way_back(release).count()
    busy = Deployment.objects.filter(state__in=OPEN, ci__in=targets.values("pk")).values("ci").distinct().count()
    warnings = [ngettext("%d CI has no way back.", "%d CIs have no way back.", lost) % lost] if lost else []
    if busy and policy.supersede:
        text = ngettext(
            "On %d CI something else is under way: it makes way unless it is being installed.",
            "On %d CIs something else is under way: it makes way unless it is being installed.",
            busy,
        )
        warnings.append(text % busy)
    elif busy:
        text = ngettext(
            "On %d CI something else is under way: this rollout waits for it.",
            "On %d CIs something else is under way: this rollout waits for it.",
            busy,
        )
        warnings.append(text % busy)
    gate = ""
    try:
        # First of all: a gate's refusal may name CIs that he does not see.
        check_permission(actor, START, _("start a rollout"))
        check_start(release, actor, now)
    except DomainError as closed:
        gate = closed.message
    refusal = gate
    if verb == "schedule_start":
        warnings += [_("As it stands, it would not start: %s") % gate] if gate else []
        refusal = _refused(release, actor)
    effects = [Effect("targets", _("get it"), count)]
    if sizes and len(sizes) > 1:
        effects.append(Effect("first_wave", _("of them in the first of %d waves") % len(sizes), sizes[0]))
    soak = len(sizes) * policy.soak_seconds
    return Preview(
        verb,
        [Choice("", _("Start rollout"), effects, warnings, refusal)],
        in_flight=_("It takes at least %d seconds: the problem-free periods of its waves.") % soak if sizes else "",
        told=_("The RFCs are implementing from then on. Owners and requesters are told when it has ended."),
        is_done=verb == "start_rollout" and started(release) is not None,
    )


def _refused(release: Release, actor: User) -> str:
    try:
        check_schedule(release, actor=actor)
    except DomainError as error:
        return error.message
    return ""
